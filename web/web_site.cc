#include "web/web_site.h"

#include "web/assets.h"
#include "web/mail_request.h"
#include "web/metrics.h"
#include "web/trace_answer.h"

#include "base/base64.h"
#include "base/json.h"
#include "base/text.h"

#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <sysexits.h>

namespace postrider::web {

namespace json = boost::json;

namespace {

constexpr std::size_t kMostTarget = 4096;
constexpr std::size_t kMostParameters = 32;
constexpr std::size_t kMostBody = 64U << 10U;
constexpr std::size_t kUsualListed = 100, kMostListed = 1000;
constexpr std::size_t kMostShown = 256U << 10U;  // octets of a message's content
constexpr unsigned kMostTraces = 2;              // at once: a search may take seconds
constexpr Duration kFresh{1000};
constexpr const char* kFewSites = "10";  // as many as metrics name
constexpr std::string_view kApi = "/api/v1/";
constexpr std::string_view kSend = "messages";
constexpr std::string_view kBearer = "Bearer ";
constexpr std::size_t kMostKey = 255;
constexpr std::string_view kSession = "session", kSessionEnd = "session/end";
constexpr std::string_view kCookie = "postrider-session";

Response json_answer(json::object object, unsigned status = 200) {
  return {status, "application/json", json::serialize(object) + "\n", {}};
}

// RFC 9457 would want a document for each problem; a sentence says more.
Response problem(unsigned status, std::string_view sentence) {
  json::object error;
  error["status"] = status;
  error["message"] = sentence;
  json::object out;
  out["error"] = std::move(error);
  return json_answer(std::move(out), status);
}

unsigned status_of_exit(int code) {
  switch (code) {
    case EX_USAGE:
    case EX_DATAERR:
      return 400;
    case EX_NOINPUT:
      return 404;
    case EX_UNAVAILABLE:
    case EX_TEMPFAIL:
      return 503;
    default:
      return 502;
  }
}

constexpr const char* kMayNotSeeContent =
    "this token may read, and does not see the content of mail; one of the role change does";
constexpr const char* kSendsAlone = "this token may send, and nothing else";
constexpr const char* kMayNotSend = "this token may not send; one of the role send may";

// Each 401 has a challenge, and each 405 what is allowed (RFC 9110 sections 11.6.1 and 15.5.6).
Response not_known(std::string_view sentence) {
  auto refused = problem(401, sentence);
  refused.fields.emplace_back("WWW-Authenticate", "Bearer realm=\"postrider\"");
  return refused;
}

Response no_token(const std::string& trouble) {
  return not_known(trouble.empty() ? "a token is needed" : trouble);
}

Response wrong_method(std::string_view sentence, const char* allowed) {
  auto refused = problem(405, sentence);
  refused.fields.emplace_back("Allow", allowed);
  return refused;
}

Response try_later(unsigned status, std::string_view sentence, const char* seconds) {
  auto refused = problem(status, sentence);
  refused.fields.emplace_back("Retry-After", seconds);
  return refused;
}

// By "POST /api/v1/messages", or shorter.
bool is_sending(const Request& request) {
  const auto path = std::string_view(request.target)
                        .substr(0, std::min(request.target.find('?'), request.target.size()));
  return request.method == "POST" && (path == "/api/v1/messages" || path == "/v1/messages");
}

bool is_json(const Request& request) {
  const auto& type = request.content_type;
  return equals_ignoring_case(trim(std::string_view(type).substr(0, type.find(';'))),
                              "application/json");
}

// What the daemon said to a message.
Response refused_mail(const daemon::SubmitAnswer& answer) {
  if (answer.cause == daemon::kCauseLimit)
    return try_later(429, answer.error, "600");
  if (answer.cause == daemon::kCauseKey)
    return problem(422, answer.error);
  switch (answer.exit_code) {
    case EX_TEMPFAIL:
      return try_later(503, answer.error, "30");
    case EX_NOPERM:
      return problem(403, answer.error);
    case EX_DATAERR:
      return problem(400, answer.error);
    case EX_UNAVAILABLE:
      return problem(422, answer.error);
    default:
      return problem(502, answer.error);
  }
}

Response no_daemon(const Error& error) {
  return problem(503, "the daemon does not answer: " + escaped(error.describe(), 200));
}

// Nothing, or what the daemon said instead.
std::optional<Response> failure(const Result<daemon::ControlEnd>& end) {
  if (!end)
    return no_daemon(end.error());
  if (end->exit_code == 0)
    return std::nullopt;
  return problem(status_of_exit(end->exit_code), end->error);
}

std::optional<char> octet_of(std::string_view digits) {
  unsigned value = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
  if (error != std::errc() || end != digits.data() + digits.size())
    return std::nullopt;
  return static_cast<char>(value);
}

// Of a query: "%41" is "A", "+" a space. Nothing for what is no such text, or not UTF-8, or has
// control characters.
std::optional<std::string> decoded(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '+') {
      out += ' ';
    } else if (text[i] != '%') {
      out += text[i];
    } else {
      if (i + 2 >= text.size())
        return std::nullopt;
      const auto octet = octet_of(text.substr(i + 1, 2));
      if (!octet)
        return std::nullopt;
      out += *octet;
      i += 2;
    }
  }
  const auto is_control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; };
  if (std::any_of(out.begin(), out.end(), is_control) || !is_utf8(out))
    return std::nullopt;
  return out;
}

