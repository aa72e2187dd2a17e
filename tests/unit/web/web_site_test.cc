#include "web/web_site.h"

#include "web/assets.h"

#include "base/base64.h"
#include "base/digest.h"
#include "tests/unit/web/turned_clock.h"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <catch2/catch.hpp>

#include <functional>
#include <string>
#include <sysexits.h>
#include <vector>

using namespace postrider;
using namespace postrider::web;
namespace json = boost::json;

namespace {

// Answers with lines that a test sets, and keeps what was asked.
class FakePort : public ControlPort {
 public:
  Result<daemon::ControlEnd> ask(const daemon::ControlRequest& request,
                                 const OnLine& on_line) override {
    asked.push_back(request);
    if (on_ask)
      on_ask();
    if (is_down)
      return Error(Errc::stopped, "connect");
    for (const auto& line : lines)
      if (!on_line(json::parse(line).as_object()))
        return daemon::ControlEnd{};
    return end;
  }
  std::vector<daemon::ControlRequest> asked;
  std::vector<std::string> lines;
  daemon::ControlEnd end;
  bool is_down = false;
  std::function<void()> on_ask;
};

struct House {
  House() : site(settings(), port, clock, log) {}
  static WebSite::Settings settings() {
    WebSite::Settings made;
    made.hosts = {"localhost", "127.0.0.1", "[::1]"};
    made.tokens = []() -> Result<std::vector<Token>> {
      return std::vector<Token>{{Role::read, encode_hex(sha256("reader")), "r"},
                                {Role::change, encode_hex(sha256("changer")), "c"},
                                {Role::send, encode_hex(sha256("sender")), "shop"}};
    };
    return made;
  }
  static Request get(const std::string& target, const std::string& token = "reader") {
    Request request;
    request.method = "GET";
    request.target = target;
    request.host = "localhost:8025";
    request.client = "127.0.0.1";
    if (!token.empty())
      request.authorization = "Bearer " + token;
    return request;
  }
  static Request post(const std::string& verb, const std::string& body,
                      const std::string& token = "changer") {
    auto request = get("/api/v1/queue/" + verb, token);
    request.method = "POST";
    request.content_type = "application/json";
    request.body = body;
    return request;
  }
  unsigned status(const Request& request) { return site.answer(request).status; }

  FakePort port;
  TurnedClock clock;
  NullLog log;
  WebSite site;
};

std::string field(const Response& response, const std::string& name) {
  for (const auto& [key, value] : response.fields)
    if (key == name)
      return value;
  return {};
}

const std::string kStatus =
    R"({"status":{"running":true,"admission":"open","now":5,"version":"1","queue":{"messages":2}}})";

}  // namespace

TEST_CASE("site: only our own host names are answered", "[web]") {
  House house;
  for (const auto& [host, wanted] :
       std::vector<std::pair<std::string, unsigned>>{{"localhost", 200},
                                                     {"LOCALHOST:1", 200},
                                                     {"127.0.0.1:8025", 200},
                                                     {"[::1]:8025", 200},
                                                     {"evil.test", 421},
                                                     {"localhost.evil.test", 421},
                                                     {"", 421},
                                                     {"[::1", 421},
                                                     {"127.0.0.1.evil.test", 421}}) {
    INFO(host);
    auto request = House::get("/healthz");
    request.host = host;
    CHECK(house.status(request) == wanted);
  }
}

TEST_CASE("site: what is not a path of ours", "[web]") {
  House house;
  for (const auto& [target, wanted] :
       std::vector<std::pair<std::string, unsigned>>{{"/", 200},
                                                     {"/page.js", 200},
                                                     {"/page.css", 200},
                                                     {"/icon.svg", 200},
                                                     {"/index.html", 200},
                                                     {"/../etc/passwd", 404},
                                                     {"/%2e%2e/etc/passwd", 404},
                                                     {"//evil.test/", 400},
                                                     {"", 400},
                                                     {"*", 400},
                                                     {"http://localhost/", 400},
                                                     {"/page.js/", 404},
                                                     {"/api/v1/", 404},
                                                     {"/api/v1/none", 404},
                                                     {"/api/v2/status", 404},
                                                     {"/healthz?a=%zz", 400},
                                                     {"/healthz?a=%0d%0a", 400},
                                                     {"/healthz?a=%ff", 400},
                                                     {"/healthz?a=%4", 400},
                                                     {"/" + std::string(4095, 'x'), 404},
                                                     {"/" + std::string(4096, 'x'), 414}}) {
    INFO(target);
    CHECK(house.status(House::get(target)) == wanted);
  }
  auto request = House::get("/healthz");
  for (const char* method : {"PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get", ""}) {
    request.method = method;
    CHECK(house.status(request) == 405);
  }
  request.method = "HEAD";
  CHECK(house.status(request) == 200);
}

TEST_CASE("site: every answer forbids scripts of others, framing and guessing of types", "[web]") {
  House house;
  house.port.lines = {kStatus};
  for (const char* target :
       {"/", "/page.js", "/healthz", "/metrics", "/api/v1/status", "/nowhere", "//"}) {
    INFO(target);
    const auto response = house.site.answer(House::get(target));
    const auto policy = field(response, "Content-Security-Policy");
    CHECK(policy.find("default-src 'none'") == 0);
    CHECK(policy.find("frame-ancestors 'none'") != policy.npos);
    CHECK(policy.find("unsafe") == policy.npos);
    CHECK(field(response, "X-Content-Type-Options") == "nosniff");
    CHECK(field(response, "X-Frame-Options") == "DENY");
    CHECK(field(response, "Referrer-Policy") == "no-referrer");
    CHECK(field(response, "Cross-Origin-Resource-Policy") == "same-origin");
    CHECK(field(response, "Cross-Origin-Opener-Policy") == "same-origin");
    CHECK(field(response, "Cache-Control") == "no-store");
    CHECK(field(response, "Set-Cookie").empty());
  }
  const auto* page = find_asset("/index.html");
  REQUIRE(page);
  CHECK(page->bytes.find("<script>") == page->bytes.npos);
  CHECK(page->bytes.find("style=") == page->bytes.npos);
  const auto* script = find_asset("/page.js");
  REQUIRE(script);
  for (const char* way :
       {"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"})
    CHECK(script->bytes.find(way) == script->bytes.npos);
}

