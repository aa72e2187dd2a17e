// A message as it moves through the program: immutable, shared, cheap to hand on.
#pragma once

#include "base/time.h"
#include "mail/envelope.h"
#include "mail/precedence.h"

#include <cstdint>
#include <memory>
#include <string>

namespace postrider::mail {

// The content as it will go on the wire, CRLF line ends, not dot-stuffed: `trace` (the header
// fields that we add on top) followed by the bytes received. The latter are in memory or in a
// spool file.
struct Content {
  std::string trace;
  std::shared_ptr<const std::string> bytes;  // null: in the file
  std::string file;                          // name below <spool>/body; empty: in memory
  std::uint64_t size = 0;                    // of bytes or file, without trace
  bool has_8bit = false;                     // an octet above 127 in it
  bool has_8bit_header = false;              // such an octet in its header section
  std::uint32_t longest_line = 0;            // octets without CRLF
  bool ends_with_crlf = true;
};

// Where a message came from, for listings and logs.
struct Origin {
  std::string client;    // "a.name[192.0.2.1]", with " uid 1000" of a user here; "local uid 1000"
  std::string protocol;  // "ESMTP", "local", "notice"
  std::string tls{};     // "TLSv1.3 with cipher ...", as in Received; empty: in clear
  // traceparent of W3C Trace Context ("00-...-...-01"), as its application gave it; empty: none.
  std::string trace_parent{};
  std::string user{};  // as which its client logged in; empty: it did not
  // Where it goes first, whatever its recipients ("smtp://127.0.0.1:10025"), as its listener demands;
  // empty: where they lead.
  std::string next_hop{};
};

struct Message {
  MessageId id;
  TimePoint received;
  Envelope envelope;
  Content content;
  Origin origin;
  Precedence precedence = Precedence::none;  // as its header says
};

}  // namespace postrider::mail
