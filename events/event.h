// What became of a message, a site or the daemon itself, as applications hear of it: one event of
// CloudEvents 1.0. The names are those of the log (postrider(8)) and are an interface, described in
// postrider-events(7) and doc/events.schema.json: changing one is a breaking change.
#pragma once

#include "base/time.h"

#include <cstddef>
#include <cstdint>
#include <string>

namespace postrider::events {

// Stored. Do not renumber.
enum class Kind : std::uint8_t {
  accepted = 0,  // in our custody
  rejected = 1,  // a command was refused; nothing was taken
  deferred = 2,  // this recipient waits for another attempt
  delivered = 3,
  bounced = 4,  // refused for good, here or there
  expired = 5,  // its lifetime ended
  removed = 6,  // by an administrator, without a word to the sender
  held = 7,
  released = 8,
  site_blocked = 9,
  site_open = 10,
  alarm_on = 11,  // somebody must act
  alarm_off = 12,
  events_lost = 13,  // there were events that this stream does not have
};
inline constexpr std::size_t kKinds = 14;

// A field that is empty was not known or does not apply, and is left out; but `from` is given as
// empty for the null sender. Values are octets as they came from outside.
struct CloudEvent {
  Kind kind = Kind::accepted;
  TimePoint time;
  std::string id;           // unique together with source; the same when an event is sent again
  std::string source;       // a URI reference: "//mx.example.org/postrider"
  std::string subject;      // the message, session, site or alarm that it is about
  std::int64_t fact = 0;    // of the queue (queue/fact.h), or 0; makes its id
  std::string traceparent;  // W3C Trace Context, as an application gave it

  // data
  std::string message, session;  // queue id; session id
  std::string message_id;        // of the header, with its brackets
  std::string tag;               // the sender's own reference: ENVID, decoded
  bool has_from = false;         // there is an envelope
  std::string from, to;          // its addresses without brackets
  std::string nrcpt, size;       // of accepted
  std::string client, client_name, helo, user, mechanism, protocol, tls;
  std::string stage, reply;               // of rejected
  std::string attempt;                    // which one it was for this recipient, from 1
  std::string relay;                      // "mx1.example.org[192.0.2.1]:25"
  std::string dsn, status_class, reason;  // "4.4.1"; success, transient, permanent
  std::string delay, delays, reused;      // seconds; before/waiting/connecting/sending
  std::string site, until, failures;      // of site_*
  std::string alarm, by, uid;             // of alarm_*; who did it
  std::string count, sink;                // of events_lost
};

}  // namespace postrider::events
