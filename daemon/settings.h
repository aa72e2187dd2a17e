// From the Config to the settings of each folder, in its own types. The texts were checked when the
// configuration was read; one that a folder nevertheless refuses comes back as an error.
#pragma once

#include "base/log.h"
#include "base/result.h"
#include "daemon/addresses.h"
#include "daemon/config/config.h"
#include "daemon/inherited.h"
#include "daemon/log/log_format.h"
#include "daemon/log/log_sinks.h"
#include "daemon/outbound.h"
#include "daemon/pickup/local_limits.h"
#include "daemon/pickup/submit_server.h"
#include "delivery/delivery_settings.h"
#include "dns/stub_resolver.h"
#include "queue/queue.h"
#include "smtpd/auth/auth_settings.h"
#include "smtpd/filter/authentication.h"
#include "smtpd/filter/client_checks.h"
#include "smtpd/filter/header_checks.h"
#include "smtpd/filter/milter_filter.h"
#include "smtpd/server_settings.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace postrider::daemon {

LogTarget log_target(const LogConfig& config);
std::shared_ptr<const LogFormat> log_format(const Config& config);

queue::QueueSettings queue_settings(const Config& config);
dns::Families families(Family family);
dns::ResolverSettings resolver_settings(const DnsConfig& config);
SubmitSettings submit_settings(const Config& config,
                               std::shared_ptr<const mail::Rewriter> rewriter = nullptr,
                               LocalLimits* limits = nullptr,
                               std::shared_ptr<const mailauth::LiveSigner> signer = nullptr);
// Looks users up: blocks.
Result<LocalRules> local_rules(const Config& config);
// Whether other domains get aggregate reports of DMARC.
bool sends_dmarc_reports(const Config& config);
// What checks of mail from strangers share over reloads.
struct CheckParts {
  smtpd::filter::AuthenticationCounters* counters = nullptr;  // null: nothing is checked
  // See AuthenticationSettings; used where reports are configured.
  std::function<void(const mailauth::PublishedPolicy&, mailauth::ReportRow)> reports = {};
};
Result<std::shared_ptr<const smtpd::ServerSettings>> smtpd_settings(
    const Config& config, std::shared_ptr<const mail::Directory> directory,
    std::shared_ptr<smtpd::auth::Authenticator> gate = nullptr, const ReceivingTables& tables = {},
    smtpd::LocalCounter* counter = nullptr,
    std::vector<std::shared_ptr<const smtpd::filter::Source>> filters = {},
    const CheckParts& checks = {}, std::shared_ptr<const smtpd::filter::Source> first = nullptr,
    std::function<void(const IpAddress&)> note_failure = {});
// The milters in their order. peers: what a reload does not begin again.
Result<std::vector<std::shared_ptr<const smtpd::filter::milter::Milter>>> milters(
    const Config& config, smtpd::filter::milter::MilterPeers& peers);
// Null: there are none.
Result<std::shared_ptr<const smtpd::filter::HeaderChecks>> header_checks(
    const Config& config, BlockingPool& pool, smtpd::filter::HeaderCheckCounters& counters);
// Null: nothing is checked. Sets the rules of the state's greylist.
Result<std::shared_ptr<const smtpd::filter::Source>> client_checks(
    const Config& config, const ReceivingTables& tables, smtpd::filter::ClientCheckState& state);
// The settings of the service; keys that name files are read by it.
Result<smtpd::auth::AuthSettings> auth_settings(const Config& config);
// What is wrong with the files of [auth], each with its option: for `postrider check`. Reads them.
std::vector<TableProblem> check_logins(const Config& config);
// outbound: null leaves TLS and credentials out, for tests.
// listening: the addresses that the server has bound, as smtpd::Server::addresses gives them.
Result<std::shared_ptr<const delivery::DeliverySettings>> delivery_settings(
    const Config& config, const std::vector<std::string>& listening,
    std::shared_ptr<const delivery::LocalAddresses> book = nullptr,
    std::shared_ptr<const delivery::Users> users = nullptr, Outbound* outbound = nullptr,
    LocalLimits* limits = nullptr, std::shared_ptr<const mailauth::LiveSigner> signer = nullptr,
    std::vector<smtpd::TablePtr> route_map = {});
// Lower case, A-labels.
Result<std::vector<std::string>> local_domains(const Config& config);

// One for each address; for "systemd:name" one for each socket of that name, which it takes. At a
// reload those are taken already, and only their addresses tell that they stay.
Result<std::vector<smtpd::ListenerSettings>> listener_settings(
    const Config& config, std::vector<InheritedSocket>& inherited);

// The group of control.readers; nullopt: it is not given.
Result<std::optional<gid_t>> control_readers(const Config& config);

// What a reload cannot change: keys whose values differ and that need a restart.
std::vector<std::string> need_restart(const Config& old, const Config& fresh);

}  // namespace postrider::daemon
