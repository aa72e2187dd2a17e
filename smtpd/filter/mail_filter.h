// The seam between a session and what looks at its mail, may change it, and has a say in whether it
// is taken: checks of authentication, signatures, milters.
//
// A Source is one configured filter, shared by all loops. It makes a Filter for each session that
// concerns it. Several stand in a Chain (smtpd/filter/chain.h), in the order of Settings::filters;
// each is shown what those before it have made of the message. Each function may wait, and the
// session waits with it (its client has no reply, or is not read from); a slow filter keeps up its
// own session and no other. The time that it may take is the filter's own concern; all of it ends
// early at give_up().
//
// In a message's life, all on the session's loop, one call at a time:
//
//   connect helo               once, and at each EHLO; only if stages() names them
//   mail  recipient*  data     only if stages() names them; those that were accepted so far. For
//                              BDAT, data comes with the first content, and what it refuses is
//                              refused at the end
//   header                     the whole section, before any of it is stored, as a submission was
//                              completed. May be changed here
//   body*                      what stands behind the empty line, in pieces of any size, as it
//                              arrives; may be none. CRLF line ends, no dot-stuffing
//   end                        the message is there, and not ours yet. May add fields on top, and
//                              change the envelope
//   abort                      the message has ended in whatever way, before another may begin
//
// What a filter refuses in header or body is refused when the content has ended. After Verdict
// `done` it sees nothing more of the message but abort(). A message that the session itself refuses
// for its form is not shown on; its filters hear abort().
//
// Destroyed with its session, perhaps in the middle of a message, never within a call.
#pragma once

#include "base/net/loop.h"
#include "mail/envelope.h"
#include "mail/message_id.h"
#include "smtpd/session/filter_verdict.h"
#include "smtpd/session/policy.h"

#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace postrider {
class Clock;
class Log;
struct TlsFacts;
namespace dns {
class Resolver;
}
}  // namespace postrider

namespace postrider::smtpd::filter {

class Questioner;

// What is known of the session; kept up to date by its owner before each call.
struct Facts {
  std::string session;   // its id, for the log
  std::string hostname;  // ours
  Role role = Role::mx;
  Client client;
  std::string helo;               // as given; empty before EHLO
  std::string protocol = "SMTP";  // the keyword of Received
  const TlsFacts* tls = nullptr;  // null: in clear

  // Logged in, of relay_from, or local.
  bool is_ours() const { return Policy::may_relay(client); }
};

// What a filter may use. All outlive the session.
struct Surroundings {
  Loop& loop;
  const Clock& clock;
  Log& log;
  Questioner* dns = nullptr;  // null: there is no resolver (smtpd/filter/questioner.h)
  // Runs a job that may wait for a disk or a directory on a thread; it owns what it uses, and of
  // two with the same key one runs at a time. False: not in time, and it may yet run. May be empty.
  std::function<Task<bool>(std::string key, std::function<void()> job)> aside = {};
};

// A message as end() sees and changes it.
struct Ending {
  mail::MessageId id;        // as it will be kept and logged under
  mail::Envelope& envelope;  // recipients may go; without any the message is thrown away
  // The header section as it will be stored: of whole fields, without the empty line. No Received
  // field of ours.
  std::string_view header;
  // Fields of ours that will stand above it, Received not among them; each filter puts its own on
  // top. Of whole lines with CRLF.
  std::string on_top;
};

class Filter {
 public:
  virtual ~Filter() = default;
  // Constant. Commands at which it is asked.
  virtual Stages stages() const { return 0; }

  virtual Task<Verdict> connect() { co_return Verdict{}; }
  virtual Task<Verdict> helo() { co_return Verdict{}; }
  virtual Task<Verdict> mail(const mail::Envelope&) { co_return Verdict{}; }
  virtual Task<Verdict> recipient(const mail::Recipient&) { co_return Verdict{}; }
  virtual Task<Verdict> data(const mail::Envelope&) { co_return Verdict{}; }
  // section: may be changed; of whole fields, as in Ending.
  virtual Task<Verdict> header(const mail::Envelope&, std::string& section) = 0;
  // False: body() need not be called for this message. Asked once, after header().
  virtual bool wants_body() const { return true; }
  virtual Task<Verdict> body(std::string_view piece) = 0;
  virtual Task<Verdict> end(Ending& ending) = 0;
  virtual void abort() {}
  // What is being waited for ends at once, with the best that can be said then; later calls do not
  // wait any more. The call under way has not returned yet when this returns.
  virtual void give_up() {}
};

class Source {
 public:
  virtual ~Source() = default;
  // Null: this session is no concern of it. facts and surroundings outlive the filter; the client
  // is known, but may yet log in or show a certificate.
  virtual std::unique_ptr<Filter> make(const Facts& facts,
                                       const Surroundings& surroundings) const = 0;
};

}  // namespace postrider::smtpd::filter
