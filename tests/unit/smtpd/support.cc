#include "support.h"

#include "base/text.h"
#include "smtpd/session/policy.h"

#include <catch2/catch.hpp>

#include <arpa/inet.h>
#include <cctype>
#include <chrono>
#include <condition_variable>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

namespace postrider::tests {

using smtpd::SessionFramer;
using Need = SessionFramer::Need;

namespace {

constexpr std::string_view kIdPrefix = "queued as ";

std::size_t reply_size(std::string_view bytes) {
  std::size_t at = 0;
  for (;;) {
    const auto end = bytes.find("\r\n", at);
    if (end == std::string_view::npos)
      return 0;
    const bool last = end - at < 4 || bytes[at + 3] != '-';
    at = end + 2;
    if (last)
      return at;
  }
}

std::size_t count_replies(std::string_view bytes) {
  std::size_t count = 0;
  while (const auto size = reply_size(bytes)) {
    ++count;
    bytes.remove_prefix(size);
  }
  return count;
}

class Refusals : public smtpd::Observer {
 public:
  void refused(const smtpd::Refusal& refusal) override { stages.emplace_back(refusal.stage); }
  std::vector<std::string> stages;
};

// A conversation with what a connection would do around it.
class InMemory {
 public:
  explicit InMemory(const PlayOptions& options)
      : options_(options),
        policy_(std::make_shared<const smtpd::Policy>(
            std::make_shared<const ServerSettings>(options.settings))),
        talk_(smtpd::Session(policy_, client(), options.role, "SESSION", &refusals_)) {
    talk_.session().conditions() = options.conditions;
    std::string replies;
    note(talk_.open(replies), replies);
    play_.replies.push_back(mask_ids(replies));
  }

  void step(std::string_view bytes, std::size_t piece) {
    std::string replies;
    const auto size = piece == 0 ? std::max<std::size_t>(bytes.size(), 1) : piece;
    for (std::size_t at = 0; at < bytes.size() && !play_.closed; at += size)
      show(bytes.substr(at, size), replies);
    play_.replies.push_back(mask_ids(replies));
  }
  void split_step(std::string_view bytes, std::size_t cut) {
    std::string replies;
    show(bytes.substr(0, cut), replies);
    if (!play_.closed)
      show(bytes.substr(cut), replies);
    play_.replies.push_back(mask_ids(replies));
  }
  Play take() {
    play_.refusals = refusals_.stages;
    return std::move(play_);
  }

 private:
  smtpd::Client client() const {
    smtpd::Client client;
    client.address = *IpAddress::parse("127.0.0.1");
    client.trusted = policy_->is_trusted(client.address);
    return client;
  }
  void show(std::string_view bytes, std::string& replies) {
    for (;;) {
      std::size_t used = 0;
      std::string now;
      const auto need = talk_.take(bytes, used, now);
      replies += now;
      bytes.remove_prefix(used);
      if (need == Need::store)
        store(replies);
      else if (need == Need::look_up)
        note(talk_.looked_up(policy_->judge(talk_.session().transaction().question()), replies),
             replies);
      else if (need == Need::close) {
        play_.closed = true;
        return;
      } else if (need == Need::input) {
        REQUIRE(bytes.empty());
        return;
      }
    }
  }
  void store(std::string& replies) {
    auto result = options_.store_result;
    if (talk_.intake()->bytes().find(kNoRoomFor) != std::string::npos)
      result = smtpd::Storage::no_room;
    if (result == smtpd::Storage::open) {
      auto& session = talk_.session();
      Kept kept;
      kept.protocol = smtpd::protocol_of(session);
      kept.envelope = std::move(session.envelope_to_change());
      kept.content = talk_.intake()->bytes();
      play_.kept.push_back(std::move(kept));
    }
    note(talk_.stored(result, mail::MessageId{1}, replies), replies);
  }
  void note(Need need, const std::string&) {
    if (need == Need::close)
      play_.closed = true;
  }

