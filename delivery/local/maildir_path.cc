#include "delivery/local/maildir_path.h"

#include "base/text.h"

namespace postrider::delivery {

namespace {

bool is_control(char c) {
  return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}

bool stands_for_itself(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '_' || c == '@';
}

void replace_all(std::string& text, std::string_view what, const std::string& by) {
  for (auto at = text.find(what); at != text.npos; at = text.find(what, at + by.size()))
    text.replace(at, what.size(), by);
}

}  // namespace

std::string local_user(std::string_view local_part) {
  const auto plus = local_part.find('+');
  if (plus != local_part.npos)
    local_part = local_part.substr(0, plus);
  if (local_part.empty() || local_part.size() > 64 || local_part.front() == '-' ||
      local_part.front() == '.')
    return {};
  for (const char c : local_part)
    if (is_control(c) || c == '/' || c == '\\')
      return {};
  return ascii_lower(local_part);
}

std::string path_component(std::string_view text) {
  constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    if (stands_for_itself(c) || (c == '.' && !out.empty())) {
      out.push_back(c);
      continue;
    }
    const auto octet = static_cast<unsigned char>(c);
    out.push_back('%');
    out.push_back(kHex[octet >> 4]);
    out.push_back(kHex[octet & 15]);
  }
  return out;
}

Result<MailboxPlace> mailbox_place(std::string_view pattern, std::string_view user,
                                   std::string_view domain) {
  constexpr std::string_view kScheme = "maildir:";
  if (!pattern.starts_with(kScheme))
    return Error(Errc::unsupported, "mailbox " + escaped(pattern));
  pattern.remove_prefix(kScheme.size());
  while (pattern.size() > 1 && pattern.back() == '/')
    pattern.remove_suffix(1);
  if (pattern.empty() || pattern.front() != '/')
    return Error(Errc::malformed, "mailbox " + escaped(pattern) + ": expected an absolute path");
  const auto brace = pattern.find('{');
  const auto slash = pattern.substr(0, brace).rfind('/');
  MailboxPlace place;
  place.root = slash == 0 ? "/" : std::string(pattern.substr(0, slash));
  place.folder = std::string(pattern.substr(slash + 1));
  replace_all(place.folder, "{user}", path_component(user));
  replace_all(place.folder, "{domain}", path_component(domain));
  if (place.folder.empty())
    return Error(Errc::malformed, "mailbox " + escaped(pattern) + ": no folder");
  return place;
}

}  // namespace postrider::delivery
