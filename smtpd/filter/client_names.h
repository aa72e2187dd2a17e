// The names that clients have in the DNS: asked for once for each client in a while, and confirmed
// only where they lead back to its address (RFC 8601 §3, "iprev").
#pragma once

#include "base/network.h"
#include "base/time.h"
#include "mailauth/asking.h"
#include "smtpd/session/client_name.h"

#include <cstddef>
#include <list>
#include <map>
#include <optional>

namespace postrider::smtpd::filter {

// The first name that leads back, or the first. A name that is not a host name is none: it would
// stand in Received fields, logs and questions to filters. Asks eleven questions at most.
mailauth::Asking<ClientName> find_client_name(IpAddress client);

// What was found lately: confirmed names, and whose name servers do not answer. That there is no
// such name the resolver remembers, for as long as the DNS says. Bounded: the oldest goes first.
// Not thread-safe.
class ClientNames {
 public:
  static constexpr std::size_t kMost = 8192;
  static constexpr Duration kKept{std::chrono::minutes(10)};
  // Of a client whose name servers do not answer.
  static constexpr Duration kUnknownKept{std::chrono::minutes(1)};

  std::optional<ClientName> find(const IpAddress& client, SteadyTime now) const;
  void keep(const IpAddress& client, const ClientName& name, SteadyTime now);
  std::size_t size() const { return kept_.size(); }

 private:
  struct Kept {
    ClientName name;
    SteadyTime until;
    std::list<IpAddress>::iterator place;
  };
  std::map<IpAddress, Kept> kept_;
  std::list<IpAddress> order_;
};

}  // namespace postrider::smtpd::filter
