#include "daemon/settings.h"

#include "base/file.h"
#include "base/network.h"
#include "base/text.h"
#include "daemon/config/options.h"
#include "daemon/config/values.h"
#include "daemon/log/log_postfix.h"
#include "daemon/privsep/privileges.h"
#include "delivery/scheduler/operator_words.h"
#include "delivery/scheduler/retry_schedule.h"
#include "mail/address.h"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <pwd.h>
#include <sys/resource.h>
#include <unistd.h>

namespace postrider::daemon {

namespace {

Result<std::vector<Network>> networks(const std::vector<std::string>& texts, const char* key) {
  std::vector<Network> out;
  for (const auto& text : texts) {
    auto network = Network::parse(text);
    if (!network)
      return network.error().during(key);
    out.push_back(*network);
  }
  return out;
}

// "example.org" or ".example.org", U-labels too.
Result<std::string> domain_pattern(std::string_view text) {
  const bool below = text.starts_with('.');
  auto domain = mail::to_ascii_domain(below ? text.substr(1) : text);
  if (!domain)
    return domain.error();
  return below ? "." + *domain : *domain;
}

// The same, "<>", or an address.
Result<std::string> sender_pattern(const std::string& text) {
  const auto at = text.rfind('@');
  if (text == "<>" || at == std::string::npos)
    return text == "<>" ? Result<std::string>(text) : domain_pattern(text);
  auto domain = mail::to_ascii_domain(text.substr(at + 1));
  if (!domain)
    return domain.error();
  return text.substr(0, at + 1) + *domain;
}

Result<std::vector<std::string>> domain_patterns(const std::vector<std::string>& texts,
                                                 const char* key) {
  std::vector<std::string> out;
  for (const auto& text : texts) {
    auto domain = domain_pattern(text);
    if (!domain)
      return domain.error().during(key);
    out.push_back(std::move(*domain));
  }
  return out;
}

// "AB:CD" becomes "abcd".
std::string hex_digits(std::string_view fingerprint) {
  auto digits = ascii_lower(fingerprint);
  std::erase(digits, ':');
  return digits;
}

// "192.0.2.1:25", "[::]:25"; nothing for other kinds of listeners.
std::optional<delivery::OwnAddress> own_address(std::string_view text) {
  const auto server = dns::parse_server(text);
  if (!server)
    return std::nullopt;
  return delivery::OwnAddress{server->address, server->port};
}

Result<std::vector<delivery::Route>> routes(const Config& config) {
  std::vector<delivery::Route> out;
  for (const auto& given : config.routes) {
    auto domain = given.domain == "*" ? Result<std::string>("*") : domain_pattern(given.domain);
    if (!domain)
      return domain.error().during("route.domain");
    auto next_hop = delivery::parse_next_hop(given.next_hop);
    if (!next_hop)
      return next_hop.error().during("route.next_hop");
    delivery::Route route;
    route.domain = std::move(*domain);
    route.next_hop = std::move(*next_hop);
    route.tls = static_cast<delivery::TlsMode>(given.tls);  // the same values in the same order
    route.tls_names = given.tls_names;
    for (const auto& sender : given.from) {
      auto pattern = sender_pattern(sender);
      if (!pattern)
        return pattern.error().during("route.from");
      route.senders.push_back(*std::move(pattern));
    }
    for (const auto& source : given.source)
      if (const auto address = IpAddress::parse(source))
        route.sources.push_back(*address);
    route.helo = given.helo;
    route.credentials = given.credentials;
    route.unverified_login = given.unverified_login;
    out.push_back(std::move(route));
  }
  return out;
}

// Mailboxes that another server keeps: nothing if they are ours.
std::optional<Result<delivery::Route>> mailbox_route(std::string_view mailbox) {
  constexpr std::string_view kLmtp = "lmtp:";
  if (!mailbox.starts_with(kLmtp))
    return std::nullopt;
  auto hop = delivery::lmtp_next_hop(mailbox.substr(kLmtp.size()));
  if (!hop)
    return hop.error();
  delivery::Route route;
  route.next_hop = std::move(*hop);
  route.tls = delivery::TlsMode::off;
  return route;
}

// "postmaster" may stand alone in an envelope; another user belongs to a domain of ours.
std::string complete_address(const Config& config) {
  const auto& address = config.delivery.double_bounces_to;
  if (address.empty() || address.find('@') != std::string::npos ||
      equals_ignoring_case(address, "postmaster"))
    return address;
  return address + "@" +
         (config.local.domains.empty() ? config.hostname : config.local.domains.front());
}

}  // namespace

LogTarget log_target(const LogConfig& config) {
  if (config.target == "stderr")
    return standard_error_target();
  if (config.target == "syslog")
    return syslog_target();
  return {LogTarget::Kind::file, config.target};
}

std::shared_ptr<const LogFormat> log_format(const Config& config) {
  switch (config.log.format) {
    case LogFormatName::json:
      return std::make_shared<JsonFormat>();
    case LogFormatName::postfix:
      return std::make_shared<PostfixFormat>(config.hostname);
    case LogFormatName::text:
      break;
  }
  return std::make_shared<TextFormat>();
}

queue::QueueSettings queue_settings(const Config& config) {
  queue::QueueSettings settings;
  settings.spool = config.spool;
  settings.lifetime = config.delivery.lifetime;
  settings.delay_notice = config.delivery.delay_notice;
  // Room for the largest message and half as much again (Postfix has the same rule).
  settings.room_needed = config.accept.message_size + config.accept.message_size / 2;
  settings.keeps_facts = !config.events.empty();
  return settings;
}

dns::Families families(Family family) {
  switch (family) {
    case Family::ipv4:
      return dns::Families::ipv4;
    case Family::ipv6:
      return dns::Families::ipv6;
    case Family::any:
      break;
  }
  return dns::Families::both;
}

dns::ResolverSettings resolver_settings(const DnsConfig& config) {
  dns::ResolverSettings settings;
  if (config.servers.empty())
    settings.resolv_conf = "/etc/resolv.conf";
  for (const auto& text : config.servers)
    if (auto server = dns::parse_server(text))
      settings.servers.push_back(*server);
  settings.trust_ad = config.trust_ad;
  return settings;
}

SubmitSettings submit_settings(const Config& config, std::shared_ptr<const mail::Rewriter> rewriter,
                               LocalLimits* limits,
                               std::shared_ptr<const mailauth::LiveSigner> signer) {
  SubmitSettings settings;
  settings.signer = std::move(signer);
  if (limits != nullptr) {
    settings.admit = [limits](std::uint64_t uid, std::size_t recipients) {
      return limits->add(uid, recipients);
    };
    settings.admit_token = [limits](const std::string& token, std::size_t recipients) {
      return limits->add_token(token, recipients);
    };
    settings.party = [limits](std::uint64_t uid) { return limits->party_of(uid); };
  }
  // An empty name is nobody's.
  std::vector<std::uint64_t> speakers = {0, ::geteuid()};
  for (const auto& name :
       {config.web.user, std::string(config.requests.empty() ? "" : kBrokersUser)})
    if (const auto account = find_account(name))
      speakers.push_back(account->uid);
  settings.speaks_for_tokens = [speakers = std::move(speakers)](std::uint64_t asking) {
    return std::find(speakers.begin(), speakers.end(), asking) != speakers.end();
  };
  settings.rewriter = std::move(rewriter);
  settings.hostname = config.hostname;
  settings.origin = config.origin;
  settings.message_size = config.accept.message_size;
  settings.recipients = config.accept.recipients;
  settings.double_bounce = config.delivery.double_bounces_to;
  return settings;
}

namespace {

// root needs no entry in a file of users.
Result<std::uint64_t> uid_of(const std::string& user) {
  if (user == "root")
    return std::uint64_t{0};
  uid_t number = 0;
  const auto* const end = user.data() + user.size();
  if (const auto read = std::from_chars(user.data(), end, number);
      read.ec == std::errc() && read.ptr == end)
    return std::uint64_t{number};
  const passwd* entry = ::getpwnam(user.c_str());
  if (entry == nullptr)
    return malformed("there is no user " + user);
  return std::uint64_t{entry->pw_uid};
}

// Receiving, files and name servers need some as well.
unsigned connections_by_descriptors() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
    return 1000;
  return static_cast<unsigned>(std::clamp<rlim_t>(limit.rlim_cur / 4, 8, 1000));
}

}  // namespace

