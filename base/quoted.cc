#include "base/quoted.h"

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

std::string quotable(std::string_view value) {
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
  return "\"" + escaped(quotable(value), most) + "\"";
}

}  // namespace postrider
