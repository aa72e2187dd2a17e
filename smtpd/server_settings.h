// What the receiving side is configured with, in its final types: listeners, certificates, times,
// and what its sessions are configured with. Immutable once shared: a reload makes a new one, which
// new sessions use (Server::configure).
#pragma once

#include "base/net/tls/tls_context.h"
#include "base/result.h"
#include "base/time.h"
#include "smtpd/session/session_settings.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <sys/socket.h>
#include <vector>

namespace postrider::smtpd {

namespace filter {
class Source;
}

enum class TlsStart : std::uint8_t { never, starttls, at_once };

struct ListenerSettings {
  std::string address;  // "0.0.0.0:25", "[::]:25", "unix:/path"; a name for messages if inherited
  Role role = Role::mx;
  bool proxy_protocol = false;  // expects a PROXY header from Settings::proxy_from, nobody else
  int inherited = -1;           // a listening socket from systemd; owned by the server from then on
  TlsStart tls = TlsStart::never;  // the others need Server::offer_tls
  // Where its mail goes first, as delivery describes it ("smtp://host:25"); empty: by routes.
  std::string next_hop = {};
  bool if_here = false;  // an address that this machine lacks is left out
};

// What every listener with TLS shows. Tickets are the listener's own.
struct TlsOffer {
  std::vector<std::shared_ptr<const TlsIdentity>> identities;
  TlsVersion lowest = TlsVersion::tls1_2;  // for other servers; users' programs need 1.2 at least
  bool asks_for_certificate = false;
  BlockingPool* workers = nullptr;  // for handshakes; outlives the server's loops
};

// Binds a socket of ours to an address for which we lack the right.
using BindElsewhere =
    std::function<Result<void>(int socket, const sockaddr* address, socklen_t size)>;

struct Timeouts {
  Duration command{std::chrono::minutes(5)};     // RFC 5321 §4.5.3.2.7; for a whole command line
  Duration data{std::chrono::minutes(3)};        // silence within a message, and the grace before
  std::uint32_t data_rate = 500;                 // octets a second that are the least (X01)
  Duration reply{std::chrono::minutes(5)};       // for the client to take our replies
  Duration proxy{std::chrono::seconds(5)};       // for the PROXY header
  Duration handshake{std::chrono::seconds(30)};  // TLS, in all (attacks.md T12)
  Duration session{std::chrono::hours(24)};      // in all
  Duration lookup{std::chrono::seconds(10)};     // of an address, then 451
  Duration stressed{std::chrono::seconds(10)};   // command and data when slots run low
};

struct ServerSettings : SessionSettings {
  // The names of strangers on listeners of the role mx, and how long they are waited for from the
  // connection on.
  bool looks_up_names = false;
  Duration name_patience{std::chrono::seconds(5)};
  Duration greeting_delay{0};  // for them, and who talks meanwhile is refused
  std::function<void(const IpAddress& client)> note_failure;  // of theirs; may be empty
  bool auth_in_clear = false;  // without TLS too, on listeners that have none, over loopback
  // What looks at mail before it is taken, in this order (smtpd/filter/mail_filter.h).
  std::vector<std::shared_ptr<const filter::Source>> filters;
  Timeouts timeouts;
};

}  // namespace postrider::smtpd
