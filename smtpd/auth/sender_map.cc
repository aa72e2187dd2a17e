#include "smtpd/auth/sender_map.h"

#include "base/text.h"
#include "mail/envelope.h"
#include "smtpd/auth/user_key.h"

#include <algorithm>

namespace postrider::smtpd::auth {

namespace {

Error bad_line(std::size_t number, const char* what) {
  return malformed("line " + std::to_string(number) + ": " + what);
}

std::string_view without_detail(std::string_view local_part) {
  return local_part.substr(0, local_part.find('+'));
}

}  // namespace

Result<SenderMap> SenderMap::parse(std::string_view text, std::vector<std::string> domains) {
  SenderMap map;
  map.domains_ = std::move(domains);
  std::size_t number = 0;
  for (auto line : split(text, '\n')) {
    ++number;
    if (line.size() > kMostLine)
      return bad_line(number, "longer than 4096 octets");
    line = trim(line.ends_with('\r') ? line.substr(0, line.size() - 1) : line);
    if (line.empty() || line.front() == '#')
      continue;
    const auto end = line.find_first_of(" \t");
    const auto key = line.substr(0, end);
    if (end == std::string_view::npos)
      return bad_line(number, "an address and its users are needed");
    if (key != "*" && key.find('@') == std::string_view::npos)
      return bad_line(number, "an address, @domain or * is needed first");
    auto& users = map.users_[ascii_lower(key)];
    for (const auto name : split(line.substr(end), ',')) {
      const auto user = trim(name) == "*" ? std::string("*") : user_key(trim(name)).value_or("");
      if (user.empty())
        return bad_line(number, "users are needed, with commas between them");
      users.push_back(user);
    }
  }
  return map;
}

bool SenderMap::lists(const std::string& key, std::string_view user) const {
  const auto at = users_.find(key);
  return at != users_.end() &&
         std::any_of(at->second.begin(), at->second.end(),
                     [&](const std::string& name) { return name == "*" || name == user; });
}

bool SenderMap::allows(std::string_view user, std::string_view sender) const {
  if (sender.empty())
    return true;
  const auto address = ascii_lower(sender);
  const auto domain = mail::domain_of(address);
  const auto local_part = mail::local_part_of(address);
  const auto plain = without_detail(local_part);
  const auto at = user.find('@');
  const bool is_own =
      at == std::string_view::npos
          ? plain == user && std::find(domains_.begin(), domains_.end(), domain) != domains_.end()
          : user.substr(at + 1) == domain &&
                (local_part == user.substr(0, at) || plain == user.substr(0, at));
  return is_own || lists(address, user) || lists("@" + domain, user) || lists("*", user);
}

}  // namespace postrider::smtpd::auth
