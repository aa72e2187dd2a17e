// Frames of STOMP 1.2 (https://stomp.github.io/stomp-specification-1.2.html), as a client writes and
// reads them. Pure.
#pragma once

#include "base/result.h"

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace postrider::brokers {

struct StompFrame {
  std::string command;  // "SEND"
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  bool is_cut = false;  // the body was too long and is not here

  // Of headers with the same name the first counts. Empty where there is none.
  std::string_view header(std::string_view name) const;
};

// As octets, with a content-length if there is a body. The command and the names of headers must not
// be empty, and no text may hold NUL. Values of CONNECT cannot be escaped: their CR, LF and colons
// are left out.
std::string encode(const StompFrame& frame);

// Takes a frame apart that comes in any pieces.
class StompReader {
 public:
  static constexpr std::size_t kMostHead = 16U << 10U;  // octets that are kept
  static constexpr std::size_t kMostCutHead = 16U << 20U;
  static constexpr std::size_t kMostHeaders = 100;
  struct Limits {
    std::size_t body = 256U << 10U;
    // A longer body is read to its end and thrown away, instead of refused; of a head beyond its
    // limits, headers that the protocol itself does not need.
    bool cuts = false;
  };

  StompReader() = default;
  explicit StompReader(Limits limits) : limits_(limits) {}

  void feed(std::string_view bytes) { bytes_.append(bytes); }
  // The next frame that has come whole, or none yet. Errc::malformed, Errc::too_long: from here on
  // nothing can be read.
  Result<std::optional<StompFrame>> next();

 private:
  Result<bool> read_head();
  Result<void> read_line(std::string_view line);
  Result<void> read_header(std::string_view line);
  bool has_room_for(std::string_view line) const;
  Result<bool> read_body();
  Result<bool> read_sized_body(std::string_view length);
  Result<void> keep(std::size_t size);

  Limits limits_;
  std::string bytes_;
  StompFrame frame_;  // as far as it has come
  bool has_head_ = false;
  std::size_t head_ = 0, kept_ = 0;    // octets of it so far
  bool is_skipping_ = false;           // a line, to its end
  std::optional<std::uint64_t> left_;  // of the body, as its content-length says
};

}  // namespace postrider::brokers
