#include "daemon/pickup/drop_counts.h"

#include <catch2/catch.hpp>

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
