// How many connections go to one address, whatever sites it serves: anybody can let many names lead
// there.
#pragma once

#include "delivery/site.h"

#include <memory>
#include <string>
#include <unordered_map>

namespace postrider::delivery {

// On the dispatcher's loop.
class AddressPlaces {
 public:
  // Takes a place at the first candidate that has one, which goes to the front. False: there are
  // candidates, and none has one.
  bool reserve(const Site& site, CourierOrder& order, SteadyTime now);
  // Since then a site that has no connection found no place there. Such sites try again all the
  // time, so what was refused longer ago is over.
  bool was_refused_since(const std::string& address, SteadyTime since) const;

 private:
  struct Address {
    std::shared_ptr<AddressSlot> slot;
    SteadyTime refused{};  // when a site that has no connection last found no place there
  };
  std::unordered_map<std::string, Address> addresses_;
};

}  // namespace postrider::delivery
