#include "delivery/local_runner.h"

#include "fake_mx.h"
#include "messages.h"
#include "rig.h"

#include "delivery/local/addresses/local_addresses.h"
#include "delivery/local/addresses/resolved_recipient.h"
#include "delivery/local/agents/account.h"
#include "delivery/local/agents/local_file.h"
#include "delivery/local/agents/pipe_command.h"
#include "delivery/local/local_directory.h"
#include "delivery/local_history.h"
#include "delivery/local_shares.h"

#include <catch2/catch.hpp>

#include <fstream>
#include <future>
#include <set>

using namespace postrider;
using namespace postrider::delivery;

namespace {

// Some mailboxes hang until they are let go.
class StuckPerformer : public DeliveryAgent {
 public:
  ~StuckPerformer() override { let_go(); }

  mail::Outcome perform(const LocalJob& job, LocalBody) override {
    const auto& to = job.envelope.local_part;
    std::unique_lock lock(mutex_);
    auto& now = running_[to];
    const bool is_stuck = to.starts_with("stuck");
    stuck_ += is_stuck ? 1 : 0;
    most_[to] = std::max(most_[to], ++now);
    changed_.notify_all();
    if (is_stuck)
      changed_.wait(lock, [&, before = let_go_] { return gone_ || let_go_ != before; });
    --now;
    stuck_ -= is_stuck ? 1 : 0;
    return local_end(mail::Verdict::delivered, {2, 0, 0}, "");
  }
  Result<std::optional<std::string>> read_forward(const std::string&, const std::string&) override {
    std::unique_lock lock(mutex_);
    ++in_homes_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return gone_ || !do_homes_hang; });
    return std::optional<std::string>();
  }
  std::atomic<bool> do_homes_hang{false};  // before it is used
  void wait_for_homes(unsigned asked) {
    std::unique_lock lock(mutex_);
    CHECK(changed_.wait_for(lock, std::chrono::seconds(120), [&] { return in_homes_ >= asked; }));
  }

  void let_go() {
    const std::lock_guard lock(mutex_);
    gone_ = true;
    changed_.notify_all();
  }
  // Those that hang now; others will.
  void let_go_of_these() {
    const std::lock_guard lock(mutex_);
    ++let_go_;
    changed_.notify_all();
  }
  unsigned most(const std::string& user) {
    const std::lock_guard lock(mutex_);
    return most_[user];
  }
  void wait_for(const std::string& user, unsigned running) {
    std::unique_lock lock(mutex_);
    CHECK(changed_.wait_for(lock, std::chrono::seconds(120),
                            [&] { return running_[user] >= running; }));
  }
  // In all.
  void wait_for_stuck(unsigned running) {
    std::unique_lock lock(mutex_);
    CHECK(changed_.wait_for(lock, std::chrono::seconds(120), [&] { return stuck_ >= running; }));
  }
  unsigned stuck() {
    const std::lock_guard lock(mutex_);
    return stuck_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, unsigned> running_, most_;
  unsigned stuck_ = 0, in_homes_ = 0, let_go_ = 0;
  bool gone_ = false;
};

struct Stuck {
  explicit Stuck(unsigned slots) {
    rig.settings.local.deliveries = slots;
    rig.performer = performer;
    rig.start();
  }
  std::shared_ptr<StuckPerformer> performer = std::make_shared<StuckPerformer>();
  Rig rig;
};

// A runner by itself, whose deliveries go to commands.
struct Commands {
  explicit Commands(LocalRunner::Limits limits) {
    LocalRunner::Host host;
    host.prepare = [this](const Job& job) {
      LocalDelivery delivery;
      delivery.message = job.message;
      delivery.recipient = job.recipients.front();
      delivery.mailbox = "command:/bin/lda {user}";
      delivery.hostname = "us.test";
      delivery.directory = &directory;
      delivery.book = book;
      delivery.performer = performer.get();
      delivery.limits.time = Duration(20);
      return delivery;
    };
    host.ended = [this](const Job& job, const LocalResult& result) {
      const std::lock_guard lock(mutex);
      ended[job.message->id.value] = result.outcome.verdict;
      changed.notify_all();
    };
    host.put_back = [](const Job&) {};
    runner = std::make_shared<LocalRunner>(loop, clock, limits, std::move(host));
    thread = std::thread([this] { loop.run(); });
  }
  ~Commands() {
    performer->let_go();
    loop.post([this] {
      runner->drain();
      runner.reset();
    });
    loop.finish();
    thread.join();
  }
  std::int64_t send(const std::string& address, const ResolvedRecipient& leaf = {}) {
    Job job;
    const auto message = make_message({address});
    message->envelope.recipients.front().leaf = encode(leaf);
    job.message = message;
    job.recipients = {0};
    const auto id = job.message->id.value;
    job.lease = static_cast<std::uint64_t>(id);
    loop.post([this, job] { runner->add(job); });
    return id;
  }
  mail::Verdict wait_for(std::int64_t id) {
    std::unique_lock lock(mutex);
    REQUIRE(changed.wait_for(lock, std::chrono::seconds(120), [&] { return ended.contains(id); }));
    return ended[id];
  }