using Parameters = std::vector<std::pair<std::string, std::string>>;

std::optional<Parameters> parsed_query(std::string_view text) {
  Parameters out;
  while (!text.empty()) {
    const auto end = std::min(text.find('&'), text.size());
    const auto part = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (part.empty())
      continue;
    const auto equals = std::min(part.find('='), part.size());
    const auto name = decoded(part.substr(0, equals));
    const auto value = decoded(part.substr(std::min(equals + 1, part.size())));
    if (!name || !value || out.size() >= kMostParameters)
      return std::nullopt;
    out.emplace_back(*name, *value);
  }
  return out;
}

// One of two would count, and nobody knows which was meant. There may be many ids.
const std::string* stands_twice(const Parameters& query) {
  for (auto one = query.begin(); one != query.end(); ++one)
    if (one->first != "id" && std::any_of(query.begin(), one, [&](const auto& other) {
          return other.first == one->first;
        }))
      return &one->first;
  return nullptr;
}

const std::string* value_of(const Parameters& query, std::string_view name) {
  for (const auto& [key, value] : query)
    if (key == name)
      return &value;
  return nullptr;
}

template <class Number>
std::optional<Number> number_of(const std::string& text) {
  Number value{};
  const auto* last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, value);
  if (error != std::errc() || end != last)
    return std::nullopt;
  return value;
}

struct FilterKey {
  const char* name;
  std::optional<std::string> daemon::FilterText::*member;
};
constexpr FilterKey kFilterKeys[] = {
    {"from", &daemon::FilterText::from},     {"to", &daemon::FilterText::to},
    {"domain", &daemon::FilterText::domain}, {"site", &daemon::FilterText::site},
    {"status", &daemon::FilterText::status}, {"reply", &daemon::FilterText::reply},
    {"older", &daemon::FilterText::older},   {"larger", &daemon::FilterText::larger},
};

const FilterKey* filter_key(std::string_view name) {
  const auto* key = std::find_if(std::begin(kFilterKeys), std::end(kFilterKeys),
                                 [&](const FilterKey& one) { return name == one.name; });
  return key == std::end(kFilterKeys) ? nullptr : key;
}

bool is_filter(std::string_view name) {
  return name == "id" || filter_key(name) != nullptr;
}

std::string no_filter(std::string_view name) {
  return "\"" + escaped(name, 40) +
         "\" is not a filter; there are id, from, to, domain, site, status, reply, older and "
         "larger";
}

// A key that is not known is a mistake that must not list or change more than was meant.
Result<daemon::FilterText> filter_of(const Parameters& query,
                                     std::initializer_list<std::string_view> others) {
  daemon::FilterText filter;
  for (const auto& parameter : query) {
    const auto& [name, value] = parameter;
    if (name == "id") {
      filter.ids.push_back(value);
      continue;
    }
    if (const auto* key = filter_key(name))
      filter.*(key->member) = value;
    else if (std::find(others.begin(), others.end(), name) == others.end())
      return malformed(no_filter(name));
  }
  return filter;
}

std::optional<bool> yes_or_no(const std::string* text) {
  if (text == nullptr || *text == "false")
    return false;
  if (*text == "true")
    return true;
  return std::nullopt;
}

