// What the administrator decided, checked and in the program's own types. It is read from TOML by
// daemon/config/config_file.h; the option table (daemon/config/options.h) binds each member to its
// key, limits and description. A Config never changes: a reload makes a new one, and sessions and
// messages that began under the old one end under it.
#pragma once

#include "base/log.h"
#include "base/time.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace postrider::daemon {

enum class LogFormatName : std::uint8_t { text, json, postfix };
enum class Role : std::uint8_t { mx, submission };
enum class ListenerTls : std::uint8_t { off, starttls, implicit };
enum class RouteTls : std::uint8_t { off, opportunistic, require, verify, dane };
enum class Family : std::uint8_t { any, ipv4, ipv6 };

struct LogConfig {
  Level level = Level::info;
  LogFormatName format = LogFormatName::text;
  std::string target = "stderr";  // stderr, syslog or an absolute path
};

struct ListenerConfig {
  std::string address;  // "0.0.0.0:25", "[::]:25", "unix:/path" or "systemd:name"
  Role role = Role::mx;
  ListenerTls tls = ListenerTls::off;
  bool proxy_protocol = false;
  std::string next_hop;  // of all that comes in here; empty: by routes
};

enum class TlsProtocol : std::uint8_t { tls1_0, tls1_1, tls1_2, tls1_3 };

struct TlsConfig {
  std::vector<std::string> certificate;  // files; the first of each kind of key is the default
  std::vector<std::string> key;          // of each certificate, in the same order
  TlsProtocol protocol = TlsProtocol::tls1_2;
};

struct AcceptConfig {
  std::uint64_t message_size = 50U << 20U;
  std::uint64_t recipients = 1000;
  std::vector<std::string> relay_from = {"127.0.0.0/8", "::1/128"};
  std::vector<std::string> relay_certificates;  // SHA-256 in hex, colons allowed
  std::vector<std::string> relay_to;
  std::vector<std::string> relay_recipients;  // tables: who exists in relay_to; empty: everybody
  bool success_notices = false;               // for strangers
  bool open_relay = false;                    // everybody may relay, as relay_from says
  std::vector<std::string> senders;           // tables: ok, reject or defer
  std::vector<std::string> recipient_map;     // the same
  std::vector<std::string> always_bcc;        // addresses that get a copy of all mail
  std::vector<std::string> sender_bcc;        // tables: addresses that get a copy
  std::vector<std::string> recipient_bcc;     // the same
  Duration greeting_delay{0};                 // for strangers
  bool client_names = true;                   // of strangers are looked up
  std::vector<std::string> proxy_from;        // networks whose PROXY header is believed
  std::uint64_t sessions = 10000;
  std::uint64_t sessions_per_client = 50;
  std::uint64_t errors = 20;
  Duration timeout{std::chrono::minutes(5)};  // RFC 5321 §4.5.3.2.7
  // For how long at most submitted mail may ask to be kept before it is sent (RFC 4865); 0: not
  // offered.
  Duration future_release{std::chrono::hours(24 * 30)};
};

// Whether mail of strangers is from whom it says.
struct AuthenticationConfig {
  bool spf = false;
  bool dkim = false;
  bool arc = false;
  std::uint64_t dmarc = 0;              // off, report, quarantine, reject
  std::string authserv_id;              // empty: the host name
  std::vector<std::string> exceptions;  // tables
  Duration time_limit{std::chrono::seconds(20)};
};

// Logging in to listeners of the role submission.
struct AuthConfig {
  std::vector<std::string> mechanisms;  // empty: all that the sources below can serve
  std::string users;                    // password file; at most one of these three is given
  std::string dovecot;                  // its auth socket
  std::string pam;                      // a service
  std::string certificates;             // file of fingerprints and users
  std::string senders;                  // file of addresses and users
  std::uint64_t from = 0;               // off, reject: header fields are checked by it too
  std::string oauth_introspect;         // URL of RFC 7662
  std::string oauth_client;             // file: "id:secret" for it
  std::string oauth_roots;              // file of roots for it; empty: the system's
  std::string oauth_keys;               // file of keys that tokens are signed with
  std::string oauth_issuer;
  std::string oauth_audience;
  std::string oauth_scope;
  std::string oauth_user = "email";
  bool clear = false;  // also without TLS, on loopback and Unix sockets
  std::uint64_t tries_per_client = 20;
  std::uint64_t tries_per_account = 50;
  Duration failure_delay{std::chrono::seconds(1)};
  std::uint64_t hash_threads = 1;
  std::uint64_t messages_per_hour = 500;
  std::uint64_t messages_per_day = 2000;
  std::uint64_t recipients_per_hour = 2000;
  std::uint64_t recipients_per_day = 10000;
  std::uint64_t new_recipients_per_hour = 500;
  std::uint64_t new_recipients_per_day = 2000;