  HandClock clock;
  OneDomain directory;
  std::shared_ptr<const LocalAddresses> book;
  std::shared_ptr<StuckPerformer> performer = std::make_shared<StuckPerformer>();
  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::int64_t, mail::Verdict> ended;
  Loop loop{0};
  std::shared_ptr<LocalRunner> runner;
  std::thread thread;
};

}  // namespace

TEST_CASE("a place is free again when what went on beyond its time has ended",
          "[delivery][local]") {
  LocalRunner::Limits limits;
  limits.slots = 16;  // a quarter of them for one user, who is the same here for all
  limits.beyond = Duration(20);
  limits.stall = std::chrono::hours(1);
  Commands local(limits);
  const auto first = local.send("stuck@here.test");
  const auto second = local.send("stuck@here.test");
  CHECK(local.wait_for(first) == mail::Verdict::retry);
  CHECK(local.wait_for(second) == mail::Verdict::retry);
  local.performer->wait_for("stuck", 2);
  // This one waits for the place, which is not free as long as those go on.
  const auto third = local.send("stuck@here.test");
  CHECK(local.wait_for(local.send("bob@here.test")) == mail::Verdict::delivered);
  local.performer->let_go();
  CHECK(local.wait_for(third) == mail::Verdict::delivered);
  CHECK(local.performer->most("stuck") == 2);
}

TEST_CASE("however many go on beyond their time one after another, there is a thread for the next",
          "[delivery][local]") {
  LocalRunner::Limits limits;
  limits.slots = 2;
  limits.beyond = Duration(20);
  limits.stall = std::chrono::hours(1);
  Commands local(limits);
  for (int i = 0; i < 6; ++i) {  // there are four threads
    CHECK(local.wait_for(local.send("stuck@here.test")) == mail::Verdict::retry);
    local.performer->wait_for_stuck(1);
    local.performer->let_go_of_these();
  }
  CHECK(local.wait_for(local.send("bob@here.test")) == mail::Verdict::delivered);
}

// Of aliases: they run as a user who is not a person, and share nothing else.
TEST_CASE("commands leave a quarter of the places to mailboxes", "[delivery][local]") {
  LocalRunner::Limits limits;
  limits.slots = 8;
  limits.beyond = limits.stall = std::chrono::hours(1);
  Commands local(limits);
  AddressRules rules;
  rules.domains = {"here.test"};
  rules.command_user = home_of_this_user().user;
  local.book = std::make_shared<const LocalAddresses>(rules);
  const auto command = [&](int number) {
    return ResolvedRecipient{ResolvedRecipient::Kind::command, rules.command_user,
                             "/bin/lda " + std::to_string(number)};
  };
  std::vector<std::int64_t> stuck;
  for (int i = 0; i < 12; ++i)
    stuck.push_back(local.send("stuck" + std::to_string(i) + "@here.test", command(i)));
  local.performer->wait_for_stuck(6);
  const ResolvedRecipient mbox{ResolvedRecipient::Kind::file, rules.command_user, "/nowhere/box"};
  CHECK(local.wait_for(local.send("bob@here.test", mbox)) == mail::Verdict::delivered);
  CHECK(local.performer->stuck() == 6);
  local.performer->let_go();
  for (const auto id : stuck)
    CHECK(local.wait_for(id) == mail::Verdict::delivered);
}

