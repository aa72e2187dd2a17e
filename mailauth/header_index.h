// A header section whose fields are found by name, as signatures choose them (RFC 6376 §5.4.2).
#pragma once

#include "mail/header.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::mailauth {

// What signatures are looked for and made in. A longer section, or one of more fields, is left
// without any: its index is empty and too_large() is true.
constexpr std::size_t kMostHeaderSize = std::size_t{1} << 20U;
constexpr std::size_t kMostHeaderFields = 16384;

class HeaderIndex {
 public:
  // content: a message or its header section; must outlive the index. Reads the section once.
  explicit HeaderIndex(std::string_view content);
  static HeaderIndex beyond_limits();  // of a section that nobody kept

  bool too_large() const { return too_large_; }
  const std::vector<mail::HeaderField>& fields() const { return fields_; }
  // The places in fields() of the fields of this name, in any case, from the top down.
  const std::vector<std::size_t>& named(std::string_view name) const;

 private:
  std::vector<mail::HeaderField> fields_;
  std::map<std::string, std::vector<std::size_t>, std::less<>> by_name_;
  bool too_large_ = false;
};

// Takes fields by name from the bottom up: each field once, then none of that name.
class FieldPicker {
 public:
  static constexpr std::size_t kNone = ~std::size_t{0};
  // except: the place of the field that is never picked, such as the signature itself.
  explicit FieldPicker(const HeaderIndex& header, std::size_t except = kNone)
      : header_(header), except_(except) {}
  const mail::HeaderField* pick(std::string_view name);

 private:
  const HeaderIndex& header_;
  std::size_t except_;
  std::map<std::string, std::size_t, std::less<>> left_;  // by name, in lower case
};

}  // namespace postrider::mailauth
