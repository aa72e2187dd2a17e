// Lookups that hang: who waits for them, and who does not.
#include "smtpd/lookups.h"

#include "support.h"

#include "base/file.h"
#include "base/memory_only.h"
#include "queue/queue.h"
#include "smtpd/message_store.h"
#include "tests/unit/base/temporary_folder.h"

#include <catch2/catch.hpp>

#include <condition_variable>
#include <future>
#include <set>

using namespace postrider;
using namespace postrider::tests;

namespace {

// The world that answers when the test says so.
class Gate {
 public:
  void wait(const std::string& name) {
    std::unique_lock lock(mutex_);
    ++entered_;
    inside_.insert(name);
    changed_.notify_all();
    changed_.wait(lock, [&] { return is_open_ || open_.contains(name); });
    inside_.erase(inside_.find(name));
    ++left_;
    changed_.notify_all();
  }
  void open() {
    const std::lock_guard lock(mutex_);
    is_open_ = true;
    changed_.notify_all();
  }
  void open(const std::string& name) {
    const std::lock_guard lock(mutex_);
    open_.insert(name);
    changed_.notify_all();
  }
  bool has_inside(std::size_t count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kPatience, [&] { return inside_.size() == count; });
  }
  bool all_left() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kPatience, [&] { return entered_ == left_; });
  }
  std::size_t entered() {
    const std::lock_guard lock(mutex_);
    return entered_;
  }

 private:
  static constexpr auto kPatience = std::chrono::seconds(60);
  std::mutex mutex_;
  std::condition_variable changed_;
  std::multiset<std::string> inside_;
  std::set<std::string> open_;
  bool is_open_ = false;
  std::size_t entered_ = 0, left_ = 0;
};

// "slow..." is asked of a service that hangs until the gate opens, and then exists; it is
// remembered once it was, and for ever where stale answers will do.
class SlowDirectory : public SmallDirectory {
 public:
  explicit SlowDirectory(std::shared_ptr<Gate> gate) : gate_(std::move(gate)) {}
  Answer lookup(std::string_view local_part, std::string_view domain) const override {
    const std::string name(local_part);
    if (!name.starts_with("slow"))
      return SmallDirectory::lookup(local_part, domain);
    {
      const std::lock_guard lock(mutex_);
      if (MemoryOnly::takes_stale() && stale_.contains(name))
        return Answer::known;
    }
    if (MemoryOnly::forbids_waiting())
      return Answer::cannot_tell;
    gate_->wait(name);
    return Answer::known;
  }
  void remember(const std::string& name) {
    const std::lock_guard lock(mutex_);
    stale_.insert(name);
  }

 private:
  std::shared_ptr<Gate> gate_;
  mutable std::mutex mutex_;
  std::set<std::string> stale_;
};

struct Rig {
  std::shared_ptr<Gate> gate = std::make_shared<Gate>();
  std::shared_ptr<SlowDirectory> directory = std::make_shared<SlowDirectory>(gate);
  ~Rig() { gate->open(); }
  ServerSettings settings(Duration limit = std::chrono::minutes(5)) const {
    auto settings = strict_settings();
    settings.directory = directory;
    settings.timeouts.lookup = limit;
    return settings;
  }
};

Peer with_sender(RunningServer& server) {
  Peer peer(server.port(), 60'000);
  peer.reply();
  peer.say("EHLO client.test\r\n");
  CHECK(codes_of(peer.say("MAIL FROM:<x@ext.test>\r\n")) == "250");
  return peer;
}

std::string rcpt(const std::string& name) {
  return "RCPT TO:<" + name + "@us.test>\r\n";
}

template <class Condition>
bool comes_true(Condition condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!condition())
    if (std::chrono::steady_clock::now() > end)
      return false;
    else
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return true;
}

// A table of addresses: those of "slow..." are asked of a service that hangs until the gate opens.
ServerSettings rewriting(const std::shared_ptr<Gate>& gate,
                         Duration limit = std::chrono::minutes(5)) {
  mail::Rewriter::Rules rules;
  rules.sender = [gate](const std::string& key,
                        bool) -> Result<std::optional<mail::Rewriter::Entry>> {
    if (!key.starts_with("slow") || !key.ends_with("@us.test"))
      return std::optional<mail::Rewriter::Entry>();
    if (MemoryOnly::forbids_waiting())
      return Error(Errc::storage, "table: must be asked");
    gate->wait(key);
    return std::optional(mail::Rewriter::Entry{"fast@us.test", "table:1"});
  };
  auto settings = trusting_settings();
  settings.rewriter = std::make_shared<mail::Rewriter>(rules);
  settings.timeouts.lookup = limit;
  return settings;
}

