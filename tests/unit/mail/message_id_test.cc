#include "mail/message_id.h"

#include <catch2/catch.hpp>

#include <set>
#include <thread>
#include <vector>

namespace postrider::mail {
namespace {

TEST_CASE("an id is written in 11 characters that sort by time", "[mail][message_id]") {
  CHECK(to_string(MessageId{1}) == "00000000001");
  CHECK(to_string(MessageId{32}) == "00000000010");
  CHECK(to_string(MessageId{1795440884000000}) < to_string(MessageId{1795440884000001}));
  for (const std::int64_t value :
       {std::int64_t{1}, std::int64_t{1795440884123456}, (std::int64_t{1} << 55U) - 1})
    CHECK(parse_message_id(to_string(MessageId{value})) == MessageId{value});
  CHECK(parse_message_id("1k0y6m1p980") == parse_message_id("1K0Y6M1P980"));
}

TEST_CASE("nothing else is an id", "[mail][message_id]") {
  for (const auto* bad : {"", "00000000000", "0000000001", "000000000001", "1K0Y6M1P98U",
                          "1K0Y6M1P98-", "../../../etc", "1K0Y6M1P98 ", "1K0Y6M1P98I"})
    CHECK_FALSE(parse_message_id(bad).has_value());
}

TEST_CASE("M18: ids grow though the clock is set back", "[mail][message_id]") {
  MessageIds ids;
  const TimePoint now(std::chrono::seconds(1795440884));
  const auto first = ids.next(now);
  CHECK(first.value == 1795440884000000);
  CHECK(ids.next(now).value == first.value + 1);
  CHECK(ids.next(now - std::chrono::hours(8760)).value == first.value + 2);
  ids.continue_after(MessageId{first.value + 100});
  CHECK(ids.next(now).value == first.value + 101);
  ids.continue_after(MessageId{5});
  CHECK(ids.next(now).value == first.value + 102);
}

TEST_CASE("threads never get the same id", "[mail][message_id]") {
  MessageIds ids;
  const TimePoint now(std::chrono::seconds(1795440884));
  std::vector<std::vector<MessageId>> given(4);
  std::vector<std::thread> threads;
  for (auto& mine : given)
    threads.emplace_back([&ids, &mine, now] {
      for (int i = 0; i < 5000; ++i)
        mine.push_back(ids.next(now));
    });
  for (auto& thread : threads)
    thread.join();
  std::set<MessageId> all;
  for (const auto& mine : given)
    all.insert(mine.begin(), mine.end());
  CHECK(all.size() == 20000);
}

}  // namespace
}  // namespace postrider::mail