  const PlayOptions& options_;
  std::shared_ptr<const smtpd::Policy> policy_;
  Refusals refusals_;
  SessionFramer talk_;
  Play play_;
};

}  // namespace

mail::Directory::Answer SmallDirectory::lookup(std::string_view local_part,
                                               std::string_view) const {
  if (local_part == "user" || local_part == "y" || equals_ignoring_case(local_part, "postmaster"))
    return Answer::known;
  return local_part == "maybe" ? Answer::cannot_tell : Answer::unknown;
}

ServerSettings strict_settings() {
  ServerSettings settings;
  settings.hostname = "mx.us.test";
  settings.relay_to = {"backup.test"};
  settings.directory = std::make_shared<const SmallDirectory>();
  settings.limits.sessions_per_client = 100000;
  settings.limits.sessions_per_network = 100000;
  return settings;
}

ServerSettings trusting_settings() {
  auto settings = strict_settings();
  settings.relay_from.push_back(Network::parse("127.0.0.0/8").value());
  return settings;
}

std::string mask_ids(std::string_view replies) {
  std::string masked(replies);
  for (auto at = masked.find(kIdPrefix); at != std::string::npos;
       at = masked.find(kIdPrefix, at + 1)) {
    const auto begin = at + kIdPrefix.size();
    masked.replace(begin, masked.find('\r', begin) - begin, "ID");
  }
  for (auto at = masked.find(" ["); at != std::string::npos; at = masked.find(" [", at + 1)) {
    const auto end = masked.find("]\r", at);
    if (end != std::string::npos)
      masked.replace(at + 2, end - at - 2, "ID");
  }
  return masked;
}

std::string codes_of(std::string_view replies) {
  std::string codes;
  while (const auto size = reply_size(replies)) {
    codes += (codes.empty() ? "" : " ") + std::string(replies.substr(0, 3));
    replies.remove_prefix(size);
  }
  return codes;
}

std::string Play::all() const {
  std::string text;
  for (const auto& step : replies)
    text += step;
  return text;
}

std::string Play::codes(std::size_t step) const {
  return step < replies.size() ? codes_of(replies[step]) : "";
}

Script greeted() {
  return {"EHLO client.test\r\n"};
}

Script with_data(std::string content) {
  return {"EHLO client.test\r\n", "MAIL FROM:<x@ext.test>\r\n", "RCPT TO:<y@us.test>\r\n",
          "DATA\r\n", std::move(content)};
}

Play play_in_memory(const Script& script, const PlayOptions& options) {
  InMemory memory(options);
  for (std::size_t i = 0; i < script.size(); ++i) {
    if (i + 1 == script.size() && options.cut > 0)
      memory.split_step(script[i], options.cut);
    else
      memory.step(script[i], options.piece);
  }
  return memory.take();
}

Play play_over_tcp(const Script& script, const Play& like, const PlayOptions& options) {
  smtpd::ListenerSettings listener;
  listener.address = "127.0.0.1:0";
  listener.role = options.role;
  RunningServer server(options.settings, 1, nullptr, listener);
  if (options.conditions.storage != smtpd::Storage::open)
    server.custody().admit(options.conditions.storage == smtpd::Storage::no_room
                               ? queue::Admission::disk_low
                               : queue::Admission::failed);
  if (options.store_result != smtpd::Storage::open)
    server.custody().fail_with(options.store_result == smtpd::Storage::no_room ? ENOSPC : EIO);
  Peer peer(server.port());
  Play play;
  for (std::size_t i = 0; i < like.replies.size(); ++i) {
    if (i > 0)
      peer.send(script[i - 1]);
    play.replies.push_back(mask_ids(peer.replies(count_replies(like.replies[i]))));
  }
  if (like.closed) {
    play.closed = peer.is_closed();
  } else {
    // In step: exactly one answer to a NOOP, unless content is still awaited.
    const auto last = codes_of(like.replies.back());
    const bool awaits_content = last.empty() || last.ends_with("354");
    if (!awaits_content)
      CHECK(peer.say("NOOP\r\n") == "250 2.0.0 Ok\r\n");
  }
  peer.reset();
  play.kept = server.custody().kept();
  return play;
}

Play play(const Script& script, const PlayOptions& options) {
  auto memory = play_in_memory(script, options);
  const auto wire = play_over_tcp(script, memory, options);
  CHECK(wire.replies == memory.replies);
  CHECK(wire.closed == memory.closed);
  REQUIRE(wire.kept.size() == memory.kept.size());
  for (std::size_t i = 0; i < wire.kept.size(); ++i) {
    CHECK(wire.kept[i].content == memory.kept[i].content);
    CHECK(wire.kept[i].envelope == memory.kept[i].envelope);
    CHECK(wire.kept[i].protocol == memory.kept[i].protocol);
  }
  return memory;
}

mail::MessageId FakeCustody::next_id() {
  return mail::MessageId{++last_id_};
}

Result<queue::BodyFile> FakeCustody::create_body(mail::MessageId) {
  return system_error(failure_ == 0 ? ENOSPC : failure_.load(), "create body");
}

Result<void> FakeCustody::append(queue::BodyFile& body, std::string_view bytes) {
  return body.append(bytes);
}

Task<Result<void>> FakeCustody::accept(Loop&, queue::Submission submission) {
  if (failure_ != 0)
    co_return system_error(failure_, "commit");
  const auto& message = *submission.message;
  Kept kept;
  kept.envelope = message.envelope;
  kept.protocol = message.origin.protocol;
  kept.trace = message.content.trace;
  if (message.content.bytes)
    kept.content = *message.content.bytes;
  if (kept.content.find(kNoRoomFor) != std::string::npos)
    co_return system_error(ENOSPC, "commit");
  const std::lock_guard lock(mutex_);
  kept_.push_back(std::move(kept));
  co_return Result<void>{};
}

std::vector<Kept> FakeCustody::kept() const {
  const std::lock_guard lock(mutex_);
  return kept_;
}

bool eventually(const std::function<bool()>& condition) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(120);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until)
      return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

