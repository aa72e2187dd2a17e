#include "queue/checksum.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace postrider::queue {

namespace {

constexpr std::uint32_t kPolynomial = 0x82f63b78;  // bits reversed

constexpr std::array<std::uint32_t, 256> make_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t rest = byte;
    for (int bit = 0; bit < 8; ++bit)
      rest = (rest >> 1U) ^ ((rest & 1U) != 0 ? kPolynomial : 0U);
    table[byte] = rest;
  }
  return table;
}
constexpr auto kTable = make_table();

std::uint32_t feed_by_table(std::uint32_t state, std::string_view bytes) {
  for (const char byte : bytes)
    state = (state >> 8U) ^ kTable[(state ^ static_cast<unsigned char>(byte)) & 0xffU];
  return state;
}

#if defined(__x86_64__)
// The processor's own instruction: a few octets a cycle, so that it costs nothing beside storing.
__attribute__((target("sse4.2"))) std::uint32_t feed_by_processor(std::uint32_t state,
                                                                  std::string_view bytes) {
  std::uint64_t wide = state;
  while (bytes.size() >= sizeof wide) {
    std::uint64_t eight = 0;
    std::memcpy(&eight, bytes.data(), sizeof eight);
    wide = _mm_crc32_u64(wide, eight);
    bytes.remove_prefix(sizeof eight);
  }
  state = static_cast<std::uint32_t>(wide);
  for (const char byte : bytes)
    state = _mm_crc32_u8(state, static_cast<unsigned char>(byte));
  return state;
}

bool has_instruction() {
  static const bool has = __builtin_cpu_supports("sse4.2") != 0;
  return has;
}
#endif

}  // namespace

void Checksum::feed(std::string_view bytes) {
#if defined(__x86_64__)
  if (has_instruction()) {
    state_ = feed_by_processor(state_, bytes);
    return;
  }
#endif
  state_ = feed_by_table(state_, bytes);
}

}  // namespace postrider::queue
