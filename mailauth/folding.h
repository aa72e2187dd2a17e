// Writes a header field piece by piece and folds it.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace postrider::mailauth {

class FoldedField {
 public:
  static constexpr std::size_t kMostColumns = 78;  // RFC 5322 §2.1.1

  explicit FoldedField(std::string_view name);  // "Name:"

  // Puts a piece that cannot be broken behind what is there, on a line of its own if it would go
  // beyond the last column. space: white space stands between, one space or the fold; else a piece
  // that stays on the line follows without.
  void put(std::string_view piece, bool space);
  // Text that may be broken anywhere, such as Base64; does not begin with white space.
  void put_breakable(std::string_view text);
  const std::string& text() const { return text_; }
  std::string finish();  // with CRLF

 private:
  void fold();
  std::string text_;
  std::size_t column_;
};

}  // namespace postrider::mailauth
