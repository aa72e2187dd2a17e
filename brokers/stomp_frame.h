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
  static constexpr std::size_t kMostHead = 16U << 10U;
  static constexpr std::size_t kMostHeaders = 100;
  static constexpr std::size_t kMostBody = 256U << 10U;

  void feed(std::string_view bytes) { bytes_.append(bytes); }
  // The next frame that has come whole, or none yet. Errc::malformed, Errc::too_long: from here on
  // nothing can be read.
  Result<std::optional<StompFrame>> next();

 private:
  Result<std::size_t> read_head();
  Result<void> read_header(std::string_view line);
  Result<std::optional<std::size_t>> end_of_body(std::size_t begin) const;

  std::string bytes_;
  StompFrame frame_;
};

}  // namespace postrider::brokers
