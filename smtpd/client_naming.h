// The client's name in the DNS: asked for from the connection on, and waited for where it is needed
// first, by a filter or for Received. Lives on the connection's loop.
#pragma once

#include "smtpd/loop_connections.h"

#include <functional>
#include <memory>

namespace postrider::smtpd {

class ClientNaming {
 public:
  using OnName = std::function<void(const ClientName&)>;
  // connections outlives it.
  explicit ClientNaming(LoopConnections& connections) : connections_(connections) {}

  // Once; strangers on listeners of the role mx alone have names. on_name: once, at once or while
  // somebody waits, unless none is asked for.
  void begin(const Client& client, Role role, const ServerSettings& settings, OnName on_name);
  // Until the name is known, or will not be in time.
  Task<void> await();
  // The wait under way ends, and so does every later one, without a name.
  void give_up();

 private:
  void end(const ClientName& name);

  LoopConnections& connections_;
  IpAddress address_;
  OnName on_name_;
  // While the name is asked for.
  std::shared_ptr<filter::Questioner::RunOf<ClientName>> run_;
  bool has_given_up_ = false;
};

}  // namespace postrider::smtpd