TEST_CASE("site: the API wants a token, a change one that may", "[web]") {
  House house;
  house.port.lines = {kStatus, R"({"changed":{"messages":1,"recipients":2,"dry_run":true}})"};
  CHECK(house.status(House::get("/api/v1/status", "")) == 401);
  CHECK(house.status(House::get("/api/v1/status", "wrong")) == 401);
  auto basic = House::get("/api/v1/status");
  basic.authorization = "Basic cmVhZGVyOg==";
  CHECK(house.status(basic) == 401);
  CHECK(house.status(House::get("/api/v1/status")) == 200);
  CHECK(field(house.site.answer(House::get("/api/v1/status", "")), "WWW-Authenticate") ==
        "Bearer realm=\"postrider\"");
  const std::string body = R"({"domain":"a.test","dry_run":true})";
  CHECK(house.status(House::post("hold", body, "")) == 401);
  CHECK(house.status(House::post("hold", body, "reader")) == 403);
  const auto asked = house.port.asked.size();
  CHECK(house.status(House::post("hold", body)) == 200);
  REQUIRE(house.port.asked.size() == asked + 1);
  CHECK(house.port.asked.back().act == "change");
  CHECK(house.port.asked.back().verb == "hold");
  CHECK(house.port.asked.back().filter.domain == "a.test");
  CHECK(house.port.asked.back().dry_run);
  CHECK_FALSE(house.port.asked.back().all);
}

namespace {

// A site that takes mail as a test says.
struct PostHouse : House {
  PostHouse() : mail_site(with_mail(), port, clock, log) {}
  WebSite::Settings with_mail() {
    auto made = settings();
    made.request_size = 100'000;
    made.message_size = 120'000;
    made.submit = [this](const daemon::SubmitHeader& header,
                         std::string_view content) -> Result<daemon::SubmitAnswer> {
      sent.emplace_back(header, content);
      if (is_silent)
        return Error(Errc::truncated, "answer");
      return said;
    };
    return made;
  }
  static Request mail(const std::string& body, const std::string& token = "sender") {
    auto request = post("", body, token);
    request.target = "/api/v1/messages";
    return request;
  }
  unsigned mail_status(const Request& request) { return mail_site.answer(request).status; }
  bool is_silent = false;
  daemon::SubmitAnswer said{.id = "01ABC", .exit_code = 0, .error = {}, .busy = false, .cause = {}};
  std::vector<std::pair<daemon::SubmitHeader, std::string>> sent;
  WebSite mail_site;
};

const std::string kMail = R"({"from":"a@b.example","to":"c@d.example","text":"x"})";

}  // namespace

TEST_CASE("site: mail is taken from who may send, once the daemon has it", "[web][send]") {
  PostHouse house;
  auto request = PostHouse::mail(kMail);
  request.idempotency_key = "one";
  const auto taken = house.mail_site.answer(request);
  CHECK(taken.status == 202);
  CHECK(json::parse(taken.body).at("id").as_string() == "01ABC");
  CHECK(field(taken, "Idempotent-Replayed").empty());
  REQUIRE(house.sent.size() == 1);
  const auto first = house.sent[0].first;
  CHECK(first.token == "shop");
  CHECK(first.size == house.sent[0].second.size());
  CHECK(daemon::is_submit_key(first.key));
  house.said.cause = daemon::kCauseKey;
  CHECK(field(house.mail_site.answer(request), "Idempotent-Replayed") == "true");
  CHECK(house.sent[1].first.key == first.key);
  request.body = R"({"from":"a@b.example","to":"c@d.example","text":"y"})";
  CHECK(house.mail_status(request) == 202);
  CHECK(house.sent[2].first.key != first.key);
  CHECK(house.sent[2].first.key.substr(0, 32) == first.key.substr(0, 32));
  request.body = R"({"from":"a@b.example","to":"c@d.example","text":"y","key":"one"})";
  request.idempotency_key.clear();
  CHECK(house.mail_status(request) == 202);
  CHECK(house.sent[3].first.key.substr(0, 32) == first.key.substr(0, 32));
  house.sent.pop_back();
  request.body = kMail;
  request.target = "/v1/messages";
  CHECK(house.mail_status(request) == 202);
  CHECK(house.sent[3].first.key.empty());
}

