#include "smtpd/auth/sender_map.h"

#include "base/text.h"
#include "mail/address.h"
#include "mail/envelope.h"
#include "smtpd/auth/user_key.h"

#include <idn2.h>

#include <algorithm>

namespace postrider::smtpd::auth {

namespace {

Error bad_line(std::size_t number, const char* what) {
  return malformed("line " + std::to_string(number) + ": " + what);
}

// Lower case, with the domain in A-labels: a name is the same in both forms (RFC 5890 §2.3.2.1).
std::string canonical(std::string_view address) {
  const auto at = address.rfind('@');
  if (at == std::string_view::npos)
    return ascii_lower(address);
  const auto domain = mail::to_ascii_domain(address.substr(at + 1));
  return ascii_lower(address.substr(0, at + 1)) +
         (domain ? *domain : ascii_lower(address.substr(at + 1)));
}

// Of a user, who may have chosen the name: only what is a U-label as it stands (RFC 5890 §2.3.2.1)
// is the same as an A-label, not what is mapped to one first, such as a full-width letter.
std::string canonical_user(std::string_view user) {
  const auto given = user.substr(user.rfind('@') + 1);
  auto name = canonical(user);
  if (is_ascii(given))
    return name;
  char* back = nullptr;
  const auto made = name.substr(name.rfind('@') + 1);
  const bool is_same =
      idn2_to_unicode_8z8z(made.c_str(), &back, 0) == IDN2_OK && back != nullptr && back == given;
  idn2_free(back);
  return is_same ? name : std::string(user);
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
    auto& users = map.users_[canonical(key)];
    for (const auto name : split(line.substr(end), ',')) {
      const auto user =
          trim(name) == "*" ? std::string("*") : canonical(user_key(trim(name)).value_or(""));
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

bool SenderMap::allows(std::string_view name, std::string_view sender) const {
  if (sender.empty())
    return true;
  const auto user = canonical_user(name);
  const auto address = canonical(sender);
  const auto domain = mail::domain_of(address);
  const auto local_part = mail::local_part_of(address);
  const auto plain = without_detail(local_part);
  const auto at = user.rfind('@');
  const bool is_own =
      at == std::string::npos
          ? plain == user && std::find(domains_.begin(), domains_.end(), domain) != domains_.end()
          : user.substr(at + 1) == domain &&
                (local_part == user.substr(0, at) || plain == user.substr(0, at));
  return is_own || lists(address, user) || lists("@" + domain, user) || lists("*", user);
}

}  // namespace postrider::smtpd::auth