  bool has_passwords() const { return !users.empty() || !dovecot.empty() || !pam.empty(); }
  bool has_tokens() const { return !oauth_introspect.empty() || !oauth_keys.empty(); }
  bool is_used() const { return has_passwords() || has_tokens() || !certificates.empty(); }
};

// What local users may send by sendmail.
struct SendmailConfig {
  std::uint64_t messages_per_hour = 500;
  std::uint64_t messages_per_day = 2000;
  std::uint64_t recipients_per_hour = 2000;
  std::uint64_t recipients_per_day = 10000;
  std::vector<std::string> unlimited = {"root"};  // names or uids; the daemon's user always is
};

struct LocalConfig {
  std::vector<std::string> domains;
  std::string mailbox = "maildir:/var/mail/{user}/";
  std::vector<std::string> aliases = {"/etc/aliases"};
  std::vector<std::string> virtuals;  // "local.virtual"
  std::string separator = "+";
  std::string forward = ".forward";         // empty: none
  std::uint64_t forwarded_per_hour = 2000;  // recipients, by one user's
  std::uint64_t forwarded_per_day = 10000;
  std::string catch_all;  // empty: unknown users are refused
  bool srs = false;
  std::string srs_domain;  // filled in by the loader
  bool arc = false;
  std::string arc_domain;  // empty: srs_domain
  std::string srs_key;     // file; empty: one in the spool, which is made
  std::string alias_user = "nobody";
  std::vector<std::string> command_users;  // accounts below minimum_uid that may have commands
  std::uint64_t expansion_recipients = 10'000;
  std::uint64_t expansion_steps = 20;
  std::uint64_t minimum_uid = 1000;  // of accounts with whose rights is delivered
  std::vector<std::string> users;    // if not empty, only with the rights of these
  std::uint64_t deliveries = 10;     // at one time
  Duration command_time{std::chrono::minutes(15)};
  std::uint64_t command_processes = 200;  // with all that it starts; 0: no limit
  std::uint64_t command_memory = std::uint64_t{1} << 30U;
  std::uint64_t mbox_size = 0;  // 0: no limit
};

struct RewriteConfig {
  std::vector<std::string> sender;  // tables
  std::vector<std::string> recipient;
  std::vector<std::string> masquerade;  // domains
  std::vector<std::string> masquerade_except = {"root"};
};

// Which mail is signed, and with what.
struct DkimConfig {
  std::string folder;             // DOMAIN/SELECTOR.pem; empty: none
  std::vector<std::string> keys;  // "example.org:selector:/path"
  std::vector<std::string> sign = {"submission", "sendmail", "relay_from", "notices"};
  std::uint64_t canonicalization = 0;          // "relaxed/relaxed", ...
  std::vector<std::string> signed_fields;      // empty: the usual ones
  std::vector<std::string> oversigned_fields;  // likewise
  Duration valid_for{0};                       // 0: for ever

  bool is_used() const { return !folder.empty() || !keys.empty(); }
};

// Who may hand in mail for us.
struct ChecksConfig {
  std::vector<std::string> clients;                     // tables
  std::vector<std::string> client_lists, domain_lists;  // "zen.example.org=127.0.0.[2..11]*2"
  std::uint64_t refused_from = 1;
  std::uint64_t welcome_from = 1;  // below zero
  std::uint64_t client_name = 0;   // off, present, confirmed
  std::uint64_t helo = 0;          // off, syntax, present
  bool report_only = false;
  std::vector<std::string> except_from;
  Duration time_limit{std::chrono::seconds(5)};
  std::uint64_t messages_per_hour = 0;  // of one client; 0: no limit
  std::uint64_t recipients_per_hour = 0;
  std::uint64_t failures_per_hour = 0;
  bool greylist = false;
  Duration greylist_delay{std::chrono::minutes(5)};
  std::uint64_t greylist_successes = 5;
  std::vector<std::string> policy_services;  // asked at each recipient
  std::vector<std::string> policy_data_services, policy_end_services;
  std::uint64_t policy_default = 0;  // tempfail, accept
  Duration policy_timeout{std::chrono::seconds(100)};
};

