#include "daemon/config/values.h"

#include "events/broker_url.h"
#include "events/event_fields.h"

#include "base/escaped_text.h"
#include "base/expected.h"
#include "base/network.h"
#include "base/quoted.h"
#include "base/text.h"
#include "base/url.h"
#include "delivery/local/agents/mailbox_pattern.h"
#include "delivery/routing/route.h"
#include "delivery/scheduler/operator_words.h"
#include "dns/name_server.h"
#include "mail/address.h"
#include "mailauth/dns_list.h"
#include "smtpd/filter/copies.h"
#include "smtpd/filter/header_checks.h"
#include "smtpd/filter/milter_client.h"
#include "tables/table.h"
#include "tables/table_files.h"

#include <algorithm>
#include <sys/un.h>

namespace postrider::daemon {

namespace {

constexpr std::size_t kMostPath = 4000;

std::string wrong(std::string_view text, std::string_view why, std::string_view expected) {
  return but_expected(quote_value(text, 80) + " " + std::string(why), expected);
}

bool is_domain(std::string_view text) {
  return !IpAddress::parse(text) && mail::to_ascii_domain(text);
}

bool is_port(std::string_view text, unsigned least) {
  const auto port = parse_unsigned(text);
  return port && *port >= least && *port <= 65535;
}

bool is_address(std::string_view text, unsigned width) {
  const auto address = IpAddress::parse(text);
  return address && address->width() == width;
}

// "192.0.2.1:25" or "[2001:db8::1]:25"; port 0 lets the system choose.
bool is_address_and_port(std::string_view text) {
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos || !is_port(text.substr(colon + 1), 0))
    return false;
  const auto host = text.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']')
    return is_address(host.substr(1, host.size() - 2), 128);
  return is_address(host, 32);
}

// What needs no escape where it stands between quotes.
bool is_plain(std::string_view text) {
  std::string value;
  append_escaped_value(text, value, text.size());
  return value == text;
}

bool is_path(std::string_view text) {
  // Two slashes begin what is behind the scheme of a URL.
  if (text.size() < 2 || text.size() > kMostPath || text.front() != '/' || text[1] == '/')
    return false;
  if (!is_utf8(text) || !is_plain(text))
    return false;  // a path with controls or quotes in it is a mistake
  const auto parts = split(text, '/');
  return std::none_of(parts.begin(), parts.end(),
                      [](std::string_view part) { return part == ".." || part == "."; });
}

// Of a user or a group, or empty.
bool is_login_name(std::string_view text) {
  constexpr std::size_t kMost = 32;
  return text.size() <= kMost && !text.starts_with('-') &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '-' || c == '_' || c == '.';
         });
}

bool is_short_name(std::string_view text) {
  return !text.empty() && text.size() <= 32 && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
  });
}

}  // namespace

std::vector<std::string> listener_addresses(const std::string& configured) {
  constexpr struct {
    std::string_view name;
    const char* v4;
    const char* v6;
  } kNames[] = {{"localhost:", "127.0.0.1:", "[::1]:"}, {"*:", "0.0.0.0:", "[::]:"}};
  for (const auto& row : kNames)
    if (starts_with_ignoring_case(configured, row.name)) {
      const auto port = configured.substr(row.name.size());
      return {row.v4 + port, row.v6 + port};
    }
  return {configured};
}

std::string check_host_name(std::string_view text) {
  if (mail::is_host_name(text) && !IpAddress::parse(text))
    return {};
  return wrong(text, "is not a host name", "a name such as \"mx.example.org\"");
}

std::string check_domain(std::string_view text) {
  if (is_domain(text))
    return {};
  return wrong(text, "is not a domain", "a name such as \"example.org\"");
}

std::string check_local_domain(std::string_view text) {
  if (is_domain(text) || text == kHostnameDomain || text == kOriginDomain)
    return {};
  return wrong(text, "is not a domain",
               "a name such as \"example.org\", \"{hostname}\" or \"{origin}\"");
}

std::string check_origin(std::string_view text) {
  if (check_host_name(text).empty() || is_path(text))
    return {};
  return wrong(text, "is neither a domain nor a file",
               "a name such as \"example.org\" or an absolute path");
}

