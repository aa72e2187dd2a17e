// What sessions and their policy are configured with, in its final types (pure). Immutable once
// shared: a reload makes a new one, which new sessions use.
#pragma once

#include "base/network.h"
#include "base/time.h"
#include "mail/directory.h"
#include "mail/rewrite.h"
#include "smtpd/session/access.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace postrider::smtpd {

namespace auth {
class Authenticator;
}
class LocalCounter;

enum class Role : std::uint8_t {
  mx,         // takes mail for us from anyone, relays for relay_from; repairs nothing
  submission  // takes first submissions from known clients; adds Date and Message-ID if missing
};

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

struct SessionSettings {
  std::string hostname = "localhost";
  std::string origin;  // completes addresses of clients that may relay; empty: hostname
  std::uint64_t message_size = 50U << 20U;
  std::uint32_t recipients = 1000;    // per message; never below 100 (RFC 5321 §4.5.3.1.8)
  std::vector<Network> relay_from;    // clients that may send anywhere
  std::vector<std::string> relay_to;  // "example.org", ".example.org" (below it), "*"; lower case
  std::vector<Network> proxy_from;    // peers that may send a PROXY header
  // DELIVERBY (RFC 2852) is offered. Not where mail goes elsewhere first, or copies of it do: those hosts
  // hardly offer it, and who sends could keep a copy from arriving.
  bool deliver_by = true;
  bool success_notices = false;            // strangers may ask for them; who may relay always may
  Duration future_release = {};            // for how long mail may be held; 0: that is not offered
  std::vector<TablePtr> senders;           // who is refused
  std::vector<TablePtr> recipient_map;     // the same of recipients
  std::vector<TablePtr> relay_recipients;  // who exists in relay_to; empty: everybody
  std::shared_ptr<const mail::Rewriter> rewriter;    // null: addresses stay as they are
  std::shared_ptr<const mail::Directory> directory;  // null: nothing is local
  // SHA-256 of certificates, lower-case hex: clients that show one of them may send anywhere.
  std::vector<std::string> relay_certificates;
  std::shared_ptr<auth::Authenticator> auth;  // null: nobody can log in
  bool check_from = false;                    // of who logged in: auth.from
  LocalCounter* local_counter = nullptr;      // null: nobody counts; outlives the server's loops
  Limits limits;
};

}  // namespace postrider::smtpd
