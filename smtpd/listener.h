// One listening socket on one loop. Accepts all that waits, turns away what is beyond the limits,
// and survives a lack of descriptors without spinning (attacks.md X04).
#pragma once

#include "base/file.h"
#include "base/net/tls/stream.h"
#include "smtpd/loop_connections.h"

#include <memory>
#include <string>
#include <vector>

struct sockaddr;

namespace postrider::smtpd {

class Listener {
 public:
  Listener(std::shared_ptr<LoopConnections> reception, FileDescriptor socket,
           const ListenerSettings& settings, std::shared_ptr<const TlsContext> tls);

  // Accepts until close(). On the loop's thread.
  static Task<void> run(std::shared_ptr<Listener> self);
  void set_tls(std::shared_ptr<const TlsContext> tls) { tls_ = std::move(tls); }
  void close();
  // Lets other sockets of ours have its port until it is closed. On any thread.
  void share_port();

 private:
  enum class Accepted : std::uint8_t { one, none, no_descriptors, closed };
  Accepted accept_one();
  void admit(FileDescriptor socket, const sockaddr* peer);
  void turn_away(const FileDescriptor& socket, const IpAddress& client, std::string_view reason,
                 std::string_view reply);
  void shed();

  std::shared_ptr<LoopConnections> reception_;
  Socket socket_;
  Role role_;
  bool proxied_;
  const std::shared_ptr<const std::string> address_;
  const std::shared_ptr<const std::string> next_hop_;
  TlsStart tls_start_;
  std::shared_ptr<const TlsContext> tls_;  // null: never
  FileDescriptor spare_;  // given up to take, and end, one connection when there is none left
  SteadyTime last_complaint_;
};

// A bound, listening socket per loop for one entry of the configuration.
struct Bound {
  std::string address;  // with the real port
  std::vector<FileDescriptor> sockets;
};
// Whether a bind failed because this machine has no such address, or no IPv6.
bool is_not_here(const Error& error);
// elsewhere: who binds where we may not (EACCES); empty: nobody. beside_own: a listener of ours that has
// shared its port is still there.
Result<Bound> bind_listener(const ListenerSettings& settings, std::size_t loops,
                            const BindElsewhere& elsewhere, bool beside_own = false);

}  // namespace postrider::smtpd
