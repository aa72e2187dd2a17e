// Receiving into a real queue: what was said over TCP is what is kept on disk.
#include "support.h"

#include "base/file.h"
#include "queue/queue.h"
#include "smtpd/auth/authenticator.h"
#include "smtpd/auth/sasl_exchange.h"
#include "smtpd/incoming_body.h"
#include "smtpd/message_store.h"
#include "smtpd/session/replies.h"
#include "smtpd/session_limits.h"
#include "tests/unit/base/temporary_folder.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <filesystem>
#include <memory>
#include <new>
#include <sys/socket.h>
#include <sys/un.h>
#include <utility>
#include <vector>

using namespace postrider;
using namespace postrider::tests;

namespace {

struct RealQueue {
  TemporaryFolder folder;
  SystemClock clock;
  NullLog log;
  std::unique_ptr<queue::Queue> queue;
  std::unique_ptr<smtpd::QueueCustody> custody;

  RealQueue() {
    queue::QueueSettings settings;
    settings.spool = folder / "spool";
    settings.room_needed = 0;
    auto opened = queue::Queue::open(settings, clock, log);
    REQUIRE(opened);
    queue = *std::move(opened);
    queue->start(nullptr);
    custody = std::make_unique<smtpd::QueueCustody>(*queue);
  }
  std::string content(mail::MessageId id) {
    const auto message = queue->load(id);
    REQUIRE(message);
    const auto& kept = (*message)->content;
    if (kept.bytes)
      return *kept.bytes;
    return read_file(queue->body_path(kept.file)).value();
  }
  std::vector<queue::ListedMessage> list() {
    return queue->list({}, mail::MessageId{0}, 100).value();
  }
  std::size_t body_files() const {
    std::size_t count = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder / "spool/body"))
      count += entry.is_regular_file() ? 1 : 0;
    return count;
  }
};

std::string text_of(std::size_t octets) {
  std::string text = "Subject: large\r\n\r\n";
  for (std::size_t i = 0; text.size() + 2 < octets; ++i)
    text += i % 70 == 69 ? "\r\n" : i % 70 == 0 ? "." : "x";
  return text + "\r\n";
}

std::string stuffed(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '.' && i > 0 && text[i - 1] == '\n')
      out.push_back('.');
    out.push_back(text[i]);
  }
  return out + ".\r\n";
}

mail::MessageId id_in(const std::string& reply) {
  const auto at = reply.find("queued as ");
  REQUIRE(at != std::string::npos);
  return mail::parse_message_id(reply.substr(at + 10, reply.find('\r', at) - at - 10)).value();
}

// client: its address, as a proxy says it; empty: there is none.
Peer ready_to_send(RunningServer& server, std::size_t steps, const std::string& client = {}) {
  Peer peer(server.port());
  if (!client.empty())
    peer.send("PROXY TCP4 " + client + " 127.0.0.1 1025 25\r\n");
  peer.reply();
  const auto script = with_data("");
  for (std::size_t i = 0; i < steps; ++i)
    peer.say(script[i]);
  return peer;
}

// The queue behind a disk that fails once, at the call with this number.
class BrokenDisk : public smtpd::QueueCustody {
 public:
  explicit BrokenDisk(queue::Queue& queue) : QueueCustody(queue) {}
  void fail_at(int call, int number) {
    call_ = 0;
    number_ = number;
    failing_ = call;
  }
  int calls() const { return call_; }
  Result<queue::BodyFile> create_body(mail::MessageId id) override {
    if (fails())
      return system_error(number_, "create body");
    return QueueCustody::create_body(id);
  }
  Result<void> append(queue::BodyFile& body, std::string_view bytes) override {
    if (!fails())
      return QueueCustody::append(body, bytes);
    if (auto written = QueueCustody::append(body, bytes.substr(0, bytes.size() / 2)); !written)
      return written;
    return system_error(number_, "write body");
  }
  Task<Result<void>> accept(Loop& loop, queue::Submission submission) override {
    if (fails())
      co_return system_error(number_, "commit");
    co_return co_await QueueCustody::accept(loop, std::move(submission));
  }

 private:
  bool fails() { return ++call_ == failing_; }
  std::atomic<int> call_{0}, number_{0}, failing_{1 << 30};
};

std::string send_by_data(RunningServer& server, const std::string& text) {
  auto peer = ready_to_send(server, 4);
  peer.send(stuffed(text));
  return peer.reply();
}

// In two chunks, the last of which holds the end; the reply to it.
std::string send_by_chunks(RunningServer& server, const std::string& text) {
  auto peer = ready_to_send(server, 3);
  const auto half = text.size() / 2;
  peer.send("BDAT " + std::to_string(half) + "\r\n" + text.substr(0, half) + "BDAT " +
            std::to_string(text.size() - half) + " LAST\r\n" + text.substr(half));
  return peer.replies(2);
}