std::string check_domain_pattern(std::string_view text) {
  const auto name = text.starts_with('.') ? text.substr(1) : text;
  if (is_domain(name))
    return {};
  return wrong(text, "is not a domain",
               "a name such as \"example.org\", or \".example.org\" for all below it");
}

std::string check_route_domain(std::string_view text) {
  if (text == "*" || check_domain_pattern(text).empty())
    return {};
  return wrong(text, "matches no domain",
               "a domain such as \"example.org\", \".example.org\" for all below it, or \"*\"");
}

std::string check_site_pattern(std::string_view text) {
  const auto name = text.starts_with("mx:") ? text.substr(3) : text;
  if (check_domain_pattern(name).empty() || (name != text && IpAddress::parse(name)))
    return {};
  return wrong(text, "matches no site",
               "a domain such as \"example.org\", \".example.org\" for all below it, or either of "
               "mail hosts behind \"mx:\"");
}

std::string check_rate(std::string_view text) {
  if (text.empty() || scheduler::parse_rate(text))
    return {};
  return wrong(text, "is not a rate",
               "a number from 1 to 1000000 by s, m, h or d, as in \"100/m\"");
}

std::string check_retry_rule(std::string_view text) {
  if (scheduler::parse_retry_rule(text))
    return {};
  return wrong(text, "is not a schedule of retries",
               "a reason and at most 20 durations from 100ms to 7d, as in \"mailbox-full 1h 4h\"");
}

std::string check_route_sender(std::string_view text) {
  const bool is_whole = text.find('@') != text.npos;
  if (text == "<>" ||
      (is_whole ? check_optional_address(text) : check_domain_pattern(text)).empty())
    return {};
  return wrong(
      text, "is not a sender",
      "an address, a domain such as \"example.org\", \".example.org\" for all below it, or "
      "\"<>\"");
}

std::string check_address(std::string_view text) {
  if (IpAddress::parse(text))
    return {};
  return wrong(text, "is not an address", "\"192.0.2.1\" or \"2001:db8::1\"");
}

std::string check_weighted_address(std::string_view text) {
  if (scheduler::parse_site_source(text))
    return {};
  return wrong(text, "is not an address with a weight",
               "\"192.0.2.1\", or \"192.0.2.1*3\" with a weight from 1 to 1000");
}

std::string check_fingerprint(std::string_view text) {
  constexpr std::size_t kDigits = 64;
  std::string digits(text);
  std::erase(digits, ':');
  if (digits.size() == kDigits &&
      digits.find_first_not_of("0123456789abcdefABCDEF") == std::string::npos)
    return {};
  return wrong(text, "is not a fingerprint",
               "64 hexadecimal digits as `openssl x509 -fingerprint -sha256` gives");
}

std::string check_network(std::string_view text) {
  if (Network::parse(text))
    return {};
  return wrong(text, "is not a network",
               "an address or a prefix such as \"192.0.2.0/24\" or \"2001:db8::/32\"");
}

std::string check_listener(std::string_view text) {
  constexpr std::string_view kUnix = "unix:";
  constexpr std::string_view kSystemd = "systemd:";
  if (text.starts_with(kUnix)) {
    const auto path = text.substr(kUnix.size());
    if (is_path(path) && path.size() < sizeof(sockaddr_un::sun_path))
      return {};
  } else if (text.starts_with(kSystemd)) {
    const auto name = text.substr(kSystemd.size());
    if (!name.empty() && name.size() < 256 && name.find(':') == std::string_view::npos &&
        is_plain(name))
      return {};
  } else if (is_address_and_port(listener_addresses(std::string(text)).front())) {
    return {};
  }
  return wrong(text, "is not a place to listen",
               "\"localhost:25\", \"*:25\", \"192.0.2.1:25\", \"[2001:db8::1]:25\", "
               "\"unix:/path\" or \"systemd:name\"");
}

std::string check_server(std::string_view text) {
  if (const auto server = dns::parse_server(text); server && server->port != 0)
    return {};
  return wrong(text, "is not the address of a server",
               "\"127.0.0.1\", \"127.0.0.1:53\", \"::1\" or \"[::1]:53\"");
}

std::string check_path(std::string_view text) {
  if (is_path(text))
    return {};
  return wrong(text, "is not an absolute path", "a path that begins with / and has no ..");
}

