#include "base/histogram.h"

#include <catch2/catch.hpp>

#include <limits>
#include <thread>

namespace postrider {
namespace {

constexpr std::array<double, 3> kBounds = {0.5, 1, 2};

TEST_CASE("a value counts in the bucket whose bound it does not exceed", "[base]") {
  const std::pair<double, std::size_t> cases[] = {{-3, 0},  {0, 0}, {0.5, 0}, {0.51, 1}, {1, 1},
                                                  {1.5, 2}, {2, 2}, {2.1, 3}, {1e300, 3}};
  for (const auto& [value, bucket] : cases) {
    CAPTURE(value);
    Histogram histogram(kBounds);
    histogram.add(value);
    const auto figures = histogram.figures();
    REQUIRE(figures.counts.size() == kBounds.size() + 1);
    for (std::size_t i = 0; i < figures.counts.size(); ++i)
      CHECK(figures.counts[i] == (i == bucket ? 1 : 0));
    CHECK(figures.sum == Approx(std::clamp(value, 0.0, 1e9)));
  }
}

TEST_CASE("times count as seconds, whatever their unit", "[base]") {
  Histogram histogram(kBounds);
  histogram.add(std::chrono::microseconds(500'000));
  histogram.add(std::chrono::milliseconds(1500));
  histogram.add(std::chrono::hours(1));
  const auto figures = histogram.figures();
  CHECK(figures.counts == std::vector<std::uint64_t>{1, 0, 1, 1});
  CHECK(figures.sum == Approx(3602));
}

TEST_CASE("more bounds than there is room for are left out", "[base]") {
  constexpr std::array<double, 20> kMany = {1,  2,  3,  4,  5,  6,  7,  8,  9,  10,
                                            11, 12, 13, 14, 15, 16, 17, 18, 19, 20};
  Histogram histogram(kMany);
  histogram.add(20.0);
  const auto figures = histogram.figures();
  CHECK(figures.bounds.size() == Histogram::kMostBounds);
  CHECK(figures.counts.back() == 1);
}

TEST_CASE("threads that add at once lose nothing", "[base]") {
  Histogram histogram(kShortTimes);
  constexpr int kEach = 20'000;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (int j = 0; j < kEach; ++j)
        histogram.add(0.001 * (j % 7));
    });
  for (auto& thread : threads)
    thread.join();
  std::uint64_t all = 0;
  for (const auto count : histogram.figures().counts)
    all += count;
  CHECK(all == 4 * kEach);
}

}  // namespace
}  // namespace postrider