constexpr std::size_t kMostSubuids = 1U << 20U;

Result<LocalRules> local_rules(const Config& all) {
  const auto& config = all.sendmail;
  const auto number = [](std::uint64_t value) { return static_cast<std::uint32_t>(value); };
  LocalRules rules;
  rules.most.hour = {number(config.messages_per_hour), number(config.recipients_per_hour), 0};
  rules.most.day = {number(config.messages_per_day), number(config.recipients_per_day), 0};
  rules.forwarded.hour[smtpd::auth::SendingQuota::recipients] =
      number(all.local.forwarded_per_hour);
  rules.forwarded.day[smtpd::auth::SendingQuota::recipients] = number(all.local.forwarded_per_day);
  rules.unlimited.insert(::geteuid());
  for (const auto& user : config.unlimited) {
    const auto uid = uid_of(user);
    if (!uid)
      return uid.error();
    rules.unlimited.insert(*uid);
  }
  if (const auto subuids = read_file("/etc/subuid", kMostSubuids))
    rules.lent = parse_subuids(*subuids);
  return rules;
}

namespace {

std::string authserv_id_of(const Config& config) {
  const auto& id = config.authentication.authserv_id;
  return id.empty() ? config.hostname : id;
}

// Null: nothing is checked.
std::shared_ptr<const smtpd::filter::Source> authentication(const Config& config,
                                                            const ReceivingTables& tables,
                                                            const CheckParts& checks) {
  using smtpd::filter::Authentication;
  using smtpd::filter::AuthenticationSettings;
  const auto& wanted = config.authentication;
  AuthenticationSettings settings;
  settings.spf = wanted.spf;
  settings.dkim = wanted.dkim;
  settings.arc = wanted.arc || config.local.arc;
  // The same values in the same order.
  settings.dmarc = static_cast<AuthenticationSettings::Dmarc>(wanted.dmarc);
  settings.authserv_id = authserv_id_of(config);
  settings.exceptions = tables.exceptions;
  settings.time_limit = wanted.time_limit;
  if (sends_dmarc_reports(config)) {
    settings.reports = checks.reports;
    settings.reports_from = config.dmarc_report.contact;
  }
  if (!settings.checks_anything())
    return nullptr;
  return std::make_shared<const Authentication>(std::move(settings), *checks.counters);
}

}  // namespace

