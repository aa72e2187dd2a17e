// What members of the group of control.readers are shown of an answer. They may know what becomes of mail, and from
// whom to whom it goes; where files lie on this machine is nobody's business who cannot read the configuration. Pure.
#pragma once

#include <string>
#include <string_view>

namespace postrider::daemon {

// Instead of each path of a file that stands in the text. URLs stay, which remotes put into their replies, and so do
// networks in CIDR notation.
inline constexpr std::string_view kHiddenPath = "(file)";
std::string without_paths(std::string_view text);

// Whole lines of an answer, each an object in JSON. Names by which mail and its sites are known stay as they are, all
// other texts go through without_paths().
std::string for_reader(std::string_view lines);

}  // namespace postrider::daemon