TEST_CASE("a stuck mailbox does not hold up another's mail", "[delivery][local]") {
  Stuck local(4);
  auto& rig = local.rig;
  std::vector<mail::MessageId> stuck;
  for (int i = 0; i < 30; ++i)
    stuck.push_back(rig.send(make_message({"stuck@here.test"})));
  local.performer->wait_for("stuck", 2);
  CHECK(describe(rig.deliver(make_message({"ann@here.test"}))) == "0 delivered 2.0.0");
  SECTION("and goes on when it can") {
    local.performer->let_go();
    for (const auto id : stuck)
      CHECK(describe(rig.custody->wait_for(id)) == "0 delivered 2.0.0");
    CHECK(local.performer->most("stuck") == 2);
  }
  SECTION("and its mail goes back to the queue, which has room for others then") {
    rig.clock.advance(std::chrono::seconds(31));
    for (std::size_t i = 2; i < stuck.size(); ++i)
      CHECK(describe(rig.custody->wait_for(stuck[i])) == "0 retry 4.3.0");
    local.performer->let_go();
  }
  SECTION("at a stop, what has not begun goes back untried") {
    std::thread drains([&] { rig.drain(std::chrono::milliseconds(100)); });
    for (std::size_t i = 2; i < stuck.size(); ++i)
      CHECK(describe(rig.custody->wait_for(stuck[i])) == "0 untried");
    local.performer->let_go();
    drains.join();
  }
}

TEST_CASE("what waits for a stuck mailbox is taken back", "[delivery][local][revoke]") {
  Stuck local(4);
  auto& rig = local.rig;
  std::vector<queue::Revocation> wanted;
  for (int i = 0; i < 200; ++i)
    wanted.push_back({rig.send(make_message({"stuck@here.test"})), {0}});
  // One of two is wanted back.
  const auto both = rig.send(make_message({"stuck+1@here.test", "stuck+2@here.test"}));
  wanted.push_back({both, {1}});
  const auto other = rig.send(make_message({"stuck+3@here.test"}));
  local.performer->wait_for("stuck", 2);
  std::promise<std::vector<queue::Revocation>> answered;
  rig.dispatcher->revoke(wanted, [&](std::vector<queue::Revocation> under_way) {
    answered.set_value(std::move(under_way));
  });
  std::set<std::int64_t> under_way;
  for (const auto& one : answered.get_future().get())
    if (!one.recipients.empty())
      under_way.insert(one.id.value);
  CHECK(under_way.size() == 2);
  for (std::size_t i = 0; i < 200; ++i)
    if (!under_way.contains(wanted[i].id.value))
      CHECK(describe(rig.custody->wait_for(wanted[i].id)) == "0 untried");
  local.performer->let_go();
  for (const auto id : under_way)
    CHECK(describe(rig.custody->wait_for({id})) == "0 delivered 2.0.0");
  CHECK(describe(rig.custody->wait_for(other)) == "0 delivered 2.0.0");
  rig.wait_until([&] { return rig.status().leases == 0; });
  std::set<std::string> ends;
  for (std::size_t size = 0; size < 2;) {
    const auto record = rig.custody->wait_for(both);
    size += record.results.size() + record.untried.size();
    for (const auto index : record.untried)
      ends.insert(std::to_string(index) + " untried");
    for (const auto& result : record.results)
      ends.insert(std::to_string(result.index) + " tried");
  }
  CHECK(ends == std::set<std::string>{"0 tried", "1 untried"});
  CHECK(local.performer->most("stuck") == 2);
}

TEST_CASE("explanations that hang in homes hold up no notice", "[delivery][local]") {
  const auto performer = std::make_shared<StuckPerformer>();
  performer->do_homes_hang = true;
  Behaviour refusing;
  refusing.replies["RCPT"] = "550 5.1.1 no such user\r\n";
  FakeMx mx(refusing);
  Rig rig;
  AddressRules here;
  here.domains = {"here.test"};
  here.forward = ".forward";
  auto& local = rig.settings.local;
  local.mailbox = "maildir:" + rig.folder.string() + "/{user}/";
  local.minimum_uid = 1;
  const auto book = std::make_shared<const LocalAddresses>(here);
  local.book = book;
  local.users = std::make_shared<const LocalDirectory>(book, local.mailbox, rig.clock);
  rig.performer = performer;
  rig.route_to(mx.port());
  rig.start();
  std::promise<void> explained[3];
  for (auto& each : explained)
    rig.dispatcher->explain("daemon@here.test", [&each](const Explanation&) { each.set_value(); });
  performer->wait_for_homes(2);
  // The beginning of its original is read where it may block.
  std::shared_ptr<mail::Message> message = make_message({"a@x.test"});
  std::ofstream(rig.folder / "original") << *message->content.bytes;
  message->content.file = "original";
  message->content.bytes.reset();
  const auto record = rig.deliver(message);
  CHECK(describe(record) == "0 bounce 5.1.1");
  CHECK(record.notices.size() == 1);
  performer->let_go();
  for (auto& each : explained)
    each.get_future().wait();
}

