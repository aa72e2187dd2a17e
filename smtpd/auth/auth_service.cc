#include "smtpd/auth/auth_service.h"

#include "base/assert.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/text.h"
#include "smtpd/auth/auth_service_impl.h"

#include <algorithm>
#include <cstring>

namespace postrider::smtpd::auth {

namespace {

constexpr unsigned kWaiters = 8;
constexpr auto kSaveEvery = std::chrono::minutes(1);
constexpr std::size_t kMostKept = 256U << 20U;
constexpr std::size_t kNonce = 18;

bool is_plus(std::string_view mechanism) {
  return mechanism.ends_with("-PLUS");
}

bool has_binding(const Bindings& bindings) {
  return !bindings.tls_exporter.empty() || !bindings.server_end_point.empty();
}

}  // namespace

AuthService::AuthService(const Clock& clock, Log& log, std::string folder)
    : impl_(std::make_shared<Impl>(clock, log, std::move(folder))) {}

AuthService::~AuthService() {
  impl_->hashes.reset();
  impl_->waiters.reset();
}

void AuthService::set_pam_helper(std::shared_ptr<const PamHelper> helper) {
  impl_->pam = std::move(helper);
}

void AuthService::set_resolvers(std::function<dns::Resolver&(Loop&)> resolver_of) {
  impl_->resolver_of = std::move(resolver_of);
}

// Kept across restarts; made the first time.
Result<std::string> AuthService::kept_secret() {
  const std::lock_guard lock(impl_->mutex);
  if (!impl_->secret.empty())
    return impl_->secret;
  if (auto made = make_folder(impl_->folder, 0700); !made)
    return made.error();
  const auto path = impl_->folder + "/secret";
  auto kept = read_file(path, 1024);
  if (!kept || kept->size() < 32) {
    kept = random_bytes(32);
    if (auto written = replace_file(path, *kept, 0600); !written)
      return written.error();
  }
  impl_->secret = *kept;
  impl_->challenges.set_secret(*kept);
  return impl_->secret;
}

void AuthService::adopt(std::shared_ptr<const Tables> tables) {
  const auto& settings = tables->settings;
  if (!impl_->hashes) {
    impl_->hashes.emplace(std::max(1U, settings.hash_threads));
    impl_->waiters.emplace(kWaiters);
  }
  const std::lock_guard lock(impl_->mutex);
  impl_->guard.set_rules(settings.tries);
  impl_->quota.set_rules(settings.limits);
  if (!std::exchange(impl_->is_restored, true)) {
    if (const auto places = read_file(impl_->folder + "/places", kMostKept))
      impl_->guard.restore(*places);
    if (const auto limits = read_file(impl_->folder + "/limits", kMostKept))
      impl_->quota.restore(*limits);
    if (const auto forms = read_file(impl_->folder + "/challenges", kMostKept))
      impl_->challenges.restore(*forms);
    impl_->saved = impl_->clock.steady();
  }
  impl_->tables = std::move(tables);
}

std::vector<std::string> AuthService::offered(const Channel& channel) const {
  const auto tables = impl_->current();
  std::vector<std::string> names;
  if (!tables || !channel.is_private)
    return names;
  for (const auto& name : tables->settings.mechanisms) {
    const bool is_for_certificate = name == "EXTERNAL";
    if (is_plus(name) && !has_binding(channel.bindings))
      continue;
    if (is_for_certificate && !tables->certificates.contains(channel.fingerprint))
      continue;
    names.push_back(name);
  }
  return names;
}

std::unique_ptr<Mechanism> AuthService::make(std::string_view name, const Channel& channel) const {
  const auto tables = impl_->current();
  const bool by_dovecot = tables && !tables->settings.dovecot.empty();
  if (name == "PLAIN")
    return make_plain();
  if (name == "LOGIN")
    return make_login();
  if (name == "EXTERNAL")
    return make_external();
  if (by_dovecot && !(tables->settings.oauth.is_used() && name.find("AUTH") != name.npos))
    return make_relayed(name);
  if (name == "OAUTHBEARER")
    return make_oauthbearer();
  if (name == "XOAUTH2")
    return make_xoauth2();
  auto bindings = channel.bindings;
  const auto names = offered(channel);
  bindings.offered = std::any_of(names.begin(), names.end(), is_plus);
  return make_scram_sha256(is_plus(name), std::move(bindings), encode_hex(random_bytes(kNonce)));
}

bool AuthService::may_send_as(std::string_view user, std::string_view sender) const {
  const auto tables = impl_->current();
  return tables && tables->senders.allows(user, sender);
}

std::string AuthService::begin_message(std::string_view user) {
  SendingQuota::Verdict verdict;
  {
    const std::lock_guard lock(impl_->mutex);
    verdict = impl_->quota.add_message(user, impl_->clock.now());
    impl_->is_dirty = true;
  }
  impl_->save_sometimes();
  return impl_->judged(user, verdict);
}

std::string AuthService::add_recipient(std::string_view user, std::string_view recipient) {
  const auto hash = sha256(ascii_lower(recipient));
  std::uint64_t number = 0;
  std::memcpy(&number, hash.data(), sizeof number);
  SendingQuota::Verdict verdict;
  {
    const std::lock_guard lock(impl_->mutex);
    verdict = impl_->quota.add_recipient(user, number, impl_->clock.now());
    impl_->is_dirty = true;
  }
  return impl_->judged(user, verdict);
}

std::string AuthService::Impl::judged(std::string_view user, const SendingQuota::Verdict& verdict) {
  if (verdict.limit.empty())
    return {};
  if (verdict.is_fresh)
    alarm(user, verdict);
  return std::to_string(verdict.most) + " " + std::string(verdict.limit);
}

std::vector<SendingQuota::Limited> AuthService::limited() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->quota.limited(impl_->clock.now());
}

// The state in `postrider status` says the same for an hour.
void AuthService::Impl::alarm(std::string_view user, const SendingQuota::Verdict& verdict) {
  LogEvent event(Level::error, "user_limited");
  event.add("user", user)
      .add("limit", std::to_string(verdict.most) + " " + std::string(verdict.limit));
  log.write(std::move(event));
}

void AuthService::Impl::trouble(std::string_view what, const Error& error) {
  LogEvent event(Level::warn, "auth_trouble");
  event.add("what", what).add("error", error.describe());
  log.write(std::move(event));
}

void AuthService::Impl::save_sometimes() {
  {
    const std::lock_guard lock(mutex);
    if (!is_dirty || !waiters || clock.steady() - saved < kSaveEvery)
      return;
    saved = clock.steady();
  }
  waiters->post([this] { save_now(); });
}

void AuthService::Impl::save_now() {
  std::string places, limits, forms;
  {
    const std::lock_guard lock(mutex);
    if (!std::exchange(is_dirty, false))
      return;
    places = guard.places();
    limits = quota.save();
    forms = challenges.save();
  }
  auto written = make_folder(folder, 0700);
  if (written)
    written = replace_file(folder + "/places", places, 0600);
  if (written)
    written = replace_file(folder + "/limits", limits, 0600);
  if (written)
    written = replace_file(folder + "/challenges", forms, 0600);
  if (!written)
    trouble("keep what users have sent", written.error());
}

void AuthService::save() {
  impl_->save_now();
}

}  // namespace postrider::smtpd::auth
