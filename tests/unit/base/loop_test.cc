#include "base/net/loop.h"

#include "base/log.h"
#include "base/net/signal.h"

#include <catch2/catch.hpp>

#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace postrider {
namespace {

class CollectingLog : public Log {
 public:
  bool enabled(Level) const override { return true; }
  void write(LogEvent event) override { events.push_back(std::move(event)); }
  std::vector<LogEvent> events;
};

Task<void> throws() {
  throw std::runtime_error("broken");
  co_return;
}

Task<void> note(std::vector<std::string>& into, const char* text) {
  into.emplace_back(text);
  co_return;
}

TEST_CASE("what a coroutine throws is logged as a bug, and the loop goes on", "[base][loop]") {
  Loop loop(3);
  CollectingLog log;
  std::vector<std::string> notes;
  loop.spawn(throws(), log, "first");
  loop.spawn(note(notes, "second"), log, "second");
  CHECK(loop.children() == 2);
  loop.finish();
  loop.run();
  CHECK(loop.children() == 0);
  CHECK(notes == std::vector<std::string>{"second"});
  REQUIRE(log.events.size() == 1);
  CHECK(log.events[0].level() == Level::error);
  CHECK(log.events[0].value("where") == "first");
  CHECK(log.events[0].value("what") == "broken");
}

TEST_CASE("what is kept begins again after it threw, and ends when it has done its work",
          "[base][loop]") {
  Loop loop(0);
  CollectingLog log;
  int times = 0;
  const auto work = [&]() -> Task<void> {
    if (++times < 3)
      throw std::bad_alloc();
    loop.finish();
    co_return;
  };
  auto owned = std::make_shared<int>(1);
  loop.keep([&work, owned] { return work(); }, log, "accepting");
  loop.run();
  CHECK(times == 3);
  CHECK(loop.children() == 0);
  CHECK(log.events.size() == 2);
  CHECK(owned.use_count() == 1);  // and lets go of what it owned
}

TEST_CASE("what waits to begin again does not keep a loop that finishes", "[base][loop]") {
  Loop loop(0);
  CollectingLog log;
  const auto work = [&]() -> Task<void> {
    loop.finish();
    throw std::bad_alloc();
    co_return;
  };
  loop.keep(work, log, "accepting");
  loop.run();
  CHECK(log.events.size() == 1);
}

TEST_CASE("work posted from another thread runs on the loop's", "[base][loop]") {
  Loop loop(0);
  std::thread::id ran_on;
  std::thread other([&] {
    loop.post([&] { ran_on = std::this_thread::get_id(); });
    loop.finish();
  });
  loop.run();
  other.join();
  CHECK(ran_on == std::this_thread::get_id());
}

Task<void> wait_for(Signal& signal, std::vector<std::string>& notes, const char* name) {
  co_await signal.wait();
  notes.emplace_back(name);
}

Task<void> say(Signal& signal, std::vector<std::string>& notes) {
  notes.emplace_back("say");
  signal.set();
  notes.emplace_back("said");
  co_return;
}

TEST_CASE("a signal wakes the waiter, and is kept for one who comes later", "[base][signal]") {
  NullLog log;
  std::vector<std::string> notes;
  Loop loop(0);
  Signal signal;
  SECTION("the waiter comes first") {
    loop.spawn(wait_for(signal, notes, "woken"), log, "wait");
    loop.spawn(say(signal, notes), log, "say");
    loop.finish();
    loop.run();
    CHECK(notes == std::vector<std::string>{"say", "woken", "said"});
  }
  SECTION("the waiter comes later, and several are one") {
    signal.set();
    signal.set();
    loop.spawn(wait_for(signal, notes, "woken"), log, "wait");
    loop.spawn(wait_for(signal, notes, "again"), log, "wait");
    loop.spawn(say(signal, notes), log, "say");
    loop.finish();
    loop.run();
    CHECK(notes == std::vector<std::string>{"woken", "say", "again", "said"});
  }
}

}  // namespace
}  // namespace postrider
