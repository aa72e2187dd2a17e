// A file that its author may be rewriting in place at this moment: an editor, a script that makes
// a list. Read half, it would send mail to half of its addresses.
#pragma once

#include "base/file.h"
#include "base/result.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <sys/stat.h>

namespace postrider::delivery {

enum class Settling : std::uint8_t {
  if_cut,  // only what is empty or ends within a line waits
  always,  // a whole one that was written this moment is watched for a moment: lines may follow
};

// `before`: what fstat said before the text was read. An error (to try again with) while the file
// cannot be believed: it changed meanwhile; it is empty, or ends within a line, and that not for
// ten seconds yet. `shown` begins the error. Blocks, for half a second at most.
Result<void> check_settled(const FileDescriptor& file, const struct stat& before,
                           std::string_view text, Settling settling, const std::string& shown);

// By what stands in it, at that time: in nanoseconds, as the stamps of the file.
bool may_be_cut(const struct stat& about, std::string_view text, std::int64_t now);

// That it is such an error.
bool is_unsettled(const Error& error);

}  // namespace postrider::delivery