std::string check_optional_path(std::string_view text) {
  return text.empty() ? std::string() : check_path(text);
}

std::string check_secret_path(std::string_view text) {
  return is_path(text) ? std::string()
                       : but_expected("is not the path of a file",
                                      "one that begins with /, of the file that the secret is in");
}

std::string check_optional_secret_path(std::string_view text) {
  return text.empty() ? std::string() : check_secret_path(text);
}

std::string check_any(std::string_view text) {
  const bool is_clean = std::none_of(text.begin(), text.end(), [](char c) { return c < ' '; });
  return is_clean ? std::string() : wrong(text, "holds controls", "a text without them");
}

std::string check_mechanism(std::string_view text) {
  for (const char* known : {"PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "OAUTHBEARER",
                            "XOAUTH2", "EXTERNAL"})
    if (text == known)
      return {};
  return wrong(text, "is not a mechanism",
               "PLAIN, LOGIN, SCRAM-SHA-256, SCRAM-SHA-256-PLUS, OAUTHBEARER, XOAUTH2 or EXTERNAL");
}

std::string check_pam_service(std::string_view text) {
  constexpr auto kLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
  if (text.size() <= 64 && text.find_first_not_of(kLetters) == std::string_view::npos)
    return {};
  return wrong(text, "is not a service", "letters, digits, - and _ alone");
}

std::string check_http_url(std::string_view text) {
  if (text.empty() || parse_http_url(text))
    return {};
  return wrong(text, "is not a URL of that kind",
               "https://host:port/path or http://host:port/path");
}

std::string check_claim(std::string_view text) {
  if (!text.empty() && text.size() <= 64 && check_any(text).empty())
    return {};
  return wrong(text, "names no claim", "\"email\", \"sub\", \"username\" and the like");
}

std::string check_log_target(std::string_view text) {
  if (text == "stderr" || text == "syslog" || is_path(text))
    return {};
  return wrong(text, "is not a place for a log",
               "\"stderr\", \"syslog\" or the absolute path of a file");
}

std::string check_user(std::string_view text) {
  return is_login_name(text)
             ? std::string()
             : wrong(text, "is not a user's name", "a login name of this system or \"\"");
}

std::string check_group(std::string_view text) {
  return is_login_name(text)
             ? std::string()
             : wrong(text, "is not a group's name", "a name of a group of this system or \"\"");
}

std::string check_user_or_group(std::string_view text) {
  const auto name = text.substr(text.starts_with('@') ? 1 : 0);
  return !name.empty() && is_login_name(name)
             ? std::string()
             : wrong(text, "is neither a user's name nor a group's",
                     "a login name of this system, or @ and the name of a group");
}

std::string check_mailbox(std::string_view text) {
  const bool is_file = text.starts_with("maildir:") || text.starts_with("mbox:");
  const bool names_user =
      text.find("{user}") != text.npos || text.find("{local}") != text.npos || !is_file;
  if (names_user && delivery::check_pattern(text))
    return {};
  const bool is_lmtp = text.starts_with("lmtp:");
  return wrong(is_lmtp ? delivery::without_login(text) : std::string(text), "is not a mailbox",
               "\"maildir:\" or \"mbox:\" and an absolute path with {user} in it, "
               "\"lmtp:unix:/path\", \"lmtp:host:port\", or \"command:\" and a program with its "
               "arguments");
}

std::string check_table(std::string_view text) {
  const auto spec = tables::parse_spec(text);
  if (!spec)
    return wrong(text, "is not a table", spec.error().step());
  if (spec->kind == tables::Kind::inlined)
    if (const auto table = tables::open_table(*spec, {}); !table)
      return quote_value(text, 80) + " is not a table: " + table.error().step();
  return {};
}

std::vector<std::string> further_files_of_table(std::string_view text) {
  const auto spec = tables::parse_spec(text);
  return spec ? tables::further_files(*spec) : std::vector<std::string>();
}

std::string check_aliases(std::string_view text) {
  return text.empty() ? std::string() : check_table(text);
}

std::string check_separator(std::string_view text) {
  if (text.size() <= 4 && text.find_first_not_of("+-_=.#") == text.npos)
    return {};
  return wrong(text, "is not a separator", "at most four of + - _ = . #");
}