bool sends_dmarc_reports(const Config& config) {
  return config.dmarc_report.enabled && !config.dmarc_report.contact.empty();
}

Result<std::shared_ptr<const smtpd::ServerSettings>> smtpd_settings(
    const Config& config, std::shared_ptr<const mail::Directory> directory,
    std::shared_ptr<smtpd::auth::Authenticator> gate, const ReceivingTables& tables,
    smtpd::LocalCounter* counter, std::vector<std::shared_ptr<const smtpd::filter::Source>> filters,
    const CheckParts& checks, std::shared_ptr<const smtpd::filter::Source> first,
    std::function<void(const IpAddress&)> note_failure) {
  auto relay_from = networks(config.accept.relay_from, "accept.relay_from");
  if (!relay_from)
    return relay_from.error();
  auto proxy_from = networks(config.accept.proxy_from, "accept.proxy_from");
  if (!proxy_from)
    return proxy_from.error();
  auto relay_to = domain_patterns(config.accept.relay_to, "accept.relay_to");
  if (!relay_to)
    return relay_to.error();
  auto settings = std::make_shared<smtpd::ServerSettings>();
  settings->hostname = config.hostname;
  settings->origin = config.origin;
  settings->message_size = config.accept.message_size;
  settings->success_notices = config.accept.success_notices;
  settings->deliver_by =
      config.accept.always_bcc.empty() && config.accept.sender_bcc.empty() &&
      config.accept.recipient_bcc.empty() &&
      std::all_of(config.listeners.begin(), config.listeners.end(),
                  [](const auto& listener) { return listener.next_hop.empty(); });
  settings->recipients = static_cast<std::uint32_t>(config.accept.recipients);
  settings->future_release = config.accept.future_release;
  settings->relay_from = std::move(*relay_from);
  settings->relay_to = std::move(*relay_to);
  settings->proxy_from = std::move(*proxy_from);
  for (const auto& fingerprint : config.accept.relay_certificates)
    settings->relay_certificates.push_back(hex_digits(fingerprint));
  settings->looks_up_names = config.accept.client_names || config.checks.client_name != 0 ||
                             !config.checks.clients.empty();
  settings->name_patience = config.checks.time_limit;
  settings->greeting_delay = config.accept.greeting_delay;
  settings->note_failure = std::move(note_failure);
  settings->senders = tables.senders;
  settings->recipient_map = tables.recipient_map;
  settings->relay_recipients = tables.relay_recipients;
  settings->rewriter = tables.rewriter;
  settings->directory = std::move(directory);
  if (config.auth.is_used())
    settings->auth = std::move(gate);
  settings->check_from = config.auth.from != 0;
  const auto& most = config.sendmail;
  if (most.messages_per_hour + most.messages_per_day + most.recipients_per_hour +
          most.recipients_per_day >
      0)
    settings->local_counter = counter;
  // Clients before their mail, and before milters what those should see.
  if (first)
    settings->filters.push_back(std::move(first));
  if (checks.counters != nullptr)
    if (auto filter = authentication(config, tables, checks))
      settings->filters.push_back(std::move(filter));
  std::move(filters.begin(), filters.end(), std::back_inserter(settings->filters));
  settings->auth_in_clear = config.auth.clear;
  settings->limits.errors = static_cast<std::uint32_t>(config.accept.errors);
  settings->limits.sessions = static_cast<std::uint32_t>(config.accept.sessions);
  settings->limits.sessions_per_client =
      static_cast<std::uint32_t>(config.accept.sessions_per_client);
  settings->timeouts.command = config.accept.timeout;
  settings->timeouts.data = std::min(settings->timeouts.data, config.accept.timeout);
  return std::shared_ptr<const smtpd::ServerSettings>(std::move(settings));
}

