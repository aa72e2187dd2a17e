// A file that its author may be rewriting in place at this moment: an editor, a script that makes
// a list. Read half, it would send mail to half of its addresses.
#pragma once

#include "base/file.h"
#include "base/result.h"
#include "base/time.h"

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <sys/stat.h>
#include <utility>

namespace postrider::delivery {

enum class Settling : std::uint8_t {
  if_cut,  // only what is empty or ends within a line waits
  always,  // a whole one that was written this moment is watched for a moment: lines may follow
};

// `before`: what fstat said before the text was read. An error (to try again with) while the file
// cannot be believed: it changed meanwhile; it is empty, or ends within a line, and that not for
// ten seconds yet. Whatever its stamps say, which its owner can keep moving: one that has had the
// same content for ten seconds of our own is believed. `shown` begins the error. Blocks, for half a
// second at most.
Result<void> check_settled(const FileDescriptor& file, const struct stat& before,
                           std::string_view text, Settling settling, const std::string& shown,
                           SteadyTime now = SystemClock().steady());

// Since when files have had the content that they have now, for those who looked. Thread-safe.
class SeenContents {
 public:
  static constexpr std::size_t kMost =
      1000;  // then the one that was not looked at for longest goes

  // How long it has been the same, as far as is known.
  SteadyTime::duration age(const struct stat& about, std::string_view text, SteadyTime now);
  void forget(const struct stat& about);
  std::size_t size() const;

 private:
  using File = std::pair<std::uint64_t, std::uint64_t>;  // device and number
  struct Seen {
    std::size_t digest = 0;
    std::size_t size = 0;
    SteadyTime since;
    SteadyTime looked;
  };
  mutable std::mutex mutex_;
  std::map<File, Seen> seen_;
};

// By what stands in it, at that time: in nanoseconds, as the stamps of the file.
bool may_be_cut(const struct stat& about, std::string_view text, std::int64_t now);

// That it is such an error.
bool is_unsettled(const Error& error);

}  // namespace postrider::delivery