// A program that looks at mail by the milter protocol.
struct MilterConfig {
  std::string address;
  std::string name;                                      // filled in by the loader: the address
  std::vector<std::string> mail = {"mx", "submission"};  // "sendmail"
  std::vector<std::string> listeners;                    // addresses; empty: all
  std::vector<std::string> except_from;                  // networks
  std::uint64_t default_action = 0;                      // tempfail, accept, reject, quarantine
  std::vector<std::string> macros;                       // "{daemon_name}=ORIGINATING"
  std::uint64_t connections = 200;
  Duration connect_timeout{std::chrono::seconds(30)};
  Duration command_timeout{std::chrono::seconds(30)};
  Duration content_timeout{std::chrono::seconds(300)};
};

// A pattern on header fields, and what follows from it.
struct HeaderCheckConfig {
  std::string pattern;                                   // "/^Subject: .../"
  std::string action;                                    // "reject TEXT"
  std::uint64_t in = 0;                                  // header, mime
  std::vector<std::string> mail = {"mx", "submission"};  // "sendmail"
};

struct RouteConfig {
  std::string domain;             // "example.org", ".example.org" or "*"
  std::vector<std::string> from;  // senders, see delivery::Route; empty: all
  std::string next_hop;  // "mx", "smtp://host:port", "smtps://", "lmtp://", "error:...", "discard:"
  RouteTls tls = RouteTls::opportunistic;
  std::vector<std::string> tls_names;
  std::vector<std::string> source;  // addresses of this machine; empty: any
  std::string helo;                 // empty: hostname
  std::string credentials;
  bool unverified_login = false;
};

// What is known better of a site than can be found by trying. The first that matches counts.
struct SiteConfig {
  std::vector<std::string> match;    // "example.org", ".example.org", "mx:.google.com"
  std::uint64_t connections = 0;     // 0: delivery.site_connections
  std::string rate;                  // "100/m"; empty: as the site takes it
  std::uint64_t per_connection = 0;  // messages; 0: as the site takes them
  Family family = Family::any;       // any: delivery.family
  std::vector<std::string> source;   // "192.0.2.1", "192.0.2.2*3"; empty: any
  std::string helo;                  // empty: hostname
};

struct DnsConfig {
  std::vector<std::string> servers;  // empty: those of /etc/resolv.conf, watched
  std::optional<bool> trust_ad;      // not set: only if all servers are on loopback
};

struct DeliveryConfig {
  std::vector<std::string> route_map;  // tables
  std::uint64_t port = 25;
  Duration lifetime{std::chrono::days(5)};
  std::vector<Duration> retry;                   // empty: by the reason of the refusal
  std::vector<std::string> retry_for;            // "mailbox-full 1h 4h"
  Duration delay_notice{std::chrono::hours(4)};  // 0: none
  std::uint64_t site_connections = 20;
  std::uint64_t connections = 0;  // 0: by the limit of descriptors
  std::string tls_ca;             // PEM; empty: the system's
  Duration connect_timeout{std::chrono::seconds(30)};
  Duration idle{std::chrono::seconds(5)};  // an unused connection is kept this long
  Family family = Family::any;
  std::string double_bounces_to = "postmaster";  // empty: nobody, only logged
};

struct MtaStsConfig {
  bool enabled = true;
  std::uint64_t port = 443;
  Duration timeout{std::chrono::seconds(20)};
};

struct TlsReportConfig {
  bool enabled = true;       // once there is a contact
  std::string organisation;  // empty: the host name
  std::string contact;
  Duration delay{std::chrono::hours(4)};
};

// What receivers tell the domains whose mail they judged (RFC 9990).
struct DmarcReportConfig {
  bool enabled = true;       // once there is a contact
  std::string organisation;  // empty: the host name
  std::string contact;
  Duration delay{std::chrono::hours(4)};
};

// What is remembered of mail that is gone, for "postrider trace".
struct TraceConfig {
  Duration keep{std::chrono::hours(24 * 7)};  // 0: nothing is
  std::uint64_t size = 1U << 30U;             // octets on disk; then the oldest goes
};