Result<daemon::ControlRequest> trace_request_of(const Parameters& query) {
  daemon::ControlRequest request;
  request.act = "trace";
  request.limit = std::to_string(kUsualListed);
  for (const auto& [name, value] : query) {
    if (name == "target")
      request.target = value;
    else if (name == "from")
      request.filter.from = value;
    else if (name == "to")
      request.filter.to = value;
    else if (name == "since")
      request.since = value;
    else if (name == "limit")
      request.limit = value;
    else if (name != "rejected")
      return malformed(
          "\"" + escaped(name, 40) +
          "\" is not known here; there are target, from, to, since, rejected and limit");
  }
  const auto rejected = yes_or_no(value_of(query, "rejected"));
  if (!rejected)
    return malformed("rejected is true or false");
  request.rejected = *rejected;
  const auto limit = number_of<std::size_t>(request.limit);
  if (!limit || *limit < 1 || *limit > kMostListed)
    return malformed("limit is a number from 1 to " + std::to_string(kMostListed));
  return request;
}

constexpr std::array<std::string_view, 5> kVerbs{"hold", "release", "retry", "remove", "bounce"};

Result<Parameters> parameters_of(const json::object& object) {
  Parameters out;
  for (const auto& [key, value] : object) {
    const std::string name(key);
    const bool is_flag = name == "dry_run" || name == "all";
    if (is_flag && !value.is_bool())
      return malformed("\"" + name + "\" is true or false");
    if (!is_flag && !is_filter(name))
      return malformed(no_filter(name));
    if (value.is_string()) {
      out.emplace_back(name, std::string(value.get_string()));
    } else if (name == "id" && value.is_array()) {
      for (const auto& one : value.get_array()) {
        if (!one.is_string())
          return malformed("\"id\" is a text or an array of texts");
        out.emplace_back(name, std::string(one.get_string()));
      }
    } else if (!is_flag) {
      return malformed("\"" + escaped(name, 40) + "\" is to be a text");
    }
  }
  return out;
}

std::string name_of_host(std::string_view host) {
  if (!host.empty() && host.front() == '[')
    return ascii_lower(host.substr(0, std::min(host.find(']') + 1, host.size())));
  return ascii_lower(host.substr(0, std::min(host.find(':'), host.size())));
}

// The first of that name; there may be those of other programs on this host.
std::string session_cookie(std::string_view cookies) {
  while (!cookies.empty()) {
    const auto end = std::min(cookies.find(';'), cookies.size());
    const auto one = trim(cookies.substr(0, end));
    cookies.remove_prefix(std::min(end + 1, cookies.size()));
    const auto equals = one.find('=');
    if (equals != one.npos && one.substr(0, equals) == kCookie)
      return std::string(one.substr(equals + 1));
  }
  return {};
}

Sessions::Secrets secrets_of(const Request& request) {
  return {session_cookie(request.cookie), request.session_key};
}

// The page is behind a proxy with TLS if its origin says so.
std::string cookie_field(const Request& request, const std::string& value, bool is_end) {
  const bool is_secure = starts_with_ignoring_case(request.origin, "https://");
  return std::string(kCookie) + "=" + value + "; Path=/; HttpOnly; SameSite=Strict" +
         (is_secure ? "; Secure" : "") + (is_end ? "; Max-Age=0" : "");
}

bool is_html(const std::string& type) {
  return type.rfind("text/html", 0) == 0;
}

void add_safety(Response& response) {
  const bool is_page = is_html(response.content_type);
  response.fields.emplace_back(
      "Content-Security-Policy",
      is_page ? "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
                "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
              : "default-src 'none'; frame-ancestors 'none'");
  response.fields.emplace_back("X-Content-Type-Options", "nosniff");
  response.fields.emplace_back("X-Frame-Options", "DENY");
  response.fields.emplace_back("Referrer-Policy", "no-referrer");
  response.fields.emplace_back("Cross-Origin-Resource-Policy", "same-origin");
  response.fields.emplace_back("Cross-Origin-Opener-Policy", "same-origin");
  response.fields.emplace_back("Cache-Control", "no-store");
}

Response safe(Response response) {
  add_safety(response);
  return response;
}

}  // namespace

WebSite::WebSite(Settings settings, ControlPort& port, const Clock& clock, Log& log)
    : settings_(std::move(settings)),
      port_(port),
      clock_(clock),
      logins_(settings_.judge, clock, log) {}

