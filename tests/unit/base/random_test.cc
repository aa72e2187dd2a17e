#include "base/random.h"

#include <catch2/catch.hpp>

#include <set>
#include <vector>

namespace postrider {
namespace {

class Script : public Random {
 public:
  explicit Script(std::vector<std::uint64_t> values) : values_(std::move(values)) {}
  std::uint64_t next() override { return values_.at(at_++); }

 private:
  std::vector<std::uint64_t> values_;
  std::size_t at_ = 0;
};

TEST_CASE("numbers below a bound are even-handed", "[base][random]") {
  CHECK(Script({7}).below(10) == 7);
  CHECK(Script({UINT64_MAX - 1}).below(1) == 0);
  // The last, incomplete interval is thrown away.
  CHECK(Script({UINT64_MAX, 3}).below(10) == 3);
}

TEST_CASE("the system's numbers do not repeat", "[base][random]") {
  SystemRandom random;
  std::set<std::uint64_t> seen;
  for (int i = 0; i < 1000; ++i)
    seen.insert(random.next());
  CHECK(seen.size() == 1000);
}

}  // namespace
}  // namespace postrider
