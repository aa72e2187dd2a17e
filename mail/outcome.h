// How one attempt ended for one recipient: data, not an error. Stored per recipient, logged, shown
// by the tools and quoted in the notice, unchanged.
#pragma once

#include "mail/reply.h"

#include <cstdint>
#include <memory>
#include <string>

namespace postrider::mail {

// Stored. Do not renumber. What came of a recipient.
enum class Verdict : std::uint8_t { delivered = 0, retry = 1, bounce = 2 };

// Stored. Do not renumber. How far an attempt got, in order.
enum class Stage : std::uint8_t {
  route = 0,  // no host to try: DNS, null MX, a loop
  connect = 1,
  greeting = 2,
  ehlo = 3,
  starttls = 4,
  auth = 5,
  mail = 6,
  rcpt = 7,
  data = 8,       // DATA, before the content
  body = 9,       // sending the content
  body_end = 10,  // waiting for the reply to the end of the content
  local = 11,     // delivery on this machine
  expired = 12,   // the message's lifetime ended
  admin = 13,     // an administrator said so
};
// "sending RCPT TO"; "sending the end of the message (it may arrive twice)"
const char* phrase(Stage stage);

struct Outcome {
  Verdict verdict = Verdict::retry;
  Stage stage = Stage::route;
  EnhancedCode status;  // always set, class by verdict: 2, 4 or 5
  std::string remote;   // "mx1.example.org[192.0.2.1]:25", or empty
  Reply reply;          // the remote's reply, code 0 if there was none
  std::string text;     // for people, one line, ours: "connecting to ...: Connection refused"
  // What protected the connection: "TLSv1.3 TLS_AES_256_GCM_SHA384 verified=dane", "none (...)";
  // shared by all outcomes of a connection. Null: there was none, or nothing was decided yet.
  std::shared_ptr<const std::string> tls;
  bool relayed_to_non_dsn = false;  // delivered to a hop without DSN (RFC 3461 §5.2.2)
  // Delivered by going on to other addresses: who asked for word of success hears of it from there
  // (RFC 3461 §5.2.7.1), or hears that it was expanded (§5.2.7.2). Not stored.
  enum class Onward : std::uint8_t { no, forwarded, expanded };
  Onward onward = Onward::no;

  // What the listing shows as the reason, Postfix's form: "host mx1[192.0.2.1] said: 451 4.3.0 ..."
  std::string reason() const;
};

}  // namespace postrider::mail
