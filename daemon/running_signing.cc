// The keys that sign mail: at the start, at a reload, and when their files change.
#include "base/file.h"
#include "daemon/running.h"
#include "daemon/settings.h"
#include "daemon/signing/signing_keys.h"
#include "smtpd/filter/signing.h"

namespace postrider::daemon {

namespace {

constexpr auto kLookEvery = std::chrono::seconds(10);
constexpr auto kGreylistEvery = std::chrono::minutes(5);
constexpr std::size_t kMostGreylist = 64U << 20U;

std::string greylist_file(const Config& config) {
  return config.spool + "/greylist";
}

// A domain that had keys and has none now.
bool lacks_a_domain(const mailauth::Signer* before, const mailauth::Signer* now) {
  if (before == nullptr)
    return false;
  for (const auto& [domain, keys] : before->keys())
    if (now == nullptr || !now->keys().contains(domain))
      return true;
  return false;
}

}  // namespace

// As the user, who reads them again.
void Running::read_signing_keys(StartProblems& problems) {
  if (!log_)
    return;
  auto stamp = signing_stamp(loaded_.config->dkim);
  auto loaded = load_signing_keys(*loaded_.config, loaded_.origins);
  for (const auto& problem : loaded.problems)
    blame(problems, problem.key.c_str(), problem.text);
  for (const auto& warning : loaded.warnings)
    log_->write(LogEvent(Level::warn, "doubtful").add("key", "dkim").add("advice", warning));
  if (loaded.problems.empty())
    adopt_signing_keys(std::move(loaded.signer), std::move(stamp));
}

void Running::adopt_signing_keys(std::shared_ptr<const mailauth::Signer> signer,
                                 std::string stamp) {
  const auto before = names_of_keys(signer_->now().get());
  const auto names = names_of_keys(signer.get());
  signer_->replace(std::move(signer));
  const bool is_new = stamp != keys_stamp_;
  keys_stamp_ = std::move(stamp);
  fewer_stamp_.clear();
  if (is_new && (!names.empty() || !before.empty()))
    log_->write(LogEvent(Level::info, "signing_keys").add("keys", names.empty() ? "none" : names));
}

// Every problem is in the log; the error tells the first.
Result<std::shared_ptr<const mailauth::Signer>> Running::changed_signing_keys(
    const Config& config, const Origins& origins) {
  auto loaded = load_signing_keys(config, origins);
  for (const auto& problem : loaded.problems)
    log_->write(LogEvent(Level::error, "signing_key_refused")
                    .add("key", problem.key)
                    .add("problem", problem.text)
                    .add("kept", signer_->now() ? "the old ones" : "none"));
  if (!loaded.problems.empty()) {
    const auto& first = loaded.problems.front();
    return malformed((first.line > 0 ? std::to_string(first.line) + ": " : "") + first.key + ": " +
                     first.text);
  }
  for (const auto& warning : loaded.warnings)
    log_->write(LogEvent(Level::warn, "doubtful").add("key", "dkim").add("advice", warning));
  return std::move(loaded.signer);
}

// What mail from the network passes, the signer last.
std::vector<std::shared_ptr<const smtpd::filter::Source>> Running::filters(const Config& config) {
  std::vector<std::shared_ptr<const smtpd::filter::Source>> filters;
  // Their texts were checked with the configuration.
  if (auto checks = header_checks(config, *signers_, header_checks_); checks && *checks)
    filters.push_back(*std::move(checks));
  if (auto all = milters(config, milters_))
    filters.insert(filters.end(), all->begin(), all->end());
  if (config.dkim.is_used())
    filters.push_back(std::make_shared<const smtpd::filter::Signing>(signer_, *signers_));
  return filters;
}

// Empty: nobody asks.
std::function<void(const IpAddress&)> Running::failure_counter(const Config& config) {
  if (config.checks.failures_per_hour == 0)
    return {};
  return [this](const IpAddress& client) {
    client_checks_.rates.note(client, smtpd::filter::ClientRates::failures, clock_.steady());
  };
}

// Sessions begin when all parts are made.
CheckParts Running::check_parts() {
  CheckParts parts;
  parts.counters = &checks_;
  parts.reports = [this](const mailauth::PublishedPolicy& policy, mailauth::ReportRow row) {
    dmarc_parts_->add(policy, std::move(row));
  };
  return parts;
}

// The same for mail of this machine: without a milter the signature needs no filter.
SubmitSettings Running::local_settings(const Config& config) {
  auto settings = submit_settings(config, receiving_tables_.rewriter, &*local_limits_, signer_);
  if (auto checks = header_checks(config, *signers_, header_checks_);
      checks && *checks && (*checks)->is_for_sendmail())
    settings.filters.push_back(*std::move(checks));
  if (auto all = milters(config, milters_))
    for (auto& one : *all)
      if (one->is_for_sendmail())
        settings.filters.push_back(std::move(one));
  if (!settings.filters.empty() && config.dkim.is_used())
    settings.filters.push_back(std::make_shared<const smtpd::filter::Signing>(signer_, *signers_));
  return settings;
}

// It is a help, and no mail: without it clients come again.
void Running::read_greylist() {
  next_greylist_ = clock_.steady() + kGreylistEvery;
  if (const auto lines = read_file(greylist_file(*started_), kMostGreylist))
    client_checks_.greylist.restore(*lines, clock_.now());
}

void Running::keep_greylist() {
  const auto now = clock_.steady();
  if (now < next_greylist_ || !loaded_.config->checks.greylist)
    return;
  next_greylist_ = now + kGreylistEvery;
  const auto lines = client_checks_.greylist.snapshot();
  if (auto kept = replace_file(greylist_file(*started_), lines, 0600); !kept)
    log_->write(LogEvent(Level::warn, "greylist_not_kept").add("error", kept.error().describe()));
}

// New files that are of no use leave the old keys in place, and the log says why. That a domain has
// no key any more is believed at the second look: the file may be about to be replaced, and nothing
// goes out unsigned meanwhile.
void Running::look_at_signing_keys() {
  const auto now = clock_.steady();
  const auto& config = *loaded_.config;
  if (!config.dkim.is_used() || now < next_keys_look_)
    return;
  next_keys_look_ = now + kLookEvery;
  auto stamp = signing_stamp_in_time(config.dkim);
  if (!stamp || *stamp == keys_stamp_)
    return;
  auto fresh = changed_signing_keys(config, loaded_.origins);
  if (!fresh) {
    keys_stamp_ = *std::move(stamp);
    return;
  }
  if (lacks_a_domain(signer_->now().get(), fresh->get()) && *stamp != fewer_stamp_) {
    fewer_stamp_ = *std::move(stamp);
    return;
  }
  adopt_signing_keys(*std::move(fresh), *std::move(stamp));
}

}  // namespace postrider::daemon
