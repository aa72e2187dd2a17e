// Where mail of this machine ends, and with whose rights.
#pragma once

#include "delivery/local/addresses/expander.h"
#include "delivery/local/addresses/forward_count.h"
#include "delivery/local/agents/local_target.h"
#include "delivery/local/forward_seal.h"

#include <cstdint>
#include <memory>
#include <string>

namespace postrider::delivery {

struct LocalSettings {
  std::string mailbox = "maildir:/var/mail/{user}/";
  std::uint32_t minimum_uid = 1000;  // of accounts with whose rights is delivered
  unsigned deliveries = 4;           // at one time
  TargetLimits limits;
  CountForward count_forward;                   // may be empty
  std::shared_ptr<const ForwardSealer> sealer;  // null: nothing is sealed
  // The addresses of this machine. Null: every local recipient is the user of that name.
  std::shared_ptr<const LocalAddresses> book;
  std::shared_ptr<const Users> users;  // set if book is
};

}  // namespace postrider::delivery
