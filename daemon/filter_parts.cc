#include "daemon/filter_parts.h"

#include "base/file.h"
#include "smtpd/filter/copies.h"
#include "smtpd/filter/signing.h"

#include <chrono>

namespace postrider::daemon {

namespace {

constexpr auto kGreylistEvery = std::chrono::minutes(5);
constexpr std::size_t kMostGreylist = 64U << 20U;

}  // namespace

FilterParts::FilterParts(const Clock& clock, std::string greylist_file,
                         std::shared_ptr<const mailauth::LiveSigner> signer)
    : clock_(clock), greylist_file_(std::move(greylist_file)), signer_(std::move(signer)) {}

FilterParts::Sources FilterParts::for_network(const Config& config, const ReceivingTables& tables) {
  Sources filters;
  // Their texts were checked with the configuration.
  if (auto checks = header_checks(config, *workers_, headers_); checks && *checks)
    filters.push_back(*std::move(checks));
  if (auto all = milters(config, milters_))
    filters.insert(filters.end(), all->begin(), all->end());
  add_copies(config, tables, filters);
  if (config.dkim.is_used())
    filters.push_back(std::make_shared<const smtpd::filter::Signing>(signer_, *workers_));
  return filters;
}

FilterParts::Sources FilterParts::for_machine(const Config& config, const ReceivingTables& tables) {
  Sources filters;
  if (auto checks = header_checks(config, *workers_, headers_);
      checks && *checks && (*checks)->is_for_sendmail())
    filters.push_back(*std::move(checks));
  if (auto all = milters(config, milters_))
    for (auto& one : *all)
      if (one->is_for_sendmail())
        filters.push_back(std::move(one));
  add_copies(config, tables, filters);
  if (!filters.empty() && config.dkim.is_used())
    filters.push_back(std::make_shared<const smtpd::filter::Signing>(signer_, *workers_));
  return filters;
}

// Behind who may refuse the message, or change who gets it.
void FilterParts::add_copies(const Config& config, const ReceivingTables& tables,
                             Sources& filters) const {
  smtpd::filter::CopySettings settings;
  settings.always = config.accept.always_bcc;
  settings.by_sender = tables.sender_bcc;
  settings.by_recipient = tables.recipient_bcc;
  settings.separator = config.local.separator;
  if (settings.is_used())
    filters.push_back(
        std::make_shared<const smtpd::filter::Copies>(std::move(settings), *workers_));
}

Result<std::shared_ptr<const smtpd::filter::Source>> FilterParts::of_clients(
    const Config& config, const ReceivingTables& tables) {
  return client_checks(config, tables, clients_);
}

std::function<void(const IpAddress&)> FilterParts::failure_counter(const Config& config) {
  if (config.checks.failures_per_hour == 0)
    return {};
  return [this](const IpAddress& client) {
    clients_.rates.note(client, smtpd::filter::ClientRates::failures, clock_.steady());
  };
}

void FilterParts::read_greylist() {
  next_greylist_ = clock_.steady() + kGreylistEvery;
  if (const auto lines = read_file(greylist_file_, kMostGreylist))
    clients_.greylist.restore(*lines, clock_.now());
}

void FilterParts::keep_greylist(const Config& config, Log& log) {
  if (clock_.steady() >= next_greylist_)
    save_greylist(config, log);
}

void FilterParts::save_greylist(const Config& config, Log& log) {
  if (!config.checks.greylist)
    return;
  next_greylist_ = clock_.steady() + kGreylistEvery;
  if (auto kept = replace_file(greylist_file_, clients_.greylist.snapshot(), 0600); !kept)
    log.write(LogEvent(Level::warn, "greylist_not_kept").add("error", kept.error().describe()));
}

}  // namespace postrider::daemon
