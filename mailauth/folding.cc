#include "mailauth/folding.h"

#include <algorithm>
#include <utility>

namespace postrider::mailauth {

namespace {

constexpr std::string_view kFold = "\r\n\t";
constexpr std::size_t kTabColumns = 8;

}  // namespace

FoldedField::FoldedField(std::string_view name) : text_(name), column_(name.size() + 1) {
  text_.push_back(':');
}

void FoldedField::fold() {
  text_.append(kFold);
  column_ = kTabColumns;
}

void FoldedField::put(std::string_view piece, bool space) {
  const std::size_t wanted = piece.size() + (space ? 1 : 0);
  if (column_ > kTabColumns && column_ + wanted > kMostColumns) {
    fold();
  } else if (space) {
    text_.push_back(' ');
    ++column_;
  }
  text_.append(piece);
  column_ += piece.size();
}

void FoldedField::put_breakable(std::string_view text) {
  while (!text.empty()) {
    if (column_ >= kMostColumns)
      fold();
    const auto some = text.substr(0, kMostColumns - column_);
    text_.append(some);
    column_ += some.size();
    text.remove_prefix(some.size());
  }
}

std::string FoldedField::finish() {
  text_.append("\r\n");
  return std::move(text_);
}

}  // namespace postrider::mailauth
