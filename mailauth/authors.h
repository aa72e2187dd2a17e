// The domains that a message claims to be from (RFC 9989 §5.3.1, §11.5): those of the addresses in
// its From field.
#pragma once

#include "mailauth/header_index.h"

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::mailauth {

constexpr std::size_t kMostAuthorDomains = 8;

struct Authors {
  // Each once, lower case, A-labels, in the order of the addresses. What a reader may take for an
  // address is one, also where the field breaks its grammar: an "@" in a name without quotes, the
  // addresses of a second From field. Not what stands in quotes or comments.
  std::vector<std::string> domains;
  // Why these are not the domains of one well-formed From field (RFC 5322 §3.6.2); empty if they
  // are. For people; not escaped.
  std::string problem;
  // There are more domains than kMostAuthorDomains, of which nothing is known.
  bool too_many = false;

  bool are_well_formed() const { return problem.empty(); }
};

// Of a header section. At most kMostAuthorDomains domains, with a problem if there are more.
Authors read_authors(const HeaderIndex& header);
// Of the values of all From fields.
Authors read_authors(const std::vector<std::string_view>& from_fields);

}  // namespace postrider::mailauth