bool FakeCustody::wait_for(std::size_t messages) const {
  return eventually([&] { return kept().size() >= messages; });
}

void RecordingLog::write(LogEvent event) {
  const std::lock_guard lock(mutex_);
  events_.push_back(std::move(event));
}

std::vector<LogEvent> RecordingLog::named(std::string_view name) const {
  const std::lock_guard lock(mutex_);
  std::vector<LogEvent> found;
  for (const auto& event : events_)
    if (event.name() == name)
      found.push_back(event);
  return found;
}

std::vector<LogEvent> RecordingLog::wait_for(std::string_view name, std::size_t count) const {
  eventually([&] { return named(name).size() >= count; });
  return named(name);
}

RunningServer::RunningServer(ServerSettings settings, unsigned loops, smtpd::MessageStore* custody,
                             smtpd::ListenerSettings listener, dns::Resolver* resolver) {
  std::vector<Loop*> pointers;
  for (unsigned i = 0; i < loops; ++i) {
    loops_.push_back(std::make_unique<Loop>(i));
    pointers.push_back(loops_.back().get());
  }
  auto& keeper = custody != nullptr ? *custody : fake_;
  server_ = std::make_unique<smtpd::Server>(
      pointers, keeper, clock_, log_, std::make_shared<const ServerSettings>(std::move(settings)));
  if (resolver != nullptr)
    server_->ask_questions_of(std::vector<dns::Resolver*>(loops, resolver));
  const auto listening = server_->listen({std::move(listener)});
  REQUIRE(listening);
  const auto address = server_->addresses().front();
  if (const auto colon = address.rfind(':'); !address.starts_with("unix:"))
    port_ = static_cast<std::uint16_t>(std::stoi(address.substr(colon + 1)));
  server_->start();
  for (auto* loop : pointers)
    threads_.emplace_back([loop] { loop->run(); });
}

RunningServer::~RunningServer() {
  for (auto& loop : loops_)
    loop->stop();
  for (auto& thread : threads_)
    thread.join();
  server_.reset();
}

void RunningServer::configure(ServerSettings settings) {
  server_->configure(std::make_shared<const ServerSettings>(std::move(settings)));
}

void RunningServer::drain(Duration grace) {
  std::atomic<bool> done{false};
  server_->drain(grace, [&done] { done = true; });
  CHECK(eventually([&] { return done.load(); }));
}

Peer::Peer(std::uint16_t port, int patience_ms) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
  timeval patience{patience_ms / 1000, (patience_ms % 1000) * 1000};
  ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  ::setsockopt(socket_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  const int on = 1;
  ::setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  REQUIRE(::connect(socket_, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0);
}

Peer::~Peer() {
  if (socket_ >= 0)
    ::close(socket_);
}

bool Peer::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const auto sent = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0)
      return false;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

bool Peer::fill() {
  char room[4096];
  const auto got = ::recv(socket_, room, sizeof room, 0);
  if (got <= 0)
    return false;
  got_.append(room, static_cast<std::size_t>(got));
  return true;
}

std::string Peer::reply() {
  for (;;) {
    if (const auto size = reply_size(got_)) {
      auto whole = got_.substr(0, size);
      got_.erase(0, size);
      return whole;
    }
    if (!fill())
      return {};
  }
}

std::string Peer::replies(std::size_t count) {
  std::string all;
  for (std::size_t i = 0; i < count; ++i)
    all += reply();
  return all;
}

bool Peer::is_closed() {
  for (;;) {
    char room[4096];
    const auto got = ::recv(socket_, room, sizeof room, 0);
    if (got > 0)
      continue;
    return got == 0 || errno == ECONNRESET;
  }
}

void Peer::reset() {
  const linger now{1, 0};
  ::setsockopt(socket_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  ::close(std::exchange(socket_, -1));
}

void Peer::finish() {
  ::shutdown(socket_, SHUT_WR);
}

}  // namespace postrider::tests
