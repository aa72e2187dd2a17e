// Which sender addresses belong to which user (pure). A text file, one address a line:
//
//   # address or @domain    users, "*" for all
//   info@example.org        anna@example.org, bert
//   @example.net            carl@example.org
//   *                       robot
//
// A user may always send as the address that is the user's name, and under it with a "+detail". A
// name without a domain stands for that local part in every domain of ours. The null sender, for
// receipts and the like, is everybody's.
#pragma once

#include "base/result.h"

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace postrider::smtpd::auth {

class SenderMap {
 public:
  static constexpr std::size_t kMostLine = 4096;

  // domains: ours, in lower case. The error names the line.
  static Result<SenderMap> parse(std::string_view text, std::vector<std::string> domains);

  // user: a user_key. sender: an address as mail::parse_mail gives it, or empty.
  bool allows(std::string_view user, std::string_view sender) const;

 private:
  bool lists(const std::string& key, std::string_view user) const;

  std::vector<std::string> domains_;
  std::unordered_map<std::string, std::vector<std::string>> users_;  // by address, @domain or *
};

}  // namespace postrider::smtpd::auth