namespace {

Result<smtpd::filter::milter::MilterSettings> milter_settings(const Config& config,
                                                              const MilterConfig& given) {
  using namespace smtpd::filter::milter;
  auto address = Address::parse(given.address);
  if (!address)
    return address.error().during("milter.address");
  auto except = networks(given.except_from, "milter.except_from");
  if (!except)
    return except.error();
  MilterSettings settings;
  settings.address = *std::move(address);
  settings.name = given.name.empty() ? settings.address.str() : given.name;
  const auto has = [&](const char* kind) {
    return std::find(given.mail.begin(), given.mail.end(), kind) != given.mail.end();
  };
  settings.on_mx = has("mx");
  settings.on_submission = has("submission");
  settings.on_sendmail = has("sendmail");
  settings.listeners = given.listeners;
  settings.except_clients = *std::move(except);
  settings.default_action = static_cast<DefaultAction>(given.default_action);
  settings.timeouts.connect = given.connect_timeout;
  settings.timeouts.command = settings.timeouts.content = given.command_timeout;
  settings.timeouts.end = given.content_timeout;
  settings.connections = given.connections;
  for (const auto& macro : given.macros) {
    const auto sign = macro.find('=');
    settings.macros.emplace_back(macro.substr(0, sign), macro.substr(sign + 1));
  }
  settings.most_recipients = config.accept.recipients;
  settings.message_size = config.accept.message_size;
  settings.origin = config.origin.empty() ? config.hostname : config.origin;
  return settings;
}

}  // namespace

