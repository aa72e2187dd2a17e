#include "base/quoted.h"

#include "base/list_keys.h"
#include "base/text.h"
#include "base/url.h"

#include <algorithm>

namespace postrider {

namespace {

constexpr std::string_view kSlashes = "//";
constexpr std::string_view kBlanks = " \t\r\n";
constexpr std::string_view kEndsOfPair = " \t\r\n&;,\"'`{}()<>|";

bool is_of_name(char c) {
  const char lower = ascii_lower(c);
  return (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
         c == '.';
}

bool names_secret(std::string_view name) {
  const auto lower = ascii_lower(name);
  constexpr std::string_view kParts[] = {"pass",   "pwd",     "secret",  "token",
                                         "apikey", "api_key", "api-key", "credential"};
  return std::any_of(std::begin(kParts), std::end(kParts),
                     [&](std::string_view part) { return lower.find(part) != lower.npos; });
}

// How often letters of one kind, or digits, follow others: words of people seldom change.
std::size_t changes_in(std::string_view part) {
  const auto kind = [](char c) { return c >= 'a' && c <= 'z' ? 0 : c >= 'A' && c <= 'Z' ? 1 : 2; };
  std::size_t changes = 0;
  for (std::size_t i = 1; i < part.size(); ++i)
    changes += kind(part[i]) != kind(part[i - 1]) ? 1 : 0;
  return changes;
}

bool is_letter_or_digit(char c) {
  const char lower = ascii_lower(c);
  return (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9');
}

bool looks_random(std::string_view part, bool is_in_path) {
  constexpr std::size_t kShortest = 8, kShortestInPath = 20, kShortestOfLetters = 12;
  if (part.size() < (is_in_path ? kShortestInPath : kShortest) || changes_in(part) < 4)
    return false;
  const bool has_digit = part.find_first_of("0123456789") != part.npos;
  return has_digit || part.size() >= kShortestOfLetters;
}

// A run of letters and digits that no person has chosen. Names of files may have such, too.
bool has_random_part(std::string_view value) {
  bool is_in_path = false;
  for (std::size_t at = 0; at < value.size();) {
    const char c = value[at];
    if (!is_letter_or_digit(c)) {
      const char before = at == 0 ? ' ' : value[at - 1];
      if (c == '/')
        is_in_path = is_in_path || before == ' ' || before == ':' || before == '|';
      else if (c == ' ' || c == ',')
        is_in_path = false;
      ++at;
      continue;
    }
    auto end = at;
    while (end < value.size() && is_letter_or_digit(value[end]))
      ++end;
    const bool is_punycode = value.substr(0, at).ends_with("xn--");
    if (!is_punycode && looks_random(value.substr(at, end - at), is_in_path))
      return true;
    at = end;
  }
  return false;
}

bool begins_word(std::string_view text, std::size_t at) {
  return at == 0 || !is_letter_or_digit(text[at - 1]);
}

// What services begin their keys with, so that they are found where they do not belong.
bool has_known_token(std::string_view value) {
  constexpr std::string_view kBegins[] = {
      "ghp_",      "gho_",   "ghu_",    "ghs_",     "ghr_",     "github_pat_", "glpat-",
      "AKIA",      "ASIA",   "xox",     "xapp",     "sk_live_", "sk_test_",    "rk_live_",
      "pk_live_",  "whsec_", "eyJ",     "ya29.",    "AIza",     "npm_",        "hf_",
      "dckr_pat_", "SG.",    "sk-ant-", "sk-proj-", "dop_v1_",  "shpat_"};
  constexpr std::size_t kShortest = 6;
  for (const auto begin : kBegins)
    for (auto at = value.find(begin); at != value.npos; at = value.find(begin, at + 1)) {
      const auto rest = value.substr(at + begin.size());
      const auto end = std::find_if_not(rest.begin(), rest.end(), is_of_name);
      if (begins_word(value, at) && static_cast<std::size_t>(end - rest.begin()) >= kShortest)
        return true;
    }
  return false;
}

// "$6$salt$hash", "{PLAIN}password", and what else a password is kept as.
bool has_kept_password(std::string_view value) {
  constexpr std::size_t kLongestName = 24;
  for (std::size_t at = 0; at < value.size(); ++at) {
    if ((value[at] != '$' && value[at] != '{') || !begins_word(value, at))
      continue;
    const char closing = value[at] == '$' ? '$' : '}';
    const auto end = value.find(closing, at + 1);
    if (end == value.npos || end - at < 2 || end - at > kLongestName || end + 1 == value.size())
      continue;
    const auto name = value.substr(at + 1, end - at - 1);
    if (std::all_of(name.begin(), name.end(),
                    [](char c) { return is_letter_or_digit(c) || c == '-'; }))
      return true;
  }
  return false;
}

// The begin of a header field, or of its value, as programs send it.
bool has_authorization(std::string_view value) {
  constexpr std::string_view kBegins[] = {"bearer ",    "basic ",        "digest ",
                                          "negotiate ", "authorization", "api-key"};
  const auto lower = ascii_lower(value);
  return std::any_of(std::begin(kBegins), std::end(kBegins), [&](std::string_view begin) {
    const auto at = lower.find(begin);
    return at != lower.npos && begins_word(lower, at) && at + begin.size() < lower.size();
  });
}

// Of a form that a secret has, wherever it may have been meant to stand.
bool may_be_secret(std::string_view value) {
  return value.find("-----BEGIN") != value.npos || has_known_token(value) ||
         has_kept_password(value) || has_authorization(value) || has_random_part(value);
}

// Of a command its program alone, which is a path.
std::string_view find_program(std::string_view value) {
  std::size_t at = value.starts_with("command:") ? std::string_view("command:").size() : 0;
  at = std::min(value.find_first_not_of("|\"' ", at), value.size());
  const auto blank = value.find_first_of(kBlanks, at);
  return at < value.size() && value[at] == '/' && blank != value.npos ? value.substr(0, blank)
                                                                      : std::string_view();
}

// "name:password", where nothing says that it is a kind of place, an address or a port.
std::size_t find_password(std::string_view value) {
  constexpr std::string_view kKinds[] = {
      "aliases",   "text",   "pcre",    "cdb",     "sqlite",   "pgsql",  "ldap",
      "socketmap", "tcp",    "inet",    "inet6",   "unix",     "lmtp",   "smtp",
      "smtps",     "mbox",   "maildir", "discard", "error",    "inline", "command",
      "file",      "static", "syslog",  "mailto",  "journald", "local",  "redirect"};
  const auto colon = value.find(':');
  if (colon == value.npos || colon == 0 || colon + 1 == value.size() ||
      value.find_first_of(" \t/[]@") != value.npos || value.find(':', colon + 1) != value.npos)
    return value.npos;
  const auto rest = value.substr(colon + 1);
  const auto name = value.substr(0, colon);
  constexpr std::size_t kLongestPort = 6;  // and a slip
  constexpr std::size_t kShortest = 4;     // of a password
  const bool is_port = rest.size() <= kLongestPort && rest.front() >= '0' && rest.front() <= '9';
  const bool is_kind = std::find(std::begin(kKinds), std::end(kKinds), name) != std::end(kKinds);
  return is_port || is_kind || rest.size() < kShortest ? value.npos : colon + 1;
}

// Behind the slashes: who logs in, where, and what is asked for there.
std::string hide_in_url(std::string_view rest, bool is_http) {
  std::string shown;
  if (const auto at = rest.rfind('@'); at != rest.npos) {
    shown = kHiddenPassword;
    rest.remove_prefix(at);
  }
  const auto mark = std::min(rest.find_first_of("?#"), rest.size());
  const auto slash = is_http ? std::min(rest.find('/'), mark) : mark;
  shown.append(rest.substr(0, slash));
  if (slash + 1 < mark)
    shown.append("/").append(kHiddenPassword);
  else
    shown.append(rest.substr(slash, mark - slash));
  if (mark < rest.size())
    shown.append(1, rest[mark]).append(kHiddenPassword);
  return shown;
}

// Two slashes that no path has within it: a scheme is before them, or nothing that belongs to a path.
std::size_t find_slashes(std::string_view text) {
  for (auto at = text.find(kSlashes); at != text.npos; at = text.find(kSlashes, at + 1))
    if (at == 0 || !(is_of_name(text[at - 1]) || text[at - 1] == '/'))
      return at;
  return text.npos;
}

// "name=value", wherever it stands.
std::string without_pairs(std::string_view text) {
  std::string shown;
  while (!text.empty()) {
    const auto equals = text.find('=');
    if (equals == text.npos)
      break;
    const auto before = text.substr(0, equals);
    const auto name_end = std::min(before.find_last_not_of(kBlanks) + 1, before.size());
    auto name_begin = name_end;
    while (name_begin > 0 && is_of_name(before[name_begin - 1]))
      --name_begin;
    shown.append(text.substr(0, equals + 1));
    text.remove_prefix(equals + 1);
    if (!names_secret(before.substr(name_begin, name_end - name_begin)))
      continue;
    const auto blanks = std::min(text.find_first_not_of(kBlanks), text.size());
    shown.append(text.substr(0, blanks));
    text.remove_prefix(blanks);
    const char quote = text.empty() ? ' ' : text.front();
    const auto end = quote == '"' || quote == '\''
                         ? std::min(text.find(quote, 1), text.size() - 1) + 1
                         : std::min(text.find_first_of(kEndsOfPair), text.size());
    shown.append(kHiddenPassword);
    text.remove_prefix(end);
  }
  return shown.append(text);
}

// What may stand before the first colon and is nobody's name.
std::string_view kind_of_place(std::string_view begin) {
  constexpr std::string_view kKinds[] = {
      "lmtp:", "tcp:", "inet:", "inet6:", "socketmap:", "mailto:"};
  const bool is_known = std::find(std::begin(kKinds), std::end(kKinds), begin) != std::end(kKinds);
  return is_known ? begin : std::string_view();
}

}  // namespace

std::string quotable(std::string_view given) {
  const auto keyless = without_list_keys(given);
  const std::string_view value = keyless;
  if (may_be_secret(value))
    return std::string(kHiddenPassword);
  if (const auto program = find_program(value); !program.empty())
    return without_pairs(program).append(" ").append(kHiddenPassword);
  if (const auto password = find_password(value); password != value.npos)
    return std::string(value.substr(0, password)).append(kHiddenPassword);
  const auto slashes = find_slashes(value);
  if (slashes != value.npos) {
    const auto behind = slashes + kSlashes.size();
    const auto scheme = value.substr(0, slashes);
    const bool is_http = scheme.ends_with("http:") || scheme.ends_with("https:");
    return without_pairs(scheme) + std::string(kSlashes) +
           without_pairs(hide_in_url(value.substr(behind), is_http));
  }
  const auto at = value.rfind('@');
  const auto colon = value.find(':');
  // An address has no colon before its "@", and neither a path nor a sentence has an end like that.
  if (at != value.npos && colon < at && at > colon + 1 && at + 1 < value.size() &&
      value.find_first_of(" \t\r\n/") == value.npos)
    return std::string(kind_of_place(value.substr(0, colon + 1)))
        .append(kHiddenPassword)
        .append(without_pairs(value.substr(at)));
  return without_pairs(value);
}

std::string quote_value(std::string_view value, std::size_t most) {
  if (may_be_secret(without_list_keys(value)))
    return "a value of " + std::to_string(value.size()) + " octets (not shown: it may be a secret)";
  return "\"" + escaped(quotable(value), most) + "\"";
}

}  // namespace postrider