Response WebSite::answer(const Request& request) {
  auto response = [&]() -> Response {
    if (auto refused = refusal(request))
      return *std::move(refused);
    const auto question = std::min(request.target.find('?'), request.target.size());
    const auto path = request.target.substr(0, question);
    const auto query = parsed_query(
        std::string_view(request.target).substr(std::min(question + 1, request.target.size())));
    if (!query)
      return problem(400, "the query of the address is not well formed");
    if (const auto* name = stands_twice(*query))
      return problem(400, "\"" + escaped(*name, 40) + "\" stands twice in the query");
    if (is_sending(request))
      return api(request, std::string(kSend), *query);
    if (path.rfind(kApi, 0) == 0)
      return api(request, path.substr(kApi.size()), *query);
    return public_page(request, path);
  }();
  add_safety(response);
  return response;
}

// What is not a request that we could answer, whoever asks.
std::optional<Response> WebSite::refusal(const Request& request) const {
  const auto& target = request.target;
  if (target.size() > kMostTarget)
    return problem(414, "the address is too long");
  if (target.empty() || target.front() != '/' || target.find("//") == 0)
    return problem(400, "the target of a request is a path that begins with one slash");
  if (request.body.size() > (is_sending(request) ? settings_.request_size : kMostBody))
    return too_large(request);
  const auto host = name_of_host(request.host);
  if (std::find(settings_.hosts.begin(), settings_.hosts.end(), host) == settings_.hosts.end())
    return problem(421, "this host name is not one of web.hosts");
  if (request.method != "GET" && request.method != "HEAD" && request.method != "POST")
    return wrong_method("the methods are GET, HEAD and POST", "GET, HEAD, POST");
  return std::nullopt;
}

Response WebSite::public_page(const Request& request, const std::string& path) {
  if (path == "/healthz")
    return {200, "text/plain; charset=utf-8", "ok\n", {}};
  if (path == "/readyz")
    return ready();
  if (path == "/metrics") {
    std::string trouble;
    const auto role = settings_.metrics_need_token ? caller_of(request, trouble).role : Role::read;
    if (role == Role::none)
      return no_token(trouble);
    return role == Role::send ? problem(403, kSendsAlone) : metrics(request);
  }
  if (request.method == "POST")
    return wrong_method("only the API takes POST", "GET, HEAD");
  if (const auto* asset = find_asset(path == "/" ? "/index.html" : path))
    return {200, asset->type, std::string(asset->bytes), {}};
  return problem(404, "there is no such page");
}

Token WebSite::caller_of(const Request& request, std::string& trouble) {
  if (request.authorization.empty() && !request.session_key.empty()) {
    if (const auto user = logins_.find(secrets_of(request)))
      return {user->role, "", user->name};
    trouble = "the session has ended; log in again";
    return {};
  }
  if (request.authorization.empty())
    return {};
  const auto now = clock_.steady();
  {
    const std::lock_guard lock(mutex_);
    if (!guesses_.may_try(request.client, now)) {
      trouble = "too many wrong tokens from this address; wait a minute";
      return {};
    }
  }
  if (!starts_with_ignoring_case(request.authorization, kBearer)) {
    trouble = "the Authorization field is to be \"Bearer\" and a token";
    return {};
  }
  const auto tokens = settings_.tokens();
  if (!tokens) {
    trouble = "the tokens cannot be read; see the log of postrider-web";
    return {};
  }
  const auto given = trim(std::string_view(request.authorization).substr(kBearer.size()));
  if (const auto* token = find_token(*tokens, given))
    return *token;
  const std::lock_guard lock(mutex_);
  guesses_.failed(request.client, now);
  trouble = "this token is not known";
  return {};
}

Response WebSite::api(const Request& request, const std::string& path, const Query& query) {
  if (path == kSession)
    return session(request);
  if (path == kSessionEnd)
    return leave(request);
  std::string trouble;
  const auto caller = caller_of(request, trouble);
  const auto role = caller.role;
  if (role == Role::none)
    return no_token(trouble);
  constexpr std::string_view kChange = "queue/", kMessages = "messages/";
  if (request.method == "POST" && path == kSend)
    return role == Role::send ? send(request, caller.name) : problem(403, kMayNotSend);
  if (path == "whoami" && request.method != "POST") {
    json::object out;
    out["role"] = name_of(role);
    if (request.authorization.empty())
      out["user"] = caller.name;
    return json_answer(std::move(out));
  }
  if (role == Role::send)
    return problem(403, kSendsAlone);
  if (request.method == "POST") {
    if (path.rfind(kChange, 0) != 0)
      return problem(404, "there is no such operation");
    if (role != Role::change)
      return problem(403, "this token may read, and change nothing");
    return change(path.substr(kChange.size()), request);
  }
  if (path == "status")
    return status(role);
  if (path == "history")
    return history(query);
  if (path == "history/sites")
    return site_history(query);
  if (path == "queue")
    return list(role, query);
  if (path == "queue/count")
    return count(role, query);
  if (path == "explain")
    return explain(role, query);
  if (path == "trace")
    return trace(role, query);
  if (path.rfind(kMessages, 0) == 0)
    return show(role, path.substr(kMessages.size()), query);
  return problem(404, "there is no such operation");
}

