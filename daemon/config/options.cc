#include "daemon/config/options.h"

#include "base/text.h"
#include "daemon/config/values.h"

#include <algorithm>

namespace postrider::daemon {

namespace {

using std::chrono::days;
using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

constexpr std::uint64_t kKiB = 1U << 10U;
constexpr std::uint64_t kMiB = 1U << 20U;

constexpr const char* kLevels[] = {"debug", "info", "warn", "error"};
constexpr const char* kFormats[] = {"text", "json", "postfix"};
constexpr const char* kRoles[] = {"mx", "submission"};
constexpr const char* kListenerTls[] = {"off", "starttls", "implicit"};
constexpr const char* kProtocols[] = {"TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"};
constexpr const char* kFromChecks[] = {"off", "reject"};
constexpr const char* kCanonicalizations[] = {"relaxed/relaxed", "relaxed/simple", "simple/relaxed",
                                              "simple/simple"};
constexpr const char* kDmarc[] = {"off", "report", "quarantine", "reject"};
constexpr const char* kClientNames[] = {"off", "present", "confirmed"};
constexpr const char* kHelos[] = {"off", "syntax", "present"};
constexpr const char* kPolicyDefaults[] = {"tempfail", "accept"};
constexpr const char* kMilterActions[] = {"tempfail", "accept", "reject", "quarantine"};
constexpr const char* kHeaders[] = {"header", "mime"};
constexpr const char* kRouteTls[] = {"off", "opportunistic", "require", "verify", "dane"};
constexpr const char* kPrivacies[] = {"none", "domains"};
constexpr const char* kFamilies[] = {"any", "ipv4", "ipv6"};

// Shorthand for the functions of a row, so that the table stays a table.
#define AT(member)                       \
  [](Config & c, std::size_t) -> auto& { \
    return c.member;                     \
  }
#define LISTENER(member)                   \
  [](Config & c, std::size_t i) -> auto& { \
    return c.listeners[i].member;          \
  }
#define MILTER(member)                     \
  [](Config & c, std::size_t i) -> auto& { \
    return c.milters[i].member;            \
  }
#define HEADER_CHECK(member)               \
  [](Config & c, std::size_t i) -> auto& { \
    return c.header_checks[i].member;      \
  }
#define ROUTE(member)                      \
  [](Config & c, std::size_t i) -> auto& { \
    return c.routes[i].member;             \
  }
#define SITE(member)                       \
  [](Config & c, std::size_t i) -> auto& { \
    return c.sites[i].member;              \
  }
#define EVENTS(member)                     \
  [](Config & c, std::size_t i) -> auto& { \
    return c.events[i].member;             \
  }
#define REQUESTS(member)                   \
  [](Config & c, std::size_t i) -> auto& { \
    return c.requests[i].member;           \
  }
#define CHOICE(names, expression)                                                         \
  Choice {                                                                                \
    names,                                                                                \
        [](const Config& c, [[maybe_unused]] std::size_t i) {                             \
          return static_cast<std::size_t>(c.expression);                                  \
        },                                                                                \
        [](Config& c, [[maybe_unused]] std::size_t i, std::size_t value) {                \
          c.expression = static_cast<std::remove_cvref_t<decltype(c.expression)>>(value); \
        }                                                                                 \
  }

// clang-format off
const Option kOptions[] = {
    {"hostname", Text{AT(hostname), check_host_name}, false, "the system's name",
     "The name given in greetings, in EHLO, in Received fields and in notices."},
    {"origin", Text{AT(origin), check_origin}, false, "hostname",
     "The domain of this machine's own mail, for addresses without one; or the absolute path of the "
     "file whose first line it is."},
    {"spool", Text{AT(spool), check_path}, false, nullptr,
     "The folder of the queue; it must be on a local disk. Another than the default needs ReadWritePaths= "
     "in a drop-in of the unit."},
    {"user", Text{AT(user), check_user}, false, nullptr,
     "Taken on after the sockets are bound, when started as root; empty to stay as it is."},
    {"threads", Number{AT(threads), 0, 256}, false, nullptr,
     "Network loops, one thread each; 0 for one a core."},

    {"log.level", CHOICE(kLevels, log.level), false, nullptr,
     "The least important events that are logged."},
    {"log.format", CHOICE(kFormats, log.format), false, nullptr,
     "How an event is written: key=value text, one JSON object a line, or Postfix's lines."},
    {"log.target", Text{AT(log.target), check_log_target}, false, nullptr,
     "Where the log goes: stderr (under systemd the journal, with priorities and fields), syslog, or the "
     "absolute path of a file."},

    {"listener.address", Text{LISTENER(address), check_listener}, true, nullptr,
     "Where to listen: an address and port, localhost or * (all) of IPv4 and IPv6 with a port, a Unix "
     "socket, or a socket named by systemd."},
    {"listener.role", CHOICE(kRoles, listeners[i].role), false, nullptr,
     "Who is served: mx for other mail servers, submission for users' programs."},
    {"listener.tls", CHOICE(kListenerTls, listeners[i].tls), false, nullptr,
     "Whether TLS is absent, offered by STARTTLS, or spoken from the first byte."},
    {"listener.proxy_protocol", Flag{LISTENER(proxy_protocol)}, false, nullptr,
     "Whether connections begin with a PROXY header, version 1 or 2; accept.proxy_from says whose."},
    {"listener.next_hop", Text{LISTENER(next_hop), check_filter_hop}, false, "none",
     "Where all mail goes that comes in here, local mail too, as to a content filter: smtp://host:port, smtps://host:port or lmtp://host:port. "
     "The filter gives it back to another listener, from which it goes on as usual. A [[route]] with this next hop says its TLS, credentials, source and helo."},

    {"tls.certificate", TextList{AT(tls.certificate), check_path, true}, false, "none",
     "The file with the certificate and its chain, in PEM; or a list, for several kinds of keys and for the names that clients ask for."},
    {"tls.key", TextList{AT(tls.key), check_secret_path, true}, false, "none",
     "The file with the private key of the certificate, in PEM; or a list in the order of tls.certificate."},
    {"tls.protocol", CHOICE(kProtocols, tls.protocol), false, nullptr,
     "The oldest protocol that other servers may speak; users' programs need TLSv1.2 at least."},

    {"accept.message_size", Size{AT(accept.message_size), 64 * kKiB, 2048 * kMiB}, false, nullptr,
     "The largest message accepted."},
    {"accept.recipients", Number{AT(accept.recipients), 100, 100000}, false, nullptr,
     "The most recipients of one message; more are refused for now (4xx)."},
    {"accept.relay_from", TextList{AT(accept.relay_from), check_network}, false, nullptr,
     "Networks whose clients may send to anyone."},
    {"accept.relay_certificates", TextList{AT(accept.relay_certificates), check_fingerprint}, false, nullptr,
     "Certificates whose holders may send to anyone, as the SHA-256 of each in hexadecimal digits."},
    {"accept.relay_to", TextList{AT(accept.relay_to), check_domain_pattern}, false, nullptr,
     "Domains that anyone may send to through this server, as a backup MX does."},
    {"accept.relay_recipients", TextList{AT(accept.relay_recipients), check_table, true}, false, nullptr,
     "Tables of the addresses that exist in accept.relay_to; without any, all are taken to exist."},
    {"accept.open_relay", Flag{AT(accept.open_relay)}, false, nullptr,
     "Whether relay_from may let everybody who reaches a listener send to anyone; otherwise that is a mistake."},
    {"accept.success_notices", Flag{AT(accept.success_notices)}, false, nullptr,
     "Whether strangers too may ask for notices of success (NOTIFY=SUCCESS); clients that may send to anyone always may."},
    {"accept.senders", TextList{AT(accept.senders), check_table, true}, false, nullptr,
     "Tables of senders: ok, reject TEXT or defer TEXT for user@domain, domain, .domain or user@."},
    {"accept.recipient_map", TextList{AT(accept.recipient_map), check_table, true}, false, nullptr,
     "The same for recipients."},
    {"accept.always_bcc", TextList{AT(accept.always_bcc), check_copy_address, true}, false, "none",
     "Addresses that get a copy of all mail that is taken; it is not seen in the message, and notices of ours have none."},
    {"accept.sender_bcc", TextList{AT(accept.sender_bcc), check_table, true}, false, nullptr,
     "Tables of addresses that get a copy of a sender's mail: for user@domain, the same without its extension, or @domain."},
    {"accept.recipient_bcc", TextList{AT(accept.recipient_bcc), check_table, true}, false, nullptr,
     "The same by recipients; a copy causes no further ones."},
    {"accept.greeting_delay", Time{AT(accept.greeting_delay), milliseconds(0), seconds(30)}, false, nullptr,
     "How long strangers on listeners of the role mx wait for the greeting; who talks meanwhile, as programs that send spam do, is refused."},
    {"accept.client_names", Flag{AT(accept.client_names)}, false, nullptr,
     "Whether the names of strangers' addresses are looked up in the DNS, for Received fields, the log, milters and policy services. A name counts if it leads back to the address."},
    {"accept.proxy_from", TextList{AT(accept.proxy_from), check_network}, false, nullptr,
     "Networks of the proxies that may begin a connection with a PROXY header."},
    {"accept.sessions", Number{AT(accept.sessions), 1, 1000000}, false, nullptr,
     "The most sessions at one time. A user of this machine other than root has a quarter of them."},
    {"accept.sessions_per_client", Number{AT(accept.sessions_per_client), 1, 1000000}, false, nullptr,
     "The most sessions of one client address; accept.relay_from is exempt."},
    {"accept.errors", Number{AT(accept.errors), 1, 1000}, false, nullptr,
     "Refused commands after which a session is ended."},
    {"accept.future_release", Time{AT(accept.future_release), seconds(0), days(365)}, false, nullptr,
     "For how long at most clients that may send to anyone may have mail kept before it is sent (FUTURERELEASE); 0: not offered."},
    {"accept.timeout", Time{AT(accept.timeout), seconds(10), hours(1)}, false, nullptr,
     "How long a client may stay silent."},

    {"checks.clients", TextList{AT(checks.clients), check_table, true}, false, nullptr,
     "Tables of clients: ok, reject TEXT or defer TEXT for an address, the network that holds it (192.0.2.0/24, /16 or /8; 2001:db8:1:2::/64, /48 or /32), a name that leads back to it, .domain, or unknown for a client without such a name. ok: nothing else is asked but policy services."},
    {"checks.client_lists", TextList{AT(checks.client_lists), check_dns_list, true}, false, nullptr,
     "Lists in the DNS of clients' addresses, as Postfix's postscreen has them: zone, zone*weight or zone=127.0.0.[2..11]*weight; a weight below zero welcomes."},
    {"checks.domain_lists", TextList{AT(checks.domain_lists), check_dns_list, true}, false, nullptr,
     "The same of domains: of the sender, and of the name in EHLO."},
    {"checks.refused_from", Number{AT(checks.refused_from), 1, 1000}, false, nullptr,
     "The sum of weights from which mail is refused."},
    {"checks.welcome_from", Number{AT(checks.welcome_from), 1, 1000}, false, nullptr,
     "The sum below zero, given without its sign, from which a client is asked nothing else but by policy services."},
    {"checks.client_name", CHOICE(kClientNames, checks.client_name), false, nullptr,
     "What a client must have in the DNS: nothing, a name for its address, or one that leads back to the address."},
    {"checks.helo", CHOICE(kHelos, checks.helo), false, nullptr,
     "What a client must say in EHLO: anything, the form of a host name with a domain or of an address, or a name that is there; never ours."},
    {"checks.report_only", Flag{AT(checks.report_only)}, false, nullptr,
     "Whether what these checks refuse is only logged."},
    {"checks.except_from", TextList{AT(checks.except_from), check_network, true}, false, nullptr,
     "Networks whose clients are not checked."},
    {"checks.time_limit", Time{AT(checks.time_limit), milliseconds(100), minutes(1)}, false, nullptr,
     "How long answers of the DNS are waited for; what has none by then is no reason to refuse."},
    {"checks.messages_per_hour", Number{AT(checks.messages_per_hour), 0, 1000000}, false, nullptr,
     "The most messages of one client in an hour, an IPv6 client counted by its /64; 0 for no limit, also below. Those beyond it are asked to come again later (450)."},
    {"checks.recipients_per_hour", Number{AT(checks.recipients_per_hour), 0, 1000000}, false, nullptr,
     "The same of recipients."},
    {"checks.failures_per_hour", Number{AT(checks.failures_per_hour), 0, 1000000}, false, nullptr,
     "The same of commands that were refused for good; then its connections are."},
    {"checks.greylist", Flag{AT(checks.greylist)}, false, nullptr,
     "Whether mail from a network, a sender and to a recipient that were never seen together is deferred once (450)."},
    {"checks.greylist_delay", Time{AT(checks.greylist_delay), seconds(1), hours(12)}, false, nullptr,
     "After how long it may."},
    {"checks.greylist_successes", Number{AT(checks.greylist_successes), 0, 1000}, false, nullptr,
     "How often a network must have come again until it waits no more; 0 for never."},
    {"checks.policy_services", TextList{AT(checks.policy_services), check_milter, true}, false, nullptr,
     "Policy services that are asked at each recipient, as Postfix asks them (check_policy_service): addresses as in milter.address."},
    {"checks.policy_data_services", TextList{AT(checks.policy_data_services), check_milter, true}, false, nullptr,
     "The same, asked once for each message, before its content (as Postfix does by smtpd_data_restrictions)."},
    {"checks.policy_end_services", TextList{AT(checks.policy_end_services), check_milter, true}, false, nullptr,
     "The same, asked when all of the content is there, with its size (smtpd_end_of_data_restrictions)."},
    {"checks.policy_default", CHOICE(kPolicyDefaults, checks.policy_default), false, nullptr,
     "What happens where one of them cannot be asked."},
    {"checks.policy_timeout", Time{AT(checks.policy_timeout), seconds(1), minutes(10)}, false, nullptr,
     "How long one answer of theirs may take."},

    {"authentication.spf", Flag{AT(authentication.spf)}, false, nullptr,
     "Whether SPF is checked of mail from strangers: of what they say in EHLO, and of the sender."},
    {"authentication.dkim", Flag{AT(authentication.dkim)}, false, nullptr,
     "Whether its DKIM signatures are checked."},
    {"authentication.arc", Flag{AT(authentication.arc)}, false, nullptr,
     "Whether its ARC chain is checked, which tells what forwarders found."},
    {"authentication.dmarc", CHOICE(kDmarc, authentication.dmarc), false, nullptr,
     "Whether DMARC is checked, and SPF and DKIM for it, and what happens to mail that fails where its author's domain asks for it: nothing but a report in its header, a mark, or a refusal."},
    {"authentication.authserv_id", Text{AT(authentication.authserv_id), check_host_name}, false, "the value of hostname",
     "The name under which results are written; fields of strangers that bear it are removed."},
    {"authentication.exceptions", TextList{AT(authentication.exceptions), check_table, true}, false, nullptr,
     "Tables of whose mail DMARC only reports on: a client's address, an author's domain, .domain for those below it, or sealer:domain for a forwarder whose ARC results are believed; the value is ok."},
    {"authentication.time_limit", Time{AT(authentication.time_limit), seconds(1), seconds(300)}, false, nullptr,
     "How long a message waits for the DNS in all; what has no answer by then is no reason to refuse it."},

    {"auth.mechanisms", TextList{AT(auth.mechanisms), check_mechanism}, false, "all that the sources can serve",
     "The SASL mechanisms offered on listeners of the role submission."},
    {"auth.users", Text{AT(auth.users), check_optional_secret_path}, false, "none",
     "The password file, which postrider passwd writes; one of auth.users, auth.dovecot and auth.pam."},
    {"auth.dovecot", Text{AT(auth.dovecot), check_optional_path}, false, "none",
     "The socket of Dovecot's auth server, which then judges passwords."},
    {"auth.pam", Text{AT(auth.pam), check_pam_service}, false, "none",
     "The PAM service that judges passwords, a file of that name in /etc/pam.d."},
    {"auth.certificates", Text{AT(auth.certificates), check_optional_path}, false, "none",
     "The file of client certificates for EXTERNAL: a SHA-256 fingerprint and a user a line."},
    {"auth.senders", Text{AT(auth.senders), check_optional_path}, false, "none",
     "The file of sender addresses beyond a user's own: an address, @domain or * and its users a line."},
    {"auth.from", CHOICE(kFromChecks, auth.from), false, nullptr,
     "What happens to a message whose From or Sender field names an address that auth.senders does not give to its user."},
    {"auth.oauth_introspect", Text{AT(auth.oauth_introspect), check_http_url}, false, "none",
     "The URL of the token introspection endpoint (RFC 7662); its host is looked up by dns.servers."},
    {"auth.oauth_client", Text{AT(auth.oauth_client), check_optional_secret_path}, false, "none",
     "The file with the id and secret, a colon between them, that the endpoint knows us by."},
    {"auth.oauth_roots", Text{AT(auth.oauth_roots), check_optional_path}, false, "the system's",
     "The file of root certificates, in PEM, that the endpoint's certificate must come from."},
    {"auth.oauth_keys", Text{AT(auth.oauth_keys), check_optional_secret_path}, false, "none",
     "The file of keys that tokens (JWT) are signed with: a JWKS, PEM public keys, or a marked secret."},
    {"auth.oauth_issuer", Text{AT(auth.oauth_issuer), check_any}, false, "any",
     "The issuer that a token must have."},
    {"auth.oauth_audience", Text{AT(auth.oauth_audience), check_any}, false, "any",
     "The audience that a token must be for."},
    {"auth.oauth_scope", Text{AT(auth.oauth_scope), check_any}, false, "any",
     "The scope that a token must have."},
    {"auth.oauth_user", Text{AT(auth.oauth_user), check_claim}, false, nullptr,
     "The claim of a token that names the user."},
    {"auth.clear", Flag{AT(auth.clear)}, false, nullptr,
     "Whether AUTH is offered without TLS where listener.tls is off, on loopback and Unix sockets."},
    {"auth.tries_per_client", Number{AT(auth.tries_per_client), 1, 100000}, false, nullptr,
     "Failed logins an hour from one address, an IPv6 client counted by its /64."},
    {"auth.tries_per_account", Number{AT(auth.tries_per_account), 1, 100000}, false, nullptr,
     "Failed logins an hour to one account; where it has been logged into from is exempt."},
    {"auth.failure_delay", Time{AT(auth.failure_delay), milliseconds(0), seconds(20)}, false, nullptr,
     "How long a refusal takes at least."},
    {"auth.hash_threads", Number{AT(auth.hash_threads), 1, 64}, false, nullptr,
     "The most password hashes that are computed at one time."},
    {"auth.messages_per_hour", Number{AT(auth.messages_per_hour), 0, 10000000}, false, nullptr,
     "The most messages of one user in an hour; 0 for no limit, also below."},
    {"auth.messages_per_day", Number{AT(auth.messages_per_day), 0, 10000000}, false, nullptr,
     "The most messages of one user in a day."},
    {"auth.recipients_per_hour", Number{AT(auth.recipients_per_hour), 0, 10000000}, false, nullptr,
     "The most recipients of one user in an hour."},
    {"auth.recipients_per_day", Number{AT(auth.recipients_per_day), 0, 10000000}, false, nullptr,
     "The most recipients of one user in a day."},
    {"auth.new_recipients_per_hour", Number{AT(auth.new_recipients_per_hour), 0, 10000000}, false, nullptr,
     "The most recipients of one user in an hour to whom the user has not written before."},
    {"auth.new_recipients_per_day", Number{AT(auth.new_recipients_per_day), 0, 10000000}, false, nullptr,
     "The same in a day."},

    {"sendmail.messages_per_hour", Number{AT(sendmail.messages_per_hour), 0, 10000000}, false, nullptr,
     "The most messages of one user in an hour; 0 for no limit, also below."},
    {"sendmail.messages_per_day", Number{AT(sendmail.messages_per_day), 0, 10000000}, false, nullptr,
     "The most messages of one user in a day."},
    {"sendmail.recipients_per_hour", Number{AT(sendmail.recipients_per_hour), 0, 10000000}, false, nullptr,
     "The most recipients of one user in an hour."},
    {"sendmail.recipients_per_day", Number{AT(sendmail.recipients_per_day), 0, 10000000}, false, nullptr,
     "The most recipients of one user in a day."},
    {"sendmail.unlimited", TextList{AT(sendmail.unlimited), check_user, true}, false, nullptr,
     "Users without such limits, by name or uid; the daemon's user is one always. A list of yours stands "
     "in place of the default: name root in it too."},
    {"local.domains", TextList{AT(local.domains), check_local_domain}, false, nullptr,
     "Domains whose mail is delivered on this machine; {hostname} and {origin} stand for those. Address "
     "literals of the addresses that are listened on belong to the first."},
    {"local.mailbox", Text{AT(local.mailbox), check_mailbox}, false, nullptr,
     "Where mail of a local user goes: maildir:, mbox:, lmtp: or command:; {user}, {local}, "
     "{extension} and {domain} stand for parts of the address. The unit of the package lets mailboxes lie "
     "below /var/mail, /home and the spool; elsewhere they need ReadWritePaths= in a drop-in of it."},
    {"local.minimum_uid", Number{AT(local.minimum_uid), 1, 4294967294}, false, nullptr,
     "The least user id with whose rights mail is delivered; for mailboxes of others the daemon's user stands in, for their commands and files local.alias_user."},
    {"local.users", TextList{AT(local.users), check_user}, false, nullptr,
     "If not empty, the only users with whose rights mail is delivered."},
    {"local.deliveries", Number{AT(local.deliveries), 1, 200}, false, nullptr,
     "The most deliveries on this machine at one time; 1 lets one command and one other delivery run."},
    {"local.command_time", Time{AT(local.command_time), seconds(1), hours(24)}, false, nullptr,
     "How long a command may take with one message; then it is ended, and tried again later."},
    {"local.command_processes", Number{AT(local.command_processes), 0, 1000000}, false, nullptr,
     "How many processes and threads a command may be, with all that it starts; 0 for no limit."},
    {"local.command_memory", Size{AT(local.command_memory), 0, 1ULL << 50U}, false, nullptr,
     "How much memory a command may take, with all that it starts; \"0B\" for no limit."},
    {"local.mbox_size", Size{AT(local.mbox_size), 0, 1ULL << 50U}, false, nullptr,
     "The largest that an mbox may become; \"0B\" for no limit."},
    {"local.aliases", TextList{AT(local.aliases), check_aliases, true}, false, nullptr,
     "The tables of aliases, the first that knows a name counts; a missing file means no aliases."},
    {"local.virtual", TextList{AT(local.virtuals), check_table, true}, false, nullptr,
     "Tables of virtual users: user@domain, @domain for all others of it, and domain to make it ours."},
    {"local.separator", Text{AT(local.separator), check_separator}, false, nullptr,
     "What ends a user's name before an extension, as in ann+tag; each character of it does."},
    {"local.forward", Text{AT(local.forward), check_file_name}, false, nullptr,
     "The file in a user's home folder that says where mail goes instead; empty for none."},
    {"local.forwarded_per_hour", Number{AT(local.forwarded_per_hour), 0, 10000000}, false, nullptr,
     "To how many recipients, elsewhere or of other users, one user's file sends mail on in an hour, apart from what that user sends; then mail waits; 0 for no limit, also below."},
    {"local.forwarded_per_day", Number{AT(local.forwarded_per_day), 0, 10000000}, false, nullptr,
     "The same in a day."},
    {"local.catch_all", Text{AT(local.catch_all), check_optional_address}, false, nullptr,
     "Who gets mail for unknown users of local.domains; empty to refuse it."},
    {"local.srs", Flag{AT(local.srs)}, false, nullptr,
     "Whether mail that addresses here send on to other systems gets a sender of ours (SRS), so that SPF lets it pass there; bounces go back to the first sender."},
    {"local.srs_domain", Text{AT(local.srs_domain), check_domain}, false, "hostname if local.domains names it, else the first of these",
     "The domain of such senders; its mail must arrive here, and its SPF record must allow this machine."},
    {"local.srs_key", Text{AT(local.srs_key), check_optional_secret_path}, false, "srs_key in the spool, made at the first start",
     "The file with the keys of such senders, one a line: the first makes addresses, each of them verifies."},
    {"local.arc", Flag{AT(local.arc)}, false, nullptr,
     "Whether mail of strangers that addresses here send on to other systems is sealed (ARC), with what [authentication] found: then SPF and DKIM that no longer pass there count. The chain that it came with is checked, and the key is one of [dkim]."},
    {"local.arc_domain", Text{AT(local.arc_domain), check_domain}, false, "that of local.srs_domain",
     "In whose name is sealed; its key, or that of the nearest domain above it that has one."},
    {"local.alias_user", Text{AT(local.alias_user), check_user}, false, nullptr,
     "With whose rights commands and files of aliases run when root owns the table."},
    {"local.command_users", TextList{AT(local.command_users), check_user}, false, nullptr,
     "Accounts below local.minimum_uid whose own tables of aliases may name commands and files, "
     "which are then used with their rights; for mailing list managers, as [\"mlmmj\"]."},
    {"local.expansion_recipients", Number{AT(local.expansion_recipients), 1, 1000000}, false, nullptr,
     "The most recipients that one address may stand for."},
    {"local.expansion_steps", Number{AT(local.expansion_steps), 1, 100}, false, nullptr,
     "The most steps from an address to where its mail ends."},

    {"rewrite.sender", TextList{AT(rewrite.sender), check_table, true}, false, nullptr,
     "Tables that replace sender addresses: user@domain, user of a local domain, @domain."},
    {"rewrite.recipient", TextList{AT(rewrite.recipient), check_table, true}, false, nullptr,
     "Tables that replace recipient addresses, in the same way."},
    {"rewrite.masquerade", TextList{AT(rewrite.masquerade), check_domain, true}, false, nullptr,
     "Domains whose subdomains are cut off sender addresses of mail that is submitted here."},
    {"rewrite.masquerade_except", TextList{AT(rewrite.masquerade_except), check_local_name, true}, false, nullptr,
     "Users whose addresses keep their subdomains."},

    {"dkim.folder", Text{AT(dkim.folder), check_optional_path}, false, "none",
     "The folder of the keys that sign mail: DOMAIN/SELECTOR.pem, as postrider dkim new writes them. All keys of a domain sign."},
    {"dkim.keys", TextList{AT(dkim.keys), check_signing_key}, false, "none",
     "Further keys, each as domain:selector:file."},
    {"dkim.sign", TextList{AT(dkim.sign), check_signing_role}, false, nullptr,
     "Which mail is signed if there are keys for a domain in From, or for one above it: submission, sendmail, relay_from "
     "(clients that may send to anyone, on other listeners) and notices (what we write ourselves)."},
    {"dkim.canonicalization", CHOICE(kCanonicalizations, dkim.canonicalization), false, nullptr,
     "The forms of header and body that are signed; relaxed ones survive changes of white space on the way."},
    {"dkim.signed_fields", TextList{AT(dkim.signed_fields), check_signed_field}, false, "the usual ones",
     "The header fields that are signed where they are there, beside the oversigned ones."},
    {"dkim.oversigned_fields", TextList{AT(dkim.oversigned_fields), check_signed_field}, false, "the usual ones",
     "The header fields that are signed whether they are there or not, so that none can be added; From among them or among the signed ones."},
    {"dkim.valid_for", Time{AT(dkim.valid_for), seconds(0), days(365)}, false, nullptr,
     "How long signatures count (x=); 0s for no limit, otherwise mail that waits longer arrives without a valid one."},

    {"milter.address", Text{MILTER(address), check_milter}, true, nullptr,
     "Where it listens: 127.0.0.1:8891, [::1]:8891, a path, or as others write it, inet:8891@127.0.0.1 or unix:/path."},
    {"milter.name", Text{MILTER(name), check_one_line}, false, "its address",
     "What it is called in the log, in the status and in reasons why mail is held."},
    {"milter.mail", TextList{MILTER(mail), check_milter_mail, true}, false, nullptr,
     "Which mail it is asked about: mx and submission (listeners of these roles), sendmail (programs of this machine)."},
    {"milter.listeners", TextList{MILTER(listeners), check_listener, true}, false, "all",
     "The addresses of the listeners whose mail it is asked about, as they stand in listener.address."},
    {"milter.except_from", TextList{MILTER(except_from), check_network, true}, false, nullptr,
     "Networks whose clients' mail it is not asked about."},
    {"milter.default_action", CHOICE(kMilterActions, milters[i].default_action), false, nullptr,
     "What happens to mail about which it cannot be asked, whether it is down, too slow or says what is no answer."},
    {"milter.macros", TextList{MILTER(macros), check_macro, true}, false, nullptr,
     "What it hears beside what is known of the session, or instead of that, as name=value: {daemon_name}=ORIGINATING."},
    {"milter.connections", Number{MILTER(connections), 1, 10000}, false, nullptr,
     "The most connections to it at one time; each session has one. All milters together have 2000 at most."},
    {"milter.connect_timeout", Time{MILTER(connect_timeout), seconds(1), minutes(10)}, false, nullptr,
     "How long it may take to accept a connection and to agree on what it wants to see."},
    {"milter.command_timeout", Time{MILTER(command_timeout), seconds(1), minutes(10)}, false, nullptr,
     "How long one answer may take up to the end of the header, and a piece of the body."},
    {"milter.content_timeout", Time{MILTER(content_timeout), seconds(1), minutes(60)}, false, nullptr,
     "How long the answer to a whole message may take; each word of progress begins it again, for an hour at most."},

    {"header_check.pattern", Text{HEADER_CHECK(pattern), check_pattern}, true, nullptr,
     "The pattern of Perl's kind for a header field on one line, as /^Subject: .*words/; letters match in any case unless the flag i stands behind it. The first one that matches a field decides about it."},
    {"header_check.action", Text{HEADER_CHECK(action), check_header_action}, true, nullptr,
     "What follows: reject TEXT, hold TEXT, discard, warn TEXT (in the log), strip (the field goes), or prepend FIELD (one more stands above it)."},
    {"header_check.in", CHOICE(kHeaders, header_checks[i].in), false, nullptr,
     "Which header: that of the message, or those of the parts inside with the message's own fields Content-* and MIME-Version, which are never changed."},
    {"header_check.mail", TextList{HEADER_CHECK(mail), check_milter_mail, true}, false, nullptr,
     "Mail of which kind: mx and submission are listeners of that role, sendmail is mail of this machine's programs."},

    {"route.domain", Text{ROUTE(domain), check_route_domain}, true, nullptr,
     "Which mail takes this route: a domain, .domain for all below it, or * for the rest."},
    {"route.from", TextList{ROUTE(from), check_route_sender, true}, false, nullptr,
     "Whose mail takes this route: an address, a domain, .domain for all below it, or <> for notices; empty for everybody's."},
    {"route.next_hop", Text{ROUTE(next_hop), check_next_hop}, true, nullptr,
     "Where it goes: mx, smtp://host:port, smtps://host:port, lmtp://host:port, lmtp:///path, "
     "error:text or discard:."},
    {"route.tls", CHOICE(kRouteTls, routes[i].tls), false, nullptr,
     "How much TLS the next hop must offer."},
    {"route.tls_names", TextList{ROUTE(tls_names), check_domain_pattern, true}, false, nullptr,
     "With tls = verify: the names of which the certificate must hold one; .domain stands for all below it."},
    {"route.source", TextList{ROUTE(source), check_address, true}, false, nullptr,
     "The addresses of this machine that connections come from, one of a family at most; hosts are then reached by these families alone."},
    {"route.helo", Text{ROUTE(helo), check_host_name}, false, "the value of hostname",
     "The name that is said in EHLO; the DNS should have it for the address that connections come from."},
    {"route.credentials", Text{ROUTE(credentials), check_optional_secret_path}, false, "none",
     "The file to log in to the next hop with: user and password, or how to get access tokens. With it "
     "tls is verify unless it is given, except for a next hop on loopback."},
    {"route.unverified_login", Flag{ROUTE(unverified_login)}, false, nullptr,
     "Whether the credentials may be used with a next hop whose certificate nobody verifies: whoever "
     "stands on the way gets them. Needed for tls = off, opportunistic or require."},

    {"site.match", TextList{SITE(match), check_site_pattern, true}, true, nullptr,
     "Which sites: those that serve a domain, or .domain for all below it; or mx:host, mx:.domain for those all of whose mail "
     "hosts, or the next hop of a route, are called so; or a provider by the names of its hosts: apple, comcast, fastmail, gmx, google, mailru, "
     "microsoft, mimecast, orange, ovh, proofpoint, proton, qq, tonline, yahoo, yandex, zoho."},
    {"site.connections", Number{SITE(connections), 0, 1000}, false, nullptr,
     "The most connections at one time; 0 for delivery.site_connections."},
    {"site.rate", Text{SITE(rate), check_rate}, false, "as the site takes them",
     "The most messages in a time: a number by s, m, h or d, as in \"100/m\"."},
    {"site.per_connection", Number{SITE(per_connection), 0, 100000}, false, nullptr,
     "The most messages over one connection; 0 for as many as the site takes."},
    {"site.source", TextList{SITE(source), check_weighted_address, true}, false, nullptr,
     "The addresses of this machine that connections come from, where the route names none: address or address*weight, by whose share they take turns; hosts are then reached by these families alone."},
    {"site.helo", Text{SITE(helo), check_host_name}, false, "the value of hostname",
     "The name that is said in EHLO, where the route names none."},
    {"site.family", CHOICE(kFamilies, sites[i].family), false, nullptr,
     "The kind of addresses that are used to reach it, among those that delivery.family allows."},

    {"events.name", Text{EVENTS(name), check_sink_name}, true, nullptr,
     "What the sink is called, in the log and in postrider status; its position is kept by it."},
    {"events.file", Text{EVENTS(file), check_optional_path}, false, "none",
     "A file of JSON lines, in a folder that the daemon's user may write to; it may be moved away or cut off at any time."},
    {"events.socket", Text{EVENTS(socket), check_optional_path}, false, "none",
     "The Unix socket of a program that takes batches of lines, each ended by an empty line, and answers ok. "
     "With broker: where the program for it listens, if not in its folder below /run."},
    {"events.webhook", Text{EVENTS(webhook), check_http_url}, false, "none",
     "Where batches are posted to; http:// only on loopback."},
    {"events.broker", Text{EVENTS(broker), check_broker_url}, false, "none",
     "A message broker: amqp://user@host:port/vhost, or so with amqp10, which is AMQP 1.0, and stomp, or kafka or mqtt without vhost; amqps:// and so on are with TLS, "
     "which is needed for another machine. postrider-amqp(8) and its like carry the events there."},
    {"events.password", Text{EVENTS(password), check_optional_secret_path}, false, "none",
     "The file of the user's password at the broker, one line; the program that carries the events must be able to read it and nobody else."},
    {"events.exchange", Text{EVENTS(exchange), check_topic}, false, "the default one",
     "AMQP 0.9.1: the exchange that gets the events; of the default one the topic is the name of a queue."},
    {"events.topic", Text{EVENTS(topic), check_topic}, false, "none",
     "Where events go at the broker, of AMQP the routing key, of AMQP 1.0 the address, of STOMP the destination; {type} stands for the type of the event, such as delivered."},
    {"events.secret", Text{EVENTS(secret), check_optional_secret_path}, false, "none",
     "The file of the keys that sign what a webhook gets, whsec_BASE64, one a line; nobody else may read it."},
    {"events.types", TextList{EVENTS(types), check_event_type}, false, "all",
     "Which events the sink gets, by their types without postrider."},
    {"events.domains", TextList{EVENTS(domains), check_domain_pattern}, false, "all",
     "Only events with a recipient in one of these domains; .domain for all below it."},
    {"events.senders", TextList{EVENTS(senders), check_event_sender}, false, "all",
     "Only events with one of these envelope senders: an address, @domain, or <> for the null sender."},
    {"events.tags", TextList{EVENTS(tags), check_one_line}, false, "all",
     "Only events whose message has one of these references (ENVID); with * at its end, all that begin so."},
    {"events.fields", TextList{EVENTS(fields), check_event_field}, false, "all",
     "Which members of data the sink gets; what an event is about is always there."},
    {"events.privacy", CHOICE(kPrivacies, events[i].privacy), false, nullptr,
     "How much of addresses the sink gets: none hides nothing, with domains the local part is *, in replies of servers too."},
    {"events.batch", Number{EVENTS(batch), 1, 1000}, false, nullptr,
     "The most events at a time."},
    {"events.timeout", Time{EVENTS(timeout), seconds(1), minutes(5)}, false, nullptr,
     "How long a socket, a webhook or a broker may take to answer; then the batch is tried again later."},

    {"requests.name", Text{REQUESTS(name), check_source_name}, true, nullptr,
     "Who asks for the mail: named as the user in the log, with the limits of a user."},
    {"requests.broker", Text{REQUESTS(broker), check_broker_url}, true, nullptr,
     "The message broker, as events.broker has it. The program that carries events there takes requests, too."},
    {"requests.password", Text{REQUESTS(password), check_optional_secret_path}, false, "none",
     "The file of the user's password at the broker, as events.password."},
    {"requests.source", Text{REQUESTS(source), check_source}, true, nullptr,
     "Where the requests are at the broker: the queue, of AMQP 1.0 the address, of STOMP the destination, of Kafka the topic, of MQTT a topic or a filter with + and #."},
    {"requests.refused", Text{REQUESTS(refused), check_topic}, false, "none",
     "Where the broker is told of a request that was refused, and why: the queue, destination or topic. Without it the log says so."},
    {"requests.connections", Number{REQUESTS(connections), 1, 16}, false, nullptr,
     "How many requests are worked on at a time, each from a connection of its own; of MQTT one."},

    {"outbox.size", Size{AT(outbox.size), kMiB, 65536 * kMiB}, false, nullptr,
     "The most that waits for sinks; beyond it the oldest events are lost, which is counted."},
    {"outbox.age", Time{AT(outbox.age), minutes(1), days(365)}, false, nullptr,
     "How long events wait for a sink that does not take them; then they are lost, which is counted."},
    {"outbox.keep", Time{AT(outbox.keep), seconds(0), days(365)}, false, nullptr,
     "How long events stay that all sinks have taken, for postrider events, if there is room."},

    {"trace.keep", Time{AT(trace.keep), seconds(0), days(365)}, false, nullptr,
     "How long it is remembered what became of mail, for postrider trace; 0: it is not."},
    {"trace.size", Size{AT(trace.size), 8 * kMiB, 65536 * kMiB}, false, nullptr,
     "The most that this takes on the disk; then the oldest goes."},

    {"dns.servers", TextList{AT(dns.servers), check_server}, false, "those of /etc/resolv.conf",
     "The resolvers to ask, in order of preference; a port may be given."},
    {"dns.trust_ad", OptionalFlag{AT(dns.trust_ad)}, false, "only if all servers are on loopback",
     "Whether the resolvers' word is taken for what DNSSEC has proved."},

    {"delivery.route_map", TextList{AT(delivery.route_map), check_table, true}, false, nullptr,
     "Tables of next hops as in route.next_hop, which come before routes: for user@domain, domain, .domain or *. A next hop that a [[route]] without from has, too, is that route, with its TLS, credentials, source and helo."},
    {"delivery.port", Number{AT(delivery.port), 1, 65535}, false, nullptr,
     "The port of MX hosts."},
    {"delivery.lifetime", Time{AT(delivery.lifetime), seconds(1), days(60)}, false, nullptr,
     "How long delivery is tried before the message goes back to its sender."},
    {"delivery.retry", TimeList{AT(delivery.retry), milliseconds(100), days(7)}, false, "by the reason of the last refusal",
     "The waits between attempts, whatever the reason; the last repeats. A wait that a host names in its refusal, of up to an "
     "hour, goes before, twice for a message."},
    {"delivery.retry_for", TextList{AT(delivery.retry_for), check_retry_rule}, false, "none",
     "The waits after refusals for one reason: its name, then durations, as in \"mailbox-full 1h 4h\"; the last repeats. "
     "The reasons are greylisted, rate, recipient-rate, connections, session-spent, recipients, mailbox-full, no-mailbox, "
     "policy, reputation, authentication, dns, network, tls, busy, too-big, protocol and our-fault."},
    {"delivery.delay_notice", Time{AT(delivery.delay_notice), seconds(0), days(60)}, false, nullptr,
     "When the sender is notified that a message still waits; 0s for never."},
    {"delivery.site_connections", Number{AT(delivery.site_connections), 1, 1000}, false, nullptr,
     "The most connections at one time to one set of MX hosts. How many of these are used is found by trying, from one on: "
     "as many as the site answers well and does not refuse."},
    {"delivery.connections", Number{AT(delivery.connections), 0, 100000}, false, nullptr,
     "The most connections at one time to other servers in all; 0 for a quarter of the descriptors that the "
     "daemon may have open, at most 1000. Sites that have not taken a message yet get at most half of them, "
     "and slow ones leave a quarter to others. While others wait, a connection on which a host is silent in the "
     "middle of a message gives up its place, after 2 seconds on a new site's first try, after 30 otherwise. It "
     "is not ended, since the host has answered and is slow, or may have the message: it is no longer counted, "
     "up to twice as many as this; only beyond that the oldest of them ends after two minutes."},
    {"delivery.tls_ca", Text{AT(delivery.tls_ca), check_optional_path}, false, "the system's",
     "The file with the certificates, in PEM, of those who may vouch for other servers."},
    {"delivery.connect_timeout", Time{AT(delivery.connect_timeout), seconds(1), minutes(10)}, false, nullptr,
     "How long one host may take to accept a connection."},
    {"delivery.idle", Time{AT(delivery.idle), seconds(0), minutes(5)}, false, nullptr,
     "How long an unused connection is kept for the next message."},
    {"delivery.family", CHOICE(kFamilies, delivery.family), false, nullptr,
     "The kind of addresses that are used to reach other servers."},
    {"delivery.double_bounces_to", Text{AT(delivery.double_bounces_to), check_optional_address}, false, nullptr,
     "Who gets a notice that could not be delivered and has no sender to go back to; empty for the log alone. In an hour there "
     "are ten at most. Those behind them are counted, and one digest tells of them when an hour has passed: how many, to which "
     "domains, and why. A notice that was for this address itself, or a digest, is never the cause of another."},

    {"mta_sts.enabled", Flag{AT(mta_sts.enabled)}, false, nullptr,
     "Whether the policies that domains publish by MTA-STS are fetched and honoured."},
    {"mta_sts.port", Number{AT(mta_sts.port), 1, 65535}, false, nullptr,
     "The port of policy hosts."},
    {"mta_sts.timeout", Time{AT(mta_sts.timeout), seconds(1), minutes(2)}, false, nullptr,
     "How long a policy host may take."},

    {"tls_report.enabled", Flag{AT(tls_report.enabled)}, false, nullptr,
     "Whether other domains are sent daily reports about TLS to their hosts; a contact is needed."},
    {"tls_report.contact", Text{AT(tls_report.contact), check_contact}, false, "none, so no reports",
     "The address that reports come from and that answers for them."},
    {"tls_report.organisation", Text{AT(tls_report.organisation), check_one_line}, false, "the host name",
     "Who reports, in words."},
    {"tls_report.delay", Time{AT(tls_report.delay), seconds(0), hours(20)}, false, nullptr,
     "Reports are sent at a random time within this after midnight UTC."},

    {"dmarc_report.enabled", Flag{AT(dmarc_report.enabled)}, false, nullptr,
     "Whether domains whose DMARC record asks for it (rua) are sent daily reports about mail in their name; a "
     "contact and authentication.dmarc are needed."},
    {"dmarc_report.contact", Text{AT(dmarc_report.contact), check_contact}, false, "none, so no reports",
     "The address that reports come from and that answers for them; mail for it alone is not reported on. Reports of a domain "
     "that does not pass DMARC itself are thrown away: it should sign with DKIM."},
    {"dmarc_report.organisation", Text{AT(dmarc_report.organisation), check_one_line}, false, "the host name",
     "Who reports, in words."},
    {"dmarc_report.delay", Time{AT(dmarc_report.delay), seconds(0), hours(20)}, false, nullptr,
     "Reports are sent at a random time within this after midnight UTC."},

    {"control.socket", Text{AT(control.socket), check_path}, false, nullptr,
     "The socket of administration, for root, the daemon's user and its group."},
    {"control.readers", Text{AT(control.readers), check_group}, false, "nobody",
     "A group whose members may ask at that socket, and change nothing: they see the queue, addresses too, but no content of mail. "
     "One that does not exist is refused by postrider check and a reload; a start goes on without, and warns."},
    {"control.submit", Text{AT(control.submit), check_path}, false, "submit beside control.socket",
     "The socket of sendmail, for every local user."},

    {"sandbox.read", TextList{AT(sandbox.read), check_path}, false, nullptr,
     "Further files and folders that the daemon may read, beside those that other keys name."},
    {"sandbox.core_dumps", Flag{AT(sandbox.core_dumps)}, false, nullptr,
     "A crash may leave a core dump, with mail, keys and passwords in it; for a search of a fault."},

    {"web.listen", TextList{AT(web.listen), check_listener}, false, "none, so it does not run",
     "Where postrider-web serves metrics, its API and its page: addresses of this machine, or unix:/path."},
    {"web.hosts", TextList{AT(web.hosts), check_host_name}, false, "none",
     "Further host names that requests to postrider-web may give, such as that of a proxy with TLS."},
    {"web.tokens", Text{AT(web.tokens), check_secret_path}, false, nullptr,
     "The file of the tokens that may use the API, made by postrider-web token."},
    {"web.metrics_need_token", Flag{AT(web.metrics_need_token)}, false, nullptr,
     "Whether /metrics needs a token, too."},
    {"web.request_size", Size{AT(web.request_size), 64 * kKiB, 64 * kMiB}, false, nullptr,
     "The largest request that sends mail (POST /api/v1/messages); attachments are in base64, a third larger than the files."},
    {"web.user", Text{AT(web.user), check_user}, false, nullptr,
     "Whom postrider-web becomes if root starts it, a member of the group of user; empty: it stays root."},
    {"web.pam", Text{AT(web.pam), check_pam_service}, false, "none, so tokens alone",
     "The PAM service that judges the passwords of users of this system who log in to the page, such as \"postrider\"; the daemon's postrider-pam asks it."},
    {"web.pam_read", TextList{AT(web.pam_read), check_user_or_group, true}, false, nullptr,
     "The users of this system, and with @ before them the groups, that may log in to read."},
    {"web.pam_change", TextList{AT(web.pam_change), check_user_or_group, true}, false, nullptr,
     "Those that may log in to change the queue too, as one who has a token of this role."},
};

std::size_t one(const Config&) { return 1; }
void nothing(Config&) {}
std::size_t listeners(const Config& config) { return config.listeners.size(); }
void add_listener(Config& config) { config.listeners.emplace_back(); }
std::size_t milters(const Config& config) { return config.milters.size(); }
void add_milter(Config& config) { config.milters.emplace_back(); }
std::size_t header_checks(const Config& config) { return config.header_checks.size(); }
void add_header_check(Config& config) { config.header_checks.emplace_back(); }
std::size_t routes(const Config& config) { return config.routes.size(); }
void add_route(Config& config) { config.routes.emplace_back(); }
std::size_t sites(const Config& config) { return config.sites.size(); }
void add_site(Config& config) { config.sites.emplace_back(); }
std::size_t event_sinks(const Config& config) { return config.events.size(); }
void add_event_sink(Config& config) { config.events.emplace_back(); }
std::size_t request_sources(const Config& config) { return config.requests.size(); }
void add_request_source(Config& config) { config.requests.emplace_back(); }

constexpr Section kSections[] = {
    {"", false, one, nothing, "What concerns everything."},
    {"log", false, one, nothing, "What is logged, and where."},
    {"listener", true, listeners, add_listener, "One for each address that takes mail; none is needed for mail from this machine alone."},
    {"tls", false, one, nothing, "The certificates of the listeners."},
    {"accept", false, one, nothing, "What is accepted, from whom and for whom."},
    {"checks", false, one, nothing, "Which clients may hand in mail: strangers on listeners of the role mx."},
    {"authentication", false, one, nothing, "Whether mail of strangers is from whom it says: SPF, DKIM, DMARC and ARC."},
    {"auth", false, one, nothing, "Who can log in to submit mail, and how much they may send."},
    {"sendmail", false, one, nothing, "How much local users may send by sendmail."},
    {"local", false, one, nothing, "Mail that is delivered on this machine."},
    {"rewrite", false, one, nothing, "How addresses are changed when mail is taken."},
    {"dkim", false, one, nothing, "How mail is signed (DKIM)."},
    {"milter", true, milters, add_milter, "Programs that look at mail before it is taken, may change it, and have a say: milters, in this order."},
    {"header_check", true, header_checks, add_header_check, "Patterns on header fields, in this order; a message that they cannot judge in time is asked for again later (451). One with a field of more than 100 KiB, or with parts nested more than 100 deep where patterns look at those, is refused."},
    {"route", true, routes, add_route, "Where other mail goes: the first route that matches, otherwise the domain's MX hosts."},
    {"site", true, sites, add_site, "What is known better of a set of mail hosts than can be found by trying; none is needed, and the first that matches counts."},
    {"events", true, event_sinks, add_event_sink, "Sinks of events: programs that hear what becomes of mail (postrider-events(7))."},
    {"requests", true, request_sources, add_request_source, "Message brokers at which applications ask for mail (postrider-requests(7))."},
    {"outbox", false, one, nothing, "Where events wait for their sinks."},
    {"trace", false, one, nothing, "What is remembered of mail that is gone."},
    {"dns", false, one, nothing, "How names are looked up."},
    {"delivery", false, one, nothing, "How mail is sent on."},
    {"mta_sts", false, one, nothing, "Policies of recipient domains (RFC 8461)."},
    {"tls_report", false, one, nothing, "Daily reports to recipient domains about TLS (RFC 8460)."},
    {"dmarc_report", false, one, nothing, "Daily reports to the domains that mail says to be from, about DMARC (RFC 9990)."},
    {"control", false, one, nothing, "The local sockets."},
    {"sandbox", false, one, nothing, "What the daemon may reach besides what it needs."},
    {"web", false, one, nothing, "Metrics and a page, by postrider-web, which is a service of its own."},
};
// clang-format on

std::string quoted(std::string_view text) {
  // As a TOML basic string: what is not printable ASCII stays if it is valid UTF-8.
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\')
      out.push_back('\\');
    if (byte < 0x20 || byte == 0x7f) {
      constexpr const char* kHex = "0123456789ABCDEF";
      out.append("\\u00").append(1, kHex[byte >> 4U]).append(1, kHex[byte & 15U]);
      continue;
    }
    out.push_back(c);
  }
  return out.append("\"");
}

template <class Items, class Format>
std::string list_text(const Items& items, Format format) {
  std::string out = "[";
  for (const auto& item : items)
    out.append(out.size() > 1 ? ", " : "").append(format(item));
  return out.append("]");
}

std::string join(std::span<const char* const> names) {
  std::string out;
  for (std::size_t i = 0; i < names.size(); ++i)
    out.append(i == 0 ? "" : i + 1 == names.size() ? " or " : ", ").append(quoted(names[i]));
  return out;
}

struct Allowed {
  std::string operator()(const Text&) const { return "a text in quotes"; }
  std::string operator()(const TextList& o) const {
    return o.may_be_one ? "a text in quotes or a list of them" : "a list of texts in quotes";
  }
  std::string operator()(const Flag&) const { return "true or false"; }
  std::string operator()(const OptionalFlag&) const { return "true or false"; }
  std::string operator()(const Number& n) const {
    return "a whole number from " + std::to_string(n.least) + " to " + std::to_string(n.most);
  }
  std::string operator()(const Size& s) const {
    return "a size from " + quoted(format_size(s.least)) + " to " + quoted(format_size(s.most));
  }
  std::string operator()(const Time& t) const {
    return "a duration from " + quoted(format_duration(t.least)) + " to " +
           quoted(format_duration(t.most));
  }
  std::string operator()(const TimeList& t) const {
    return "a list of durations from " + quoted(format_duration(t.least)) + " to " +
           quoted(format_duration(t.most));
  }
  std::string operator()(const Choice& c) const { return join(c.names); }
};

struct ValueText {
  Config& config;
  std::size_t index;
  std::string operator()(const Text& o) const { return quoted(o.member(config, index)); }
  std::string operator()(const TextList& o) const {
    return list_text(o.member(config, index), quoted);
  }
  std::string operator()(const Flag& o) const { return o.member(config, index) ? "true" : "false"; }
  std::string operator()(const OptionalFlag& o) const {
    const auto value = o.member(config, index);
    return !value ? "" : *value ? "true" : "false";
  }
  std::string operator()(const Number& o) const { return std::to_string(o.member(config, index)); }
  std::string operator()(const Size& o) const {
    return quoted(format_size(o.member(config, index)));
  }
  std::string operator()(const Time& o) const {
    return quoted(format_duration(o.member(config, index)));
  }
  std::string operator()(const TimeList& o) const {
    const auto& values = o.member(config, index);
    return values.empty()
               ? ""
               : list_text(values, [](Duration d) { return quoted(format_duration(d)); });
  }
  std::string operator()(const Choice& o) const { return quoted(o.names[o.get(config, index)]); }
};

}  // namespace

