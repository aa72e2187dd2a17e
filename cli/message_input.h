// A message on standard input as sendmail takes it: the "From " and ">From " lines of a mailbox or
// of UUCP at its start are dropped, and without -i a line that is a lone dot ends it. Line ends
// stay as they are; the daemon makes them CRLF.
#pragma once

#include "base/result.h"

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

namespace postrider::cli {

class MessageInput {
 public:
  explicit MessageInput(bool dots_are_content) : dots_are_content_(dots_are_content) {}

  // Any splitting of the bytes. Appends content to `out`; false: the end was found.
  bool feed(std::string_view in, std::string& out);
  void finish(std::string& out);  // end of file

 private:
  bool take_line(std::string_view line, std::string& out);

  bool dots_are_content_;
  bool before_header_ = true;
  bool at_line_start_ = true;
  bool dropping_ = false;  // the rest of a "From " line
  std::string held_;       // the start of a line that may yet be special
};

// Reads a descriptor to its end, or until `take` gives false.
Result<void> read_all(int descriptor, const std::function<Result<bool>(std::string_view)>& take);

}  // namespace postrider::cli
