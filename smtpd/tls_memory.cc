#include "smtpd/tls_memory.h"

#include "smtpd/held_memory.h"

#include <algorithm>
#include <utility>

namespace postrider::smtpd {

namespace {

// Room for some handshakes, however little there is for content.
constexpr std::size_t kLeastBudget = 1U << 20U;
// 15 KiB with OpenSSL 3.0, which gives its buffers back between records.
constexpr std::size_t kOfSession = 16U << 10U;

}  // namespace

TlsMemory::TlsMemory(LoopConnections& connections, const Limits& limits,
                     std::function<void()> give_way)
    : connections_(connections), limits_(limits), on_give_way_(std::move(give_way)) {}

TlsMemory::~TlsMemory() {
  go_on();  // from here on nobody calls give_way()
  connections_.slots().give_back_tls(of_session_);
}

bool TlsMemory::begin_session(const Client& client) {
  const auto budget = std::max(limits_.content_memory, kLeastBudget);
  if (!connections_.slots().take_tls(party_of(client), kOfSession, budget))
    return false;
  of_session_ = kOfSession;
  return true;
}

bool TlsMemory::wait_with(std::size_t octets, const Client& client) {
  if (octets == octets_ || (octets <= UnfinishedTls::kFree && !waits()))
    return true;
  if (!waits())
    party_ = party_of(client);
  if (!self_)
    self_ = std::make_shared<TlsMemory*>(this);
  octets_ = octets;
  const auto budget = std::max(limits_.content_memory / 2, kLeastBudget);
  return connections_.slots().unfinished_tls().note(*this, party_, octets, budget);
}

void TlsMemory::go_on() {
  if (waits())
    connections_.slots().unfinished_tls().note(*this, party_, 0, 0);
  octets_ = 0;
  if (self_)
    *self_ = nullptr;  // what it was told before is settled
  self_.reset();
}

void TlsMemory::give_way() {
  connections_.loop().post([self = self_] {
    if (*self != nullptr)
      (*self)->on_give_way_();
  });
}

}  // namespace postrider::smtpd
