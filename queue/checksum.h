// CRC-32C (Castagnoli, RFC 3720 12.1): tells content that was damaged on its way through memory and
// storage. No protection against a forger, who could change the head of the message as well.
#pragma once

#include <cstdint>
#include <string_view>

namespace postrider::queue {

class Checksum {
 public:
  void feed(std::string_view bytes);
  std::uint32_t value() const { return ~state_; }

 private:
  std::uint32_t state_ = ~std::uint32_t{0};
};

inline std::uint32_t checksum_of(std::string_view bytes) {
  Checksum checksum;
  checksum.feed(bytes);
  return checksum.value();
}

}  // namespace postrider::queue