Result<std::shared_ptr<const smtpd::filter::HeaderChecks>> header_checks(
    const Config& config, BlockingPool& pool, smtpd::filter::HeaderCheckCounters& counters) {
  using namespace smtpd::filter;
  HeaderCheckSettings settings;
  for (const auto& given : config.header_checks) {
    auto rule = parse_header_rule(given.pattern, given.action, given.in != 0);
    if (!rule)
      return rule.error().during("header_check");
    rule->mail = 0;
    for (const auto& [kind, bit] :
         {std::pair("mx", HeaderRule::kMx), std::pair("submission", HeaderRule::kSubmission),
          std::pair("sendmail", HeaderRule::kSendmail)})
      if (std::find(given.mail.begin(), given.mail.end(), kind) != given.mail.end())
        rule->mail = static_cast<std::uint8_t>(rule->mail | bit);
    settings.rules.push_back(*std::move(rule));
  }
  if (settings.rules.empty())
    return std::shared_ptr<const HeaderChecks>();
  return std::make_shared<const HeaderChecks>(std::move(settings), pool, counters);
}

namespace {

// One service is one, whatever it is asked at: a session has one connection to it.
Result<void> add_policy_services(const ChecksConfig& wanted,
                                 smtpd::filter::ClientCheckSettings& settings) {
  using namespace smtpd::filter;
  struct Kind {
    const char* key;
    const std::vector<std::string>& texts;
    PolicyService::Moment moment;
  };
  for (const auto& kind :
       {Kind{"checks.policy_services", wanted.policy_services, PolicyService::at_recipient},
        Kind{"checks.policy_data_services", wanted.policy_data_services, PolicyService::at_data},
        Kind{"checks.policy_end_services", wanted.policy_end_services, PolicyService::at_end}})
    for (const auto& text : kind.texts) {
      auto address = milter::Address::parse(text);
      if (!address)
        return address.error().during(kind.key);
      auto& all = settings.services;
      const auto same = std::find_if(all.begin(), all.end(), [&](const PolicyService& one) {
        return one.address.str() == address->str();
      });
      settings.asked_at[kind.moment].push_back(static_cast<std::size_t>(same - all.begin()));
      if (same == all.end())
        all.push_back({*std::move(address), {.answer = wanted.policy_timeout}});
    }
  return {};
}

}  // namespace

Result<std::shared_ptr<const smtpd::filter::Source>> client_checks(
    const Config& config, const ReceivingTables& tables, smtpd::filter::ClientCheckState& state) {
  using namespace smtpd::filter;
  const auto& wanted = config.checks;
  ClientCheckSettings settings;
  settings.clients = tables.clients;
  for (const auto& [texts, lists] : {std::pair(&wanted.client_lists, &settings.client_lists),
                                     std::pair(&wanted.domain_lists, &settings.domain_lists)})
    for (const auto& text : *texts) {
      auto list = mailauth::DnsList::parse(text);
      if (!list)
        return list.error().during("checks");
      lists->push_back(*std::move(list));
    }
  auto except = networks(wanted.except_from, "checks.except_from");
  if (!except)
    return except.error();
  settings.except_clients = *std::move(except);
  settings.refused_from = static_cast<int>(wanted.refused_from);
  settings.welcome_from = -static_cast<int>(wanted.welcome_from);
  settings.name = static_cast<ClientCheckSettings::Name>(wanted.client_name);
  settings.helo = static_cast<ClientCheckSettings::Helo>(wanted.helo);
  settings.reports_only = wanted.report_only;
  settings.most_per_hour = {static_cast<std::uint32_t>(wanted.messages_per_hour),
                            static_cast<std::uint32_t>(wanted.recipients_per_hour),
                            static_cast<std::uint32_t>(wanted.failures_per_hour)};
  settings.greylists = wanted.greylist;
  settings.refuses_without_service = wanted.policy_default == 0;
  settings.time_limit = wanted.time_limit;
  if (auto done = add_policy_services(wanted, settings); !done)
    return done.error();
  Greylist::Rules rules;
  rules.delay = wanted.greylist_delay;
  rules.successes = static_cast<std::uint32_t>(wanted.greylist_successes);
  state.greylist.set_rules(rules);
  if (!settings.checks_anything())
    return std::shared_ptr<const Source>();
  return std::shared_ptr<const Source>(
      std::make_shared<const ClientChecks>(std::move(settings), state));
}