smtpd::ListenerSettings for_submission() {
  smtpd::ListenerSettings listener;
  listener.address = "127.0.0.1:0";
  listener.role = smtpd::Role::submission;
  return listener;
}

// One that stays in memory, or goes to a file as it arrives.
std::string content_of(const std::string& author, bool is_large) {
  std::string content = "From: <" + author + "@us.test>\r\nSubject: x\r\n\r\n";
  while (is_large && content.size() < 400'000)
    content += "a line of a message that does not stay in memory\r\n";
  return content + "end\r\n.\r\n";
}

std::string without_end(const std::string& content) {
  return content.substr(0, content.size() - 3);
}

struct Spool {
  TemporaryFolder folder;
  SystemClock clock;
  NullLog log;
  std::unique_ptr<queue::Queue> queue;
  std::unique_ptr<smtpd::QueueCustody> custody;

  Spool() {
    queue::QueueSettings settings;
    settings.spool = folder / "spool";
    settings.room_needed = 0;
    queue = queue::Queue::open(settings, clock, log).value();
    queue->start(nullptr);
    custody = std::make_unique<smtpd::QueueCustody>(*queue);
  }
  // Of the message that this reply is about.
  std::string content_of(const std::string& reply) {
    const auto at = reply.find("queued as ") + 10;
    const auto id = mail::parse_message_id(reply.substr(at, reply.find('\r', at) - at));
    const auto message = queue->load(id.value());
    REQUIRE(message);
    const auto& kept = (*message)->content;
    return kept.bytes ? *kept.bytes : read_file(queue->body_path(kept.file)).value();
  }
};

bool is_waiting(RunningServer& server, std::size_t running, std::size_t waiting) {
  return comes_true([&] {
    const auto now = server.server().counters();
    return now.looking_up == running && now.waiting_to_look_up == waiting;
  });
}

}  // namespace

TEST_CASE("a lookup that hangs holds up its own session alone", "[smtpd][tcp][lookups]") {
  const Rig rig;
  RunningServer server(rig.settings());
  auto waiting = with_sender(server);
  waiting.send(rcpt("slow"));
  REQUIRE(rig.gate->has_inside(1));
  // All on the same loop.
  for (int i = 0; i < 3; ++i) {
    auto other = with_sender(server);
    CHECK(codes_of(other.say(rcpt("user"))) == "250");
    CHECK(codes_of(other.say(rcpt("nobody"))) == "550");
    CHECK(codes_of(other.say("DATA\r\n")) == "354");
    CHECK(codes_of(other.say("\r\nhello\r\n.\r\n")) == "250");
  }
  rig.gate->open();
  CHECK(codes_of(waiting.reply()) == "250");
  CHECK(codes_of(waiting.say("DATA\r\n")) == "354");
  CHECK(codes_of(waiting.say("\r\nhello\r\n.\r\n")) == "250");
}

TEST_CASE("a table for the header that hangs holds up its own session alone",
          "[smtpd][tcp][lookups]") {
  const bool is_large = GENERATE(false, true);
  INFO("large: " << is_large);
  const auto gate = std::make_shared<Gate>();
  Spool spool;
  RunningServer server(rewriting(gate), 1, spool.custody.get(), for_submission());
  const auto begin = [&] {
    auto peer = with_sender(server);
    CHECK(codes_of(peer.say(rcpt("user"))) == "250");
    CHECK(codes_of(peer.say("DATA\r\n")) == "354");
    return peer;
  };
  auto waiting = begin();
  auto sends =
      std::async(std::launch::async, [&] { return waiting.send(content_of("slow", is_large)); });
  REQUIRE(gate->has_inside(1));
  for (int i = 0; i < 3; ++i) {  // all on the same loop, from the same address
    auto other = begin();
    const auto reply = other.say(content_of("me", is_large));
    REQUIRE(codes_of(reply) == "250");
    CHECK(spool.content_of(reply) == without_end(content_of("me", is_large)));
  }
  gate->open();
  CHECK(sends.get());
  const auto reply = waiting.reply();
  REQUIRE(codes_of(reply) == "250");
  CHECK(spool.content_of(reply) == without_end(content_of("fast", is_large)));
}