TEST_CASE("site: mail has the trace of its request, which says it in one of two places",
          "[web][send]") {
  PostHouse house;
  const std::string one = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                    two = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
  const auto trace_of = [&](const std::string& field, const std::string& member) {
    auto request = PostHouse::mail(
        member.empty() ? kMail
                       : R"({"from":"a@b.example","to":"c@d.example","text":"x","traceparent":")" +
                             member + "\"}");
    request.trace_parent = field;
    CHECK(house.mail_status(request) == 202);
    return house.sent.back().first.trace_parent;
  };
  CHECK(trace_of("", "").empty());
  CHECK(trace_of(one, "") == one);
  CHECK(trace_of("", one) == one);
  CHECK(trace_of(one, two) == two);
  CHECK(trace_of(one, "rubbish") == one);
  CHECK(trace_of("rubbish", "").empty());
  CHECK(trace_of(one + "\r\nX: y", "").empty());
  CHECK(trace_of(std::string(10'000, '0'), "").empty());
  auto request =
      PostHouse::mail(R"({"from":"a@b.example","to":"c@d.example","text":"x","traceparent":1})");
  CHECK(house.mail_status(request) == 400);
}

TEST_CASE("site: who may not send sends nothing, and who may does nothing else", "[web][send]") {
  PostHouse house;
  for (const auto& [token, wanted] : std::vector<std::pair<std::string, unsigned>>{
           {"", 401}, {"wrong", 401}, {"reader", 403}, {"changer", 403}})
    CHECK(house.mail_status(PostHouse::mail(kMail, token)) == wanted);
  auto request = PostHouse::mail(kMail);
  request.origin = "https://evil.test";
  CHECK(house.mail_status(request) == 403);
  request.origin.clear();
  request.content_type = "text/plain";
  CHECK(house.mail_status(request) == 415);
  request.content_type = "application/json";
  request.idempotency_key = std::string(256, 'x');
  CHECK(house.mail_status(request) == 400);
  request.idempotency_key = "a\tb";
  CHECK(house.mail_status(request) == 400);
  CHECK(house.sent.empty());
  for (const auto* path : {"queue", "status", "history", "queue/count", "messages/01ABC"})
    CHECK(house.mail_status(House::get(std::string("/api/v1/") + path, "sender")) == 403);
  CHECK(house.mail_status(House::post("remove", R"({"all":true})", "sender")) == 403);
  CHECK(house.port.asked.empty());
  const auto who = house.mail_site.answer(House::get("/api/v1/whoami", "sender"));
  CHECK(json::parse(who.body).at("role").as_string() == "send");
}

TEST_CASE("site: what the daemon says of mail goes on as a status", "[web][send]") {
  PostHouse house;
  const struct {
    int code;
    std::string_view cause;
    unsigned status;
    bool is_for_later;
  } cases[] = {
      {EX_TEMPFAIL, daemon::kCauseLimit, 429, true},
      {EX_TEMPFAIL, "", 503, true},
      {EX_NOPERM, "", 403, false},
      {EX_DATAERR, "", 400, false},
      {EX_DATAERR, daemon::kCauseKey, 422, false},
      {EX_UNAVAILABLE, "", 422, false},
      {EX_PROTOCOL, "", 502, false},
  };
  for (const auto& each : cases) {
    house.said = {.id = {},
                  .exit_code = each.code,
                  .error = "why",
                  .busy = false,
                  .cause = std::string(each.cause)};
    const auto answer = house.mail_site.answer(PostHouse::mail(kMail));
    CHECK(answer.status == each.status);
    CHECK(field(answer, "Retry-After").empty() != each.is_for_later);
    CHECK(answer.body.find("why") != std::string::npos);
  }
  house.is_silent = true;
  const auto answer = house.mail_site.answer(PostHouse::mail(kMail));
  CHECK(answer.status == 503);
  CHECK_FALSE(field(answer, "Retry-After").empty());
}

TEST_CASE("site: what is not a mail request, or too large, reaches no daemon", "[web][send]") {
  PostHouse house;
  CHECK(house.mail_status(PostHouse::mail("{")) == 400);
  CHECK(house.mail_status(PostHouse::mail(std::string(50'000, '['))) == 413);
  CHECK(house.mail_status(PostHouse::mail(R"({"from":"a@b.example","to":"c@d.example","text":")" +
                                          std::string(100'000, 'x') + "\"}")) == 413);
  // As a message it is three times as long.
  std::string umlauts;
  for (int i = 0; i < 45'000; ++i)
    umlauts += "\u00fc";
  CHECK(house.mail_status(PostHouse::mail(R"({"from":"a@b.example","to":"c@d.example","text":")" +
                                          umlauts + "\"}")) == 413);
  CHECK(house.sent.empty());
  const auto large = [&](const std::string& token, std::uint64_t octets,
                         const std::string& target = "/api/v1/messages") {
    auto head = PostHouse::mail("", token);
    head.target = target;
    const auto refused = house.mail_site.refusal_of_large(head, octets);
    return refused ? refused->status : 0U;
  };
  CHECK(large("sender", 100'000) == 0);
  CHECK(large("sender", 100'001) == 413);
  CHECK(large("reader", 100'000) == 403);
  CHECK(large("", 100'000) == 401);
  CHECK(large("wrong", 100'000) == 401);
  CHECK(large("sender", 100'000, "/api/v1/queue/hold") == 413);
  auto elsewhere = PostHouse::mail("");
  elsewhere.host = "evil.test";
  const auto refused = house.mail_site.refusal_of_large(elsewhere, 100'000);
  REQUIRE(refused);
  CHECK(refused->status == 421);
  CHECK(field(*refused, "X-Content-Type-Options") == "nosniff");
}

TEST_CASE("site: a search of the trace is one document, as the tool prints it", "[web][trace]") {
  House house;
  house.port.lines = {R"({"trace":{"id":"01A"}})",
                      R"({"event":{"event":"accepted","from":"a"}})",
                      R"({"event":{"event":"delivered"}})",
                      R"({"trace":{"id":"01B"}})",
                      R"({"message":{"queue_id":"01B"}})",
                      R"({"event":{"event":"late"}})",
                      R"({"more":true})"};
  const auto found = house.site.answer(
      House::get("/api/v1/trace?target=a%40b.test&from=c%40d.test&to=&since=2h&limit=7"));
  CHECK(found.status == 200);
  CHECK(
      found.body ==
      R"({"messages":[{"id":"01A","events":[{"event":"accepted","from":"a"},)"
      R"({"event":"delivered"}]},{"id":"01B","events":[],"queued":{"queue_id":"01B"}}],"more":true})"
      "\n");
  REQUIRE(house.port.asked.size() == 1);
  const auto& asked = house.port.asked.back();
  CHECK(asked.act == "trace");
  CHECK(asked.target == "a@b.test");
  CHECK(asked.filter.from == "c@d.test");
  CHECK(asked.filter.to == "");
  CHECK(asked.since == "2h");
  CHECK(asked.limit == "7");
  CHECK_FALSE(asked.rejected);
  house.port.lines = {R"({"event":{"event":"rejected"}})", R"({"event":{"event":"rejected"}})"};
  const auto refused = house.site.answer(House::get("/api/v1/trace?rejected=true"));
  CHECK(refused.body ==
        "{\"refused\":[{\"event\":\"rejected\"},{\"event\":\"rejected\"}],\"more\":false}\n");
  CHECK(house.port.asked.back().rejected);
  CHECK(house.port.asked.back().limit == "100");
  house.port.lines.clear();
  CHECK(house.site.answer(House::get("/api/v1/trace?rejected=true")).body ==
        "{\"refused\":[],\"more\":false}\n");
  house.port.end.exit_code = EX_NOINPUT;
  house.port.end.error = "no such mail is known";
  CHECK(house.status(House::get("/api/v1/trace?target=x")) == 404);
  house.port.end.exit_code = EX_UNAVAILABLE;
  CHECK(house.status(House::get("/api/v1/trace?target=x")) == 503);
}

TEST_CASE("site: a search of the trace is bounded, and nobody without a right has one",
          "[web][trace]") {
  House house;
  for (const char* query : {"limit=0", "limit=1001", "limit=x", "limit=", "rejected=yes",
                            "target=a&color=red", "id=01A", "target=%00"}) {
    INFO(query);
    CHECK(house.status(House::get(std::string("/api/v1/trace?") + query)) == 400);
  }
  CHECK(house.status(House::get("/api/v1/trace?target=a", "")) == 401);
  CHECK(house.status(House::get("/api/v1/trace?target=a", "sender")) == 403);
  CHECK(house.port.asked.empty());
  CHECK(house.status(House::get("/api/v1/trace?target=a&limit=1000")) == 200);
  // A story without an end.
  house.port.lines = {R"({"trace":{"id":"01A"}})"};
  for (int i = 0; i < 3000; ++i)
    house.port.lines.push_back(R"({"event":{"reason":")" + std::string(2000, 'x') + "\"}}");
  const auto found = house.site.answer(House::get("/api/v1/trace?target=a"));
  CHECK(found.status == 200);
  CHECK(found.body.size() < (4U << 20U) + 4096);
  CHECK(json::parse(found.body).at("more").as_bool());
  // Two at once; the third is to come again, and all else goes on.
  house.port.lines = {R"({"trace":{"id":"01A"}})"};
  unsigned deep = 0;
  std::vector<unsigned> seen;
  house.port.on_ask = [&] {
    if (++deep > 2)
      return;
    const auto inner = house.site.answer(House::get("/api/v1/trace?target=a"));
    seen.push_back(inner.status);
    if (inner.status == 503)
      CHECK_FALSE(field(inner, "Retry-After").empty());
  };
  CHECK(house.status(House::get("/api/v1/trace?target=a")) == 200);
  CHECK(seen == std::vector<unsigned>{503, 200});
  house.port.on_ask = {};
  CHECK(house.status(House::get("/api/v1/trace?target=a")) == 200);
}

TEST_CASE("site: guesses from an address end, and its owner waits with them", "[web]") {
  House house;
  house.port.lines = {kStatus};
  for (int i = 0; i < 10; ++i)
    CHECK(house.status(House::get("/api/v1/status", "wrong" + std::to_string(i))) == 401);
  CHECK(house.status(House::get("/api/v1/status")) == 401);
  auto other = House::get("/api/v1/status");
  other.client = "192.0.2.7";
  CHECK(house.status(other) == 200);
  house.clock.advance(std::chrono::seconds(61));
  CHECK(house.status(House::get("/api/v1/status")) == 200);
}

namespace {

struct LoginHouse : House {
  LoginHouse() : house(with_judge(), port, clock, log) { port.lines = {kStatus}; }
  static WebSite::Settings with_judge() {
    auto made = settings();
    made.judge = [](const auto& user, const auto& password, const auto&) -> Result<Role> {
      if (password == "broken")
        return Error(Errc::stopped, "ask");
      return password != "right" ? Role::none : user == "ann" ? Role::change : Role::read;
    };
    return made;
  }
  static Request post_to(const std::string& path, const std::string& body) {
    auto request = get("/api/v1/" + path, "");
    request.method = "POST";
    request.content_type = "application/json";
    request.body = body;
    return request;
  }
  static Request login(const std::string& user, const std::string& password) {
    return post_to("session", R"({"user":")" + user + R"(","password":")" + password + "\"}");
  }
  // As a browser would with the answer.
  void enter(const std::string& user) {
    const auto answer = house.answer(login(user, "right"));
    REQUIRE(answer.status == 200);
    key = json::parse(answer.body).at("key").as_string().c_str();
    cookie = field(answer, "Set-Cookie");
    cookie = cookie.substr(0, cookie.find(';'));
  }
  Request as_user(Request request) const {
    request.session_key = key;
    request.cookie = cookie;
    return request;
  }
  unsigned status(const Request& request) { return house.answer(request).status; }

  WebSite house;
  std::string key, cookie;
};

}  // namespace

TEST_CASE("site: a user's session has that user's role, until it is ended", "[web][login]") {
  LoginHouse house;
  house.enter("bob");
  CHECK(house.status(house.as_user(House::get("/api/v1/status", ""))) == 200);
  CHECK(house.port.asked.back().as_reader);
  CHECK(house.status(house.as_user(House::post("hold", R"({"all":true})", ""))) == 403);
  house.enter("ann");
  CHECK(house.status(house.as_user(House::post("hold", R"({"all":true})", ""))) == 200);
  const auto who = house.house.answer(house.as_user(House::get("/api/v1/whoami", "")));
  CHECK(json::parse(who.body) == json::parse(R"({"role":"change","user":"ann"})"));
  auto without_key = House::get("/api/v1/status", "");
  without_key.cookie = house.cookie;
  CHECK(house.status(without_key) == 401);
  auto without_cookie = House::get("/api/v1/status", "");
  without_cookie.session_key = house.key;
  CHECK(house.status(without_cookie) == 401);
  const auto end = LoginHouse::post_to("session/end", "{}");
  CHECK(house.status(end) == 401);
  auto from_elsewhere = house.as_user(end);
  from_elsewhere.origin = "https://evil.test";
  CHECK(house.status(from_elsewhere) == 403);
  CHECK(house.status(house.as_user(House::get("/api/v1/session/end", ""))) == 405);
  const auto ended = house.house.answer(house.as_user(end));
  CHECK(ended.status == 200);
  CHECK(field(ended, "Set-Cookie") ==
        "postrider-session=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
  CHECK(house.status(house.as_user(House::get("/api/v1/status", ""))) == 401);
}

TEST_CASE("site: a refusal of a password waits, and what is no login is not judged",
          "[web][login]") {
  LoginHouse house;
  const auto refused = house.house.answer(LoginHouse::login("ann", "wrong"));
  CHECK(refused.status == 401);
  CHECK(refused.not_before == house.clock.steady() + Logins::kRefusal);
  CHECK(field(refused, "Set-Cookie").empty());
  CHECK(field(refused, "WWW-Authenticate") == "Bearer realm=\"postrider\"");
  CHECK(house.house.answer(LoginHouse::login("ann", "right")).not_before == SteadyTime());
  CHECK(house.status(LoginHouse::login("ann", "broken")) == 503);
  for (const auto* body : {"", "{}", "[]", R"({"user":"ann"})", R"({"user":"ann","password":1})",
                           R"({"user":"ann","password":"right","role":"change"})"})
    CHECK(house.status(LoginHouse::post_to("session", body)) == 400);
  auto as_form = LoginHouse::login("ann", "right");
  as_form.content_type = "application/x-www-form-urlencoded";
  CHECK(house.status(as_form) == 415);
  auto from_elsewhere = LoginHouse::login("ann", "right");
  from_elsewhere.origin = "http://evil.test";
  CHECK(house.status(from_elsewhere) == 403);
  CHECK(house.site.answer(LoginHouse::login("ann", "right")).status == 404);  // no web.pam
  CHECK(house.site.answer(House::get("/api/v1/session", "")).body == "{\"password\":false}\n");
  CHECK(house.house.answer(House::get("/api/v1/session", "")).body == "{\"password\":true}\n");
}

TEST_CASE("site: who has tried too often is told when to come again", "[web][login]") {
  LoginHouse house;
  for (int i = 0; i < 10; ++i)
    CHECK(house.status(LoginHouse::login("ann", "wrong" + std::to_string(i))) == 401);
  const auto refused = house.house.answer(LoginHouse::login("ann", "right"));
  CHECK(refused.status == 429);
  CHECK(field(refused, "Retry-After") == "600");
  CHECK(refused.not_before == SteadyTime());
}

TEST_CASE("site: the cookie is for no script, and of TLS for TLS alone", "[web][login]") {
  LoginHouse house;
  auto request = LoginHouse::login("ann", "right");
  CHECK(field(house.house.answer(request), "Set-Cookie").ends_with("; HttpOnly; SameSite=Strict"));
  request.origin = "https://localhost";
  CHECK(field(house.house.answer(request), "Set-Cookie").ends_with("SameSite=Strict; Secure"));
  house.enter("ann");
  auto among_others = house.as_user(House::get("/api/v1/status", ""));
  among_others.cookie = "a=b;" + among_others.cookie + "; postrider-session=x";
  CHECK(house.status(among_others) == 200);
  among_others.cookie = "xpostrider-session=1; postrider-session";
  CHECK(house.status(among_others) == 401);
}

TEST_CASE("site: a change that is not what it should be reaches no queue", "[web]") {
  House house;
  house.port.lines = {R"({"changed":{"messages":1,"recipients":2}})"};
  for (const auto& [body, wanted] :
       std::vector<std::pair<std::string, unsigned>>{{"", 400},
                                                     {"[]", 400},
                                                     {"{", 400},
                                                     {"{}", 400},
                                                     {R"({"dry_run":true})", 400},
                                                     {R"({"domian":"a.test"})", 400},
                                                     {R"({"domain":7})", 400},
                                                     {R"({"domain":true})", 400},
                                                     {R"({"id":[7]})", 400},
                                                     {R"({"all":"true"})", 400},
                                                     {R"({"domain":null})", 400},
                                                     {R"({"all":true,"dry_runn":true})", 400}}) {
    INFO(body);
    CHECK(house.status(House::post("remove", body)) == wanted);
  }
  CHECK(house.status(House::post("delete", R"({"all":true})")) == 404);
  CHECK(house.status(House::post("", R"({"all":true})")) == 404);
  auto form = House::post("remove", R"({"all":true})");
  form.content_type = "text/plain";
  CHECK(house.status(form) == 415);
  auto foreign = House::post("remove", R"({"all":true})");
  for (const char* origin :
       {"https://evil.test", "null", "http://localhost.evil.test", "localhost"}) {
    INFO(origin);
    foreign.origin = origin;
    CHECK(house.status(foreign) == 403);
  }
  auto large = House::post("remove", R"({"domain":")" + std::string(70000, 'x') + "\"}");
  CHECK(house.status(large) == 413);
  CHECK(house.port.asked.empty());
  foreign.origin = "http://localhost:8025";
  CHECK(house.status(foreign) == 200);
  CHECK(house.port.asked.back().all);
  CHECK(house.status(House::post("retry", R"({"id":["1K1DMQJDEW9","1K1DMQJDEW8"]})")) == 200);
  CHECK(house.port.asked.back().filter.ids.size() == 2);
}

TEST_CASE("site: a listing ends at its limit and says so", "[web]") {
  House house;
  for (int i = 0; i < 5; ++i)
    house.port.lines.push_back(R"({"message":{"queue_id":"M)" + std::to_string(i) + "\"}}");
  const auto listed = [&](const std::string& query) {
    return json::parse(house.site.answer(House::get("/api/v1/queue" + query)).body).as_object();
  };
  CHECK(listed("").at("messages").as_array().size() == 5);
  CHECK(listed("?limit=5").at("more") == false);
  CHECK(listed("?limit=4").at("messages").as_array().size() == 4);
  CHECK(listed("?limit=4").at("more") == true);
  CHECK(house.status(House::get("/api/v1/queue?limit=1000")) == 200);
  CHECK(house.port.asked.back().act == "list");
  listed("?from=a%2Bb%40a.test&older=2h&id=1&id=2&reply=grey+listed");
  const auto& filter = house.port.asked.back().filter;
  CHECK(filter.from == "a+b@a.test");
  CHECK(filter.older == "2h");
  CHECK(filter.reply == "grey listed");
  CHECK(filter.ids == std::vector<std::string>{"1", "2"});
  for (const char* wrong :
       {"?limit=0", "?limit=1001", "?limit=x", "?limit=", "?form=a", "?limit=-1"}) {
    INFO(wrong);
    CHECK(house.status(House::get(std::string("/api/v1/queue") + wrong)) == 400);
  }
}

TEST_CASE("site: each filter is asked for by its own name, in a listing, a count and a change",
          "[web]") {
  using daemon::FilterText;
  const std::vector<std::pair<std::string, std::optional<std::string> FilterText::*>> filters = {
      {"from", &FilterText::from},     {"to", &FilterText::to},
      {"domain", &FilterText::domain}, {"site", &FilterText::site},
      {"status", &FilterText::status}, {"reply", &FilterText::reply},
      {"older", &FilterText::older},   {"larger", &FilterText::larger}};
  House house;
  house.port.lines = {R"({"changed":{"messages":1,"recipients":2}})"};
  const auto is_asked = [&](const Request& request,
                            std::optional<std::string> FilterText::*wanted) {
    house.port.asked.clear();
    CHECK(house.status(request) == 200);
    REQUIRE(house.port.asked.size() == 1);
    const auto& filter = house.port.asked.back().filter;
    CHECK(filter.ids.empty());
    for (const auto& [name, member] : filters)
      CHECK(filter.*member ==
            (member == wanted ? std::optional<std::string>("x y") : std::optional<std::string>()));
  };
  for (const auto& [name, member] : filters) {
    INFO(name);
    is_asked(House::get("/api/v1/queue?limit=9&" + name + "=x+y"), member);
    is_asked(House::get("/api/v1/queue/count?" + name + "=x%20y"), member);
    is_asked(House::post("hold", "{\"" + name + R"(":"x y"})"), member);
  }
}

TEST_CASE("site: a dry run is one with each verb, and nothing else is", "[web]") {
  House house;
  house.port.lines = {R"({"changed":{"messages":1,"recipients":2}})"};
  for (const char* verb : {"hold", "release", "retry", "remove", "bounce"})
    for (const bool dry_run : {true, false})
      for (const bool all : {true, false}) {
        INFO(verb << " " << dry_run << " " << all);
        const std::string flags = std::string(R"(,"dry_run":)") + (dry_run ? "true" : "false") +
                                  R"(,"all":)" + (all ? "true" : "false");
        CHECK(house.status(House::post(verb, R"({"domain":"a.test")" + flags + "}")) == 200);
        const auto& asked = house.port.asked.back();
        CHECK(asked.verb == verb);
        CHECK(asked.dry_run == dry_run);
        CHECK(asked.all == all);
      }
}

TEST_CASE("site: a query has at most 32 parameters", "[web]") {
  House house;
  std::string query = "/healthz?a=1";
  for (int i = 1; i < 32; ++i)
    query += "&a" + std::to_string(i) + "=1";
  CHECK(house.status(House::get(query)) == 200);
  CHECK(house.status(House::get(query + "&b=1")) == 400);
}

TEST_CASE("site: a name that stands twice is refused, but for ids", "[web]") {
  House house;
  house.port.lines = {R"({"changed":{"messages":1,"recipients":2}})"};
  for (const char* query :
       {"to=a@x.test&to=b@x.test", "limit=1&limit=1", "t%6f=a@x.test&to=b@x.test"}) {
    INFO(query);
    CHECK(house.status(House::get(std::string("/api/v1/queue?") + query)) == 400);
  }
  for (const char* body :
       {R"({"to":"a@x.test","dry_run":true,"dry_run":false})",
        R"({"to":"a@x.test","to":"b@x.test","dry_run":true})", R"({"id":["X"],"id":["Y"]})"}) {
    INFO(body);
    const auto refused = house.site.answer(House::post("remove", body));
    CHECK(refused.status == 400);
    CHECK(refused.body.find("a name stands twice") != std::string::npos);
  }
  CHECK(house.port.asked.empty());
  CHECK(house.status(House::get("/api/v1/queue?id=X&id=Y")) == 200);
}

TEST_CASE("site: what a change may say", "[web]") {
  House house;
  house.port.lines = {R"({"changed":{"messages":1,"recipients":2}})"};
  const std::pair<const char*, const char*> cases[] = {
      {R"({"bogus":1})", "is not a filter"},
      {R"({"ids":["X"]})", "is not a filter"},
      {R"({"all":"true"})", "\\\"all\\\" is true or false"},
      {R"({"to":1})", "is to be a text"}};
  for (const auto& [body, words] : cases) {
    INFO(body);
    const auto refused = house.site.answer(House::post("hold", body));
    CHECK(refused.status == 400);
    CHECK(refused.body.find(words) != std::string::npos);
  }
  auto request = House::post("hold", R"({"to":"a@x.test"})");
  CHECK(house.status(request) == 200);
  request.content_type = "application/jsonx";
  CHECK(house.status(request) == 415);
  request.content_type = "Application/JSON ; charset=utf-8";
  CHECK(house.status(request) == 200);
  request.host = "localhost:8025";
  for (const auto& [origin, status] : {std::pair{"http://localhost:8025", 200U},
                                       {"http://localhost:8026", 403U},
                                       {"https://localhost", 200U},
                                       {"http://other.test:8025", 403U}}) {
    INFO(origin);
    request.origin = origin;
    CHECK(house.status(request) == status);
  }
}

// RFC 9110 sections 11.6.1 and 10.2.1.
TEST_CASE("site: who is refused is told what is needed, or may be done", "[web]") {
  House house;
  const auto told = [&](Request request, const char* method, unsigned status) {
    request.method = method;
    const auto answer = house.site.answer(request);
    INFO(method << " " << request.target);
    CHECK(answer.status == status);
    return field(answer, status == 401 ? "WWW-Authenticate" : "Allow");
  };
  CHECK(told(House::get("/healthz"), "DELETE", 405) == "GET, HEAD, POST");
  CHECK(told(House::get("/"), "POST", 405) == "GET, HEAD");
  CHECK(told(House::get("/api/v1/session/end"), "GET", 405) == "POST");
  const std::string bearer = "Bearer realm=\"postrider\"";
  CHECK(told(House::get("/api/v1/queue", ""), "GET", 401) == bearer);
  CHECK(told(House::get("/api/v1/queue", "wrong"), "GET", 401) == bearer);
  auto end = House::post("", "{}", "");
  end.target = "/api/v1/session/end";
  CHECK(told(end, "POST", 401) == bearer);
}

TEST_CASE("site: metrics may need a token, one that reads", "[web]") {
  House house;
  auto settings = House::settings();
  settings.metrics_need_token = true;
  house.port.lines = {kStatus};
  WebSite site(std::move(settings), house.port, house.clock, house.log);
  for (const auto& [token, wanted] : std::vector<std::pair<std::string, unsigned>>{
           {"", 401}, {"wrong", 401}, {"sender", 403}, {"reader", 200}, {"changer", 200}}) {
    INFO(token);
    const auto answer = site.answer(House::get("/metrics", token));
    CHECK(answer.status == wanted);
    CHECK((answer.body.find("postrider_up") != std::string::npos) == (wanted == 200));
    CHECK(field(answer, "WWW-Authenticate").empty() == (wanted != 401));
  }
  CHECK(site.answer(House::get("/healthz", "")).status == 200);
}

TEST_CASE("site: what a daemon that went down said before is said no more", "[web]") {
  House house;
  house.port.lines = {kStatus};
  CHECK(house.status(House::get("/readyz", "")) == 200);
  CHECK(house.status(House::get("/api/v1/status")) == 200);
  house.clock.advance(std::chrono::seconds(1));
  house.port.is_down = true;
  CHECK(house.status(House::get("/readyz", "")) == 503);
  CHECK(house.status(House::get("/api/v1/status")) == 503);
  CHECK(house.site.answer(House::get("/metrics", "")).body.find("postrider_up 0\n") !=
        std::string::npos);
}

TEST_CASE("site: a message is shown with its header, without what a terminal or page would obey",
          "[web]") {
  House house;
  house.port.lines = {
      R"({"message":{"queue_id":"X"}})",
      R"({"content":")" +
          encode_base64("Subject: <script>\x1b[31m\r\n\tfolded\t\x07\r\nTo: b\xff\r\n") + "\"}"};
  const auto response = house.site.answer(House::get("/api/v1/messages/X", "changer"));
  CHECK(response.status == 200);
  CHECK(response.content_type == "application/json");
  const auto shown = json::parse(response.body).as_object();
  CHECK(shown.at("message").as_object().at("queue_id") == "X");
  const std::string content(shown.at("content").as_string());
  CHECK(content.find('\x1b') == content.npos);
  CHECK(content.find('\x07') == content.npos);
  CHECK(content.find("Subject: <script>") == 0);
  CHECK(content.find("\n\tfolded\t\\x07\n") != content.npos);
  CHECK(shown.at("cut") == false);
  CHECK_FALSE(house.port.asked.back().body);
  house.port.lines.push_back(R"({"content":")" + encode_base64(std::string(300000, 'x')) + "\"}");
  CHECK(json::parse(house.site.answer(House::get("/api/v1/messages/X?body=1", "changer")).body)
            .as_object()
            .at("cut") == true);
  CHECK(house.port.asked.back().body);
}

TEST_CASE("site: who may only read is answered as a reader, and without content", "[web]") {
  const char* const targets[] = {"/api/v1/status",
                                 "/api/v1/queue",
                                 "/api/v1/queue/count",
                                 "/api/v1/messages/X",
                                 "/api/v1/explain?target=ann@us.test",
                                 "/api/v1/trace?target=ann@us.test"};
  House house;
  house.port.lines = {R"({"message":{"queue_id":"X"}})", R"({"status":{"running":true}})",
                      R"({"content":")" + encode_base64("Subject: secret\r\n") + "\"}"};
  for (const bool may_change : {true, false})
    for (const char* target : targets) {
      INFO(target << " " << may_change);
      house.port.asked.clear();
      const auto response =
          house.site.answer(House::get(target, may_change ? "changer" : "reader"));
      CHECK(response.status == 200);
      REQUIRE(house.port.asked.size() == 1);  // no answer to one is kept for the other
      CHECK(house.port.asked.back().as_reader == !may_change);
      CHECK((may_change || response.body.find("secret") == std::string::npos));
    }
  house.port.asked.clear();
  for (const char* query : {"body=true", "body", "body=1&body=0", "%62ody=1"}) {
    const auto refused = house.site.answer(House::get(std::string("/api/v1/messages/X?") + query));
    const bool is_twice = std::string(query).find('&') != std::string::npos;
    CHECK(refused.status == (is_twice ? 400 : 403));
    CHECK((is_twice || refused.body.find("does not see the content of mail") != std::string::npos));
  }
  CHECK(house.port.asked.empty());
}

TEST_CASE("site: what the daemon says goes on with its code", "[web]") {
  House house;
  for (const auto& [code, wanted] : std::vector<std::pair<int, unsigned>>{{EX_USAGE, 400},
                                                                          {EX_DATAERR, 400},
                                                                          {EX_NOINPUT, 404},
                                                                          {EX_UNAVAILABLE, 503},
                                                                          {EX_TEMPFAIL, 503},
                                                                          {EX_IOERR, 502},
                                                                          {EX_NOPERM, 502}}) {
    house.port.end = {code, "a sentence"};
    const auto response = house.site.answer(House::get("/api/v1/queue/count"));
    CHECK(response.status == wanted);
    CHECK(json::parse(response.body).as_object().at("error").as_object().at("message") ==
          "a sentence");
  }
  house.port.is_down = true;
  for (const char* target : {"/api/v1/queue", "/api/v1/queue/count", "/api/v1/messages/X",
                             "/api/v1/explain?target=a", "/api/v1/status", "/readyz"})
    CHECK(house.status(House::get(target)) == 503);
  CHECK(house.status(House::get("/healthz")) == 200);
  CHECK(house.site.answer(House::get("/metrics")).body.find("postrider_up 0\n") !=
        std::string::npos);
}

TEST_CASE("site: ready is who accepts mail and can read the queue", "[web]") {
  House house;
  house.port.lines = {kStatus};
  CHECK(house.status(House::get("/readyz", "")) == 200);
  for (const char* line : {R"({"status":{"running":true,"admission":"no room","queue":{}}})",
                           R"({"status":{"running":false,"admission":"open","queue":{}}})",
                           R"({"status":{"running":true,"admission":"open"}})"}) {
    INFO(line);
    house.clock.advance(std::chrono::seconds(2));
    house.port.lines = {line};
    CHECK(house.status(House::get("/readyz", "")) == 503);
  }
}

TEST_CASE("site: many scrapes ask the daemon once a second", "[web]") {
  House house;
  house.port.lines = {kStatus};
  for (int i = 0; i < 100; ++i)
    CHECK(house.status(House::get("/metrics", "")) == 200);
  CHECK(house.port.asked.size() == 1);
  CHECK(house.port.asked.back().as_reader);      // nobody has shown a token
  CHECK(house.port.asked.back().limit == "10");  // sites in trouble
  house.clock.advance(std::chrono::seconds(1));
  house.site.sample();  // for whoever may read
  CHECK(house.port.asked.back().as_reader);
  house.status(House::get("/metrics", ""));
  CHECK(house.port.asked.size() == 2);
  auto open = House::get("/metrics", "");
  open.accept = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
  const auto response = house.site.answer(open);
  CHECK(response.content_type.find("application/openmetrics-text") == 0);
  CHECK(response.body.ends_with("# EOF\n"));
}

TEST_CASE("site: the plots have what was, thinned out, and gains instead of totals", "[web]") {
  House house;
  for (int i = 0; i < 2000; ++i) {
    house.clock.advance(std::chrono::seconds(10));
    const auto accepted = i < 1990 ? i * 3 : (i - 1990);  // started again
    house.port.lines = {R"({"status":{"now":)" + std::to_string(i + 1) +
                        R"(,"queue":{"messages":)" + std::to_string(i) +
                        R"(},"since_start":{"accepted":)" + std::to_string(accepted) + "}}}"};
    house.site.sample();
  }
  const auto past =
      json::parse(house.site.answer(House::get("/api/v1/history?seconds=86400")).body).as_object();
  const auto& times = past.at("time").as_array();
  CHECK(times.size() <= History::kMostPoints);
  CHECK(times.size() > History::kMostPoints / 2);
  CHECK(times.back() == 2000);
  CHECK(past.at("queue").as_array().back() == 1999.0);
  for (const auto& gain : past.at("accepted").as_array())
    CHECK((gain.to_number<double>() >= 0 && gain.to_number<double>() <= 30));
  House young;  // where it is the second 1000
  young.port.lines = {R"({"status":{"now":5,"queue":{"messages":1}}})"};
  young.site.sample();
  for (const auto& [query, count] : std::vector<std::pair<std::string, std::size_t>>{
           {"", 1}, {"?seconds=995", 1}, {"?seconds=994", 0}, {"?seconds=86400", 1}})
    CHECK(json::parse(young.site.answer(House::get("/api/v1/history" + query)).body)
              .at("time")
              .as_array()
              .size() == count);
  for (const char* wrong : {"?seconds=0", "?seconds=86401", "?seconds=x"})
    CHECK(house.status(House::get(std::string("/api/v1/history") + wrong)) == 400);
}
