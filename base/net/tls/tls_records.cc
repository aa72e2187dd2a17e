#include "base/net/tls/tls_records.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <sys/socket.h>

namespace postrider {

namespace {

constexpr std::size_t kHeader = 5;
// RFC 8446 §5.2 and RFC 5246 §6.2.3 allow 256 and 2,048 beyond the content; no cipher of ours adds
// more than this, and OpenSSL refuses it.
constexpr std::size_t kLargest = 16384U + 320U;

unsigned octet(std::string_view bytes, std::size_t at) {
  return static_cast<unsigned char>(bytes[at]);
}

ssize_t receive(int socket, char* room, std::size_t size) {
  ssize_t got = 0;
  do
    got = ::recv(socket, room, size, 0);
  while (got < 0 && errno == EINTR);
  return got;
}

}  // namespace

// A first one may come in the form of SSL 2 (RFC 5246 §E.2). What is neither is for OpenSSL to
// complain about.
TlsRecords::Found TlsRecords::look(std::string_view bytes) {
  Found found;
  while (are_records_) {
    const auto rest = bytes.substr(found.whole);
    const bool is_old = is_first_ && !rest.empty() && (octet(rest, 0) & 0x80U) != 0;
    const std::size_t header = is_old ? 2 : kHeader;
    const bool is_one = rest.empty() || is_old || (octet(rest, 0) >= 20 && octet(rest, 0) <= 24);
    if (!is_one || (!is_old && rest.size() > 1 && octet(rest, 1) != 3)) {
      are_records_ = false;
      break;
    }
    if (rest.size() < header) {
      found.missing = header - rest.size();
      return found;
    }
    const auto size = is_old ? ((octet(rest, 0) & 0x7fU) << 8U) + octet(rest, 1)
                             : (octet(rest, 3) << 8U) + octet(rest, 4);
    if (size > kLargest) {
      are_records_ = false;
      break;
    }
    if (rest.size() < header + size) {
      found.missing = header + size - rest.size();
      return found;
    }
    found.whole += header + size;
    is_first_ = false;
  }
  found.whole = bytes.size();
  return found;
}

// Never room for more than the record.
void TlsRecords::keep(std::string_view bytes, std::size_t missing) {
  const auto wanted = kept_.size() + bytes.size();
  if (wanted > kept_.capacity())
    kept_.reserve(std::max(wanted, std::min(2 * kept_.capacity(), kept_.size() + missing)));
  kept_.append(bytes);
}

ssize_t TlsRecords::collect(int socket) {
  while (ready_ == 0) {
    const auto found = look(kept_);
    ready_ = found.whole;
    if (ready_ > 0)
      break;
    static thread_local std::array<char, kHeader + kLargest> room;
    const auto missing = are_records_ ? found.missing : room.size();
    const auto got = receive(socket, room.data(), missing);
    if (got <= 0)
      return got;
    keep({room.data(), static_cast<std::size_t>(got)}, missing);
  }
  return 1;
}

std::size_t TlsRecords::give(char* room, std::size_t size) {
  const auto given = kept_.copy(room, std::min(size, ready_));
  ready_ -= given;
  if (given == kept_.size())
    std::string().swap(kept_);
  else
    kept_.erase(0, given);
  return given;
}

ssize_t TlsRecords::read(int socket, char* room, std::size_t size) {
  if (kept_.empty()) {
    const auto got = receive(socket, room, size);
    if (got <= 0)
      return got;
    const std::string_view bytes(room, static_cast<std::size_t>(got));
    const auto found = look(bytes);
    if (found.whole < bytes.size())
      keep(bytes.substr(found.whole), found.missing);
    if (found.whole > 0)
      return static_cast<ssize_t>(found.whole);
  }
  if (const auto got = collect(socket); got <= 0)
    return got;
  return static_cast<ssize_t>(give(room, size));
}

}  // namespace postrider
