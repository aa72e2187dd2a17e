#include "events/outbox.h"

#include "events/event_schema.h"

#include "base/file.h"
#include "tests/unit/base/temporary_folder.h"
#include "tests/unit/queue/failing_vfs.h"

#include <catch2/catch.hpp>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <sys/wait.h>
#include <unistd.h>

using namespace postrider;
using namespace postrider::events;
using queue::test::FailingVfs;

namespace {

constexpr auto kStart = TimePoint(Duration(1'763'904'884'000));

CloudEvent about(const std::string& message, TimePoint when = kStart) {
  CloudEvent event;
  event.kind = Kind::delivered;
  event.time = when;
  event.subject = event.message = message;
  return event;
}

std::vector<CloudEvent> some(int first, int count, TimePoint when = kStart) {
  std::vector<CloudEvent> events;
  for (int number = first; number < first + count; ++number)
    events.push_back(about(std::to_string(number), when));
  return events;
}

Outbox opened(const std::string& path, OutboxLimits limits = {}, const char* vfs = nullptr) {
  auto outbox = Outbox::open(path, "//mx/postrider", limits, vfs);
  if (!outbox)
    FAIL(outbox.error().describe());
  return *std::move(outbox);
}

// The messages that a reader finds from `position` on.
std::vector<std::string> messages(const std::string& path, Position position = {},
                                  std::uint64_t* lost = nullptr) {
  auto reader = OutboxReader::open(path);
  if (!reader)
    FAIL(reader.error().describe());
  std::vector<std::string> found;
  for (;;) {
    auto page = reader->after(position, 7, 1U << 20U);
    if (!page)
      FAIL(page.error().describe());
    if (lost != nullptr)
      *lost += page->lost;
    if (page->events.empty())
      return found;
    for (const auto& stored : page->events) {
      const auto event = decode(stored.text);
      REQUIRE(event.has_value());
      CHECK(event->id == page->outbox + "-" + std::to_string(stored.sequence));
      found.push_back(event->message);
    }
    position = {page->outbox, page->events.back().sequence};
  }
}

std::vector<std::string> numbers(int first, int count) {
  std::vector<std::string> all;
  for (int number = first; number < first + count; ++number)
    all.push_back(std::to_string(number));
  return all;
}

}  // namespace

TEST_CASE("events are read in the order in which they were written", "[outbox]") {
  const TemporaryFolder folder;
  const auto path = folder / "events.db";
  auto outbox = opened(path);
  for (int first = 0; first < 30; first += 10) {
    auto events = some(first, 10);
    REQUIRE(outbox.append(events).has_value());
  }
  CHECK(messages(path) == numbers(0, 30));
  CHECK(messages(path, {outbox.name(), 25}) == numbers(25, 5));
  CHECK(messages(path, {outbox.name(), 30}).empty());
  CHECK(messages(path, {"0123456789abcdef", 25}) == numbers(0, 30));  // another outbox's position
}

TEST_CASE("numbers go on after a restart, also when all was forgotten", "[outbox]") {
  const TemporaryFolder folder;
  const auto path = folder / "events.db";
  {
    auto outbox = opened(path);
    auto events = some(0, 5);
    REQUIRE(outbox.append(events).has_value());
    CHECK(*outbox.trim(5, kStart) == 0);
    CHECK(outbox.bytes() == 0);
  }
  auto outbox = opened(path);
  CHECK(outbox.last() == 5);
  auto events = some(5, 1);
  REQUIRE(outbox.append(events).has_value());
  std::uint64_t lost = 0;
  CHECK(messages(path, {outbox.name(), 5}, &lost) == numbers(5, 1));
  CHECK(lost == 0);
}

TEST_CASE("what all have read goes; too old and too much is counted", "[outbox]") {
  const TemporaryFolder folder;
  const auto path = folder / "events.db";
  auto outbox = opened(path, {.bytes = 4000, .age = std::chrono::hours(1)});
  auto old = some(0, 3);
  REQUIRE(outbox.append(old).has_value());
  auto later = some(3, 3, kStart + std::chrono::hours(2));
  REQUIRE(outbox.append(later).has_value());
  CHECK(*outbox.trim(1, kStart + std::chrono::hours(2)) == 2);  // one of the old ones was read
  CHECK(messages(path) == numbers(3, 3));
  auto many = some(6, 100, kStart + std::chrono::hours(2));
  REQUIRE(outbox.append(many).has_value());
  const auto lost = outbox.trim(0, kStart + std::chrono::hours(2));
  REQUIRE(lost.has_value());
  CHECK(outbox.bytes() <= 4000);
  CHECK(outbox.bytes() > 3500);
  const auto left = messages(path);
  CHECK(left.size() == 103 - *lost);
  CHECK(left.back() == "105");
  std::uint64_t seen_lost = 0;
  CHECK(messages(path, {outbox.name(), 4}, &seen_lost) == left);
  CHECK(seen_lost == 106 - left.size() - 4);
}

TEST_CASE("on a nearly full disk the oldest events make room", "[outbox]") {
  const TemporaryFolder folder;
  const auto path = folder / "events.db";
  auto outbox = opened(path, {.keep = std::chrono::hours(24), .room = UINT64_MAX / 2});
  auto events = some(0, 4000);
  REQUIRE(outbox.append(events).has_value());
  REQUIRE(outbox.checkpoint().has_value());
  const auto before = outbox.bytes();
  const auto size = std::filesystem::file_size(path);
  SECTION("what was read without a loss") {
    CHECK(*outbox.trim(4000, kStart) == 0);
    CHECK(outbox.bytes() < before * 4 / 5);
  }
  SECTION("and the rest with one") {
    const auto lost = outbox.trim(0, kStart);
    CHECK(*lost > 900);
    CHECK(*lost < 1100);
    CHECK(messages(path).front() == std::to_string(*lost));
    for (int i = 0; i < 15; ++i)
      REQUIRE(outbox.trim(0, kStart).has_value());
    CHECK(outbox.bytes() < before / 50);
  }
  CHECK(std::filesystem::file_size(path) < size);
  CHECK(messages(path).back() == "3999");
}

