#include "daemon/signing_key_keeper.h"

#include "daemon/signing/signing_keys.h"

#include <chrono>

namespace postrider::daemon {

namespace {

constexpr auto kLookForKeysEvery = std::chrono::seconds(10);

// A domain that had keys and has none now.
bool lacks_a_domain(const mailauth::Signer* before, const mailauth::Signer* now) {
  if (before == nullptr)
    return false;
  for (const auto& [domain, keys] : before->keys())
    if (now == nullptr || !now->keys().contains(domain))
      return true;
  return false;
}

void log_warnings(Log& log, const std::vector<std::string>& warnings) {
  for (const auto& warning : warnings)
    log.write(LogEvent(Level::warn, "doubtful").add("key", "dkim").add("advice", warning));
}

}  // namespace

void SigningKeyKeeper::read(const Loaded& loaded, StartProblems& problems) {
  auto stamp = signing_stamp(loaded.config->dkim);
  auto keys = load_signing_keys(*loaded.config, loaded.origins);
  for (const auto& problem : keys.problems)
    problems.blame(loaded, problem.key.c_str(), problem.text);
  log_warnings(foundation_.log(), keys.warnings);
  if (keys.problems.empty())
    adopt({std::move(keys.signer), std::move(stamp)});
}

void SigningKeyKeeper::adopt(Fresh fresh) {
  const auto before = names_of_keys(signer_->now().get());
  const auto names = names_of_keys(fresh.signer.get());
  signer_->replace(std::move(fresh.signer));
  const bool is_new = fresh.stamp != stamp_;
  stamp_ = std::move(fresh.stamp);
  fewer_stamp_.clear();
  if (is_new && (!names.empty() || !before.empty()))
    foundation_.log().write(
        LogEvent(Level::info, "signing_keys").add("keys", names.empty() ? "none" : names));
}

Result<SigningKeyKeeper::Fresh> SigningKeyKeeper::prepare(const Config& config,
                                                          const Origins& origins) {
  auto stamp = signing_stamp(config.dkim);
  auto keys = load_signing_keys(config, origins);
  for (const auto& problem : keys.problems)
    foundation_.log().write(LogEvent(Level::error, "signing_key_refused")
                                .add("key", problem.key)
                                .add("problem", problem.text)
                                .add("kept", signer_->now() ? "the old ones" : "none"));
  if (!keys.problems.empty()) {
    const auto& first = keys.problems.front();
    return malformed((first.line > 0 ? std::to_string(first.line) + ": " : "") + first.key + ": " +
                     first.text);
  }
  log_warnings(foundation_.log(), keys.warnings);
  return Fresh{std::move(keys.signer), std::move(stamp)};
}

// New files that are of no use leave the old keys in place, and the log says why. That a domain has
// no key any more is believed at the second look: the file may be about to be replaced, and nothing
// goes out unsigned meanwhile.
void SigningKeyKeeper::look(const Loaded& loaded) {
  const auto now = foundation_.clock().steady();
  const auto& config = *loaded.config;
  if (!config.dkim.is_used() || now < next_look_)
    return;
  next_look_ = now + kLookForKeysEvery;
  auto stamp = signing_stamp_in_time(config.dkim);
  if (!stamp || *stamp == stamp_)
    return;
  auto fresh = prepare(config, loaded.origins);
  if (!fresh) {
    stamp_ = *std::move(stamp);
    return;
  }
  // The stamp from before the files were read: a change meanwhile is seen at the next look.
  fresh->stamp = *std::move(stamp);
  if (lacks_a_domain(signer_->now().get(), fresh->signer.get()) && fresh->stamp != fewer_stamp_) {
    fewer_stamp_ = std::move(fresh->stamp);
    return;
  }
  adopt(*std::move(fresh));
}

}  // namespace postrider::daemon
