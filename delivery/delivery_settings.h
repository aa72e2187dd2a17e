// What delivery is told by the configuration: immutable, replaced as a whole by a reload.
#pragma once

#include "base/time.h"
#include "delivery/local/addresses/expander.h"
#include "delivery/local/addresses/forward_count.h"
#include "delivery/local/agents/local_target.h"
#include "delivery/routing/route.h"
#include "dns/resolver.h"
#include "mailauth/signer.h"
#include "queue/schedule.h"

#include <boost/asio/ip/address.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace postrider {
class TlsContext;
}

namespace postrider::delivery {

// How long to wait at each stage (RFC 5321 §4.5.3.2; the connection as Postfix has it).
struct Timeouts {
  Duration connect = std::chrono::seconds(30);
  Duration greeting = std::chrono::minutes(5);
  Duration ehlo = std::chrono::minutes(5);
  Duration mail = std::chrono::minutes(5);
  Duration rcpt = std::chrono::minutes(5);
  Duration data = std::chrono::minutes(2);
  Duration block = std::chrono::minutes(3);      // a block of the content
  Duration body_end = std::chrono::minutes(10);  // a shorter wait makes duplicates
  Duration quit = std::chrono::seconds(5);
  Duration handshake = std::chrono::minutes(1);  // of TLS
  Duration auth = std::chrono::minutes(5);       // each reply
};

using dns::Families;

// An address that we listen on. The unspecified address stands for every address of this machine.
struct OwnAddress {
  boost::asio::ip::address address;
  std::uint16_t port = 25;
};

struct DeliverySettings {
  std::string hostname;                   // said in EHLO; ours, so never a next hop
  std::vector<std::string> own_names;     // further names of ours
  std::vector<OwnAddress> own_addresses;  // of the listeners
  std::vector<Route> routes;
  std::uint16_t port = 25;  // of MX hosts
  queue::RetrySchedule retry{{std::chrono::minutes(1), std::chrono::minutes(5),
                              std::chrono::minutes(15), std::chrono::minutes(30),
                              std::chrono::hours(1), std::chrono::hours(2), std::chrono::hours(4)}};
  Duration lifetime = std::chrono::hours(120);  // of mail
  unsigned site_connections = 20;
  unsigned connections = 500;      // in all
  std::size_t remembered = 10000;  // destinations and sites, before unused ones are forgotten
  unsigned local_deliveries = 4;   // at one time
  Families families = Families::both;
  Duration idle_connection = std::chrono::seconds(5);  // kept open for the next message
  std::string mailbox = "maildir:/var/mail/{user}/";
  std::optional<Route> mailbox_route;  // where mailbox is lmtp:
  std::uint32_t minimum_uid = 1000;    // of accounts with whose rights is delivered
  TargetLimits local_limits;
  CountForward count_forward;  // may be empty
  // The addresses of this machine. Null: every local recipient is the user of that name.
  std::shared_ptr<const LocalAddresses> book;
  std::shared_ptr<const Users> users;                  // set if book is
  std::string double_bounce;                           // address; empty: logged and dropped
  std::shared_ptr<const mailauth::LiveSigner> signer;  // of notices; null: not signed
  Timeouts timeouts;
  // For handshakes where any TLS is better than none, and where it must be good. Null: no TLS.
  std::shared_ptr<const TlsContext> tls_lenient;
  std::shared_ptr<const TlsContext> tls_strict;
};

}  // namespace postrider::delivery
