// Which events a sink wants. Pure.
#pragma once

#include "events/event.h"

#include <string>
#include <vector>

namespace postrider::events {

// Each list that is not empty must hold something that fits.
struct Filter {
  std::vector<Kind> events = {};
  // Of the recipient, lower case: "example.net", or ".example.net" for all below it. An event
  // without a recipient does not fit.
  std::vector<std::string> domains = {};
  // The envelope sender: an address, or "@example.org" for all of a domain; "<>" for the null
  // sender. Domains in any case.
  std::vector<std::string> senders = {};
  std::vector<std::string> tags = {};  // whole, or the beginning when it ends with "*"
};
bool fits(const Filter& filter, const CloudEvent& event);

}  // namespace postrider::events