TEST_CASE("a table for the header that does not answer is a temporary refusal",
          "[smtpd][tcp][lookups]") {
  const bool is_large = GENERATE(false, true);
  INFO("large: " << is_large);
  const auto gate = std::make_shared<Gate>();
  Spool spool;
  RunningServer server(rewriting(gate, Duration(200)), 1, spool.custody.get(), for_submission());
  for (const bool is_open : {false, true}) {
    auto peer = with_sender(server);
    CHECK(codes_of(peer.say(rcpt("user"))) == "250");
    CHECK(codes_of(peer.say("DATA\r\n")) == "354");
    CHECK(codes_of(peer.say(content_of("slow", is_large))) == (is_open ? "250" : "451"));
    CHECK(codes_of(peer.say("MAIL FROM:<x@ext.test>\r\n")) == "250");
    gate->open();
    REQUIRE(gate->all_left());
    server.configure(rewriting(gate));
  }
  CHECK(spool.queue->list({}, mail::MessageId{0}, 100).value().size() == 1);
}

TEST_CASE("pipelined recipients are answered in their order, whoever is slow",
          "[smtpd][tcp][lookups]") {
  const Rig rig;
  RunningServer server(rig.settings());
  auto peer = with_sender(server);
  peer.send(rcpt("user") + rcpt("slow1") + rcpt("nobody") + rcpt("slow2") + rcpt("y") + "DATA\r\n");
  REQUIRE(rig.gate->has_inside(1));
  rig.gate->open("slow2");  // nobody has asked yet
  rig.gate->open("slow1");
  CHECK(codes_of(peer.replies(6)) == "250 250 550 250 250 354");
  CHECK(codes_of(peer.say("\r\nhello\r\n.\r\n")) == "250");
  REQUIRE(server.custody().wait_for(1));
  std::string all;
  const auto kept = server.custody().kept();
  for (const auto& recipient : kept.front().envelope.recipients)
    all += recipient.address + " ";
  CHECK(all == "user@us.test slow1@us.test slow2@us.test y@us.test ");
}

TEST_CASE("a lookup that takes too long is a temporary refusal", "[smtpd][tcp][lookups]") {
  const Rig rig;
  RunningServer server(rig.settings(Duration(200)));
  rig.directory->remember("slow-but-known");
  auto peer = with_sender(server);
  CHECK(peer.say(rcpt("slow")).starts_with("451 4.3.0 "));
  // One thread for what hangs, however often it is asked.
  CHECK(peer.say(rcpt("slow")).starts_with("451 4.3.0 "));
  CHECK(peer.say(rcpt("slow+tag")).starts_with("451 4.3.0 "));
  CHECK(rig.gate->entered() == 1);
  CHECK(is_waiting(server, 1, 0));
  CHECK(codes_of(peer.say(rcpt("slow-but-known"))) == "250");
  CHECK(codes_of(peer.say(rcpt("user"))) == "250");
  const auto refused = server.log().wait_for("rejected", 3);
  CHECK(refused.size() >= 3);
  rig.gate->open();
  REQUIRE(rig.gate->all_left());
  CHECK(is_waiting(server, 0, 0));
  CHECK(codes_of(peer.say(rcpt("slow"))) == "250");
}

