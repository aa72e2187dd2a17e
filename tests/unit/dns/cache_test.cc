#include "dns/answer_cache.h"

#include <catch2/catch.hpp>

namespace postrider::dns {

namespace {

const SteadyTime kNow{std::chrono::hours(1000)};

std::shared_ptr<const Found> found(Duration ttl, std::size_t bytes = 0) {
  auto made = std::make_shared<Found>();
  made->expires = kNow + ttl;
  made->reason.assign(bytes, 'x');
  return made;
}

constexpr Duration kMinute{60000};

}  // namespace

TEST_CASE("an entry is found until it expires", "[dns][cache]") {
  Cache cache(10, 1U << 20U);
  cache.put("k", found(kMinute), kNow);
  CHECK(cache.find("k", kNow + kMinute - Duration(1)));
  CHECK_FALSE(cache.find("other", kNow));
  CHECK_FALSE(cache.find("k", kNow + kMinute));
  CHECK(cache.entries() == 0);
  CHECK(cache.bytes() == 0);
  cache.put("gone", found(Duration(0)), kNow);
  CHECK(cache.entries() == 0);
}

TEST_CASE("the least recently used entry makes room", "[dns][cache]") {
  Cache cache(2, 1U << 20U);
  cache.put("a", found(kMinute), kNow);
  cache.put("b", found(kMinute), kNow);
  CHECK(cache.find("a", kNow));
  cache.put("c", found(kMinute), kNow);
  CHECK(cache.find("a", kNow));
  CHECK_FALSE(cache.find("b", kNow));
  CHECK(cache.find("c", kNow));
}

TEST_CASE("bytes are bounded, and what is too large is not kept", "[dns][cache]") {
  Cache cache(1000, 20000);
  for (int i = 0; i < 100; ++i) {
    cache.put(std::to_string(i), found(kMinute, 1000), kNow);
    CHECK(cache.bytes() <= 20000);
  }
  CHECK(cache.entries() > 5);
  const auto entries = cache.entries();
  cache.put("large", found(kMinute, 30000), kNow);
  CHECK(cache.entries() == entries);
  cache.resize(1000, 5000);
  CHECK(cache.bytes() <= 5000);
  cache.clear();
  CHECK(cache.bytes() == 0);
}

TEST_CASE("a new entry replaces the old one of its key", "[dns][cache]") {
  Cache cache(10, 1U << 20U);
  cache.put("k", found(kMinute, 500), kNow);
  const auto second = found(kMinute);
  cache.put("k", second, kNow);
  CHECK(cache.find("k", kNow) == second);
  CHECK(cache.entries() == 1);
  cache.put("k", found(Duration(0)), kNow);
  CHECK(cache.bytes() == 0);
}

}  // namespace postrider::dns