Task<void> accepted_by(queue::Queue& queue, Loop& loop, queue::Submission submission,
                       std::optional<Result<void>>& result) {
  result = co_await queue.accept(loop, std::move(submission));
  loop.stop();
}

}  // namespace

// Without a look at what the disk said in the read that brought the final dot, the reply was 250
// and the message empty.
TEST_CASE("no step of keeping a message can fail and leave a promise", "[smtpd][queue][tcp]") {
  RealQueue real;
  BrokenDisk disk(*real.queue);
  RunningServer server(strict_settings(), 1, &disk);
  const auto send = GENERATE(&send_by_data, &send_by_chunks);
  for (const std::size_t size : {100U, 65530U, 65537U, 66000U, 70000U, 80000U, 131100U, 400000U}) {
    const auto text = text_of(size);
    disk.fail_at(1 << 30, 0);
    CHECK(real.content(id_in(send(server, text))) == text);
    const auto steps = disk.calls();
    for (int step = 1; step <= steps; ++step) {
      const int number = step % 2 == 0 ? ENOSPC : EMFILE;
      INFO("octets: " << size << ", step: " << step << ", errno: " << number);
      disk.fail_at(step, number);
      const auto reply = send(server, text);
      // A first chunk that failed makes the next one 503.
      CHECK(codes_of(reply).find(number == ENOSPC ? "452" : "451") != std::string::npos);
      CHECK(reply.find("queued as") == std::string::npos);
    }
  }
  CHECK(real.list().size() == 8);
  server.drain(Duration(1000));
  CHECK(real.body_files() <= 6);
}

TEST_CASE("a message that is given up and the next one in one read stay apart",
          "[smtpd][queue][tcp]") {
  RealQueue real;
  RunningServer server(strict_settings(), 1, real.custody.get());
  for (const std::size_t size : {100U, 5000U, 90000U}) {
    const auto text = text_of(size);
    const auto given_up = text_of(150000);
    INFO("octets: " << size);
    auto peer = ready_to_send(server, 3);
    // The first chunk is on its way in a file when RSET and the next message come with its end.
    peer.send("BDAT 150000\r\n" + given_up.substr(0, 149990));
    peer.send(given_up.substr(149990) +
              "RSET\r\nMAIL FROM:<x@ext.test>\r\nRCPT TO:<y@us.test>\r\nBDAT " +
              std::to_string(text.size()) + " LAST\r\n" + text);
    const auto replies = peer.replies(5);
    CHECK(codes_of(replies) == "250 250 250 250 250");
    CHECK(real.content(id_in(replies)) == text);
  }
  server.drain(Duration(1000));
  CHECK(real.body_files() == 1);
}

// Whatever runs out of memory ends its own session with a word, and no other.
TEST_CASE("a session without memory hears 421 and the others go on", "[smtpd][queue][tcp]") {
  class NoMemory : public smtpd::QueueCustody {
   public:
    explicit NoMemory(queue::Queue& queue) : QueueCustody(queue) {}
    Result<queue::BodyFile> create_body(mail::MessageId id) override {
      if (at == 1)
        throw std::bad_alloc();
      return QueueCustody::create_body(id);
    }
    Result<void> append(queue::BodyFile& body, std::string_view bytes) override {
      if (at == 2)
        throw std::bad_alloc();
      return QueueCustody::append(body, bytes);
    }
    Task<Result<void>> accept(Loop& loop, queue::Submission submission) override {
      if (at == 3)
        throw std::bad_alloc();
      co_return co_await QueueCustody::accept(loop, std::move(submission));
    }
    std::atomic<int> at{0};
  };
  RealQueue real;
  NoMemory memory(*real.queue);
  RunningServer server(strict_settings(), 1, &memory);
  auto other = ready_to_send(server, 4);
  for (int at = 1; at <= 3; ++at) {
    memory.at = at;
    CHECK(send_by_data(server, text_of(70000)) == smtpd::replies::kNoMemory);
  }
  memory.at = 0;
  other.send(stuffed(text_of(100)));
  CHECK(codes_of(other.reply()) == "250");
  CHECK(real.list().size() == 1);
  CHECK(real.body_files() == 0);
  CHECK(server.log().named("bug").empty());
}

TEST_CASE("content goes to its file early while much of it is held", "[smtpd][queue][tcp]") {
  RealQueue real;
  auto settings = strict_settings();
  settings.limits.content_memory = 1'600'000;  // of which one client's share holds two of them
  settings.limits.sessions = 50;
  RunningServer server(settings, 1, real.custody.get());
  // Three that are silent within 60 KB of content: the first two are in memory, and what the third
  // adds makes it much, so the third has a file.
  std::vector<Peer> silent;
  for (std::size_t i = 0; i < 3; ++i) {
    silent.push_back(ready_to_send(server, 4));
    const auto text = stuffed(text_of(60000));
    silent.back().send(text.substr(0, text.size() - 3));
    const auto in_memory = std::min<std::size_t>(i + 1, 2) * 59'000;
    CHECK(eventually([&] { return server.server().counters().held >= in_memory; }));
  }
  silent.back().send(".\r\n");
  const auto id = id_in(silent.back().reply());
  CHECK(real.queue->load(id).value()->content.bytes == nullptr);
  CHECK(real.content(id) == text_of(60000));
  silent.clear();
  CHECK(eventually([&] { return server.server().counters().held == 0; }));
}