TEST_CASE("who falls silent behind a lookup is told to leave", "[smtpd][tcp][lookups]") {
  const Rig rig;
  auto settings = rig.settings();
  settings.timeouts.command = Duration(2000);
  RunningServer server(settings);
  Peer peer(server.port(), 30'000);
  peer.reply();
  peer.say("EHLO client.test\r\n");
  peer.say("MAIL FROM:<x@ext.test>\r\n");
  peer.send(rcpt("slow"));
  REQUIRE(rig.gate->has_inside(1));
  rig.gate->open();
  CHECK(codes_of(peer.reply()) == "250");
  CHECK(codes_of(peer.reply()) == "421");
  CHECK(peer.is_closed());
}

TEST_CASE("lookups that hang are bounded in their sum", "[smtpd][tcp][lookups]") {
  const Rig rig;
  RunningServer server(rig.settings());
  std::vector<Peer> peers;
  for (int i = 0; i < 30; ++i) {
    peers.push_back(with_sender(server));
    peers.back().send(rcpt("slow" + std::to_string(i)));
  }
  REQUIRE(is_waiting(server, 6, 24));
  auto other = with_sender(server);
  CHECK(codes_of(other.say(rcpt("user"))) == "250");
  rig.gate->open();
  for (auto& peer : peers)
    CHECK(codes_of(peer.reply()) == "250");
  CHECK(is_waiting(server, 0, 0));
}

TEST_CASE("a client that leaves while its recipient is looked up", "[smtpd][tcp][lookups]") {
  const Rig rig;
  RunningServer server(rig.settings(Duration(300)));
  std::vector<Peer> peers;
  for (int i = 0; i < 12; ++i) {
    peers.push_back(with_sender(server));
    peers.back().send(rcpt("slow" + std::to_string(i)) + rcpt("slow"));
  }
  REQUIRE(rig.gate->has_inside(6));
  for (auto& peer : peers)
    peer.reset();
  // Whether or not an answer ever comes.
  CHECK(comes_true([&] { return server.server().counters().open == 0; }));
  CHECK(is_waiting(server, 6, 0));
  rig.gate->open();
  CHECK(is_waiting(server, 0, 0));
}

TEST_CASE("a server that stops does not wait for a lookup", "[smtpd][tcp][lookups]") {
  const Rig rig;
  {
    RunningServer server(rig.settings());
    auto one = with_sender(server);
    auto other = with_sender(server);
    one.send(rcpt("slow1"));
    other.send(rcpt("user") + rcpt("slow2") + rcpt("slow3") + rcpt("slow4"));
    REQUIRE(rig.gate->has_inside(2));
    server.drain(Duration(100));
    CHECK(codes_of(one.replies(2)) == "451 421");
    CHECK(codes_of(other.replies(5)) == "250 451 451 451 421");
    CHECK(rig.gate->entered() == 2);
  }
  rig.gate->open();
  CHECK(rig.gate->all_left());
}

TEST_CASE("a server is unmade while lookups hang", "[smtpd][tcp][lookups]") {
  const Rig rig;
  {
    RunningServer server(rig.settings());
    auto peer = with_sender(server);
    peer.send(rcpt("slow1") + rcpt("slow2"));
    REQUIRE(rig.gate->has_inside(1));
  }
  CHECK(rig.gate->entered() == 1);
  rig.gate->open();
  CHECK(rig.gate->all_left());
}

TEST_CASE("our own clients' lookups go before strangers'", "[smtpd][lookups]") {
  const auto gate = std::make_shared<Gate>();
  Loop loop(0);
  RecordingLog log;
  smtpd::Lookups::Limits limits;
  limits.threads = 2;
  limits.for_strangers = 1;
  limits.waiting = 2;
  limits.waiting_own = 2;
  smtpd::Lookups lookups(limits);
  std::mutex mutex;
  std::vector<std::string> ended;  // name and "yes" or "no"
  std::vector<std::shared_ptr<smtpd::Lookups::Wait>> waits;
  const auto ask = [&](const std::string& name, bool is_own) {
    auto wait = std::make_shared<smtpd::Lookups::Wait>();
    waits.push_back(wait);
    loop.spawn(
        [](auto& all, auto& loop_, auto& mutex_, auto& ended_, auto gate_, auto wait_,
           std::string name_, bool own) -> Task<void> {
          smtpd::Lookups::Job job;
          job.key = name_;
          job.is_own = own;
          job.ask = [gate_, name_] { gate_->wait(name_); };
          const bool is_answered =
              co_await all.run(loop_, wait_, std::chrono::minutes(5), std::move(job));
          const std::lock_guard lock(mutex_);
          ended_.push_back(name_ + (is_answered ? " yes" : " no"));
        }(lookups, loop, mutex, ended, gate, wait, name, is_own),
        log, "test");
  };
  const auto has_ended = [&](const std::string& what) {
    return comes_true([&] {
      const std::lock_guard lock(mutex);
      return std::find(ended.begin(), ended.end(), what) != ended.end();
    });
  };
  ask("stranger 1", false);
  ask("own 1", true);
  std::thread thread([&] { loop.run(); });
  REQUIRE(gate->has_inside(2));
  for (const auto* name : {"stranger 2", "stranger 3", "stranger 4"})  // two may wait
    loop.post([&, name] { ask(name, false); });
  CHECK(has_ended("stranger 4 no"));
  loop.post([&] { ask("own 2", true); });
  loop.post([&] { ask("own 2", true); });
  loop.post([&] { ask("own 3", true); });  // two wait already
  CHECK(has_ended("own 3 no"));
  loop.post([&] { waits[2]->give_up(); });
  CHECK(has_ended("stranger 2 no"));
  gate->open("stranger 1");
  CHECK(has_ended("stranger 1 yes"));
  gate->open();
  for (const auto* name : {"own 1 yes", "own 2 yes", "stranger 3 yes"})
    CHECK(has_ended(name));
  CHECK(comes_true([&] {
    const auto now = lookups.counts();
    return now.running == 0 && now.waiting == 0;
  }));
  loop.finish();
  thread.join();
  CHECK(ended.size() == 8);
}
