// The keys that session tickets are sealed with: made here, kept in memory only, changed every
// hour. What a key has sealed can be opened for one more period, then the key is gone for good, and
// with it what was recorded under it. Thread-safe; one object per listener, which outlives reloads.
#pragma once

#include "base/time.h"

#include <array>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <string_view>

namespace postrider {

class TlsTicketKeys {
 public:
  static constexpr Duration kPeriod{std::chrono::hours(1)};
  struct Key {
    std::array<unsigned char, 16> name{};
    std::array<unsigned char, 32> cipher{};  // AES-256-CBC
    std::array<unsigned char, 32> mac{};     // HMAC-SHA-256
    SteadyTime made;
  };
  struct Found {
    Key key;
    bool is_current = true;  // else the ticket is to be replaced
  };

  explicit TlsTicketKeys(const Clock& clock, Duration period = kPeriod);
  ~TlsTicketKeys();  // wipes them
  TlsTicketKeys(const TlsTicketKeys&) = delete;
  TlsTicketKeys& operator=(const TlsTicketKeys&) = delete;

  // To seal with; none when there is no randomness.
  std::optional<Key> current();
  std::optional<Found> find(const unsigned char* name);  // 16 octets
  Duration period() const { return period_; }

 private:
  bool rotate(SteadyTime now);

  const Clock& clock_;
  const Duration period_;
  std::mutex mutex_;
  std::deque<Key> keys_;  // the newest first
};

}  // namespace postrider
