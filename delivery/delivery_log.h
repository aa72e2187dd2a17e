// The events of delivery, one function each. Keys are documented in postrider(8); changing one is a
// breaking change.
#pragma once

#include "base/log.h"
#include "mail/message.h"
#include "mail/outcome.h"

#include <string>
#include <string_view>

namespace postrider::delivery::maillog {

// Where the time of an attempt went, as Postfix's delays=a/b/c/d.
struct Delays {
  Duration before{0};      // from arrival to the dispatcher
  Duration waiting{0};     // in the dispatcher's hands
  Duration connecting{0};  // making the connection
  Duration sending{0};     // the conversation
};

// attempted, deferred and bounced have the message's traceparent, if it has one.

// One recipient of one attempt: verdict=sent|deferred|bounced, relay, delay, delays, dsn, reason; orig_to: the alias
// by which it came to this recipient.
void attempted(Log& log, const mail::Message& message, const mail::Recipient& recipient,
               const mail::Outcome& outcome, const Delays& delays, bool reused);
// It waits for a site that is in trouble, without an attempt of its own.
void deferred(Log& log, const mail::Message& message, const mail::Recipient& recipient,
              const mail::Outcome& why);
// The same line, not written.
LogEvent deferred_line(const mail::Message& message, const mail::Recipient& recipient,
                       const mail::Outcome& why);
// A smarthost does not accept our credentials: an alarm, for the mail waits until somebody acts.
void credentials_refused(Log& log, std::string_view site, std::string_view user,
                         const mail::Outcome& why, std::string_view detail);
// And this one: there is nothing to log in with.
void no_token(Log& log, std::string_view site, std::string_view user, const mail::Outcome& why);
// A recipient given up without an attempt: lifetime over, or an administrator.
void bounced(Log& log, const mail::Message& message, const mail::Recipient& recipient,
             const mail::Outcome& outcome);
// kind: failure, delay, success, double-bounce.
void notice_created(Log& log, const mail::Message& about, const mail::Message& notice,
                    const char* kind, std::string_view to);
// What an alias, a list or a .forward made of a message, as a message of its own.
void sent_on(Log& log, const mail::Message& about, const mail::Message& onward);
// What is wrong with an alias, an included file or a .forward on the way of a recipient.
void address_problem(Log& log, const mail::Message& message, const mail::Recipient& recipient,
                     std::string_view problem);
// A notice that cannot be delivered, about which there is no other, and why there is none.
void notice_dropped(Log& log, const mail::Message& about, std::string_view to, const char* why,
                    const mail::Outcome& failure);
void site_blocked(Log& log, std::string_view site, const mail::Outcome& why, TimePoint until,
                  unsigned failures);
void site_open(Log& log, std::string_view site);

}  // namespace postrider::delivery::maillog