Result<daemon::ControlEnd> WebSite::ask(Role role, daemon::ControlRequest request,
                                        const ControlPort::OnLine& on_line) {
  request.as_reader = role != Role::change;
  return port_.ask(request, on_line);
}

std::shared_ptr<const json::object> WebSite::current_status(Role role) {
  const std::lock_guard lock(status_mutex_);
  return refreshed(role == Role::change ? status_of_changers_ : status_of_readers_, role, "");
}

std::shared_ptr<const json::object> WebSite::current_figures() {
  const std::lock_guard lock(status_mutex_);
  return refreshed(figures_, Role::read, kFewSites);  // whoever may read asks for these
}

std::shared_ptr<const json::object> WebSite::refreshed(KnownStatus& known, Role role,
                                                       const char* most_sites) {
  const auto now = clock_.steady();
  if (known.status && now - known.taken < kFresh)
    return known.status;
  daemon::ControlRequest request;
  request.act = "status";
  request.limit = most_sites;
  std::shared_ptr<const json::object> found;
  const auto end = ask(role, request, [&](const json::object& line) {
    if (const auto* status = line.if_contains("status"); status && status->is_object())
      found = std::make_shared<const json::object>(status->get_object(), json::storage_ptr());
    return true;
  });
  if (!end || end->exit_code != 0)
    found.reset();
  known.status = found;
  known.taken = clock_.steady();
  return found;
}

void WebSite::sample() {
  if (const auto status = current_figures()) {
    history_.add(*status);
    site_history_.add(*status);
  }
}

Response WebSite::metrics(const Request& request) {
  const auto status = current_figures();
  const auto use = status ? process_use(*status) : std::nullopt;
  const auto format = request.accept.find("application/openmetrics-text") != std::string::npos
                          ? MetricsFormat::open_metrics
                          : MetricsFormat::prometheus;
  return {200, content_type_of(format), metrics_of(status.get(), use, format), {}};
}

Response WebSite::ready() {
  const auto text = [](unsigned code, std::string line) {
    return Response{code, "text/plain; charset=utf-8", line + "\n", {}};
  };
  const auto status = current_figures();
  if (!status)
    return text(503, "the daemon does not answer");
  const auto* running = status->if_contains("running");
  if (running == nullptr || !running->is_bool() || !running->get_bool())
    return text(503, "the daemon does not run");
  const auto* admission = status->if_contains("admission");
  if (admission == nullptr || !admission->is_string() || admission->get_string() != "open")
    return text(503, "mail is not accepted now");
  const auto* totals = status->if_contains("queue");
  if (totals == nullptr || !totals->is_object())
    return text(503, "the queue cannot be read");
  return text(200, "ready");
}

Response WebSite::status(Role role) {
  const auto status = current_status(role);
  if (!status)
    return problem(503, "the daemon does not answer");
  return json_answer(*status);
}

Result<std::int64_t> WebSite::begin_of(const Query& query) const {
  std::int64_t seconds = 3600;
  if (const auto* text = value_of(query, "seconds")) {
    const auto given = number_of<std::int64_t>(*text);
    if (!given || *given < 1 || *given > 86400)
      return malformed("seconds is a number from 1 to 86400");
    seconds = *given;
  }
  const auto now =
      std::chrono::duration_cast<std::chrono::seconds>(clock_.now().time_since_epoch()).count();
  return now - seconds;
}

Response WebSite::history(const Query& query) {
  const auto begin = begin_of(query);
  if (!begin)
    return problem(400, begin.error().step());
  return {200, "application/json", history_.json_since(*begin) + "\n", {}};
}

Response WebSite::site_history(const Query& query) {
  const auto begin = begin_of(query);
  if (!begin)
    return problem(400, begin.error().step());
  return {200, "application/json", site_history_.json_since(*begin) + "\n", {}};
}

