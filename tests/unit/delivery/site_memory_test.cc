#include "delivery/site_memory.h"

#include <catch2/catch.hpp>

using namespace postrider;
using namespace postrider::delivery;
using std::chrono::hours;
using std::chrono::minutes;

namespace {

const TimePoint kNow{hours(500000)};

}  // namespace

TEST_CASE("site memory: written and read", "[delivery][site_memory]") {
  SiteMemory memory;
  CHECK_FALSE(memory.take_change());
  memory.note("mx.test", "1 5 1 30 0 0 120", kNow);
  memory.note("other.test:26 as ann", "1 2 0 30 1.5 1 120", kNow - hours(3));
  memory.note("old.test", "1 2 0 30 0 0 120", kNow - hours(24 * 8));
  CHECK(memory.take_change());
  CHECK_FALSE(memory.take_change());
  memory.note("mx.test", "1 5 1 30 0 0 120", kNow);  // nothing new
  CHECK_FALSE(memory.take_change());
  SiteMemory again;
  again.read(memory.write(kNow), kNow + minutes(1));
  REQUIRE(again.find("mx.test") != nullptr);
  CHECK(again.find("mx.test")->state == "1 5 1 30 0 0 120");
  CHECK(again.find("mx.test")->at == kNow);
  CHECK(again.find("other.test:26 as ann")->at == kNow - hours(3));
  CHECK(again.find("old.test") == nullptr);
  CHECK_FALSE(again.take_change());
  again.note("mx.test", "", kNow);
  CHECK(again.find("mx.test") == nullptr);
  CHECK(again.take_change());
}

TEST_CASE("site memory: odd files", "[delivery][site_memory]") {
  SiteMemory memory;
  memory.read("", kNow);
  memory.read("no line\n\n1 2\tx\n\t\n 1 \t \nx 1\tmx.test\n-1 1\tmx.test\n1800000000\tmx.test",
              kNow);
  CHECK(memory.size() == 0);
  // From a future that a wrong clock made.
  memory.read("99999999999999999999 1\tfar.test\n9999999999999 1 5\tmx.test\n", kNow);
  REQUIRE(memory.find("mx.test") != nullptr);
  CHECK(memory.find("mx.test")->at <= kNow);
  CHECK(memory.find("far.test") == nullptr);
  memory.note("a\tb", "1", kNow);
  memory.note("a\nb", "1", kNow);
  memory.note(std::string(3000, 'a'), "1", kNow);
  CHECK(memory.size() == 1);
}

TEST_CASE("site memory: ten thousand, the oldest goes first", "[delivery][site_memory]") {
  SiteMemory memory;
  for (int i = 0; i < 10'050; ++i)
    memory.note("s" + std::to_string(i), "1", kNow + Duration(i));
  CHECK(memory.size() == 10'000);
  CHECK(memory.find("s0") == nullptr);
  CHECK(memory.find("s49") == nullptr);
  CHECK(memory.find("s50") != nullptr);
}
