#include "delivery/tls/sts/mta_sts.h"

#include "base/file.h"
#include "base/text.h"
#include "delivery/tls/sts/tags.h"
#include "mail/address.h"

#include <filesystem>
#include <unistd.h>

namespace postrider::delivery {

namespace {

constexpr std::size_t kMostPolicyFile = kMostStsPolicy + 256;

// A name that can be asked for, and that can be the name of a file.
bool can_have_policy(const std::string& domain) {
  return mail::is_host_name(domain) && domain.find('.') != domain.npos &&
         domain.find('/') == domain.npos && domain.front() != '.' && domain.size() <= 240;
}

TlsResult result_of(const Error& error) {
  return error.code() == make_error_code(Errc::untrusted) ? TlsResult::sts_webpki_invalid
                                                          : TlsResult::sts_policy_fetch_error;
}

}  // namespace

MtaSts::MtaSts(Loop& home, std::function<dns::Resolver&()> resolver, const Clock& clock, Log& log,
               BlockingPool& pool, std::string folder)
    : home_(home),
      resolver_(std::move(resolver)),
      clock_(clock),
      log_(log),
      pool_(pool),
      folder_(std::move(folder)) {}

void MtaSts::configure(MtaStsSettings settings) {
  settings_ = std::move(settings);
}

void MtaSts::load() {
  if (auto made = make_folder(folder_, 0700); !made) {
    log_.write(LogEvent(Level::warn, "sts_storage_trouble").add("reason", made.error().describe()));
    return;
  }
  std::error_code failed;
  std::filesystem::directory_iterator entries(folder_, failed);
  for (const auto end = std::filesystem::directory_iterator(); !failed && entries != end;
       entries.increment(failed)) {
    const auto domain = entries->path().filename().string();
    if (!can_have_policy(domain))
      continue;
    const auto text = read_file(entries->path().string(), kMostPolicyFile);
    auto entry = text ? decode_sts_entry(domain, *text) : Result<StsEntry>(text.error());
    if (entry)
      cache_.restore(domain, *std::move(entry), clock_.now());
    else
      ::unlink(entries->path().c_str());
  }
  for (const auto& domain : cache_.take_dropped())
    ::unlink(path_of(domain).c_str());
}

void MtaSts::stop() {
  is_stopped_ = true;
  for (auto& [domain, fetch] : running_)
    fetch.call->abort();
}

StsSource MtaSts::source() {
  return [self = shared_from_this()](std::string domain) { return self->find(std::move(domain)); };
}

Task<StsFinding> MtaSts::find(std::string domain) {
  return find_for(shared_from_this(), std::move(domain));
}

Task<StsFinding> MtaSts::find_for(std::shared_ptr<MtaSts> self, std::string domain) {
  if (!settings_.enabled || !settings_.tls || !can_have_policy(domain))
    co_return StsFinding();
  const auto announced = co_await announcement(domain);
  const auto step = cache_.step(domain, announced, clock_.now());
  if (step != StsStep::use && !is_stopped_) {
    const auto* entry = cache_.find(domain, clock_.now());
    const bool is_announced = announced.kind == StsAnnouncement::Kind::announced;
    const auto id = is_announced || entry == nullptr ? announced.id : entry->policy->id;
    if (step == StsStep::fetch)
      co_await fetch_or_wait(domain, id);
    else if (running_.try_emplace(domain).second)
      refresh(domain, id);
  }
  co_return finding(domain, announced);
}

void MtaSts::refresh(const std::string& domain, const std::string& id) {
  try {
    home_.spawn(fetch(shared_from_this(), domain, id), log_, "MTA-STS refresh");
  } catch (...) {
    running_.erase(domain);
    throw;
  }
}

Task<StsAnnouncement> MtaSts::announcement(const std::string& domain) {
  StsAnnouncement announced;
  auto& resolver = resolver_();
  const auto answer = co_await resolver.txt("_mta-sts." + domain);
  if (answer.status == dns::Status::temporary_failure) {
    announced.kind = StsAnnouncement::Kind::unknown;
  } else if (auto id = parse_sts_record(answer.records)) {
    announced.kind = StsAnnouncement::Kind::announced;
    announced.id = *std::move(id);
  }
  co_return announced;
}

Task<void> MtaSts::fetch_or_wait(const std::string& domain, const std::string& id) {
  const auto found = running_.find(domain);
  if (found == running_.end()) {
    running_[domain];
    try {
      co_await fetch(shared_from_this(), domain, id);
    } catch (...) {
      running_.erase(domain);
      throw;
    }
    co_return;
  }
  auto done = std::make_shared<Signal>();
  found->second.waiting.push_back(done);
  co_await done->wait();
}

Task<void> MtaSts::fetch(std::shared_ptr<MtaSts> self, std::string domain, std::string id) {
  try {
    auto answer = co_await get(domain);
    judge(domain, id, std::move(answer));
  } catch (const std::exception& error) {  // those who wait shall not wait for ever
    log_.write(LogEvent(Level::error, "bug").add("where", "MTA-STS").add("what", error.what()));
  }
  const auto ended = running_.extract(domain);
  for (const auto& done : ended.mapped().waiting)
    done->set();
}

Task<Result<HttpResponse>> MtaSts::get(const std::string& domain) {
  HttpRequest request;
  request.host = "mta-sts." + domain;
  request.port = settings_.port;
  request.target = "/.well-known/mta-sts.txt";
  request.fields.emplace_back("User-Agent", "Postrider");
  request.fields.emplace_back("Accept", "text/plain");
  HttpLimits limits;
  limits.whole = settings_.timeout;
  limits.body = kMostStsPolicy;
  auto tls = settings_.tls;
  auto call = running_.at(domain).call;
  auto answer = co_await dns::http_request(home_, resolver_(), settings_.families, std::move(tls),
                                           std::move(request), limits, std::move(call));
  co_return answer;
}

void MtaSts::judge(const std::string& domain, const std::string& id, Result<HttpResponse> answer) {
  if (!answer)
    return fail(domain, id, result_of(answer.error()), answer.error().describe());
  if (auto trouble = trouble_of(*answer))
    return fail(domain, id, trouble->result, std::move(trouble->text));
  take(domain, id, std::move(answer->body));
}

void MtaSts::take(const std::string& domain, const std::string& id, std::string text) {
  auto file = parse_sts_policy(text);
  if (!file)
    return fail(domain, id, TlsResult::sts_policy_invalid, file.error().describe());
  const auto age = file->max_age;
  const auto& entry = cache_.store(domain, id, *std::move(file), std::move(text), clock_.now());
  log_.write(LogEvent(Level::info, "sts_policy")
                 .add("domain", domain)
                 .add("policy_id", id)
                 .add("mode", to_string(entry.policy->mode))
                 .add("max_age", static_cast<std::uint64_t>(age.count())));
  save(domain, entry);
  remove_dropped();
}

void MtaSts::fail(const std::string& domain, const std::string& id, TlsResult result,
                  std::string detail) {
  log_.write(LogEvent(Level::warn, "sts_policy_failed")
                 .add("domain", domain)
                 .add("policy_id", id)
                 .add("result", to_string(result))
                 .add("reason", detail)
                 .add("cached", cache_.find(domain, clock_.now()) != nullptr ? "yes" : "no"));
  cache_.fail(domain, {id, clock_.now(), result, std::move(detail)});
}

StsFinding MtaSts::finding(const std::string& domain, const StsAnnouncement& announced) const {
  StsFinding found;
  const auto now = clock_.now();
  const auto* entry = cache_.find_or_fetched(domain, now);
  const auto* failure = cache_.failure(domain);
  if (entry != nullptr) {
    found.policy = entry->policy;
    found.detail = "mode " + std::string(to_string(entry->policy->mode)) + ", id " +
                   entry->policy->id + ", fetched " + format_rfc3339(entry->fetched) +
                   ", in force until " + format_rfc3339(entry->expires);
  } else if (announced.kind == StsAnnouncement::Kind::announced && failure != nullptr) {
    found.trouble = failure->result;
    found.detail = "announced with id " + announced.id + ", but not to be had";
  } else if (announced.kind == StsAnnouncement::Kind::unknown) {
    found.detail = "none known, and the DNS lookup failed";
  }
  if (failure != nullptr && !found.detail.empty())
    found.detail +=
        "; the fetch of " + format_rfc3339(failure->when) + " failed: " + failure->detail;
  return found;
}

void MtaSts::save(const std::string& domain, const StsEntry& entry) {
  pool_.post([path = path_of(domain), text = encode(entry), &log = log_] {
    if (auto saved = replace_file(path, text, 0600); !saved)
      log.write(
          LogEvent(Level::warn, "sts_storage_trouble").add("reason", saved.error().describe()));
  });
}

void MtaSts::remove_dropped() {
  for (const auto& domain : cache_.take_dropped())
    pool_.post([path = path_of(domain)] { ::unlink(path.c_str()); });
}

}  // namespace postrider::delivery
