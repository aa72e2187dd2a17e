// A client of a message broker that takes what waits there, as the programs use it that bring mail
// requests from brokers. Blocking; of one thread.
#pragma once

#include "base/result.h"
#include "base/time.h"

#include <cstdint>
#include <optional>
#include <string>

namespace postrider::brokers {

inline constexpr std::size_t kMostRequest = 16U << 20U;  // octets of one request

struct BrokerRequest {
  // What makes it the same one when it comes again, as the application or the broker names it; empty:
  // nothing does.
  std::string key;
  std::string body;
  bool is_too_large = false;  // the body was thrown away
  // The header "traceparent" of the message, as it came; empty: there is none.
  std::string trace_parent = {};
};

enum class RequestEnd : std::uint8_t {
  taken,    // the mail is in custody
  refused,  // it never will be
  later,    // it is to come again
};

class Consumer {
 public:
  virtual ~Consumer() = default;
  // The next request, or none when `until` has come. Connects if need be. Errc::refused: asking at
  // once again would not help.
  virtual Result<std::optional<BrokerRequest>> next(SteadyTime until) = 0;
  // What became of the last one. After an error the same may come again.
  virtual Result<void> settle(RequestEnd end, SteadyTime until) = 0;
  // About once a second while a request is under way. False: the connection is lost, and the request
  // comes again.
  virtual bool tend() { return true; }
};

}  // namespace postrider::brokers
