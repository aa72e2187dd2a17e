#include "smtpd/held_memory.h"

#include <string>
#include <utility>

namespace postrider::smtpd {

SessionLimits::Party party_of(const Client& client) {
  if (!client.authenticated.empty())
    return {"user " + client.authenticated, false};
  if (client.local_user)
    return {"uid " + std::to_string(*client.local_user), false};
  return {SessionLimits::client_key(client.address).str(), !client.trusted};
}

HeldMemory::HeldMemory(LoopConnections& connections, const Limits& limits,
                       std::function<void()> let_go)
    : connections_(connections),
      limits_(limits),
      on_let_go_(std::move(let_go)),
      first_octets_(SessionLimits::first_octets(limits)) {}

HeldMemory::~HeldMemory() {
  count(0);  // from here on nobody calls let_go()
  if (self_)
    *self_ = nullptr;
}

bool HeldMemory::note(std::size_t octets, const Client& client) {
  if (party_.name.empty() || has_logged_in_ == client.authenticated.empty()) {
    count(0);
    party_ = party_of(client);
    has_logged_in_ = !client.authenticated.empty();
  }
  return count(octets);
}

void HeldMemory::check(std::size_t octets, const Client& client) {
  is_over_share_ = !note(octets, client) || must_let_go_;
}

bool HeldMemory::count(std::size_t octets) {
  const auto before = std::exchange(octets_, octets);
  if (octets <= first_octets_)
    must_let_go_ = false;
  else if (!self_)
    self_ = std::make_shared<HeldMemory*>(this);
  return connections_.slots().keep(party_, octets, before, limits_.content_memory, this,
                                   first_octets_);
}

void HeldMemory::let_go() {
  connections_.loop().post([self = self_] {
    if (*self != nullptr)
      (*self)->let_go_here();
  });
}

// At once if the session waits for its client, else at the end of what it does: is_over_share().
void HeldMemory::let_go_here() {
  if (octets_ <= first_octets_)
    return;
  must_let_go_ = true;
  if (waits_for_client_)
    on_let_go_();
}

}  // namespace postrider::smtpd
