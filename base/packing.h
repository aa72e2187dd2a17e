// Compact forms for what is stored or told to another process of ours: numbers of seven bits a
// byte, texts behind their length. Reading counts as hostile.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace postrider {

class Packer {
 public:
  explicit Packer(std::size_t expected) { bytes_.reserve(expected); }
  void number(std::uint64_t value) {
    while (value >= 0x80U) {
      bytes_ += static_cast<char>(value | 0x80U);
      value >>= 7U;
    }
    bytes_ += static_cast<char>(value);
  }
  void text(std::string_view value) {
    number(value.size());
    bytes_ += value;
  }
  std::string take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

// Once something was wrong, everything reads as zero or empty and done() is false.
class Unpacker {
 public:
  explicit Unpacker(std::string_view bytes) : left_(bytes) {}
  std::uint64_t number(std::uint64_t most) {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      if (left_.empty())
        break;
      const auto byte = static_cast<unsigned char>(left_.front());
      left_.remove_prefix(1);
      value |= static_cast<std::uint64_t>(byte & 0x7fU) << shift;
      if (byte < 0x80U)
        return value <= most ? value : fail();
    }
    return fail();
  }
  std::string_view text(std::size_t most) {
    const auto size = number(std::min(most, left_.size()));
    if (size > left_.size()) {
      fail();
      return {};
    }
    const auto value = left_.substr(0, size);
    left_.remove_prefix(size);
    return value;
  }
  bool done() const { return good_ && left_.empty(); }

 private:
  std::uint64_t fail() {
    good_ = false;
    left_ = {};
    return 0;
  }
  std::string_view left_;
  bool good_ = true;
};

}  // namespace postrider
