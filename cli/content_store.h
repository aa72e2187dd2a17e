// The content of one message while a tool holds it: in memory, beyond a limit in a nameless
// temporary file. It is complete before anybody is asked to take it, so that a slow writer holds
// no connection, and it can be given twice (to the daemon, or else to the drop folder).
#pragma once

#include "base/file.h"
#include "base/result.h"

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace postrider::cli {

class ContentStore {
 public:
  Result<void> append(std::string_view bytes);
  std::uint64_t size() const { return size_; }
  // Gives it all in pieces, from the start.
  Result<void> read(const std::function<Result<void>(std::string_view piece)>& take) const;

 private:
  Result<void> move_to_file();

  std::string memory_;
  FileDescriptor file_;
  std::size_t folder_ = 0;  // the next one to try
  std::uint64_t size_ = 0;
};

}  // namespace postrider::cli
