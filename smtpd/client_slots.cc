#include "smtpd/client_slots.h"

namespace postrider::smtpd {

ClientSlots::~ClientSlots() {
  if (address_)
    in_all_.give_back_for(*address_);
  if (user_)
    in_all_.give_back_for_user(*user_);
}

// A user of this machine is among our own clients, and so are the others.
bool ClientSlots::take(const Client& client, const Limits& limits, std::uint32_t most) {
  if (!client.trusted) {
    if (in_all_.take_for(client.address, limits))
      address_ = client.address;
    return address_.has_value();
  }
  const auto party =
      client.local_user ? in_all_.party_of(*client.local_user) : std::optional<std::uint64_t>();
  if (!party)
    return true;
  if (in_all_.take_for_user(*party, most))
    user_ = party;
  return user_.has_value();
}

}  // namespace postrider::smtpd
