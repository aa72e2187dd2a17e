// What would happen to mail for an address of this machine, for people. Blocks: for the pool.
#pragma once

#include "delivery/local/addresses/expander.h"
#include "delivery/local/agents/delivery_agent.h"

#include <string>
#include <vector>

namespace postrider::delivery {

struct Preview {
  std::vector<std::string> steps;     // "list@here.test -> ann (/etc/aliases:12)"
  std::vector<std::string> ends;      // "ann@here.test: maildir /var/mail/ann as ann"
  std::vector<std::string> problems;  // "/etc/list: everybody may write this file"
  std::string onward;                 // an address elsewhere, if all mail goes there
  std::string conclusion;             // one sentence; empty if onward is set
};

// mailbox: the pattern of local.mailbox. At most some hundred lines of each kind are reported.
Preview preview(const LocalAddresses& book, const Users& users, DeliveryAgent& performer,
                const std::string& mailbox, unsigned minimum_uid, const std::string& address);

}  // namespace postrider::delivery
