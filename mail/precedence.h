// The field Precedence: what its sender says of mail that may wait behind other mail. No standard
// has it; programs of mailing lists and vacation have agreed on its words (RFC 3834 §2, RFC 2076).
#pragma once

#include <cstdint>
#include <string_view>

namespace postrider::mail {

enum class Precedence : std::uint8_t { none, bulk, junk };

// bulk and list: bulk; junk: junk; any other word: none. Of the first field of that name.
Precedence parse_precedence(std::string_view value);

}  // namespace postrider::mail