TEST_CASE("of few places one stuck mailbox does not take all", "[delivery][local]") {
  for (const unsigned slots : {1U, 2U, 3U, 4U}) {
    INFO(slots);
    Stuck local(slots);
    for (int i = 0; i < 5; ++i)
      local.rig.send(make_message({"stuck@here.test"}));
    local.performer->wait_for("stuck", 1);
    CHECK(describe(local.rig.deliver(make_message({"ann@here.test"}))) == "0 delivered 2.0.0");
    local.performer->let_go();
  }
}

TEST_CASE("addresses with extensions are one address", "[delivery][local]") {
  Stuck local(8);
  for (int i = 0; i < 8; ++i)
    local.rig.send(make_message({"stuck+" + std::to_string(i) + "@here.test"}));
  local.performer->wait_for("stuck+1", 1);
  CHECK(describe(local.rig.deliver(make_message({"ann@here.test"}))) == "0 delivered 2.0.0");
  CHECK(local.performer->most("stuck+5") == 0);
  local.performer->let_go();
}

namespace {

// Aliases that lead to other machines, and what is sent there.
struct Aliases {
  explicit Aliases(const std::string& entries, const std::map<std::string, FakeMx*>& others = {}) {
    AddressRules rules;
    rules.domains = {"here.test"};
    rules.hostname = "host.here.test";
    rules.forward = "";
    rules.aliases = {*tables::open_table(*tables::parse_spec("inline:{" + entries + "}"), {})};
    const auto book = std::make_shared<const LocalAddresses>(rules);
    rig.settings.local.book = book;
    rig.settings.local.users =
        std::make_shared<const LocalDirectory>(book, "maildir:/nonexistent/{user}/", rig.clock);
    rig.route_to(far.port(), "far.test");
    for (const auto& [domain, host] : others)
      rig.route_to(host->port(), domain);
    rig.start();
  }
  // "x@far.test 1, ..." with the values of NOTIFY, in order.
  std::string sent_on(const std::shared_ptr<mail::Message>& message) {
    const auto id = rig.send(message);
    std::multiset<std::string> found;
    for (bool is_open = true; is_open;) {
      const auto record = rig.custody->wait_for(id);
      is_open = record.partial;
      for (const auto& one : record.notices)
        for (const auto& to : one.message->envelope.recipients)
          found.insert(std::string(mail::local_part_of(to.address)) + "@" +
                       mail::domain_of(to.address) + " " + std::to_string(to.notify.bits));
      for (const auto& result : record.results) {
        CHECK(result.outcome.verdict == mail::Verdict::delivered);
        ways[result.index] = result.outcome.onward;
      }
    }
    std::string text;
    for (const auto& one : found)
      text += (text.empty() ? "" : ", ") + one;
    return text;
  }
  std::map<std::uint32_t, mail::Outcome::Onward> ways;
  FakeMx far;
  Rig rig;
};

}  // namespace

// Else a crash behind that record loses the mail: who has ended is not tried again.
TEST_CASE("what an alias sends on is in the record in which its recipient ends",
          "[delivery][local][record]") {
  Behaviour silent, never;
  silent.replies["."] = "";
  never.replies["RCPT"] = "550 5.1.1 no such user\r\n";
  FakeMx hanging(silent), refusing(never);
  Aliases us("one=x@far.test", {{"hangs.test", &hanging}, {"never.test", &refusing}});
  std::vector<std::string> addresses{"one@here.test", "a@hangs.test"};
  SECTION("alone") {}
  SECTION("beside one of whom the sender hears") {
    addresses.push_back("a@never.test");
  }
  const auto id = us.rig.send(make_message(addresses));
  for (bool is_on_its_way = false, has_ended = false; !has_ended;) {
    const auto record = us.rig.custody->wait_for(id);
    for (const auto& one : record.notices)
      is_on_its_way |= one.message->envelope.recipients.front().address == "x@far.test";
    for (const auto& result : record.results)
      has_ended |= result.index == 0;
    CHECK(is_on_its_way == has_ended);
  }
  us.rig.drain(std::chrono::milliseconds(10));
}

