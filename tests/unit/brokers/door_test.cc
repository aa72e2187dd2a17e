#include "brokers/door.h"

#include "events/socket_sink.h"

#include "tests/unit/base/temporary_folder.h"

#include <catch2/catch.hpp>

#include <fstream>
#include <thread>
#include <unistd.h>
#include <vector>

using namespace postrider;
using namespace postrider::brokers;

namespace {

constexpr Duration kLong{60'000};
const std::function<void()> kNothing = [] {};

}  // namespace

TEST_CASE("the daemon's sink and the door understand each other", "[door]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  const auto path = folder / "door";
  { REQUIRE(Door::open(path, {::geteuid()}).has_value()); }  // and leaves its socket behind
  const auto door = Door::open(path, {::geteuid()});
  REQUIRE(door.has_value());
  std::vector<std::string> seen;
  std::vector<Result<void>> answers = {{}, Error(Errc::refused, "find the queue \"x\""), {}};
  std::vector<Result<void>> ends;
  std::thread program([&] {
    const auto take = [&](std::string_view batch) {
      seen.emplace_back(batch);
      return answers[seen.size() - 1];
    };
    for (int callers = 0; callers < 2; ++callers)
      ends.push_back(door->serve(take, kNothing));
  });
  {
    events::SocketSink sink(path, kLong, clock);
    CHECK(sink.deliver("1", {"a", "b"}).has_value());
    const auto refused = sink.deliver("2", {std::string(200'000, 'c')});
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().describe().find("no find the queue") != std::string::npos);
    CHECK(sink.deliver("2", {"d"}).has_value());  // as another caller
  }
  program.join();
  CHECK((ends[0].has_value() && ends[1].has_value()));
  CHECK(seen == std::vector<std::string>{"a\nb", std::string(200'000, 'c'), "d"});
}

TEST_CASE("strangers are sent away, and what is in the way of the door stays", "[door]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  const auto path = folder / "door";
  const auto door = Door::open(path, {::geteuid() + 1});
  REQUIRE(door.has_value());
  Result<void> served;
  std::thread program(
      [&] { served = door->serve([](std::string_view) { return Result<void>(); }, kNothing); });
  CHECK_FALSE(events::SocketSink(path, kLong, clock).deliver("1", {"a"}).has_value());
  program.join();
  REQUIRE_FALSE(served.has_value());
  CHECK(served.error().code() == Errc::refused);
  std::ofstream(folder / "file") << "x";
  CHECK_FALSE(Door::open(folder / "file", {}).has_value());
  CHECK_FALSE(Door::open("", {}).has_value());
  CHECK_FALSE(Door::open(std::string(200, 'x'), {}).has_value());
  CHECK_FALSE(Door::open(folder / "none/door", {}).has_value());
}
