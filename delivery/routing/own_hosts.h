// What counts as this machine where mail is routed: no next hop leads there.
#pragma once

#include <boost/asio/ip/address.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace postrider::delivery {

// An address that we listen on. The unspecified address stands for every address of this machine.
struct OwnAddress {
  boost::asio::ip::address address;
  std::uint16_t port = 25;
};

struct OwnHosts {
  std::string hostname;               // what we say in EHLO
  std::vector<std::string> names;     // further names of ours
  std::vector<OwnAddress> addresses;  // of the listeners
};

}  // namespace postrider::delivery
