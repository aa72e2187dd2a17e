// Finds one byte again and again in a text that is walked from front to back. Remembers the last
// answer, so that asking at every step stays linear however far away the next one is.
#pragma once

#include <cstring>
#include <string_view>

namespace postrider::mail {

class ByteFinder {
 public:
  ByteFinder(std::string_view text, char wanted) : text_(text), wanted_(wanted) {}

  // The first position at or behind `at` that holds the byte, or the text's size. `at` never
  // decreases from call to call.
  std::size_t from(std::size_t at) {
    if (next_ < at || !known_) {
      const void* found =
          at < text_.size() ? std::memchr(text_.data() + at, wanted_, text_.size() - at) : nullptr;
      next_ = found == nullptr
                  ? text_.size()
                  : static_cast<std::size_t>(static_cast<const char*>(found) - text_.data());
      known_ = true;
    }
    return next_;
  }

 private:
  std::string_view text_;
  char wanted_;
  bool known_ = false;
  std::size_t next_ = 0;
};

}  // namespace postrider::mail