std::span<const Option> options() {
  return kOptions;
}

std::span<const Section> sections() {
  return kSections;
}

const Option* find_option(std::string_view key) {
  const auto* found = std::find_if(std::begin(kOptions), std::end(kOptions),
                                   [&](const Option& option) { return key == option.key; });
  return found == std::end(kOptions) ? nullptr : found;
}

const Section* find_section(std::string_view name) {
  const auto* found = std::find_if(std::begin(kSections), std::end(kSections),
                                   [&](const Section& section) { return name == section.name; });
  return found == std::end(kSections) ? nullptr : found;
}

std::string_view section_of(const Option& option) {
  const std::string_view key = option.key;
  const auto dot = key.find('.');
  return dot == std::string_view::npos ? std::string_view() : key.substr(0, dot);
}

std::string_view name_in_section(const Option& option) {
  const std::string_view key = option.key;
  return key.substr(key.find('.') == std::string_view::npos ? 0 : key.find('.') + 1);
}

std::string allowed(const Option& option) {
  return std::visit(Allowed{}, option.value);
}

std::string value_text(const Option& option, const Config& config, std::size_t index) {
  // The members are reached through one function for reading and writing; this only reads.
  return std::visit(ValueText{const_cast<Config&>(config), index}, option.value);
}

}  // namespace postrider::daemon