TEST_CASE("one mailbox elsewhere gets one copy, however many aliases lead there",
          "[delivery][local]") {
  using mail::Notify;
  using Onward = mail::Outcome::Onward;
  Aliases us("one=x@far.test, two=x@FAR.test, { three = x@far.test, y@far.test }, five=X@far.test");
  SECTION("alone and among others") {
    CHECK(us.sent_on(make_message({"one@here.test", "two@here.test", "three@here.test"})) ==
          "x@far.test 0, y@far.test 0");
  }
  SECTION("another local part is another mailbox") {
    CHECK(us.sent_on(make_message({"one@here.test", "five@here.test"})) ==
          "X@far.test 0, x@far.test 0");
  }
  SECTION("named itself, too") {
    CHECK(us.sent_on(make_message({"x@Far.test", "three@here.test", "one@here.test"})) ==
          "y@far.test 0");
  }
  SECTION("who wants other notices of it has a copy of its own") {
    auto message = make_message({"one@here.test", "two@here.test", "three@here.test"});
    message->envelope.recipients[0].notify.bits = Notify::kNever;
    message->envelope.recipients[1].notify.bits = Notify::kFailure;
    message->envelope.recipients[2].notify.bits = Notify::kFailure;
    CHECK(us.sent_on(message) == "x@far.test 2, x@far.test 8, y@far.test 2");
  }
  SECTION("of a copy that goes with another, success is not told as if it had arrived") {
    auto message = make_message({"one@here.test", "two@here.test"});
    for (auto& recipient : message->envelope.recipients)
      recipient.notify.bits = Notify::kSuccess | Notify::kFailure;
    // One report: that mail to one of the two was expanded.
    CHECK(us.sent_on(message) == "from@sender.test 0, x@far.test 3");
    CHECK(std::multiset{us.ways[0], us.ways[1]} ==
          std::multiset{Onward::forwarded, Onward::expanded});
  }
}

TEST_CASE("what was done for a message counts for those that came of it", "[delivery][local]") {
  LocalHistory history;
  const SteadyTime now{};
  CHECK(history.root_of(1) == 1);
  history.note_child(2, 1, now);
  history.note_child(3, history.root_of(2), now);
  CHECK(history.root_of(3) == 1);
  history.note_done(history.root_of(2), "maildir /m/ann", now);
  CHECK(history.was_done(history.root_of(3), "maildir /m/ann"));
  CHECK_FALSE(history.was_done(history.root_of(3), "maildir /m/bob"));
  CHECK_FALSE(history.was_done(4, "maildir /m/ann"));
  // For as long as there is room, whatever the time.
  for (std::int64_t i = 0; i < 20'000; ++i)
    history.note_done(300'000 + i, "x", now + std::chrono::hours(24 * 4));
  CHECK(history.was_done(1, "maildir /m/ann"));
  for (std::int64_t i = 0; i < 200'000; ++i)
    history.note_done(10 + i, "x", now + std::chrono::hours(1));
  CHECK_FALSE(history.was_done(1, "maildir /m/ann"));  // bounded
}

TEST_CASE("shares: all or none, and each is counted once", "[delivery][local]") {
  LocalShares shares;
  std::vector<std::string> first, second, third;
  const std::vector<Share> both = {{"a", 2}, {"b", 1}};
  CHECK(shares.enter(both, first) == nullptr);
  CHECK(shares.enter(both, first) == nullptr);
  const auto* exhausted = shares.enter(both, second);
  REQUIRE(exhausted != nullptr);
  CHECK(exhausted->name == "b");
  CHECK(second.empty());
  CHECK(shares.enter({{"a", 2}}, second) == nullptr);
  CHECK(shares.enter({{"a", 2}}, third) != nullptr);
  shares.leave(first);
  CHECK(shares.enter({{"a", 2}}, third) == nullptr);
  CHECK(shares.enter({{"b", 1}}, third) == nullptr);
}
