// A courier by itself, on a loop that nothing else uses.
#include "delivery/smtp/courier.h"

#include "fake_mx.h"
#include "messages.h"

#include "base/net/blocking_pool.h"

#include <boost/asio/ip/tcp.hpp>
#include <catch2/catch.hpp>

#include <algorithm>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

using namespace postrider;
using namespace postrider::delivery;

namespace {

class NoLog : public Log {
 public:
  bool enabled(Level) const override { return false; }
  void write(LogEvent) override {}
};

// What couriers said, by the site's handle.
class Told {
 public:
  void put(const CourierEvent& event) {
    const std::lock_guard lock(mutex_);
    events_.emplace_back(event.courier->site(), event.kind);
    changed_.notify_all();
  }
  bool has(std::uint64_t site, CourierEvent::Kind kind) const {
    const std::lock_guard lock(mutex_);
    return has_now(site, kind);
  }
  bool wait_for(std::uint64_t site, CourierEvent::Kind kind) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(120), [&] { return has_now(site, kind); });
  }

 private:
  bool has_now(std::uint64_t site, CourierEvent::Kind kind) const {
    return std::find(events_.begin(), events_.end(), std::pair(site, kind)) != events_.end();
  }
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::pair<std::uint64_t, CourierEvent::Kind>> events_;
};

struct Couriers {
  Couriers() {
    thread = std::thread([this] { loop.run(); });
  }
  ~Couriers() {
    for (const auto& courier : couriers)
      loop.post([courier] { courier->abort(); });
    for (const auto& courier : couriers)
      CHECK(told.wait_for(courier->site(), CourierEvent::Kind::gone));
    loop.finish();
    thread.join();
  }
  std::shared_ptr<Courier> send(const FakeMx& mx) { return send(mx, make_message({"a@x.test"})); }
  std::shared_ptr<Courier> send(const FakeMx& mx, std::shared_ptr<mail::Message> message) {
    CourierOrder order;
    order.site = couriers.size();
    HostAddress candidate;
    candidate.endpoint = asio::ip::tcp::endpoint(asio::ip::make_address("127.0.0.1"), mx.port());
    candidate.address = "127.0.0.1";
    candidate.remote = "127.0.0.1:" + std::to_string(mx.port());
    order.candidates = {candidate};
    order.settings = settings;
    order.tell = [this](const CourierEvent& event) { told.put(event); };
    order.sessions = sessions;
    order.pool = &pool;
    order.conversions = conversions;
    order.clock = &clock;
    order.log = &log;
    order.open_body = open_body;
    auto courier = std::make_shared<Courier>(loop, std::move(order));
    couriers.push_back(courier);
    Job job;
    job.message = std::move(message);
    job.recipients = {0};
    loop.post([courier, job] {
      courier->start();
      courier->take(job);
    });
    return courier;
  }
  void hurry(const std::shared_ptr<Courier>& courier) {
    loop.post([courier] { courier->hurry(Duration(20)); });
  }

  SystemClock clock;
  NoLog log;
  Told told;
  std::shared_ptr<SmtpSettings> settings = std::make_shared<SmtpSettings>();
  std::shared_ptr<TlsSessions> sessions = std::make_shared<TlsSessions>();
  std::shared_ptr<MemoryBudget> conversions = std::make_shared<MemoryBudget>(kMostConverting);
  BlockingPool pool{1};
  OpenBody open_body;
  Loop loop{0};
  std::thread thread;
  std::vector<std::shared_ptr<Courier>> couriers;
};

Behaviour silent_at(const std::string& command) {
  Behaviour behaviour;
  behaviour.ehlo = "250 mx.test\r\n";  // without PIPELINING nothing goes out behind it
  behaviour.replies[command] = "";
  return behaviour;
}

void wait_until(const std::function<bool()>& came) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(120);
  while (!came()) {
    REQUIRE(std::chrono::steady_clock::now() < end);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

}  // namespace

// The host may have the message by then, and would get it again.
TEST_CASE("who is in a hurry waits for a host that has answered, and behind the content",
          "[delivery][courier]") {
  using Kind = CourierEvent::Kind;
  FakeMx behind(silent_at("."));
  FakeMx mute(silent_at("greeting"));
  FakeMx before(silent_at("MAIL"));
  Couriers couriers;
  const auto answered = couriers.send(before);
  wait_until([&] { return before.times("MAIL") == 1; });
  couriers.hurry(answered);  // two minutes are left to it
  const auto patient = couriers.send(behind);
  wait_until([&] { return behind.contents() == 1; });
  couriers.hurry(patient);
  // Deadlines of one length come in the order in which they are set, or all at one time.
  for (std::size_t i = 1; i <= 2; ++i) {
    const auto hurried = couriers.send(mute);
    wait_until([&] { return mute.connections() == i; });
    couriers.hurry(hurried);
    CHECK(couriers.told.wait_for(hurried->site(), Kind::gone));
  }
  for (const auto& courier : {patient, answered}) {
    CHECK_FALSE(couriers.told.has(courier->site(), Kind::ended));
    CHECK_FALSE(couriers.told.has(courier->site(), Kind::gone));
  }
}