Response WebSite::list(Role role, const Query& query) {
  auto filter = filter_of(query, {"limit"});
  if (!filter)
    return problem(400, filter.error().step());
  std::size_t limit = kUsualListed;
  if (const auto* text = value_of(query, "limit")) {
    const auto given = number_of<std::size_t>(*text);
    if (!given || *given < 1 || *given > kMostListed)
      return problem(400, "limit is a number from 1 to " + std::to_string(kMostListed));
    limit = *given;
  }
  daemon::ControlRequest request;
  request.act = "list";
  request.filter = *std::move(filter);
  json::array messages;
  bool is_more = false;
  const auto end = ask(role, request, [&](const json::object& line) {
    const auto* message = line.if_contains("message");
    if (message == nullptr || !message->is_object())
      return true;
    is_more = messages.size() >= limit;
    if (!is_more)
      messages.emplace_back(json::object(message->get_object(), json::storage_ptr()));
    return !is_more;
  });
  if (auto failed = failure(end))
    return *std::move(failed);
  json::object out;
  out["messages"] = std::move(messages);
  out["more"] = is_more;
  return json_answer(std::move(out));
}

Response WebSite::count(Role role, const Query& query) {
  auto filter = filter_of(query, {});
  if (!filter)
    return problem(400, filter.error().step());
  daemon::ControlRequest request;
  request.act = "count";
  request.filter = *std::move(filter);
  json::object out;
  const auto end = ask(role, request, [&](const json::object& line) {
    if (const auto* counted = line.if_contains("count"); counted && counted->is_object())
      out = json::object(counted->get_object(), json::storage_ptr());
    return true;
  });
  if (auto failed = failure(end))
    return *std::move(failed);
  return json_answer(std::move(out));
}

namespace {

// Folded fields of a header begin with them.
std::string escaped_but_tabs(std::string_view line) {
  std::string out;
  for (;;) {
    const auto tab = std::min(line.find('\t'), line.size());
    out += escaped(line.substr(0, tab), kMostShown);
    if (tab == line.size())
      return out;
    out += '\t';
    line.remove_prefix(tab + 1);
  }
}

}  // namespace

// Content comes as it is, so it is cut at a limit, and what is not UTF-8 is escaped. Who may only read gets none.
Response WebSite::show(Role role, const std::string& id, const Query& query) {
  daemon::ControlRequest request;
  request.act = "show";
  request.target = id.substr(0, 64);
  request.body = value_of(query, "body") != nullptr;
  if (request.body && role != Role::change)
    return problem(403, kMayNotSeeContent);
  json::object out;
  std::string content;
  const auto end = ask(role, request, [&](const json::object& line) {
    for (const auto& [key, value] : line) {
      if (key != "content") {
        out[key] = json::value(value, json::storage_ptr());
        continue;
      }
      const auto piece =
          decode_base64(value.is_string() ? std::string_view(value.get_string()) : "");
      if (piece)
        content += *piece;
    }
    return content.size() <= kMostShown;
  });
  if (auto failed = failure(end))
    return *std::move(failed);
  if (role != Role::change)
    return json_answer(std::move(out));
  out["cut"] = content.size() > kMostShown;
  if (content.size() > kMostShown)
    content.resize(kMostShown);
  std::string lines;
  for (std::string_view left = content; !left.empty();) {
    const auto eol = std::min(left.find('\n'), left.size());
    auto line = left.substr(0, eol);
    left.remove_prefix(std::min(eol + 1, left.size()));
    if (!line.empty() && line.back() == '\r')
      line.remove_suffix(1);
    lines += escaped_but_tabs(line) + "\n";
  }
  out["content"] = lines;
  return json_answer(std::move(out));
}

Response WebSite::explain(Role role, const Query& query) {
  const auto* target = value_of(query, "target");
  if (target == nullptr || target->empty())
    return problem(400, "target is to be a queue id, an address or a domain");
  daemon::ControlRequest request;
  request.act = "explain";
  request.target = *target;
  json::array attempts, facts;
  const auto end = ask(role, request, [&](const json::object& line) {
    if (const auto* attempt = line.if_contains("attempt"))
      attempts.emplace_back(json::value(*attempt, json::storage_ptr()));
    if (const auto* fact = line.if_contains("fact"))
      facts.emplace_back(json::value(*fact, json::storage_ptr()));
    return true;
  });
  if (auto failed = failure(end))
    return *std::move(failed);
  json::object out;
  out["target"] = *target;
  out["attempts"] = std::move(attempts);
  out["facts"] = std::move(facts);
  return json_answer(std::move(out));
}

