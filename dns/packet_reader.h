// A cursor over one packet that cannot leave it. A function that returns false has met malformed
// bytes; what it wrote by then means nothing. Pure.
#pragma once

#include "dns/name.h"

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace postrider::dns {

class PacketReader {
 public:
  explicit PacketReader(std::string_view packet) : packet_(packet) {}

  [[nodiscard]] bool u8(std::uint8_t& value);
  [[nodiscard]] bool u16(std::uint16_t& value);
  [[nodiscard]] bool u32(std::uint32_t& value);
  [[nodiscard]] bool bytes(std::size_t size, std::string_view& value);
  // A name, expanded; the cursor stands behind it.
  [[nodiscard]] bool name(Name& value);

  std::size_t at() const { return at_; }
  std::size_t left() const { return packet_.size() - at_; }
  void move_to(std::size_t at);  // not past the end

 private:
  std::string_view packet_;
  std::size_t at_ = 0;
};

}  // namespace postrider::dns