TEST_CASE("a page holds one event at least and no more than asked for", "[outbox]") {
  const TemporaryFolder folder;
  auto outbox = opened(folder / "events.db");
  auto events = some(0, 5);
  REQUIRE(outbox.append(events).has_value());
  auto reader = OutboxReader::open(folder / "events.db");
  REQUIRE(reader.has_value());
  CHECK(reader->after({}, 100, 1)->events.size() == 1);
  CHECK(reader->after({}, 3, 1U << 20U)->events.size() == 3);
  CHECK(reader->after({}, 100, 1U << 20U)->events.size() == 5);
}

TEST_CASE("a position is kept, and a strange one is refused", "[outbox]") {
  const TemporaryFolder folder;
  const auto path = folder / "position";
  CHECK(read_position(path).error().code() == Errc::not_found);
  const Position position{"0123456789abcdef", 17};
  REQUIRE(save_position(path, position).has_value());
  CHECK(*read_position(path) == position);
  for (const auto* text : {"", "\n", "0123456789abcdef", "0123456789abcdef \n", "x 1\n",
                           "0123456789abcdef -1\n", "0123456789abcdef 1"}) {
    std::ofstream(path) << text;
    CHECK_FALSE(read_position(path).has_value());
  }
  std::ofstream(path) << std::string(100'000, 'a');
  CHECK_FALSE(read_position(path).has_value());
}

TEST_CASE("whatever operation of the disk fails, a batch is kept whole or not at all", "[outbox]") {
  for (const auto mode : {FailingVfs::Mode::once, FailingVfs::Mode::forever, FailingVfs::Mode::cut})
    for (std::uint64_t at = 1;; ++at) {
      const TemporaryFolder folder;
      const auto path = folder / "events.db";
      bool is_through = false;
      std::vector<std::string> promised;
      {
        FailingVfs vfs;
        auto outbox = opened(path, {}, vfs.name());
        auto first = some(0, 3);
        REQUIRE(outbox.append(first).has_value());
        promised = numbers(0, 3);
        vfs.fail_at(at, SQLITE_IOERR_WRITE, mode);
        auto second = some(3, 3);
        if (outbox.append(second).has_value())
          promised = numbers(0, 6);
        is_through = !vfs.has_failed();
      }
      auto again = opened(path);
      const auto found = messages(path);
      CAPTURE(static_cast<int>(mode), at);
      CHECK((found == numbers(0, 3) || found == numbers(0, 6)));
      CHECK(found.size() >= promised.size());
      auto third = some(6, 1);
      CHECK(again.append(third).has_value());
      if (is_through)
        break;
      REQUIRE(at < 100);
    }
}

TEST_CASE("a full disk fails a batch, and room lets the next one through", "[outbox]") {
  const TemporaryFolder folder;
  FailingVfs vfs;
  auto outbox = opened(folder / "events.db", {}, vfs.name());
  vfs.fail_at(1, SQLITE_FULL, FailingVfs::Mode::forever);
  auto events = some(0, 3);
  const auto refused = outbox.append(events);
  REQUIRE_FALSE(refused.has_value());
  CHECK(queue::is_full(refused.error()));
  CHECK(outbox.last() == 0);
  vfs.heal();
  REQUIRE(outbox.append(events).has_value());
  CHECK(outbox.last() == 3);
}

TEST_CASE("the writer is killed at any moment: what was promised is there", "[outbox]") {
  for (int round = 0; round < 5; ++round) {
    const TemporaryFolder folder;
    const auto path = folder / "events.db";
    int pipe_ends[2];
    REQUIRE(::pipe(pipe_ends) == 0);
    const auto child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      auto outbox = Outbox::open(path, "//mx/postrider", {});
      for (int number = 0; outbox && number < 100'000; number += 5) {
        auto events = some(number, 5);
        if (!outbox->append(events) || ::write(pipe_ends[1], "x", 1) != 1)
          break;
      }
      ::_exit(1);
    }
    ::close(pipe_ends[1]);
    std::size_t batches = 0;
    char mark = 0;
    while (batches < 3 + static_cast<std::size_t>(round) && ::read(pipe_ends[0], &mark, 1) == 1)
      ++batches;
    ::kill(child, SIGKILL);
    while (::read(pipe_ends[0], &mark, 1) == 1)
      ++batches;
    ::close(pipe_ends[0]);
    ::waitpid(child, nullptr, 0);
    auto outbox = opened(path);
    const auto found = messages(path);
    CHECK(found.size() >= 5 * batches);
    CHECK(found.size() % 5 == 0);
    CHECK(found == numbers(0, static_cast<int>(found.size())));
  }
}

TEST_CASE("a file that is not an outbox is refused, and set aside", "[outbox]") {
  const TemporaryFolder folder;
  const auto path = folder / "events.db";
  std::ofstream(path) << std::string(50'000, 'x');
  const auto refused = Outbox::open(path, "//mx/postrider", {});
  REQUIRE_FALSE(refused.has_value());
  CHECK(queue::is_damage(refused.error()));
  REQUIRE(KeptDatabase::set_aside(path).has_value());
  CHECK(std::filesystem::exists(path + ".damaged"));
  auto outbox = opened(path);
  CHECK(outbox.last() == 0);
}