std::string check_file_name(std::string_view text) {
  const bool fits = text.size() <= 64 && text != "." && text != ".." &&
                    std::all_of(text.begin(), text.end(), [](char c) {
                      return static_cast<unsigned char>(c) > 0x20 && c != '/' && c != 0x7f;
                    });
  return fits ? std::string() : wrong(text, "is not a file name", "a name without \"/\"");
}

std::string check_local_name(std::string_view text) {
  if (!text.empty() && text.size() <= 64 && text.find('@') == text.npos &&
      mail::quoted_local_part(text) == text)
    return {};
  return wrong(text, "is not a name of a user", "the part before the @");
}

std::string check_signing_key(std::string_view text) {
  const auto parts = split(text, ':');
  if (parts.size() == 3 && is_domain(parts[0]) && mail::is_dns_name(parts[1]) && is_path(parts[2]))
    return {};
  return wrong(text, "names no key",
               "\"domain:selector:/path\" as in \"example.org:s1:/etc/postrider/s1.pem\"");
}

std::string check_signing_role(std::string_view text) {
  for (const char* known : {"submission", "sendmail", "relay_from", "notices"})
    if (text == known)
      return {};
  return wrong(text, "is not a kind of mail", "submission, sendmail, relay_from or notices");
}

std::string check_dns_list(std::string_view text) {
  if (mailauth::DnsList::parse(text))
    return {};
  return wrong(text, "is not a list", "zone, zone*weight or zone=127.0.0.[2..11]*weight");
}

std::string check_milter(std::string_view text) {
  const auto address = smtpd::filter::milter::Address::parse(text);
  if (address)
    return {};
  return wrong(text, "is not an address of a milter",
               "\"127.0.0.1:8891\", \"[::1]:8891\", \"/path\", \"inet:8891@127.0.0.1\" or "
               "\"unix:/path\"");
}

std::string check_milter_mail(std::string_view text) {
  if (text == "mx" || text == "submission" || text == "sendmail")
    return {};
  return wrong(text, "is not a kind of mail", "mx, submission or sendmail");
}

std::string check_macro(std::string_view text) {
  constexpr std::size_t kMost = 500;
  const auto sign = text.find('=');
  const auto name = text.substr(0, sign);
  if (sign != std::string_view::npos && !name.empty() && text.size() <= kMost && is_plain(text) &&
      name.find(' ') == std::string_view::npos)
    return {};
  return wrong(text, "is not a macro", "name=value of printable characters");
}

// What others on the way add, change or take away must not be signed (RFC 6376 §5.4.1, RFC 8601
// §5).
std::string check_signed_field(std::string_view text) {
  for (const char* changing :
       {"Return-Path", "Received", "Authentication-Results", "DKIM-Signature", "ARC-Seal",
        "ARC-Message-Signature", "ARC-Authentication-Results", "Bcc"})
    if (equals_ignoring_case(text, changing))
      return wrong(text, "is changed on the way", "a field that stays as it is");
  const bool is_field =
      !text.empty() && text.size() <= 100 && std::all_of(text.begin(), text.end(), [](char c) {
        return c > ' ' && c < 0x7f && c != ':' && c != ';';
      });
  return is_field ? std::string()
                  : wrong(text, "is not a name of a header field",
                          "a name such as \"Subject\", without a colon");
}

std::string check_next_hop(std::string_view text) {
  if (delivery::parse_next_hop(text))
    return {};
  return wrong(text, "is not a next hop",
               "\"mx\", \"smtp://host:port\", \"smtps://host:port\", \"lmtp://host:port\", "
               "\"lmtp:///path\", \"error:text\" or \"discard:\"");
}

std::string check_filter_hop(std::string_view text) {
  using Kind = delivery::NextHop::Kind;
  if (text.empty())
    return {};
  const auto hop = delivery::parse_next_hop(text);
  if (hop && (hop->kind == Kind::smtp || hop->kind == Kind::smtps || hop->kind == Kind::lmtp))
    return {};
  return wrong(text, "is not a host that takes mail",
               "\"smtp://host:port\", \"smtps://host:port\" or \"lmtp://host:port\"");
}

