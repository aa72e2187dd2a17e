#include "daemon/pickup/drop_counts.h"

#include <catch2/catch.hpp>

#include <set>

using postrider::daemon::DropCounts;

TEST_CASE("a file counts once for its user, for as many recipients", "[daemon][unit]") {
  DropCounts counts;
  CHECK_FALSE(counts.covers(1, 7, 1));
  counts.add(1, 7, 3);
  CHECK(counts.covers(1, 7, 3));
  CHECK(counts.covers(1, 7, 1));
  CHECK_FALSE(counts.covers(1, 7, 4));  // it was rewritten
  CHECK_FALSE(counts.covers(2, 7, 1));
  counts.add(1, 7, 4);
  CHECK(counts.covers(1, 7, 4));
  CHECK(counts.size() == 1);
  counts.forget(2, 7);
  counts.forget(1, 8);
  CHECK(counts.size() == 1);
  counts.forget(1, 7);
  CHECK(counts.size() == 0);
  CHECK_FALSE(counts.covers(1, 7, 1));
}

TEST_CASE("what is gone counts no more", "[daemon][unit]") {
  DropCounts counts;
  for (std::uint64_t inode = 0; inode < 10; ++inode)
    counts.add(inode % 3, inode, 1);
  counts.keep({1, 4, 5, 99});
  CHECK(counts.size() == 3);
  CHECK(counts.covers(1, 4, 1));
  CHECK_FALSE(counts.covers(1, 7, 1));
  counts.keep({});
  CHECK(counts.size() == 0);
}

TEST_CASE("what is parked takes no room of its party's others", "[daemon][unit]") {
  DropCounts counts;
  const auto fill = [&](std::uint64_t from, bool park) {
    auto inode = from;
    for (; counts.has_room(1, inode); ++inode) {
      counts.add(1, inode, 1);
      if (park)
        counts.park(1, inode);
    }
    return inode - from;
  };
  counts.add(2, 1, 1);
  CHECK(fill(0, true) == DropCounts::kMostParked);
  for (std::uint64_t inode = 0; inode < 10; ++inode)
    counts.forget(1, inode);
  CHECK(counts.has_room(1, 1'000'000));
  CHECK(fill(1'000'000, false) == DropCounts::kMostOfParty);
  CHECK(counts.covers(1, 20, 1));  // what is parked counts all the same
  std::set<std::uint64_t> there;
  for (std::uint64_t inode = 0; inode < 100; ++inode)
    there.insert(inode);
  counts.keep(there);
  CHECK(fill(2'000'000, false) == DropCounts::kMostOfParty);
  counts.park(1, 3'000'000);  // of none that counts
  counts.keep({});
  CHECK(counts.size() == 0);
}

TEST_CASE("at the most for all, the party with the most is forgotten whole, and no other",
          "[daemon][unit]") {
  DropCounts::Limits limits;
  limits.all = 10;
  DropCounts counts(limits);
  for (std::uint64_t inode = 0; inode < 4; ++inode)
    counts.add(1, inode, 1);
  for (std::uint64_t inode = 0; inode < 5; ++inode)
    counts.add(2, inode, 1);
  counts.park(2, 0);
  counts.add(3, 7, 1);
  REQUIRE(counts.size() == 10);
  counts.add(4, 8, 1);
  CHECK(counts.size() == 6);
  CHECK_FALSE(counts.covers(2, 0, 1));
  for (std::uint64_t inode = 0; inode < 4; ++inode)
    CHECK(counts.covers(1, inode, 1));
  CHECK(counts.covers(3, 7, 1));
  CHECK(counts.covers(4, 8, 1));
  // It is no longer the longest when it has become shorter.
  counts.forget(1, 0);
  counts.forget(1, 1);
  for (std::uint64_t inode = 0; inode < 3; ++inode)
    counts.add(3, inode, 1);
  counts.add(4, 9, 1);
  counts.add(4, 10, 1);
  counts.add(4, 11, 1);
  REQUIRE(counts.size() == 10);
  counts.keep({0, 1, 2, 3, 7, 8});
  REQUIRE(counts.size() == 7);
  for (std::uint64_t inode = 20; inode < 25; ++inode)
    counts.add(5, inode, 1);
  CHECK(counts.covers(1, 3, 1));
  CHECK_FALSE(counts.covers(3, 7, 1));
}

TEST_CASE("what counts is bounded, for each user and for all", "[daemon][unit]") {
  DropCounts counts;
  counts.add(5, 1, 1);
  std::uint64_t inode = 0;
  for (; counts.has_room(1, inode); ++inode)
    counts.add(1, inode, 1);
  CHECK(inode == DropCounts::kMostOfParty);
  CHECK(counts.has_room(1, 0));  // it is one of them
  CHECK(counts.has_room(5, inode));
  // However many users come.
  for (std::uint64_t uid = 10; uid < 10 + 2 * DropCounts::kMost; ++uid)
    counts.add(uid, uid, 1);
  CHECK(counts.size() <= DropCounts::kMost);
  CHECK_FALSE(counts.covers(1, 0, 1));  // who had the most
}
