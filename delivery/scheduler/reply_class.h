// What a refusal means for the way mail is sent: whose trouble it is, and what to do about it. One
// table of replies that are known (reply_table.cc), then the enhanced code, then the code. Pure.
#pragma once

#include "base/time.h"
#include "mail/outcome.h"
#include "mail/reply.h"

#include <cstdint>
#include <string_view>

namespace postrider::scheduler {

// Stored, as a number (queue::RetryTally). Do not renumber.
enum class ReplyClass : std::uint8_t {
  greylisted,      // come again: the sender is not known yet
  rate,            // too many messages from us
  recipient_rate,  // too many messages for this mailbox, whoever sends them
  connections,     // too many connections at one time
  session_spent,   // this connection has carried what it may carry
  recipients,      // too many recipients for one transaction
  mailbox_full,
  no_mailbox,
  policy,          // this message, or what is in it
  reputation,      // what the site thinks of us
  authentication,  // SPF, DKIM or DMARC of the message
  dns,             // our names or the sender's, or the DNS itself
  network,         // no conversation, or it broke
  tls,
  busy,  // the site, or this machine, is in trouble for now
  too_big,
  protocol,
  our_fault,  // we are set up wrongly, or speak to the wrong host
};
inline constexpr std::size_t kReplyClasses = 18;
const char* name(ReplyClass klass);  // "mailbox-full", as in the configuration
// Trouble with the site rather than with one message.
bool is_about_site(ReplyClass klass);

struct ReplyMeaning {
  ReplyClass klass = ReplyClass::busy;
  bool limits_rate = false;         // the site's rate finder hears of it
  bool limits_connections = false;  // the site's limit finder hears of it
  bool try_other_host = false;      // by another address: even a 5xx may pass there at once
  bool try_other_family = false;    // over IPv4, to be precise
  bool new_connection = false;      // nothing is wrong: go on with a new connection or transaction
  bool alarm = false;               // an administrator must see it
  bool bounce = false;              // never for a 4xx, but behind most_tries or give_up_after
  bool kept = false;                // a 5xx that passes: retry it
  Duration suspend{0};              // stop the site for so long ...
  unsigned suspend_after = 0;       // ... once there were so many within an hour
  Duration wait{0};                 // for this message; 0: the schedule of its class
  double rate_per_minute = 0;       // the site's rate from now on; 0: nothing is known
  unsigned most_tries = 0;          // 0: as many as its lifetime has
  Duration give_up_after{0};
  std::string_view who;  // the row: whose reply it is, or "enhanced code", "code"
};

// What a refusal by `host` (the MX's name, for wordings that two use differently) says.
// is_first_try: of this message at this site; only then is a bare 450 taken for greylisting.
ReplyMeaning classify(mail::Stage stage, const mail::Reply& reply, std::string_view host,
                      bool is_first_try);
// No reply: it could not be connected to, the conversation broke, or the trouble is of this machine
// (a mailbox, a command, what it lacks), which only the outcome's own code tells.
ReplyMeaning classify_failure(mail::Stage stage, mail::EnhancedCode status = {});

// One row of the table. Alternatives are separated by '|', and '*' in a text stands for anything.
struct ReplyRow {
  std::string_view who;
  std::string_view host;      // suffixes of the MX's name; empty: any
  std::string_view codes;     // "421 450", "4xx"
  std::string_view enhanced;  // "4.7.26 4.7.30", "4.7.500-699", "x.7.24"; empty: any
  std::string_view text;      // in lower case, somewhere in the joined lines
  ReplyClass klass;
  // m wait | R rate | R1 to one a minute | W connections | S1h suspend | S1h/3 after 3 in an hour |
  // F other host | F4 IPv4 | N new connection | ! alarm | b bounce | b3 after 3 tries | b1d after a
  // day | k6 keep a 5xx for 6 tries | g only before MAIL
  std::string_view what;
  std::string_view source;
};
struct ReplyRows {
  const ReplyRow* first;
  std::size_t count;
  const ReplyRow* begin() const { return first; }
  const ReplyRow* end() const { return first + count; }
};
ReplyRows reply_rows();

}  // namespace postrider::scheduler
