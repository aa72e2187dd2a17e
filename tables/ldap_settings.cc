#include "tables/ldap_settings.h"

#include "base/quoted.h"
#include "base/text.h"
#include "tables/key_template.h"

#include <algorithm>
#include <optional>

namespace postrider::tables {

namespace {

constexpr std::string_view kClear = "ldap://", kTls = "ldaps://", kUnix = "ldapi://";

struct Url {
  std::string_view scheme;
  std::string host;  // of ldapi the path
  std::string port;
};

// No DN, filter or attributes: these are settings of their own.
std::optional<Url> parse_url(std::string_view text) {
  Url url;
  for (const auto scheme : {kClear, kTls, kUnix})
    if (text.starts_with(scheme))
      url.scheme = scheme;
  if (url.scheme.empty() || text.find_first_of(" ,?\\\"<>%@") != text.npos)
    return std::nullopt;
  text.remove_prefix(url.scheme.size());
  if (url.scheme == kUnix) {
    url.host = text;
    return text.starts_with('/') && text.size() > 1 ? std::optional(url) : std::nullopt;
  }
  if (text.ends_with('/'))
    text.remove_suffix(1);
  if (const auto colon = text.rfind(':'); colon != text.npos && !text.ends_with(']')) {
    const auto port = parse_unsigned(text.substr(colon + 1));
    if (!port || *port == 0 || *port > 65535)
      return std::nullopt;
    url.port = text.substr(colon);
    text = text.substr(0, colon);
  }
  url.host = text;
  const bool is_bracketed = text.starts_with('[') && text.ends_with(']');
  if (text.empty() || text.find('/') != text.npos ||
      (!is_bracketed && text.find_first_of(":[]") != text.npos))
    return std::nullopt;
  return url;
}

std::string check_server(std::string_view text) {
  return parse_url(text) ? std::string()
                         : quote_value(text, 80) +
                               " is not a server; expected \"ldap://host\", \"ldaps://host\" "
                               "or \"ldapi:///path\"";
}

std::string check_filter(std::string_view text) {
  if (auto problem = check_key_template(text); !problem.empty())
    return problem;
  int depth = 0;
  bool is_one = text.starts_with('(') && text.ends_with(')');
  for (std::size_t at = 0; at < text.size(); ++at) {
    depth += text[at] == '(' ? 1 : text[at] == ')' ? -1 : 0;
    is_one = is_one && (depth > 0 || at + 1 == text.size());
  }
  const bool uses_key = text.find("%s") != text.npos || text.find("%u") != text.npos;
  if (is_one && depth == 0 && (uses_key || text.find("%d") != text.npos))
    return {};
  return quote_value(text, 80) +
         " is not a filter for a key; expected one in parentheses such as \"(mail=%s)\"";
}

std::string check_attribute(std::string_view text) {
  const bool fits = !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == ';' || c == '.';
  });
  return fits ? std::string()
              : quote_value(text, 80) + " is not an attribute; expected one such as \"mail\"";
}

std::string check_scope(std::string_view text) {
  return text == "sub" || text == "one" || text == "base"
             ? std::string()
             : quote_value(text, 40) + " is not allowed; expected \"sub\", \"one\" or \"base\"";
}

constexpr char kDigits[] = "0123456789ABCDEF";

std::string hex(char mark, char c) {
  const auto octet = static_cast<unsigned char>(c);
  return {mark, kDigits[octet >> 4U], kDigits[octet & 15U]};
}

bool is_plain(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("-_.@").find(c) != std::string_view::npos;
}

// What is not plain as "\XX", which both grammars take for any octet.
std::string escape(std::string_view part) {
  std::string out;
  for (const char c : part)
    out.append(is_plain(c) ? std::string(1, c) : hex('\\', c));
  return out;
}

std::string url_of(const Url& url) {
  std::string out(url.scheme);
  if (url.scheme != kUnix)
    return out + url.host + url.port;
  for (const char c : url.host)  // the path is in the place of the host
    out.append(is_plain(c) ? std::string(1, c) : hex('%', c));
  return out;
}

bool is_loopback_url(const Url& url) {
  const std::string_view host = url.host;
  return is_loopback(host.starts_with('[') ? host.substr(1, host.size() - 2) : host);
}

}  // namespace

std::string escape_for_filter(std::string_view part) {
  return escape(part);
}

std::string escape_for_dn(std::string_view part) {
  return escape(part);
}

Result<LdapSettings> read_ldap_settings(const Source& source) {
  LdapSettings settings;
  std::vector<std::string> servers;
  std::string tls, scope = "sub";
  auto known = settings_of(settings.common);
  known.push_back({"server", Setting::Texts{servers, check_server}, true});
  known.push_back({"bind_dn", Setting::Text{settings.bind_dn}});
  known.push_back({"base", Setting::Text{settings.base, check_key_template}, true});
  known.push_back({"scope", Setting::Text{scope, check_scope}});
  known.push_back({"filter", Setting::Text{settings.filter, check_filter}, true});
  known.push_back({"attribute", Setting::Texts{settings.attributes, check_attribute}, true});
  known.push_back({"tls", Setting::Text{tls, check_tls}});
  SettingsFile file;
  if (auto read = file.read(source, known); !read)
    return read.error();
  if (servers.empty())
    return file.problem("server", "is empty; expected at least one server");
  if (settings.attributes.empty())
    return file.problem("attribute", "is empty; expected at least one attribute");
  // A name without a password is no login (RFC 4513 §5.1.2), and a password needs its name.
  if (settings.bind_dn.empty() != settings.common.password_file.empty())
    return file.problem(settings.bind_dn.empty() ? "password_file" : "bind_dn",
                        "stands alone; expected bind_dn together with password_file");
  settings.scope = scope == "one"    ? LdapScope::one
                   : scope == "base" ? LdapScope::base
                                     : LdapScope::sub;
  for (const auto& server : servers) {
    const auto url = *parse_url(server);
    if (url.scheme == kTls && tls == "off")
      return file.problem("tls", "is off, and " + server + " has TLS; expected \"ldap://\"");
    const bool is_clear = tls.empty() ? is_loopback_url(url) : tls == "off";
    settings.servers.push_back({url_of(url), url.scheme == kClear && !is_clear});
  }
  return settings;
}

}  // namespace postrider::tables
