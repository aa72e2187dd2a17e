#include "base/net/tls/tls_tickets.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include <algorithm>
#include <cstring>

namespace postrider {

TlsTicketKeys::TlsTicketKeys(const Clock& clock, Duration period)
    : clock_(clock), period_(period) {}

TlsTicketKeys::~TlsTicketKeys() {
  for (auto& key : keys_)
    OPENSSL_cleanse(&key, sizeof key);
}

bool TlsTicketKeys::rotate(SteadyTime now) {
  if (keys_.empty() || now - keys_.front().made >= period_) {
    Key fresh;
    if (RAND_bytes(fresh.name.data(), static_cast<int>(fresh.name.size())) != 1 ||
        RAND_priv_bytes(fresh.cipher.data(), static_cast<int>(fresh.cipher.size())) != 1 ||
        RAND_priv_bytes(fresh.mac.data(), static_cast<int>(fresh.mac.size())) != 1)
      return false;
    fresh.made = now;
    keys_.push_front(fresh);
    OPENSSL_cleanse(&fresh, sizeof fresh);
  }
  while (now - keys_.back().made >= 2 * period_) {
    OPENSSL_cleanse(&keys_.back(), sizeof(Key));
    keys_.pop_back();
  }
  return true;
}

std::optional<TlsTicketKeys::Key> TlsTicketKeys::current() {
  const std::lock_guard lock(mutex_);
  if (!rotate(clock_.steady()))
    return std::nullopt;
  return keys_.front();
}

std::optional<TlsTicketKeys::Found> TlsTicketKeys::find(const unsigned char* name) {
  const std::lock_guard lock(mutex_);
  if (!rotate(clock_.steady()))
    return std::nullopt;
  const auto found = std::find_if(keys_.begin(), keys_.end(), [name](const Key& key) {
    return std::memcmp(key.name.data(), name, key.name.size()) == 0;
  });
  if (found == keys_.end())
    return std::nullopt;
  return Found{*found, found == keys_.begin()};
}

}  // namespace postrider
