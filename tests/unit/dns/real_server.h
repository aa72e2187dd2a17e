// A name server program in its own folder, with its own port on loopback; both and the process are
// gone at the end.
#pragma once

#include "dns/name_server.h"

#include <string>
#include <sys/types.h>
#include <utility>
#include <vector>

namespace postrider::dns {

// The path of an installed program, or nothing.
std::string find_program(const std::string& name);

class RealServer {
 public:
  RealServer();
  ~RealServer();
  RealServer(const RealServer&) = delete;
  RealServer& operator=(const RealServer&) = delete;

  const std::string& folder() const { return folder_; }
  Server address() const { return {asio::ip::address_v4::loopback(), port_}; }
  std::string port() const { return std::to_string(port_); }
  void write(const std::string& name, const std::string& text) const;
  void start(const std::vector<std::string>& command);
  bool is_running() const;
  std::string complaints() const;  // what the process has written

 private:
  std::string folder_;
  std::uint16_t port_ = 0;
  pid_t process_ = -1;
};

// knotd with the zones; those in `signed_zones` are signed with keys that it makes. Name to text.
using Zones = std::vector<std::pair<std::string, std::string>>;
void start_knot(RealServer& server, const Zones& zones, const Zones& signed_zones = {});
// "signed.example. DS 12345 13 2 ..." of a running knotd.
std::string delegation_signer(const RealServer& knot, const std::string& zone);

}  // namespace postrider::dns