Result<std::vector<std::shared_ptr<const smtpd::filter::milter::Milter>>> milters(
    const Config& config, smtpd::filter::milter::MilterPeers& peers) {
  using smtpd::filter::milter::Milter;
  std::vector<std::shared_ptr<const Milter>> all;
  for (const auto& given : config.milters) {
    auto settings = milter_settings(config, given);
    if (!settings)
      return settings.error();
    auto peer = peers.peer(*settings);
    all.push_back(std::make_shared<const Milter>(*std::move(settings), std::move(peer)));
  }
  return all;
}

namespace {

// What is given for all reasons, then what is given for one.
std::shared_ptr<const scheduler::RetrySchedule> retry_by_reason(const DeliveryConfig& config) {
  auto schedule = std::make_shared<scheduler::RetrySchedule>();
  if (!config.retry.empty())
    schedule->override_all(config.retry);
  for (const auto& text : config.retry_for)
    if (auto rule = scheduler::parse_retry_rule(text))
      schedule->override_steps(rule->klass, std::move(rule->steps));
  return schedule;
}

// With A-labels; checked before.
std::string site_pattern(std::string_view text) {
  constexpr std::string_view kHosts = "mx:";
  const bool is_of_hosts = text.starts_with(kHosts);
  const auto given = is_of_hosts ? text.substr(kHosts.size()) : text;
  const auto pattern = domain_pattern(given);  // not of an address
  return (is_of_hosts ? std::string(kHosts) : "") + (pattern ? *pattern : std::string(given));
}

std::vector<delivery::SiteRule> site_rules(const Config& config) {
  std::vector<delivery::SiteRule> rules;
  for (const auto& site : config.sites) {
    auto& rule = rules.emplace_back();
    for (const auto& text : site.match)
      rule.match.push_back(site_pattern(text));
    rule.bounds.connections = static_cast<unsigned>(site.connections);
    rule.bounds.rate = scheduler::parse_rate(site.rate).value_or(0);
    rule.bounds.per_connection = static_cast<unsigned>(site.per_connection);
    rule.families = families(site.family);
    for (const auto& text : site.source)
      if (const auto source = scheduler::parse_site_source(text))
        rule.sources.push_back(*source);
    rule.helo = site.helo;
  }
  return rules;
}

}  // namespace

Result<std::shared_ptr<const delivery::DeliverySettings>> delivery_settings(
    const Config& config, const std::vector<std::string>& listening,
    std::shared_ptr<const delivery::LocalAddresses> book,
    std::shared_ptr<const delivery::Users> users, Outbound* outbound, LocalLimits* limits,
    std::shared_ptr<const mailauth::LiveSigner> signer, std::vector<smtpd::TablePtr> route_map) {
  auto given_routes = routes(config);
  if (!given_routes)
    return given_routes.error();
  auto settings = std::make_shared<delivery::DeliverySettings>();
  if (config.local.arc) {
    const auto domain = mail::to_ascii_domain(
        config.local.arc_domain.empty() ? config.local.srs_domain : config.local.arc_domain);
    if (!domain)
      return domain.error().during("local.arc_domain");
    settings->local.sealer =
        std::make_shared<const delivery::ForwardSealer>(signer, *domain, authserv_id_of(config));
  }
  settings->signer = std::move(signer);
  settings->own.hostname = config.hostname;
  for (const auto& text : listening)
    if (auto address = own_address(text))
      settings->own.addresses.push_back(*address);
  settings->routes = std::move(*given_routes);
  if (!route_map.empty())
    settings->route_map = std::make_shared<const delivery::RouteMap>(std::move(route_map));
  settings->map_separator = config.local.separator;
  settings->port = static_cast<std::uint16_t>(config.delivery.port);
  if (!config.delivery.retry.empty())
    settings->retry.steps = config.delivery.retry;
  settings->retry_by_reason = retry_by_reason(config.delivery);
  settings->probes_by_outage = config.delivery.retry.empty();
  settings->lifetime = config.delivery.lifetime;
  settings->site_connections = static_cast<unsigned>(config.delivery.site_connections);
  settings->site_rules = site_rules(config);
  settings->site_memory = config.spool + "/sites";
  settings->connections = config.delivery.connections > 0
                              ? static_cast<unsigned>(config.delivery.connections)
                              : connections_by_descriptors();
  settings->families = families(config.delivery.family);
  settings->smtp.idle_connection = config.delivery.idle;
  settings->local.mailbox = config.local.mailbox;
  settings->local.book = std::move(book);
  settings->local.users = std::move(users);
  if (auto route = mailbox_route(config.local.mailbox)) {
    if (!*route)
      return route->error().during("local.mailbox");
    settings->mailbox_route = **route;
  }
  settings->local.minimum_uid = static_cast<std::uint32_t>(config.local.minimum_uid);
  settings->local.limits.time = config.local.command_time;
  settings->local.limits.processes = config.local.command_processes;
  settings->local.limits.memory = config.local.command_memory;
  settings->local.limits.mailbox_size = config.local.mbox_size;
  if (limits != nullptr)
    settings->local.count_forward = [limits](const std::string& user, std::size_t recipients) {
      return limits->count_forward(user, recipients);
    };
  settings->local.deliveries = static_cast<unsigned>(config.local.deliveries);
  settings->double_bounce = complete_address(config);
  settings->smtp.timeouts.connect = config.delivery.connect_timeout;
  if (outbound != nullptr)
    if (auto equipped = outbound->equip(config, *settings); !equipped)
      return equipped.error();
  return std::shared_ptr<const delivery::DeliverySettings>(std::move(settings));
}