std::string check_copy_address(std::string_view text) {
  return smtpd::filter::check_copy_value(text).empty() && text.find(',') == text.npos
             ? std::string()
             : wrong(text, "is not an address", "one such as \"archive@example.org\"");
}

std::string check_optional_address(std::string_view text) {
  if (text.empty())
    return {};
  const auto at = text.rfind('@');
  const auto local_part = text.substr(0, at);
  const bool domain_fits = at == std::string_view::npos || is_domain(text.substr(at + 1));
  const bool local_fits = !local_part.empty() && local_part.size() <= 64 && is_plain(local_part) &&
                          local_part.find_first_of(" <>()[]\\,;:@\"") == std::string_view::npos;
  if (local_fits && domain_fits)
    return {};
  return wrong(text, "is not an address", "\"postmaster\", \"user@example.org\" or \"\"");
}

std::string check_contact(std::string_view text) {
  const bool is_whole = text.empty() || (text.find('@') != text.npos && is_ascii(text));
  if (is_whole && check_optional_address(text).empty())
    return {};
  return wrong(text, "is not an address", "\"user@example.org\" or \"\"");
}

std::string check_pattern(std::string_view text) {
  const auto rule = smtpd::filter::parse_header_rule(text, "discard", false);
  return rule ? std::string()
              : wrong(text, "is not a pattern: " + rule.error().step(),
                      "\"/pattern/\" with flags i, m, s, x, A or U behind it");
}

std::string check_header_action(std::string_view text) {
  const auto rule = smtpd::filter::parse_header_rule("/x/", text, false);
  return rule ? std::string()
              : wrong(text, "cannot be done: " + rule.error().step(),
                      "\"reject TEXT\", \"hold TEXT\", \"discard\", \"warn TEXT\", \"strip\" or "
                      "\"prepend NAME: VALUE\"");
}

std::string check_one_line(std::string_view text) {
  if (text.size() <= 200 && is_utf8(text) && text.find_first_of("\r\n\t") == text.npos)
    return {};
  return wrong(text, "is too long or not one line", "a line of at most 200 octets");
}

std::string check_sink_name(std::string_view text) {
  return is_short_name(text) ? ""
                             : wrong(text, "names no sink", "at most 32 letters, digits, - and _");
}

std::string check_source_name(std::string_view text) {
  return is_short_name(text)
             ? ""
             : wrong(text, "names no source of requests", "at most 32 letters, digits, - and _");
}

std::string check_event_type(std::string_view text) {
  if (events::parse_kind(text))
    return {};
  std::string names;
  for (std::size_t i = 0; i < events::kKinds; ++i)
    names.append(i == 0                    ? ""
                 : i + 1 == events::kKinds ? " or "
                                           : ", ")
        .append(events::name_of(static_cast<events::Kind>(i)));
  return wrong(text, "is not a type of event", names);
}

std::string check_broker_url(std::string_view text) {
  if (text.empty() || events::parse_broker_url(text))
    return {};
  return wrong(
      text, "is not the URL of a broker",
      "amqp://user@host:port without a password, or so with amqp10, kafka, mqtt or stomp, or "
      "one of these with an s for TLS");
}

std::string check_topic(std::string_view text) {
  constexpr std::size_t kMost = 200;  // AMQP has 255 octets, with what {type} stands for
  const bool is_right =
      text.size() <= kMost && is_utf8(text) && std::none_of(text.begin(), text.end(), [](char c) {
        return static_cast<unsigned char>(c) < ' ' || c == '\x7f';
      });
  return is_right ? "" : wrong(text, "is not a name at a broker", "at most 200 octets");
}

std::string check_source(std::string_view text) {
  return text.empty() ? wrong(text, "names nothing at a broker", "1 to 200 octets")
                      : check_topic(text);
}

std::string check_event_field(std::string_view text) {
  if (text == events::kFrom || events::find_field(text) != nullptr)
    return {};
  return wrong(text, "is not a field of an event", "a name of postrider-events(7)");
}

std::string check_event_sender(std::string_view text) {
  if (text == "<>")
    return {};
  const auto at = text.rfind('@');
  if (at != std::string_view::npos && check_domain(text.substr(at + 1)).empty())
    return {};
  return wrong(text, "is not a sender", "user@domain, @domain or <>");
}

}  // namespace postrider::daemon
