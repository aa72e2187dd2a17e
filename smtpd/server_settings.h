// What the receiving side is configured with, in its final types. Immutable once shared: a reload
// makes a new one, which new sessions use (Server::configure).
#pragma once

#include "base/net/tls/tls_context.h"
#include "base/network.h"
#include "base/result.h"
#include "base/time.h"
#include "mail/directory.h"
#include "mail/rewrite.h"
#include "smtpd/local_sender.h"
#include "smtpd/session/access.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <sys/socket.h>
#include <vector>

namespace postrider::smtpd {

namespace auth {
class Authenticator;
}
namespace filter {
class Source;
}

enum class Role : std::uint8_t {
  mx,         // takes mail for us from anyone, relays for relay_from; repairs nothing
  submission  // takes first submissions from known clients; adds Date and Message-ID if missing
};

enum class TlsStart : std::uint8_t { never, starttls, at_once };

struct ListenerSettings {
  std::string address;  // "0.0.0.0:25", "[::]:25", "unix:/path"; a name for messages if inherited
  Role role = Role::mx;
  bool proxy_protocol = false;  // expects a PROXY header from Settings::proxy_from, nobody else
  int inherited = -1;           // a listening socket from systemd; owned by the server from then on
  TlsStart tls = TlsStart::never;  // the others need Server::offer_tls
  bool if_here = false;            // an address that this machine lacks is left out
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

struct Limits {
  std::uint32_t errors = 20;  // refused commands in a session, then 421 4.7.0
  std::uint32_t junk = 100;   // NOOP, RSET, VRFY, ... between two messages, then each is an error
  std::uint32_t recipient_overshoot = 1000;  // recipients refused with 452 before 421
  std::uint32_t command_length = 4096;       // octets with CRLF; RFC 5321 asks for 512
  std::uint32_t overlong_command = 65536;    // octets of an overlong command before the end
  std::uint32_t header_size = 1U << 20U;     // octets of a header section
  std::uint32_t received_fields = 100;       // a loop (RFC 5321 §6.3 asks for 100 at least)
  std::uint32_t sessions = 16384;            // in all; never more than the file limit allows
  std::size_t content_memory = 128U << 20U;  // octets of content that all sessions hold
  std::uint32_t sessions_per_client = 50;    // of one IPv4 address or one IPv6 /64
  std::uint32_t sessions_per_network = 200;  // of one IPv4 /24 or one IPv6 /48
};

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

struct ServerSettings {
  std::string hostname = "localhost";
  std::string origin;  // completes addresses of clients that may relay; empty: hostname
  std::uint64_t message_size = 50U << 20U;
  std::uint32_t recipients = 1000;    // per message; never below 100 (RFC 5321 §4.5.3.1.8)
  std::vector<Network> relay_from;    // clients that may send anywhere
  std::vector<std::string> relay_to;  // "example.org", ".example.org" (below it), "*"; lower case
  std::vector<Network> proxy_from;    // peers that may send a PROXY header
  bool success_notices = false;       // strangers may ask for them; who may relay always may
  // The names of strangers on listeners of the role mx, and how long they are waited for from the
  // connection on.
  bool looks_up_names = false;
  Duration name_patience{std::chrono::seconds(5)};
  Duration greeting_delay{0};  // for them, and who talks meanwhile is refused
  std::function<void(const IpAddress& client)> note_failure;  // of theirs; may be empty
  std::vector<TablePtr> senders;                              // who is refused
  std::vector<TablePtr> recipient_map;                        // the same of recipients
  std::vector<TablePtr> relay_recipients;            // who exists in relay_to; empty: everybody
  std::shared_ptr<const mail::Rewriter> rewriter;    // null: addresses stay as they are
  std::shared_ptr<const mail::Directory> directory;  // null: nothing is local
  // SHA-256 of certificates, lower-case hex: clients that show one of them may send anywhere.
  std::vector<std::string> relay_certificates;
  std::shared_ptr<auth::Authenticator> auth;  // null: nobody can log in
  bool check_from = false;                    // of who logged in: auth.from
  LocalCounter* local_counter = nullptr;      // null: nobody counts; outlives the server's loops
  bool auth_in_clear = false;  // without TLS too, on listeners that have none, over loopback
  // What looks at mail before it is taken, in this order (smtpd/filter/mail_filter.h).
  std::vector<std::shared_ptr<const filter::Source>> filters;
  Limits limits;
  Timeouts timeouts;
};

}  // namespace postrider::smtpd