// Searches may take long, so they leave threads to all else.
Response WebSite::trace(Role role, const Query& query) {
  const auto request = trace_request_of(query);
  if (!request)
    return problem(400, request.error().step());
  struct Place {
    std::atomic<unsigned>& taken;
    const unsigned before = taken++;
    ~Place() { --taken; }
  } place{traces_};
  if (place.before >= kMostTraces)
    return try_later(503, "too many searches at once", "5");
  TraceAnswer answer(request->rejected);
  const auto end = ask(role, *request, [&](const json::object& line) { return answer.take(line); });
  if (auto failed = failure(end))
    return *std::move(failed);
  return {200, "application/json", answer.document() + "\n", {}};
}

// What a page of another site could make a browser send.
std::optional<Response> WebSite::refusal_of_origin(const Request& request) const {
  if (!is_json(request))
    return problem(415, "the body is to be application/json");
  if (request.origin.empty())
    return std::nullopt;
  const auto behind = request.origin.find("://");
  const auto host = behind == std::string::npos
                        ? std::string()
                        : name_of_host(std::string_view(request.origin).substr(behind + 3));
  // Another port of this host is another site; a proxy may say another host than the browser did, and
  // has the usual port, which is not named.
  const auto authority =
      std::string_view(request.origin).substr(std::min(behind + 3, request.origin.size()));
  const bool is_of_port = authority.size() > host.size() && host == name_of_host(request.host);
  if (std::find(settings_.hosts.begin(), settings_.hosts.end(), host) == settings_.hosts.end() ||
      (is_of_port && !equals_ignoring_case(authority, request.host)))
    return problem(403, "another site's page may change nothing");
  return std::nullopt;
}

// GET: whether somebody can log in with a password; POST: somebody does.
Response WebSite::session(const Request& request) {
  if (request.method == "POST")
    return enter(request);
  json::object out;
  out["password"] = logins_.are_possible();
  return json_answer(std::move(out));
}

Response WebSite::enter(const Request& request) {
  const auto begun = clock_.steady();
  if (auto refused = refusal_of_origin(request))
    return *std::move(refused);
  if (!logins_.are_possible())
    return problem(404, "nobody can log in with a password here (web.pam); a token will do");
  const auto body = daemon::parse_json_line(request.body);
  const auto text = [&](std::string_view name) -> const json::string* {
    const auto* value = body ? body->if_contains(name) : nullptr;
    return value != nullptr && value->is_string() ? &value->get_string() : nullptr;
  };
  const auto* user = text("user");
  const auto* password = text("password");
  if (user == nullptr || password == nullptr || body->size() != 2)
    return problem(400, "the body is to be {\"user\": \"...\", \"password\": \"...\"}");
  const auto entry = logins_.enter(std::string(*user), std::string(*password), request.client);
  switch (entry.end) {
    case Logins::End::too_many:
      return try_later(429, "too many wrong passwords; wait, or use a token", "600");
    case Logins::End::busy:
      return try_later(503, "others are logging in just now", "2");
    case Logins::End::unknown:
      return try_later(503, "the password cannot be judged now; see the log of postrider-web",
                       "30");
    case Logins::End::wrong: {
      auto refused = not_known("this user with this password may not log in");
      refused.not_before = begun + Logins::kRefusal;
      return refused;
    }
    case Logins::End::opened:
      break;
  }
  json::object out;
  out["role"] = name_of(entry.role);
  out["user"] = *user;
  out["key"] = entry.secrets.key;
  auto opened = json_answer(std::move(out));
  opened.fields.emplace_back("Set-Cookie", cookie_field(request, entry.secrets.cookie, false));
  return opened;
}

Response WebSite::leave(const Request& request) {
  if (request.method != "POST")
    return wrong_method("a session is ended with POST", "POST");
  if (auto refused = refusal_of_origin(request))
    return *std::move(refused);
  if (!logins_.leave(secrets_of(request), request.client))
    return not_known("there is no such session");
  json::object out;
  out["ended"] = true;
  auto ended = json_answer(std::move(out));
  ended.fields.emplace_back("Set-Cookie", cookie_field(request, "", true));
  return ended;
}

