// The connection to one milter for one SMTP session: opened when it is first needed, kept for all
// messages of the session, with a limit on every wait. Whatever goes wrong costs this session
// alone; a Gate, shared by all sessions of all loops, bounds the connections to one milter, and
// spares a milter that cannot be reached from being tried by everybody.
#pragma once

#include "base/net/loop.h"
#include "base/net/tls/stream.h"
#include "smtpd/filter/milter_session.h"

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

namespace postrider::smtpd::filter::milter {

// Where a milter listens.
class Address {
 public:
  // "127.0.0.1:8891", "[::1]:8891", "/run/filter.sock"; as others write them, too:
  // "inet:8891@127.0.0.1", "inet6:8891@::1", "inet:127.0.0.1:8891", "unix:/path", "local:/path".
  // No host names but localhost: a milter must not wait for the DNS.
  static Result<Address> parse(std::string_view text);
  asio::generic::stream_protocol::endpoint endpoint() const;
  std::string str() const;  // "127.0.0.1:8891", "[::1]:8891", "/run/filter.sock"

 private:
  std::string path_;
  IpAddress host_;
  std::uint16_t port_ = 0;
};

// What happens to mail while a milter cannot be asked.
enum class DefaultAction : std::uint8_t { tempfail, accept, reject, quarantine };
std::optional<DefaultAction> parse_default_action(std::string_view word);
// `done` for accept and quarantine; for the latter somebody else has to hold the message.
Verdict verdict_of(DefaultAction action, std::string problem);

struct Timeouts {
  Duration connect{std::chrono::seconds(30)};
  Duration command{
      std::chrono::seconds(30)};  // one answer up to the end of the header, and writing
  Duration content{std::chrono::seconds(30)};  // of a piece of the body
  Duration end{std::chrono::seconds(300)};
  Duration whole{std::chrono::hours(1)};  // one answer, whatever progress a milter tells of
};

// What the connections to all milters have together. Thread-safe.
class Total {
 public:
  struct Limits {
    std::size_t connections = 2000;
    std::size_t octets = 64UL * 1024 * 1024;  // of edits that are not carried out yet
  };
  Total() = default;
  explicit Total(const Limits& limits) : limits_(limits) {}

  bool enter();  // one more connection. False: there are too many
  void leave() { --connections_; }
  // So many octets instead of `before`. False: all together hold too much, and nothing has changed.
  bool hold(std::size_t octets, std::size_t before);
  std::size_t connections() const { return connections_.load(std::memory_order_relaxed); }
  std::size_t octets() const { return octets_.load(std::memory_order_relaxed); }

 private:
  const Limits limits_;
  std::atomic<std::size_t> connections_{0}, octets_{0};
};

// Thread-safe.
class Gate {
 public:
  struct Limits {
    std::size_t connections = 200;
    Duration first_wait{std::chrono::seconds(1)};
    Duration longest_wait{std::chrono::seconds(30)};
  };
  Gate() = default;
  // total: outlives it; null: of its own.
  explicit Gate(const Limits& limits, Total* total = nullptr)
      : limits_(limits), total_(total != nullptr ? total : &own_) {}

  // Fails at once when there are too many, or while a milter that could not be reached is given
  // time; then one session at a time finds out whether it is back. After success: leave().
  Result<void> enter(SteadyTime now);
  void leave();
  // Whether the milter could be reached, and spoke its protocol.
  void note(bool is_well, SteadyTime now);
  std::size_t connections() const;
  Total& total() { return *total_; }
  bool is_well() const;

 private:
  const Limits limits_;
  Total own_;
  Total* const total_ = &own_;
  mutable std::mutex mutex_;
  std::size_t connections_ = 0;
  Duration wait_{0};  // 0: it is well
  SteadyTime next_try_;
  bool is_trying_ = false;  // somebody who was let through meanwhile
};

class Client {
 public:
  // gate and clock outlive it.
  Client(Loop& loop, const Clock& clock, Gate& gate, Address address, const Timeouts& timeouts,
         EditLimits limits = {});
  ~Client();  // takes its leave of the milter
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Connects and negotiates, unless that is done and the milter still there. True: it is a new
  // connection, which has to be told of CONNECT and HELO. Before each message; within one a milter
  // that has gone takes what it knew of the message with it.
  Task<Result<bool>> open();
  // What to send: session().mail(...) and so on, for perform().
  Session& session() { return *session_; }
  const Session& session() const { return *session_; }
  // Sends the step. If it waits, gives what the milter answers, with its edits in session(); else
  // go_on at once, and what was to be sent may leave with a later step. After an error the
  // connection is closed. Requires: open().
  Task<Result<Verdict>> perform(Session::Step step);
  // The same of a step that does not wait: what is sent leaves with a later one.
  void tell(Session::Step step);
  // Where a new body goes as it comes; an error ends the connection. Empty: it stays in the edits.
  void set_body_sink(std::function<Result<void>(std::string_view)> sink) {
    sink_ = std::move(sink);
  }
  bool is_open() const { return stream_ != nullptr; }
  void close();
  // What is being waited for fails at once, and so does everything later.
  void give_up();

 private:
  Task<Result<void>> connect();
  Task<Result<Verdict>> exchange(Session::Step step);
  Task<Result<Frame>> read_frame();
  Result<void> keep_edits();
  Task<Result<void>> flush();
  bool is_there();
  Duration limit() const;
  void drop();

  Loop& loop_;
  const Clock& clock_;
  Gate& gate_;
  const Address address_;
  const Timeouts timeouts_;
  const EditLimits limits_;
  std::unique_ptr<Session> session_;
  std::unique_ptr<Stream> stream_;
  FrameReader reader_;
  std::string received_;  // behind the last frame
  std::string unsent_;
  std::function<Result<void>(std::string_view)> sink_;
  std::size_t held_ = 0;    // octets of edits, as counted in Total
  bool is_within_ = false;  // the gate
  bool has_given_up_ = false;
};

}  // namespace postrider::smtpd::filter::milter