enum class EventPrivacy : std::uint8_t { none, domains };

// One sink: exactly one of file, socket, webhook and broker is given, but a broker may have a
// socket.
struct EventsConfig {
  std::string name;
  std::string file, socket, webhook, broker;
  std::string password;         // a file: of the user at the broker
  std::string exchange, topic;  // there
  std::string secret;           // a file of keys that sign what a webhook gets
  std::vector<std::string> types, domains, senders, tags;  // each: empty for all
  std::vector<std::string> fields;                         // empty: all
  EventPrivacy privacy = EventPrivacy::none;
  std::uint64_t batch = 100;
  Duration timeout{std::chrono::seconds(20)};

  // The socket of the program that takes the events, that for the broker too; empty: there is none.
  std::string door() const {
    if (!socket.empty() || broker.empty())
      return socket;
    auto protocol = broker.substr(0, broker.find(':'));
    if (protocol.ends_with('s'))  // with TLS
      protocol.pop_back();
    return "/run/postrider-" + protocol + "/" + name;
  }
};

// Who carries events to brokers and brings requests from there.
inline constexpr const char* kBrokersUser = "postrider-events";

// One place at a broker where applications ask for mail.
struct RequestsConfig {
  std::string name;      // whose limits count
  std::string broker;    // a URL
  std::string password;  // a file: of the user at the broker
  std::string source;    // there: a queue, destination or topic
  std::string refused;   // there: where refused requests are reported; empty: nowhere
  std::uint64_t connections = 4;
};

struct OutboxConfig {
  std::uint64_t size = 256U << 20U;
  Duration age{std::chrono::days(7)};
  Duration keep{std::chrono::days(1)};
};

struct SandboxConfig {
  std::vector<std::string> read;  // further folders that the daemon may read
  bool core_dumps = false;
};

struct ControlConfig {
  std::string socket = "/run/postrider/control";
  std::string submit;   // empty: "submit" beside socket; filled in by the loader
  std::string readers;  // a group whose members may ask, and change nothing; empty: nobody
  // Of the postrider-pam that judges who logs in to the page: for web.user alone.
  std::string web_login() const { return socket.substr(0, socket.rfind('/') + 1) + "web-login"; }
};

// Of postrider-web, which the daemon does not start.
struct WebConfig {
  std::vector<std::string> listen;  // empty: it does not run
  std::vector<std::string> hosts;   // further names that a request may give
  std::string tokens = "/etc/postrider/web.tokens";
  bool metrics_need_token = false;
  std::uint64_t request_size = 10U << 20U;  // of a request that sends mail
  std::string user = "postrider-web";
  std::string pam;                      // the service that judges passwords; empty: tokens alone
  std::vector<std::string> pam_read;    // users, and groups with @, that may log in to read
  std::vector<std::string> pam_change;  // and those that may change
};

struct Config {
  std::string hostname;  // empty: the system's; filled in by the loader
  std::string origin;    // a domain once it is loaded; empty or a file until then
  std::string spool = "/var/spool/postrider";
  std::string user = "postrider";  // empty: stay as started
  std::uint64_t threads = 0;       // network loops; 0: one a core
  LogConfig log;
  std::vector<ListenerConfig> listeners;
  TlsConfig tls;
  AcceptConfig accept;
  ChecksConfig checks;
  AuthenticationConfig authentication;
  AuthConfig auth;
  SendmailConfig sendmail;
  LocalConfig local;
  RewriteConfig rewrite;
  DkimConfig dkim;
  std::vector<MilterConfig> milters;
  std::vector<HeaderCheckConfig> header_checks;
  std::vector<RouteConfig> routes;
  std::vector<SiteConfig> sites;
  DnsConfig dns;
  DeliveryConfig delivery;
  MtaStsConfig mta_sts;
  TlsReportConfig tls_report;
  DmarcReportConfig dmarc_report;
  TraceConfig trace;
  std::vector<EventsConfig> events;
  std::vector<RequestsConfig> requests;
  OutboxConfig outbox;
  ControlConfig control;
  SandboxConfig sandbox;
  WebConfig web;
};

using ConfigPtr = std::shared_ptr<const Config>;

}  // namespace postrider::daemon
