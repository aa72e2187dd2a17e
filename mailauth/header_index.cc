#include "mailauth/header_index.h"

#include "base/text.h"

namespace postrider::mailauth {

HeaderIndex::HeaderIndex(std::string_view content) {
  mail::HeaderScanner scanner(content);
  mail::HeaderField field;
  while (scanner.next(field)) {
    if (scanner.consumed() > kMostHeaderSize || fields_.size() == kMostHeaderFields) {
      fields_.clear();
      by_name_.clear();
      too_large_ = true;
      return;
    }
    by_name_[ascii_lower(field.name)].push_back(fields_.size());
    fields_.push_back(field);
  }
}

HeaderIndex HeaderIndex::beyond_limits() {
  HeaderIndex index{std::string_view()};
  index.too_large_ = true;
  return index;
}

const std::vector<std::size_t>& HeaderIndex::named(std::string_view name) const {
  static const std::vector<std::size_t> none;
  const auto found = by_name_.find(ascii_lower(name));
  return found == by_name_.end() ? none : found->second;
}

const mail::HeaderField* FieldPicker::pick(std::string_view name) {
  const auto& places = header_.named(name);
  auto& left = left_.try_emplace(ascii_lower(name), places.size()).first->second;
  while (left > 0) {
    const auto place = places[--left];
    if (place != except_)
      return &header_.fields()[place];
  }
  return nullptr;
}

}  // namespace postrider::mailauth