// {"dry_run": true, "all": false, "domain": "example.org", "id": ["..."]}. Without a filter "all"
// must be said.
Response WebSite::change(const std::string& verb, const Request& request) {
  if (std::find(kVerbs.begin(), kVerbs.end(), verb) == kVerbs.end())
    return problem(404, "the verbs are hold, release, retry, remove and bounce");
  if (auto refused = refusal_of_origin(request))
    return *std::move(refused);
  const auto body = parse_json_object(request.body, {.depth = 8, .allows_twice = false});
  if (!body)
    return problem(400, body.error().code() == Errc::refused ? "a name stands twice in the body"
                                                             : "the body is to be a JSON object");
  const auto parameters = parameters_of(*body);
  if (!parameters)
    return problem(400, parameters.error().step());
  auto filter = filter_of(*parameters, {});
  if (!filter)
    return problem(400, filter.error().step());
  const auto flag = [&](std::string_view key) {
    const auto* value = body->if_contains(key);
    return value != nullptr && value->is_bool() && value->get_bool();
  };
  daemon::ControlRequest asked;
  asked.act = "change";
  asked.verb = verb;
  asked.filter = *std::move(filter);
  asked.dry_run = flag("dry_run");
  asked.all = flag("all");
  if (asked.filter.matches_all() && !asked.all)
    return problem(400, "without a filter, \"all\": true must be said");
  json::object out;
  const auto end = port_.ask(asked, [&](const json::object& line) {
    if (const auto* changed = line.if_contains("changed"); changed && changed->is_object())
      out = json::object(changed->get_object(), json::storage_ptr());
    return true;
  });
  if (auto failed = failure(end))
    return *std::move(failed);
  return json_answer(std::move(out));
}

Response WebSite::too_large(const Request& request) const {
  if (!is_sending(request))
    return problem(413, "a request has at most 64 KiB");
  return problem(413, "a request that sends mail has at most " +
                          format_size(settings_.request_size) + " (web.request_size)");
}

std::optional<Response> WebSite::refusal_of_large(const Request& head, std::uint64_t octets) {
  if (!is_sending(head) || octets > settings_.request_size)
    return safe(too_large(head));
  if (auto refused = refusal(head))
    return safe(*std::move(refused));
  std::string trouble;
  const auto caller = caller_of(head, trouble);
  if (caller.role == Role::none)
    return safe(no_token(trouble));
  if (caller.role != Role::send)
    return safe(problem(403, kMayNotSend));
  return std::nullopt;
}

Response WebSite::no_room() {
  return safe(try_later(503, "too many large requests at once", "5"));
}

// Once the daemon has the message in custody. The key makes a request that comes again the same
// message, for a day, whatever ended in between; it goes with the digest of the request, so that
// another message with the same key is found out.
Response WebSite::send(const Request& request, const std::string& token) {
  if (!settings_.submit)
    return problem(503, "mail cannot be sent from here");
  if (auto refused = refusal_of_origin(request))
    return *std::move(refused);
  auto mail = read_mail_request(request.body);
  if (!mail)
    return problem(mail.error().code() == Errc::too_long ? 413 : 400, mail.error().step());
  const auto& key = request.idempotency_key.empty() ? mail->key : request.idempotency_key;
  const auto is_visible = [](char c) { return c >= ' ' && c < '\x7f'; };
  if (key.size() > kMostKey || !std::all_of(key.begin(), key.end(), is_visible))
    return problem(400, "an Idempotency-Key has at most 255 visible ASCII characters");
  if (mail->content.size() > settings_.message_size)
    return problem(413, daemon::too_large(settings_.message_size));
  mail->header.size = mail->content.size();
  mail->header.token = token;
  mail->header.way = "http";
  set_trace_parent(*mail, request.trace_parent);
  if (!key.empty())
    mail->header.key = daemon::submit_key(token, key, request.body);
  const auto answer = settings_.submit(mail->header, mail->content);
  if (!answer)
    return try_later(503,
                     "the daemon did not take the message, or did not say so; with an "
                     "Idempotency-Key it may be sent again",
                     "5");
  if (answer->exit_code != EX_OK)
    return refused_mail(*answer);
  json::object out;
  out["id"] = answer->id;
  auto taken = json_answer(std::move(out), 202);
  if (answer->cause == daemon::kCauseKey)
    taken.fields.emplace_back("Idempotent-Replayed", "true");
  return taken;
}

}  // namespace postrider::web