// Header sections are needed as a whole where they are repaired.
TEST_CASE("header sections that do not end share the memory", "[smtpd][queue][tcp]") {
  RealQueue real;
  auto settings = trusting_settings();
  settings.limits.content_memory = 8'000'000;
  settings.limits.sessions = 250;
  smtpd::ListenerSettings listener{"127.0.0.1:0"};
  listener.role = smtpd::Role::submission;
  RunningServer server(settings, 1, real.custody.get(), listener);
  const auto header = "X-Long: " + std::string(100'000, 'x');
  std::vector<Peer> patient;
  std::vector<Peer> refused;
  for (int i = 0; i < 20; ++i) {
    auto peer = ready_to_send(server, 3);
    const auto reply = peer.say("BDAT " + std::to_string(header.size()) + "\r\n" + header);
    auto& kind = reply == smtpd::replies::kNoRoom ? refused : patient;
    CHECK((reply == smtpd::replies::kNoRoom || codes_of(reply) == "250"));
    kind.push_back(std::move(peer));
    CHECK(server.server().counters().held < 1'000'000);
  }
  CHECK(patient.size() >= 2);
  CHECK(refused.size() >= 15);
  // Mail of the usual size is taken all the while, from the same client too.
  CHECK(codes_of(send_by_data(server, text_of(10'000))) == "250");
  const std::string rest = "\r\n\r\nhello\r\n";
  for (auto& peer : patient)
    CHECK(codes_of(peer.say("BDAT " + std::to_string(rest.size()) + " LAST\r\n" + rest)) == "250");
  CHECK(codes_of(refused.back().say("RSET\r\n")) == "250");
  patient.clear();
  refused.clear();
  CHECK(eventually([&] { return server.server().counters().held == 0; }));
  CHECK(real.list().size() >= 3);
}

namespace {

// Whoever has a password is who they say they are.
class Trusting : public smtpd::auth::Authenticator {
 public:
  std::vector<std::string> offered(const smtpd::auth::Channel&) const override { return {"PLAIN"}; }
  std::unique_ptr<smtpd::auth::Mechanism> make(std::string_view,
                                               const smtpd::auth::Channel&) const override {
    return smtpd::auth::make_plain();
  }
  std::unique_ptr<smtpd::auth::Exchange> begin(Loop&, smtpd::auth::Attempt) override {
    struct Granted : smtpd::auth::Exchange {
      Task<smtpd::auth::Answer> ask(smtpd::auth::Question question) override {
        smtpd::auth::Answer answer;
        answer.verdict = smtpd::auth::Answer::Verdict::granted;
        answer.user = question.user;
        co_return answer;
      }
    };
    return std::make_unique<Granted>();
  }
  bool may_send_as(std::string_view, std::string_view) const override { return true; }
  std::string begin_message(std::string_view) override { return {}; }
  std::string add_recipient(std::string_view, std::string_view) override { return {}; }
};

}  // namespace

TEST_CASE("command lines that do not end share the memory", "[smtpd][queue][tcp]") {
  RealQueue real;
  auto settings = trusting_settings();
  settings.auth = std::make_shared<Trusting>();
  settings.auth_in_clear = true;
  settings.limits.content_memory = 1'600'000;
  settings.limits.sessions = 100;  // each may keep 8,000 octets, and one client 100,000 beyond them
  smtpd::ListenerSettings listener{"127.0.0.1:0"};
  listener.role = smtpd::Role::submission;
  RunningServer server(settings, 1, real.custody.get(), listener);
  const auto counters = [&] { return server.server().counters(); };
  const auto begin = [&](const std::string& line) {
    auto peer = ready_to_send(server, 1);
    const auto before = counters();
    CHECK(codes_of(peer.say("NOOP\r\n" + line)) == "250");
    REQUIRE(eventually([&] {
      const auto now = counters();
      return now.held >= before.held + line.size() || now.turned_away > before.turned_away;
    }));
    if (counters().turned_away > before.turned_away)
      CHECK(peer.reply() == smtpd::replies::kNoMemory);
    return peer;
  };
  std::vector<Peer> peers;
  for (int i = 0; i < 20; ++i)
    peers.push_back(begin("MAIL FROM:<" + std::string(3'900, 'x')));
  CHECK(counters().turned_away == 0);
  for (int i = 0; i < 60; ++i) {
    peers.push_back(begin("AUTH PLAIN " + std::string(12'000, 'A')));
    CHECK(counters().held < 800'000);
  }
  CHECK(counters().turned_away >= 20);
  CHECK(counters().turned_away <= 50);
  // Who says no more than others do is served all the while, and who began within the share too.
  auto other = ready_to_send(server, 1);
  CHECK(codes_of(other.say("AUTH PLAIN AGFubgBzZWNyZXQ=\r\n")) == "235");
  CHECK(codes_of(other.say("MAIL FROM:<ann@us.test>\r\n")) == "250");
  CHECK(codes_of(peers.front().say(">\r\n")).substr(0, 1) == "5");
  CHECK(codes_of(peers[20].say("\r\n")) == "501");
  peers.clear();
  CHECK(eventually([&] { return counters().held < 1'000; }));
}

TEST_CASE("replies that are not read share the memory", "[smtpd][queue]") {
  RealQueue real;
  auto settings = trusting_settings();
  settings.limits.content_memory = 1'600'000;  // one client's share is 100,000
  settings.limits.sessions = 100;
  settings.limits.junk = settings.limits.errors = 1U << 30U;
  const auto path = real.folder / "socket";
  RunningServer server(settings, 1, real.custody.get(), {"unix:" + path});
  const auto counters = [&] { return server.server().counters(); };
  std::string commands;
  for (int i = 0; i < 20'000; ++i)
    commands += "NOOP\r\n";
  std::vector<FileDescriptor> peers;
  for (int number = 1; number <= 6; ++number) {
    FileDescriptor peer(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::copy(path.begin(), path.end(), address.sun_path);
    REQUIRE(::connect(peer.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) ==
            0);
    // Until it has gone, or what it says is not read for its replies are not.
    const auto is_held_up = [&] {
      const auto sent =
          ::send(peer.get(), commands.data(), commands.size() / 6 * 6, MSG_DONTWAIT | MSG_NOSIGNAL);
      return sent < 0 && (errno != EAGAIN || counters().held >= 60'000);
    };
    REQUIRE(eventually(is_held_up));
    peers.push_back(std::move(peer));
  }
  CHECK(eventually([&] { return counters().open <= 2; }));
  CHECK(counters().held < 200'000);
  peers.clear();
  CHECK(eventually([&] { return counters().open == 0 && counters().held == 0; }));
}

TEST_CASE("recipients that are named count as memory", "[smtpd][queue][tcp]") {
  RealQueue real;
  auto settings = trusting_settings();
  settings.limits.content_memory = 300'000;
  settings.limits.sessions = 9;
  RunningServer server(settings, 1, real.custody.get());
  auto peer = ready_to_send(server, 2);
  const auto name = std::string(60, 'n') + "@" + std::string(60, 'd') + ".test";
  std::string reply = "250 2.1.5 Ok\r\n";
  int taken = 0;
  for (; codes_of(reply) == "250" && taken < 1000; ++taken)
    reply = peer.say("RCPT TO:<" + std::to_string(taken) + name + ">\r\n");
  CHECK(reply == smtpd::replies::kNoRoom);
  CHECK(taken > 100);
  CHECK(server.server().counters().held < 150'000);
  // It has to do with those that it has.
  CHECK(codes_of(peer.say("DATA\r\n")) == "354");
  peer.send(stuffed(text_of(60'000)));
  CHECK(codes_of(peer.reply()) == "250");
  CHECK(eventually([&] { return server.server().counters().held == 0; }));
}

TEST_CASE("however many strangers keep much, our users have a share", "[smtpd][unit]") {
  constexpr std::size_t kBudget = 128U << 20U;
  constexpr std::size_t kPiece = 64U << 10U;
  smtpd::SessionLimits limits;
  const auto fill = [&](const smtpd::SessionLimits::Party& party) {
    std::size_t kept = 0;
    while (limits.keep(party, kPiece, 0, kBudget))
      kept += kPiece;
    (void)limits.keep(party, 0, kPiece, kBudget);
    return kept;
  };
  CHECK(fill({"one", true}) <= kBudget / 10);
  for (int i = 0; i < 1000; ++i)
    (void)fill({"stranger " + std::to_string(i), true});
  CHECK(limits.held() < kBudget * 6 / 10);
  // Our own users have what strangers leave.
  CHECK(fill({"user ann", false}) >= kBudget / 20);
  for (int i = 0; i < 8; ++i)
    (void)fill({"user " + std::to_string(i), false});
  CHECK(limits.held() < kBudget);
  CHECK(limits.keep({"user bob", false}, 2 * kPiece, 0, kBudget));
  // Whatever there is, of the first octets nobody is deprived.
  constexpr auto kFew = smtpd::SessionLimits::kMostFirst;
  CHECK(limits.keep({"one", true}, kFew, 0, kBudget));
  CHECK_FALSE(limits.keep({"one", true}, 2 * kPiece, kFew, kBudget));
}

namespace {

// A session that holds what it was given until it is told to let go.
class Holder : public smtpd::SessionLimits::Keeper {
 public:
  Holder(smtpd::SessionLimits& limits, smtpd::SessionLimits::Party party, std::size_t budget)
      : limits_(limits), party_(std::move(party)), budget_(budget) {}
  ~Holder() override { take(0); }
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;

  bool take(std::size_t octets) {
    return limits_.keep(party_, octets, std::exchange(octets_, octets), budget_, this);
  }
  std::size_t octets() const { return octets_; }
  bool can_let_go() const override { return is_waiting; }
  void let_go() override { is_told = true; }

  bool is_waiting = true, is_told = false;

 private:
  smtpd::SessionLimits& limits_;
  const smtpd::SessionLimits::Party party_;
  const std::size_t budget_;
  std::size_t octets_ = 0;
};

}  // namespace

TEST_CASE("however many of our users keep much together, another has a place", "[smtpd][unit]") {
  constexpr std::size_t kBudget = 16U << 20U;
  constexpr std::size_t kPiece = 256U << 10U;
  smtpd::SessionLimits limits;
  std::vector<std::unique_ptr<Holder>> holders;
  const auto sum_of_told = [&] {
    std::size_t sum = 0;
    for (auto& holder : holders)
      if (holder->is_told) {
        sum += holder->octets();
        holder->take(0);
        holder->is_told = false;
      }
    return sum;
  };
  // Each takes what it gets, in pieces.
  for (int user = 0; user < 40; ++user) {
    const smtpd::SessionLimits::Party party{"user " + std::to_string(user), false};
    for (;;) {
      auto holder = std::make_unique<Holder>(limits, party, kBudget);
      if (!holder->take(kPiece))
        break;
      holders.push_back(std::move(holder));
      sum_of_told();
    }
  }
  CHECK(limits.held() > kBudget / 2);
  CHECK(limits.held() <= kBudget + kBudget / 8);
  Holder ann(limits, {"user ann", false}, kBudget);
  CHECK(ann.take(100'000));
  CHECK(limits.held() <= kBudget + kBudget / 8);
  sum_of_told();
  // And however many more there are.
  std::vector<std::unique_ptr<Holder>> late;
  for (int number = 0; number < 60; ++number) {
    late.push_back(std::make_unique<Holder>(
        limits, smtpd::SessionLimits::Party{"user late " + std::to_string(number), false},
        kBudget));
    CHECK(late.back()->take(100'000));
    sum_of_told();
    CHECK(limits.held() <= kBudget + kBudget / 8);
  }
  // A stranger takes nothing from them, and who has as much as the others no more.
  Holder stranger(limits, {"192.0.2.1", true}, kBudget);
  CHECK_FALSE(stranger.take(100'000));
  CHECK(sum_of_told() == 0);
}

namespace {

class Half : public smtpd::UnfinishedTls::Waiter {
 public:
  Half(smtpd::UnfinishedTls& books, std::string party, bool is_stranger)
      : books_(books), party_{std::move(party), is_stranger} {}
  ~Half() override { keep(0); }
  Half(const Half&) = delete;
  Half& operator=(const Half&) = delete;

  static constexpr std::size_t kBudget = 64U << 20U;
  bool keep(std::size_t octets) { return books_.note(*this, party_, octets, kBudget); }
  void give_way() override { is_told = true; }

  bool is_told = false;

 private:
  smtpd::UnfinishedTls& books_;
  const smtpd::UnfinishedTls::Party party_;
};

}  // namespace

TEST_CASE("X01: TLS of all sessions has a sum, of which an eighth is for our own",
          "[smtpd][unit]") {
  constexpr std::size_t kBudget = 1U << 20U;
  constexpr std::size_t kOne = 16U << 10U;
  const smtpd::SessionLimits::Party stranger{"192.0.2.1", true};
  const smtpd::SessionLimits::Party ours{"user anna", false};
  smtpd::SessionLimits limits;
  for (int i = 0; i < 56; ++i)
    CHECK(limits.take_tls(stranger, kOne, kBudget));
  CHECK_FALSE(limits.take_tls(stranger, kOne, kBudget));
  for (int i = 0; i < 8; ++i)
    CHECK(limits.take_tls(ours, kOne, kBudget));
  CHECK_FALSE(limits.take_tls(ours, kOne, kBudget));
  CHECK(limits.tls() == kBudget);
  limits.give_back_tls(kOne);
  CHECK_FALSE(limits.take_tls(stranger, kOne, kBudget));
  CHECK(limits.take_tls(ours, kOne, kBudget));
}

TEST_CASE("X01: handshakes without their end have a sum, and the oldest gives way",
          "[smtpd][unit]") {
  constexpr std::size_t kOne = 50'000;
  smtpd::UnfinishedTls books;
  std::deque<Half> halves;
  const auto leave = [&] {  // those who were told, which may take its time
    std::size_t left = 0;
    for (auto& half : halves)
      if (half.is_told) {
        half.is_told = false;
        half.keep(0);
        ++left;
      }
    return left;
  };
  Half first(books, "us", false);
  CHECK(first.keep(kOne));
  SECTION("of one stranger") {
    for (int i = 0; i < 1'000; ++i) {
      CHECK(halves.emplace_back(books, "192.0.2.1", true).keep(kOne));
      CHECK(leave() <= 1);
      CHECK(books.held() <= Half::kBudget / 4 + 2 * kOne);
    }
  }
  SECTION("of many strangers") {
    std::size_t left = 0;
    for (int i = 0; i < 10'000; ++i) {
      // A few octets of a record more or less change nothing.
      CHECK(halves.emplace_back(books, "stranger " + std::to_string(i), true)
                .keep(kOne + static_cast<std::size_t>(i % 7)));
      CHECK_FALSE(halves.back().is_told);
      left += leave();
      CHECK(books.held() <= Half::kBudget / 2 + 3 * kOne);
    }
    CHECK(left > 9'000);
    CHECK(halves.back().keep(kOne / 2));
  }
  SECTION("of many of ours, who take from strangers") {
    Half stranger(books, "192.0.2.1", true);
    CHECK(stranger.keep(kOne));
    for (int i = 0; i < 2'000; ++i) {
      CHECK(halves.emplace_back(books, "user " + std::to_string(i), false).keep(kOne));
      leave();
      CHECK(books.held() <= Half::kBudget + 3 * kOne);
    }
    CHECK(first.is_told);
    CHECK_FALSE(first.keep(kOne));
    CHECK(stranger.is_told);
    Half late(books, "192.0.2.2", true);
    CHECK(late.keep(kOne));
    CHECK_FALSE(late.is_told);
    return;
  }
  SECTION("of who does not leave when told") {
    std::size_t taken = 0;
    while (halves.emplace_back(books, "stranger " + std::to_string(taken), true).keep(kOne))
      ++taken;
    CHECK(taken > 700);
    CHECK(books.held() <= Half::kBudget * 9 / 8 + kOne);
  }
  CHECK_FALSE(first.is_told);
  halves.clear();
  CHECK(first.keep(kOne));
  CHECK(books.held() == kOne);
  CHECK(first.keep(0));
  CHECK(books.held() == 0);
}

// Many accounts, each of whose sessions keeps as much as every session may.
TEST_CASE("the first octets of however many sessions leave the shares to others", "[smtpd][unit]") {
  smtpd::Limits rules;
  rules.sessions = 10'000;
  const auto budget = rules.content_memory;
  const auto first = smtpd::SessionLimits::first_octets(rules);
  CHECK(first >= smtpd::SessionLimits::kLeastFirst);
  CHECK(first * rules.sessions <= budget / 2);
  smtpd::SessionLimits limits;
  for (std::uint32_t session = 0; session < rules.sessions; ++session)
    CHECK(limits.keep({"user " + std::to_string(session / 20), false}, first, 0, budget, nullptr,
                      first));
  CHECK(limits.held() == first * rules.sessions);
  const smtpd::SessionLimits::Party ann{"user ann", false};
  CHECK(limits.keep(ann, 1U << 20U, 0, budget, nullptr, first));
  CHECK(limits.keep({"192.0.2.1", true}, 1U << 20U, 0, budget, nullptr, first));
  // With few sessions there is room for more of each.
  rules.sessions = 100;
  CHECK(smtpd::SessionLimits::first_octets(rules) == smtpd::SessionLimits::kMostFirst);
}

TEST_CASE("who is told to let go is the one that has kept longest, and can", "[smtpd][unit]") {
  constexpr std::size_t kBudget = 16U << 20U;
  constexpr std::size_t kMiB = 1U << 20U;
  smtpd::SessionLimits limits;
  std::vector<std::unique_ptr<Holder>> holders;
  for (int number = 0; number < 32; ++number) {
    // Two of each, which together is all that there is.
    holders.push_back(std::make_unique<Holder>(
        limits, smtpd::SessionLimits::Party{"user " + std::to_string(number / 2), false}, kBudget));
    (void)holders.back()->take(kMiB / 2);
  }
  for (auto& holder : holders)
    holder->is_told = false;
  holders[0]->take(kMiB);  // the largest of all, and refused
  holders[0]->is_waiting = false;
  Holder ann(limits, {"user ann", false}, kBudget);
  CHECK(ann.take(200'000));
  CHECK_FALSE(holders[0]->is_told);
  CHECK(holders[1]->is_told);
  CHECK(std::count_if(holders.begin(), holders.end(),
                      [](const auto& holder) { return holder->is_told; }) == 1);
  // It was told, and counts as gone: the next is another.
  Holder bob(limits, {"user bob", false}, kBudget);
  CHECK(bob.take(200'000));
  CHECK(std::count_if(holders.begin(), holders.end(),
                      [](const auto& holder) { return holder->is_told; }) == 2);
  // Of whoever has two that can, the first.
  for (std::size_t at = 2; at < holders.size(); ++at)
    CHECK_FALSE((holders[at]->is_told && at % 2 == 1));
  // Where nobody can, there is no place.
  for (auto& holder : holders)
    holder->is_waiting = false;
  Holder carl(limits, {"user carl", false}, kBudget);
  CHECK_FALSE(carl.take(200'000));
  for (auto& holder : holders)
    holder->take(0);
  ann.take(0);
  bob.take(0);
  carl.take(0);
  CHECK(limits.held() == 0);
  CHECK(carl.take(kMiB));
}

// By address here; it is the same by account.
TEST_CASE("header sections of many clients give way to another's", "[smtpd][queue][tcp]") {
  RealQueue real;
  auto settings = trusting_settings();
  settings.limits.content_memory = 2'000'000;
  settings.proxy_from = settings.relay_from;
  smtpd::ListenerSettings listener{"127.0.0.1:0"};
  listener.role = smtpd::Role::submission;
  listener.proxy_protocol = true;
  RunningServer server(settings, 2, real.custody.get(), listener);
  const auto begin = [&](const std::string& client, std::size_t octets) {
    auto peer = ready_to_send(server, 3, client);
    const auto header = "X-Long: " + std::string(octets, 'x');
    const auto reply = peer.say("BDAT " + std::to_string(header.size()) + "\r\n" + header);
    return std::pair(std::move(peer), codes_of(reply) == "250");
  };
  const auto finish = [](Peer& peer) {
    const std::string rest = "\r\n\r\nhello\r\n";
    return peer.say("BDAT " + std::to_string(rest.size()) + " LAST\r\n" + rest);
  };
  std::vector<Peer> holding;
  for (int client = 2; client < 32; ++client) {
    auto [peer, is_taken] = begin("127.0.0." + std::to_string(client), 80'000);
    if (is_taken)
      holding.push_back(std::move(peer));
  }
  CHECK(holding.size() > 5);
  // Others with much smaller ones, together more than there is room for.
  std::vector<Peer> others;
  for (int client = 100; client < 160; ++client) {
    auto [peer, is_taken] = begin("127.0.0." + std::to_string(client), 20'000);
    CHECK(is_taken);
    others.push_back(std::move(peer));
    CHECK(server.server().counters().held < 2'400'000);
  }
  for (auto& peer : others)
    CHECK(codes_of(finish(peer)) == "250");
  CHECK(real.list().size() == others.size());
  // Who had to let go has said nothing meanwhile, and hears it at the end.
  const auto gone = std::count_if(holding.begin(), holding.end(), [&](Peer& peer) {
    return finish(peer) == smtpd::replies::kNoRoom;
  });
  CHECK(gone > 0);
  others.clear();
  holding.clear();
  CHECK(eventually([&] { return server.server().counters().held == 0; }));
}

TEST_CASE("who has let go once may keep as much as before when there is room",
          "[smtpd][queue][tcp]") {
  RealQueue real;
  auto settings = trusting_settings();
  settings.limits.content_memory = 2'000'000;
  settings.proxy_from = settings.relay_from;
  smtpd::ListenerSettings listener{"127.0.0.1:0"};
  listener.role = smtpd::Role::submission;
  listener.proxy_protocol = true;
  RunningServer server(settings, 2, real.custody.get(), listener);
  // The first fill the memory, and the last, who want less than half as much, make some of them let
  // go of a header section.
  std::vector<Peer> holding;
  for (int client = 0; client < 50; ++client) {
    const auto octets = client < 30 ? 100'000U : client < 40 ? 60'000U : 50'000U;
    const auto header = "X-Long: " + std::string(octets, 'x');
    holding.push_back(ready_to_send(server, 3, "127.0.0." + std::to_string(2 + client)));
    (void)holding.back().say("BDAT " + std::to_string(header.size()) + "\r\n" + header);
  }
  for (auto& one : holding)
    CHECK(codes_of(one.say("RSET\r\n")) == "250");
  const auto script = with_data("");
  const auto half = "X-Long: " + std::string(40'000, 'x');
  const std::string rest = "\r\n\r\nhello\r\n";
  for (auto& one : holding) {
    for (std::size_t i = 1; i < 3; ++i)
      one.say(script[i]);
    CHECK(codes_of(one.say("BDAT " + std::to_string(half.size()) + "\r\n" + half)) == "250");
    CHECK(codes_of(one.say("BDAT " + std::to_string(rest.size()) + " LAST\r\n" + rest)) == "250");
  }
}

TEST_CASE("content of which octets are missing is not finished", "[smtpd][queue]") {
  RealQueue real;
  const auto in_file = GENERATE(false, true);
  for (const auto& [said, is_whole] :
       {std::pair(12U, true), std::pair(13U, false), std::pair(11U, false)}) {
    smtpd::IncomingBody body(*real.custody, 1, {});
    std::string first = "hello ";
    std::string second = "first ";
    if (in_file)
      REQUIRE(body.spill(first));
    CHECK(body.finish(in_file ? second : first + second, said).has_value() == is_whole);
  }
  CHECK(real.body_files() == 0);
}

TEST_CASE("custody of content that is not there is refused", "[smtpd][queue]") {
  RealQueue real;
  const auto accept = [&](std::uint64_t said, std::shared_ptr<const std::string> bytes,
                          std::optional<std::string> file) {
    auto message = std::make_shared<mail::Message>();
    message->id = real.queue->next_id();
    message->envelope.recipients.emplace_back().address = "y@us.test";
    message->content.size = said;
    message->content.bytes = std::move(bytes);
    queue::Submission submission;
    if (file) {
      submission.body = real.queue->create_body(message->id).value();
      REQUIRE(submission.body.append(*file));
      message->content.file = submission.body.name();
    }
    submission.message = message;
    std::optional<Result<void>> result;
    Loop loop(0);
    loop.spawn(accepted_by(*real.queue, loop, std::move(submission), result), real.log, "accept");
    loop.run();
    return result.value();
  };
  const auto text = std::make_shared<const std::string>("\r\nhello\r\n");
  CHECK_FALSE(accept(70000, nullptr, std::nullopt));
  CHECK_FALSE(accept(70000, std::make_shared<const std::string>(), std::nullopt));
  CHECK_FALSE(accept(text->size() + 1, text, std::nullopt));
  CHECK_FALSE(accept(text->size() + 1, nullptr, *text));
  CHECK(real.list().empty());
  CHECK(real.body_files() == 0);
  CHECK(accept(text->size(), text, std::nullopt));
  CHECK(accept(text->size(), nullptr, *text));
  CHECK(real.list().size() == 2);
}

TEST_CASE("messages of any size arrive in the queue as they were sent", "[smtpd][queue][tcp]") {
  RealQueue real;
  RunningServer server(strict_settings(), 2, real.custody.get());
  for (const std::size_t size : {20U, 4096U, 65535U, 65536U, 65537U, 100000U, 3000000U}) {
    const auto text = text_of(size);
    INFO("octets: " << text.size());
    auto by_data = ready_to_send(server, 4);
    by_data.send(stuffed(text));
    CHECK(real.content(id_in(by_data.reply())) == text);
    auto by_chunks = ready_to_send(server, 3);
    for (std::size_t at = 0; at < text.size(); at += 50000) {
      const auto chunk = text.substr(at, 50000);
      const bool last = at + 50000 >= text.size();
      by_chunks.send("BDAT " + std::to_string(chunk.size()) + (last ? " LAST\r\n" : "\r\n"));
      by_chunks.send(chunk);
      const auto reply = by_chunks.reply();
      CHECK(codes_of(reply) == "250");
      if (last)
        CHECK(real.content(id_in(reply)) == text);
    }
  }
  CHECK(real.list().size() == 14);
  CHECK(real.body_files() == 6);
  const auto listed = real.list().front();
  CHECK(listed.sender == "x@ext.test");
  CHECK(listed.recipients.at(0).address == "y@us.test");
  CHECK(listed.origin.client.starts_with("client.test[127.0.0.1]"));
}

TEST_CASE("a large message that is refused or cut off leaves no file", "[smtpd][queue][tcp]") {
  RealQueue real;
  auto settings = strict_settings();
  settings.message_size = 1U << 20U;
  RunningServer server(settings, 1, real.custody.get());
  SECTION("too large") {
    auto peer = ready_to_send(server, 4);
    peer.send(stuffed(text_of(3U << 20U)));
    CHECK(peer.reply() == smtpd::replies::kTooLarge);
    CHECK(codes_of(peer.say("NOOP\r\n")) == "250");
  }
  SECTION("poisoned late") {
    auto peer = ready_to_send(server, 4);
    peer.send(text_of(500000) + "a\nb\r\n.\r\n");
    CHECK(peer.reply() == smtpd::replies::kBadContent);
  }
  SECTION("cut off") {
    auto peer = ready_to_send(server, 4);
    peer.send(text_of(500000));
    peer.finish();
    CHECK(peer.is_closed());
    CHECK(server.log().wait_for("disconnected").at(0).value("reason") == "lost");
  }
  server.drain(Duration(1000));
  CHECK(real.list().empty());
  CHECK(real.body_files() == 0);
}
