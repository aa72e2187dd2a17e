// A script of what a client sends, played against a SessionFramer in memory and against a Server
// over loopback TCP, which must agree to the last reply.
#pragma once

#include "mail/directory.h"
#include "mail/message.h"
#include "smtpd/session/session_framer.h"
#include "smtpd/smtp_server.h"

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace postrider::dns {
class Resolver;
}

namespace postrider::tests {

using smtpd::ServerSettings;

// us.test is local and has "user" and "y"; "maybe" cannot be told.
class SmallDirectory : public mail::Directory {
 public:
  bool is_local_domain(std::string_view domain) const override { return domain == "us.test"; }
  Answer lookup(std::string_view local_part, std::string_view domain) const override;
};

// us.test is local, backup.test is relayed for anyone, nobody may relay elsewhere; limits by
// address are out of the way.
ServerSettings strict_settings();
// The same, but the client is one of ours.
ServerSettings trusting_settings();

// Content with this in it finds no room when it is to be stored.
inline constexpr std::string_view kNoRoomFor = "no room for this";

struct Kept {
  mail::Envelope envelope;
  std::string content;  // without trace
  std::string trace;
  std::string protocol;
};

struct Play {
  std::vector<std::string> replies;  // per step of the script, queue ids masked
  bool closed = false;
  std::vector<Kept> kept;
  std::vector<std::string> refusals;  // stages, in memory only
  std::string all() const;
  // The codes of step `step`: "250 250 354"
  std::string codes(std::size_t step) const;
  std::string last_codes() const { return codes(replies.size() - 1); }
};

using Script = std::vector<std::string>;  // each step waits for the replies to the one before

struct PlayOptions {
  ServerSettings settings = strict_settings();
  smtpd::Role role = smtpd::Role::mx;
  smtpd::Conditions conditions;
  smtpd::Storage store_result = smtpd::Storage::open;
  // Octets per piece that the conversation is shown; 0: each step as a whole.
  std::size_t piece = 0;
  // In the last step: a cut at this octet; 0: none.
  std::size_t cut = 0;
};

Play play_in_memory(const Script& script, const PlayOptions& options = {});
// Reads as many replies as `like` has; then checks that the connection is closed if it was in
// memory, or answers exactly one NOOP if not.
Play play_over_tcp(const Script& script, const Play& like, const PlayOptions& options = {});
// Both, compared; gives the one in memory.
Play play(const Script& script, const PlayOptions& options = {});

std::string mask_ids(std::string_view replies);
std::string codes_of(std::string_view replies);

// EHLO, MAIL, RCPT, DATA as steps, then `content`.
Script with_data(std::string content);
Script greeted();

class FakeCustody : public smtpd::MessageStore {
 public:
  queue::Admission admission() const override { return admission_; }
  mail::MessageId next_id() override;
  Result<queue::BodyFile> create_body(mail::MessageId id) override;
  Result<void> append(queue::BodyFile& body, std::string_view bytes) override;
  Task<Result<void>> accept(Loop& loop, queue::Submission submission) override;

  void admit(queue::Admission admission) { admission_ = admission; }
  void fail_with(int number) { failure_ = number; }  // errno; 0: works
  std::vector<Kept> kept() const;
  // Waits until so many messages are kept; false after five seconds.
  bool wait_for(std::size_t messages) const;

 private:
  std::atomic<queue::Admission> admission_{queue::Admission::open};
  std::atomic<int> failure_{0};
  std::atomic<std::int64_t> last_id_{1000};
  mutable std::mutex mutex_;
  std::vector<Kept> kept_;
};

// A log that tests can read.
class RecordingLog : public Log {
 public:
  bool enabled(Level level) const override { return level >= Level::info; }
  void write(LogEvent event) override;
  std::vector<LogEvent> named(std::string_view name) const;
  // Waits for the event; empty after five seconds.
  std::vector<LogEvent> wait_for(std::string_view name, std::size_t count = 1) const;

 private:
  mutable std::mutex mutex_;
  std::vector<LogEvent> events_;
};

// A server with its loops and threads on a loopback port.
class RunningServer {
 public:
  explicit RunningServer(ServerSettings settings = strict_settings(), unsigned loops = 1,
                         smtpd::MessageStore* custody = nullptr,
                         smtpd::ListenerSettings listener = {"127.0.0.1:0"},
                         dns::Resolver* resolver = nullptr);
  ~RunningServer();
  FakeCustody& custody() { return fake_; }
  RecordingLog& log() { return log_; }
  smtpd::Server& server() { return *server_; }
  std::uint16_t port() const { return port_; }
  void configure(ServerSettings settings);
  // Drains and waits for it.
  void drain(Duration grace);
  Loop& loop() { return *loops_.front(); }

 private:
  SystemClock clock_;
  RecordingLog log_;
  FakeCustody fake_;
  std::vector<std::unique_ptr<Loop>> loops_;
  std::unique_ptr<smtpd::Server> server_;
  std::vector<std::thread> threads_;
  std::uint16_t port_ = 0;
};

// Waits for what another thread brings about; false: it has not after two minutes.
bool eventually(const std::function<bool()>& condition);

// A blocking client; every wait ends after `patience`.
class Peer {
 public:
  explicit Peer(std::uint16_t port, int patience_ms = 120000);
  ~Peer();
  Peer(Peer&& other) noexcept : socket_(std::exchange(other.socket_, -1)) {}
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;
  bool send(std::string_view bytes);
  // One whole reply, which may have several lines; empty: closed or silent.
  std::string reply();
  std::string replies(std::size_t count);
  std::string say(std::string_view line) { return send(line) ? reply() : ""; }
  bool is_closed();  // by the other side, now or within patience
  void reset();      // RST
  void finish();     // FIN
  int socket() const { return socket_; }

 private:
  bool fill();
  int socket_;
  std::string got_;
};

}  // namespace postrider::tests
