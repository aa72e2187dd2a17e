// What a client sends before and under TLS, in pieces: what is read is what was sent, in its order,
// and only records that are whole, or, once it is no TLS, everything.
#include "base/assert.h"
#include "base/net/tls/tls_records.h"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <string>
#include <sys/socket.h>
#include <unistd.h>

using namespace postrider;

namespace {

// Whether this is records alone, each of them whole.
bool are_whole(std::string_view bytes) {
  while (bytes.size() >= 5) {
    const auto size = static_cast<std::size_t>(static_cast<unsigned char>(bytes[3]) << 8U |
                                               static_cast<unsigned char>(bytes[4]));
    if (bytes.size() < 5 + size)
      return false;
    bytes.remove_prefix(5 + size);
  }
  return bytes.empty();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 3)
    return 0;
  // How much was read before, how much comes at a time, and how much is asked for.
  const std::string all(reinterpret_cast<const char*>(data) + 3, size - 3);
  const auto begun = std::min<std::size_t>(data[0], all.size());
  const std::size_t piece = std::size_t{1} + data[1] * 16U, room = std::size_t{1} + data[2];
  int ends[2];
  POSTRIDER_ASSERT(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0);
  TlsRecords records(all.substr(0, begun));
  std::string got;
  const auto read_all = [&] {
    std::string part(room, '\0');
    for (;;) {
      const auto count = records.read(ends[0], part.data(), part.size());
      if (count <= 0)
        return count;
      POSTRIDER_ASSERT(static_cast<std::size_t>(count) <= part.size());
      got.append(part, 0, static_cast<std::size_t>(count));
    }
  };
  for (std::size_t at = begun; at < all.size(); at += piece) {
    POSTRIDER_ASSERT(read_all() < 0 && errno == EAGAIN);
    const auto sent = ::send(ends[1], all.data() + at, std::min(piece, all.size() - at), 0);
    POSTRIDER_ASSERT(sent == static_cast<ssize_t>(std::min(piece, all.size() - at)));
  }
  ::shutdown(ends[1], SHUT_WR);
  POSTRIDER_ASSERT(read_all() == 0);
  ::close(ends[0]);
  ::close(ends[1]);
  POSTRIDER_ASSERT(all.starts_with(got));
  POSTRIDER_ASSERT(got.size() == all.size() || are_whole(got) ||
                   (static_cast<unsigned char>(all[0]) & 0x80U) != 0);
  POSTRIDER_ASSERT(records.octets() <= 2 * (17U << 10U));
  return 0;
}