// RFC 5321 section 4.5.3.2.6: who gives up sooner sends the message twice.
TEST_CASE("the reply to a whole message has a time of its own, not that of a block",
          "[delivery][courier]") {
  using Kind = CourierEvent::Kind;
  FakeMx behind(silent_at("."));
  FakeMx mute(silent_at("greeting"));
  Couriers couriers;
  couriers.settings->timeouts.block = std::chrono::seconds(2);
  const auto patient = couriers.send(behind);
  wait_until([&] { return behind.contents() == 1; });
  couriers.settings = std::make_shared<SmtpSettings>();
  couriers.settings->timeouts.greeting = std::chrono::seconds(3);
  const auto later = couriers.send(mute);
  CHECK(couriers.told.wait_for(later->site(), Kind::gone));
  CHECK_FALSE(couriers.told.has(patient->site(), Kind::ended));
  CHECK_FALSE(couriers.told.has(patient->site(), Kind::gone));
}

TEST_CASE("only a connection that has been silent gives way", "[delivery][courier]") {
  using Kind = CourierEvent::Kind;
  FakeMx behind(silent_at("."));
  FakeMx before(silent_at("MAIL"));
  Couriers couriers;
  const auto give_way = [&](const std::shared_ptr<Courier>& courier, Duration silence, bool ends) {
    couriers.loop.post([courier, silence, ends] { courier->give_way(silence, ends); });
  };
  const auto first = couriers.send(behind);
  wait_until([&] { return behind.contents() == 1; });
  give_way(first, std::chrono::hours(1), true);
  CHECK(couriers.told.wait_for(first->site(), Kind::stays));
  CHECK_FALSE(couriers.told.has(first->site(), Kind::waits_aside));
  give_way(first, Duration(0), false);  // the host may have the message
  CHECK(couriers.told.wait_for(first->site(), Kind::waits_aside));
  CHECK_FALSE(couriers.told.has(first->site(), Kind::ended));
  const auto second = couriers.send(before);
  wait_until([&] { return before.times("MAIL") == 1; });
  give_way(second, Duration(0), false);  // nor is one that answers slowly ended for others
  CHECK(couriers.told.wait_for(second->site(), Kind::waits_aside));
  CHECK_FALSE(couriers.told.has(second->site(), Kind::ended));
  for (const auto& courier : {first, second}) {
    give_way(courier, Duration(0), true);
    CHECK(couriers.told.wait_for(courier->site(), Kind::gone));
    CHECK(couriers.told.has(courier->site(), Kind::ended));
  }
  CHECK_FALSE(couriers.told.has(second->site(), Kind::stays));
  CHECK(before.times("MAIL") == 1);
}

TEST_CASE("a message that gets through takes back what was lost under TLS before",
          "[delivery][courier]") {
  FakeMx good;
  Couriers couriers;
  const auto remote = "127.0.0.1:" + std::to_string(good.port());
  const auto lose = [&] {
    TlsAttempt attempt;
    attempt.step = TlsAttempt::Step::cut_off;
    couriers.sessions->note_lost(remote, attempt, couriers.clock.steady());
  };
  lose();
  const auto courier = couriers.send(good);
  CHECK(couriers.told.wait_for(courier->site(), CourierEvent::Kind::ended));
  lose();
  CHECK_FALSE(couriers.sessions->broken(remote, couriers.clock.steady()));
}

// The place where memory may be short: the job comes back all the same, and the connection ends.
TEST_CASE("what a writer or a conversion throws ends the job and the courier",
          "[delivery][courier]") {
  using Kind = CourierEvent::Kind;
  const bool is_converted = GENERATE(false, true);
  INFO((is_converted ? "the conversion throws" : "the writer throws"));
  Behaviour behaviour;
  if (is_converted)
    behaviour.ehlo = "250 mx.test\r\n";  // without 8BITMIME
  FakeMx mx(behaviour);
  Couriers couriers;
  couriers.open_body = [](const mail::Message&) -> Result<FileDescriptor> {
    throw std::runtime_error("short");
  };
  auto message = make_message({"a@x.test"}, "Subject: \r\n\r\ncaf\xc3\xa9\r\n");
  message->content.bytes.reset();
  const auto courier = couriers.send(mx, message);
  CHECK(couriers.told.wait_for(courier->site(), Kind::ended));
  couriers.loop.post([courier] { courier->close(); });
  CHECK(couriers.told.wait_for(courier->site(), Kind::gone));
  CHECK(couriers.conversions->left() == kMostConverting);
  CHECK(mx.taken().empty());
}
