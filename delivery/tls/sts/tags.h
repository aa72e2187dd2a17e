// Records of the form "v=STSv1; id=1;" that stand in TXT answers (RFC 8461 §3.1, RFC 8460 §3).
// Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::delivery {

struct Tag {
  std::string_view name;
  std::string_view value;
};

// The fields behind "v=<version>", in order; nothing when the text is no such record, or breaks the
// grammar. The views point into the text.
std::optional<std::vector<Tag>> parse_tags(std::string_view record, std::string_view version);

// The one record among these with that version; nothing when there are none or several, which both
// RFCs take for none.
std::optional<std::string> only_record(const std::vector<std::string>& records,
                                       std::string_view version);

// The id that a domain announces for its MTA-STS policy: 1 to 32 letters and digits.
std::optional<std::string> parse_sts_record(const std::vector<std::string>& records);

}  // namespace postrider::delivery
