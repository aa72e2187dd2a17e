// Which way mail for a domain goes: the first matching route, or MX. Pure.
#pragma once

#include "base/network.h"
#include "base/result.h"
#include "delivery/tls/tls_policy.h"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::delivery {

class CredentialSource;

// Where a route leads.
//   mx                          the domain's own MX hosts
//   smtp://host[:port]          that host: address lookups only, never MX; "[192.0.2.1]" is an
//   address smtps://host[:port]         the same with TLS from the first byte lmtp://host[:port],
//   lmtp:///path/of/socket error:5.1.2 Text            refused with that status and text discard:
//   taken and thrown away
struct NextHop {
  enum class Kind : std::uint8_t { mx, smtp, smtps, lmtp, lmtp_socket, error, discard };
  Kind kind = Kind::mx;
  std::string host;         // name in lower case, or a bare address; path for lmtp_socket
  std::uint16_t port = 25;  // 25, 465 or 24 when not given
  std::string status;       // of error: "5.1.2"
  std::string text;         // of error
  std::string describe() const;
  // By its name or address: 127.0.0.0/8, ::1, localhost, a socket. Asks nobody.
  bool is_on_this_machine() const;
};
Result<NextHop> parse_next_hop(std::string_view text);
// What follows "lmtp:" in local.mailbox: "unix:/path/of/socket", "host:port" or "host".
Result<NextHop> lmtp_next_hop(std::string_view text);
// "lmtp:..." as it may be shown if it has a login, which is none: "lmtp:***@host:port".
std::string without_login(std::string_view place);

struct Route {
  std::string domain = "*";  // example.org | .example.org (every name below it) | *
  // Whose mail: "ann@example.org", "example.org", ".example.org", "<>"; empty: everybody's.
  std::vector<std::string> senders;
  NextHop next_hop;
  TlsMode tls = TlsMode::opportunistic;
  std::vector<std::string> tls_names;  // for `verify`: the names that count; empty: the usual
  std::string credentials;             // path; empty: none
  // Of this machine, one of a family at most: connections come from them, and go to addresses of
  // their families alone. Empty: the system chooses.
  std::vector<IpAddress> sources;
  std::string helo;               // said in EHLO; empty: the host name
  bool unverified_login = false;  // used with a host whose certificate is not verified, too
  std::shared_ptr<CredentialSource> secrets;  // made of the file; null: none, or it cannot be used
  std::string trouble;                        // why the credentials cannot be used; empty: they can
};
// Whether the pattern is one of the three forms.
bool is_route_domain(std::string_view pattern);
bool matches(std::string_view pattern, std::string_view domain);
bool is_of_sender(const Route& route, std::string_view sender);
// The first match, or null: by MX. domain: lower case, A-labels. sender: the envelope's.
const Route* find_route(const std::vector<Route>& routes, std::string_view domain,
                        std::string_view sender);
// The same for a sender that no route names.
const Route* find_route(const std::vector<Route>& routes, std::string_view domain);
// Whether mail for this domain goes different ways, by its sender.
bool depends_on_sender(const std::vector<Route>& routes, std::string_view domain);
// " from 192.0.2.1 as mx2.example.org": what tells its connections from those of others to the same
// hosts; empty where nothing does. route: may be null.
std::string connection_tag(const Route* route);

}  // namespace postrider::delivery
