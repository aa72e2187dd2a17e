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

// Instead of what a command of a user's said.
inline constexpr std::string_view kHiddenOutput = "(not shown)";

// Whole lines of an answer, each an object in JSON. Names by which mail and its sites are known stay as they are, unless
// they are the path of a socket; all other texts go through without_paths(), and lose the output of a command.
std::string for_reader(std::string_view lines);

}  // namespace postrider::daemon
