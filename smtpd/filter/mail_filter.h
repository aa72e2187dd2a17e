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
//   end                        the message is there, and not ours yet. May add fields on top,
//   change
//                              header, body and envelope, and have the message held
//   abort                      the message has ended in whatever way, before another may begin
//
// Behind a filter that changes content at the end, others see the content only then, as it has
// become: on_top, header, body* and end follow each other at once. One that can be shown a message
// again has seen it as it came, and sees it again if it was changed; it hears abort() before.
//
// What a filter refuses in header or body is refused when the content has ended. After Verdict
// `done` it sees nothing more of the message but abort(). A message that the session itself refuses
// for its form is not shown on; its filters hear abort().
//
// Destroyed with its session, perhaps in the middle of a message, never within a call.
#pragma once

#include "base/net/loop.h"
#include "base/result.h"
#include "mail/envelope.h"
#include "mail/message_id.h"
#include "smtpd/session/filter_verdict.h"
#include "smtpd/session/policy.h"

#include <cstddef>
#include <cstdint>
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
  std::string listener;             // its address; empty: none
  bool is_on_its_way = false;       // to a content filter, from which it comes back
  bool is_sendmail = false;         // from a program of this machine, without a session
  mail::MessageId message;          // the id that the message at hand will have; 0 before MAIL
  std::uint64_t declared_size = 0;  // of it, as MAIL says; 0: it does not
  std::string helo;                 // as given; empty before EHLO
  std::string protocol = "SMTP";    // the keyword of Received
  const TlsFacts* tls = nullptr;    // null: in clear

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
  // Waits until Facts::client has the name that is looked up, if one is. May be empty.
  std::function<Task<void>()> client_name = {};
};

// What stands behind the header section of a message that has ended, with its line ends: read in
// pieces, and replaced as a whole.
class WholeBody {
 public:
  // No piece is larger.
  static constexpr std::size_t kPiece = 32768;

  virtual ~WholeBody() = default;
  // The octets from `offset` on; none at the end. Good until the next call of any function.
  virtual Result<std::string_view> read(std::uint64_t offset) = 0;
  // A part of a new one, which takes the place of the old at adopt(). Its line ends become CRLF.
  virtual Result<void> append(std::string_view piece) = 0;
  // Without append() before: nothing is in its place. After an error the old one stays.
  virtual Result<void> adopt() = 0;
  // What was appended and not adopted is forgotten.
  virtual void drop() = 0;
};

// A message as end() sees and changes it.
struct Ending {
  mail::MessageId id;        // as it will be kept and logged under
  mail::Envelope& envelope;  // recipients may go; without any the message is thrown away
  // The header section as it will be stored: of whole fields, without the empty line. No Received
  // field of ours.
  std::string& header;
  WholeBody& body;
  // Fields of ours that will stand above it, Received not among them; each filter puts its own on
  // top. Of whole lines with CRLF.
  std::string on_top = {};
  bool has_changed = false;  // header or body; to be set by whoever changes them
  std::string hold = {};     // why the message is taken, but not delivered before somebody says so
};

class Filter {
 public:
  virtual ~Filter() = default;
  // Constant. Commands at which it is asked.
  virtual Stages stages() const { return 0; }
  // Constant. Its end() may change header or body, or add fields on top that others should see.
  virtual bool changes_at_end() const { return false; }
  // Constant. After abort() the content of the same message may be shown once more.
  virtual bool can_be_shown_again() const { return false; }

  virtual Task<Verdict> connect() { co_return Verdict{}; }
  virtual Task<Verdict> helo() { co_return Verdict{}; }
  virtual Task<Verdict> mail(const mail::Envelope&) { co_return Verdict{}; }
  virtual Task<Verdict> recipient(const mail::Recipient&) { co_return Verdict{}; }
  virtual Task<Verdict> data(const mail::Envelope&) { co_return Verdict{}; }
  // Where the content is shown at the end: Ending::on_top as it then is, before header().
  virtual void on_top(std::string_view) {}
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
