// A host's address, in the order in which they are tried.
#pragma once

#include "delivery/job/address_slot.h"
#include "delivery/tls/tls_policy.h"

#include <boost/asio/generic/stream_protocol.hpp>

#include <memory>
#include <string>

namespace postrider::delivery {

struct HostAddress {
  boost::asio::generic::stream_protocol::endpoint endpoint;
  std::string address;                   // "192.0.2.1", or the path of a socket
  std::string remote;                    // "mx1.example.org[192.0.2.1]:25"
  std::string host;                      // "mx1.example.org"; empty for an address or a socket
  std::shared_ptr<const TlsDemand> tls;  // null: none is used
  std::shared_ptr<AddressSlot> slot;     // null: as many connections as may be
};

}  // namespace postrider::delivery
