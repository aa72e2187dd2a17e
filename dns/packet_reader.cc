#include "dns/packet_reader.h"

#include "base/assert.h"

namespace postrider::dns {

namespace {

constexpr int kMostJumps = 128;
constexpr unsigned kPointer = 0xc0;

}  // namespace

bool PacketReader::u8(std::uint8_t& value) {
  if (left() < 1)
    return false;
  value = static_cast<std::uint8_t>(packet_[at_++]);
  return true;
}

bool PacketReader::u16(std::uint16_t& value) {
  std::uint8_t high = 0, low = 0;
  if (!u8(high) || !u8(low))
    return false;
  value = static_cast<std::uint16_t>(high << 8U | low);
  return true;
}

bool PacketReader::u32(std::uint32_t& value) {
  std::uint16_t high = 0, low = 0;
  if (!u16(high) || !u16(low))
    return false;
  value = static_cast<std::uint32_t>(high) << 16U | low;
  return true;
}

bool PacketReader::bytes(std::size_t size, std::string_view& value) {
  if (left() < size)
    return false;
  value = packet_.substr(at_, size);
  at_ += size;
  return true;
}

void PacketReader::move_to(std::size_t at) {
  POSTRIDER_ASSERT(at <= packet_.size());
  at_ = at;
}

// Every jump must land before the part of the name that it leaves, so a name ends (attack D01).
bool PacketReader::name(Name& value) {
  value = Name();
  PacketReader in = *this;
  std::size_t part = at_;
  bool jumped = false;
  for (int jumps = 0;;) {
    std::uint8_t size = 0;
    if (!in.u8(size))
      return false;
    if (size == 0)
      break;
    if (size <= Name::kMostLabel) {
      std::string_view label;
      if (!in.bytes(size, label) || !value.append_label(label))
        return false;
      continue;
    }
    std::uint8_t low = 0;
    if ((size & kPointer) != kPointer || !in.u8(low) || ++jumps > kMostJumps)
      return false;
    if (!jumped)
      at_ = in.at();
    jumped = true;
    const std::size_t target = (size & ~kPointer) << 8U | low;
    if (target >= part)
      return false;
    part = target;
    in.move_to(target);
  }
  if (!jumped)
    at_ = in.at();
  return true;
}

}  // namespace postrider::dns
