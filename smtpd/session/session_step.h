// What a session answers to a line or an event, and the facts about the server that it is judged
// by (pure).
#pragma once

#include "base/time.h"
#include "mail/body_reader.h"

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace postrider::smtpd {

// refused: the header names an author who is somebody else.
enum class Storage : std::uint8_t { open, no_room, failed, refused };

// Facts about the server that change during a session; the driver keeps them up to date.
struct Conditions {
  Storage storage = Storage::open;
  bool stopping = false;  // finish what is begun, begin nothing
  bool stressed = false;  // slots run low: no patience with strangers
  bool crowded = false;   // the client has its share of the memory: no more recipients now
  TimePoint now = {};     // of the command at hand
};

// What the driver does once it has the reply.
enum class Next : std::uint8_t {
  read_command,
  read_data,   // content up to CRLF.CRLF, then on_content_end()
  read_chunk,  // SessionTransaction::chunk().size octets, then on_content_end()
  skip_chunk,  // as many octets that nobody wants, then the reply
  store,       // take custody of the message, then on_stored()
  ask,         // SessionLogin::question() goes to the authenticator, then on_answer()
  look_up,     // SessionTransaction::question() to whoever may take long, then on_looked_up();
               // no reply yet
  filter,      // FilterGate::stage() to the filters, then on_filtered(); no reply yet
  start_tls,   // the reply, then a handshake and on_tls(), or the end; nothing may wait unread
  hang_up,
};

// reply: for the wire, may be empty; good until the session's next call.
struct Step {
  std::string_view reply;
  Next next = Next::read_command;
};

// What became of the content, beside its own facts.
struct ContentSummary {
  mail::BodyFacts facts;
  bool too_large = false;
  bool header_too_large = false;
  std::size_t received_fields = 0;
  Storage storage = Storage::open;  // of the spool file of a large message
};

}  // namespace postrider::smtpd
