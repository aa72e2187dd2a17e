#include "mailauth/dns_name.h"

#include "base/text.h"
#include "mail/address.h"

#include <algorithm>

namespace postrider::mailauth {

bool can_be_asked(std::string_view name) {
  if (name.empty() || name.size() > kMostOfName)
    return false;
  std::size_t label = 0;
  for (const char c : name) {
    if (c < ' ' || c > '~')
      return false;
    if (c != '.') {
      if (++label > kMostOfLabel)
        return false;
    } else if (label == 0) {
      return false;
    } else {
      label = 0;
    }
  }
  return label > 0;
}

std::optional<std::string> claimed_domain(std::string_view text) {
  if (text.ends_with('.'))
    text.remove_suffix(1);
  if (text.empty() || text.size() > 4 * kMostOfName ||
      text.find_first_of("[]() \"@") != std::string_view::npos)
    return std::nullopt;
  std::string name = ascii_lower(text);
  if (!is_ascii(text)) {
    const auto converted = mail::to_ascii_domain(text);
    if (!converted)
      return std::nullopt;
    name = *converted;
  }
  if (name.find('.') == std::string::npos || !can_be_asked(name))
    return std::nullopt;
  return name;
}

std::size_t count_labels(std::string_view name) {
  if (name.empty())
    return 0;
  return 1 + static_cast<std::size_t>(std::count(name.begin(), name.end(), '.'));
}

std::string_view last_labels(std::string_view name, std::size_t count) {
  std::size_t at = name.size();
  while (count-- > 0) {
    at = at == 0 ? std::string_view::npos : name.rfind('.', at - 1);
    if (at == std::string_view::npos)
      return name;
  }
  return name.substr(at + 1);
}

bool is_within(std::string_view name, std::string_view domain) {
  if (name.size() == domain.size())
    return equals_ignoring_case(name, domain);
  return name.size() > domain.size() && ends_with_ignoring_case(name, domain) &&
         name[name.size() - domain.size() - 1] == '.';
}

bool may_be_one_organization(std::string_view name, std::string_view other) {
  return is_within(name, other) || is_within(other, name) ||
         equals_ignoring_case(last_labels(name, 2), last_labels(other, 2));
}

std::string_view domain_of(std::string_view mailbox) {
  const auto at = mailbox.rfind('@');
  return at == std::string_view::npos ? std::string_view() : mailbox.substr(at + 1);
}

}  // namespace postrider::mailauth
