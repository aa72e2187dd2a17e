// The door for local mail: `sendmail` of any local user, told apart by peer credentials. One
// message a connection (daemon/protocol/submit_protocol.h): a header line, the content, and then
// the answer, which is the same promise as SMTP's 250.
//
// Whoever connects may be hostile. Connections are shared: when all are taken, the user who has
// most, under whatever ids, loses the oldest to one who has fewer, and root always has room. So are
// the octets of long header lines, which the pool reads. Whoever is turned away for that hears that
// we are busy, and `sendmail` leaves the message in the drop folder.
#pragma once

#include "base/log.h"
#include "base/net/loop.h"
#include "base/result.h"
#include "mail/rewrite.h"
#include "mailauth/signer.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace postrider {
class BlockingPool;
namespace queue {
class Queue;
}
namespace smtpd::filter {
class Source;
}
}  // namespace postrider

namespace postrider::daemon {

struct SubmitAnswer;

struct SubmitSettings {
  std::string hostname;
  std::string origin;                                  // the domain of addresses without one
  std::shared_ptr<const mail::Rewriter> rewriter;      // null: addresses stay as they are
  std::shared_ptr<const mailauth::LiveSigner> signer;  // null: nothing is signed
  // What looks at it before it is taken, and signs it, as for mail from the network; then there is
  // no other signer.
  std::vector<std::shared_ptr<const smtpd::filter::Source>> filters;
  std::uint64_t message_size = 50U << 20U;
  std::size_t recipients = 1000;
  std::string double_bounce;  // gets notices whose sender cannot be reached; empty: no address
  // Counts a message of this user; an answer refuses it: EX_TEMPFAIL for now. Empty: no limits.
  std::function<std::optional<SubmitAnswer>(std::uint64_t uid, std::size_t recipients)> admit;
  // The same for a token of postrider-web, which speaks for it; and whether a user is that program.
  std::function<std::optional<SubmitAnswer>(const std::string& token, std::size_t recipients)>
      admit_token;
  std::function<bool(std::uint64_t uid)> speaks_for_tokens;
  // Whose share of places and turns a user's is part of; thread-safe. Empty: the user's own.
  std::function<std::uint64_t(std::uint64_t uid)> party;
  std::size_t connections = 200;
  std::size_t connections_per_user = 50;
  Duration header{std::chrono::seconds(60)};  // for all of its line
  Duration idle{std::chrono::seconds(60)};    // of the content, without a byte
  Duration whole{std::chrono::minutes(30)};   // for one message
};

class SubmitServer {
 public:
  // As ControlServer::open; the socket is open to every user.
  static Result<std::unique_ptr<SubmitServer>> open(std::string path, Loop& loop,
                                                    BlockingPool& pool, queue::Queue& queue,
                                                    const Clock& clock, Log& log,
                                                    SubmitSettings settings);
  ~SubmitServer();
  void start();
  void stop();                                // as ControlServer::stop
  void reconfigure(SubmitSettings settings);  // for connections from now on; on the loop's thread

 private:
  struct State;
  explicit SubmitServer(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

}  // namespace postrider::daemon