Result<std::vector<std::string>> local_domains(const Config& config) {
  return domain_patterns(config.local.domains, "local.domains");
}

Result<std::vector<smtpd::ListenerSettings>> listener_settings(
    const Config& config, std::vector<InheritedSocket>& inherited) {
  constexpr std::string_view kSystemd = "systemd:";
  std::vector<smtpd::ListenerSettings> out;
  for (const auto& given : config.listeners) {
    smtpd::ListenerSettings settings;
    settings.address = given.address;
    settings.role = given.role == Role::mx ? smtpd::Role::mx : smtpd::Role::submission;
    settings.tls = static_cast<smtpd::TlsStart>(given.tls);  // the same values in the same order
    settings.proxy_protocol = given.proxy_protocol;
    if (const auto hop = delivery::parse_next_hop(given.next_hop); hop && !given.next_hop.empty())
      settings.next_hop = hop->describe();
    if (!given.address.starts_with(kSystemd)) {
      const auto addresses = listener_addresses(given.address);
      settings.if_here = addresses.size() > 1;
      for (const auto& address : addresses) {
        settings.address = address;
        out.push_back(settings);
      }
      continue;
    }
    const auto before = out.size();
    for (auto& socket : inherited)
      if (socket.name == given.address.substr(kSystemd.size())) {
        settings.address = socket.address;
        settings.inherited = socket.socket.release();
        out.push_back(settings);
      }
    if (out.size() == before)
      return Error(make_error_code(Errc::not_found), "take over the socket " + given.address);
  }
  return out;
}

Result<std::optional<gid_t>> control_readers(const Config& config) {
  const auto& name = config.control.readers;
  if (name.empty())
    return std::optional<gid_t>();
  const auto group = find_group(name);
  if (group)
    return std::optional<gid_t>(*group);
  if (group.error().code() != Errc::not_found)
    return Error(group.error().code(), "the group \"" + name + "\" cannot be looked up: " +
                                           group.error().code().message());
  return malformed("\"" + name +
                   "\" is not a group of this system; expected one that `getent group` shows");
}

std::vector<std::string> need_restart(const Config& old, const Config& fresh) {
  std::vector<std::string> keys;
  constexpr const char* kFixed[] = {
      "spool",          "user",           "threads",          "log.target",
      "control.socket", "control.submit", "auth.hash_threads"};
  for (const auto* key : kFixed)
    if (value_text(*find_option(key), old, 0) != value_text(*find_option(key), fresh, 0))
      keys.emplace_back(key);
  return keys;
}

}  // namespace postrider::daemon
