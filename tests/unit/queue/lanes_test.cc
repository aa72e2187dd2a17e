// Those who send share what is handed out of the mail that waits for a domain.
#include "queue/row_codec.h"
#include "queue/waiting_lane.h"
#include "tests/unit/queue/queue_fixture.h"

#include <catch2/catch.hpp>
#include <sqlite3.h>

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <set>

namespace postrider::queue::test {

using mail::MessageId;
using mail::Verdict;
using std::chrono::hours;
using std::chrono::seconds;

namespace {

// A queue whose rows are written into the file of one that is closed; all of it waits.
struct Lanes : QueueFixture {
  Lanes() {
    logs_in = true;
    settings.fresh_messages = 0;
    settings.lifetime = hours(24L * 365);
    settings.delay_notice = Duration(0);
    open();
    start();
  }

  // What was in hand is due again at the next start.
  void stop() {
    queue.reset();
    hand.clear();
  }

  void execute(const std::string& sql) {
    sqlite3* handle = nullptr;
    REQUIRE(sqlite3_open((settings.spool + "/queue.db").c_str(), &handle) == SQLITE_OK);
    char* problem = nullptr;
    const bool is_done = sqlite3_exec(handle, sql.c_str(), nullptr, nullptr, &problem) == SQLITE_OK;
    INFO((problem == nullptr ? "" : problem));
    sqlite3_free(problem);
    sqlite3_close(handle);
    REQUIRE(is_done);
  }

  // The queue is closed, and of the message of that sender there are so many then, due before all
  // others; it is open again, and hands out nothing yet.
  void copy_to(const std::string& sender, std::size_t messages) {
    stop();
    const std::string of = "(SELECT max(id) FROM message WHERE sender = '" + sender + "')";
    const std::string numbers =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
        " WHERE i < " +
        std::to_string(messages - 1) + ") ";
    execute("BEGIN;" + numbers +
            "INSERT INTO body SELECT b.id - 10000000 - n.i, b.data FROM n, body b WHERE b.id = " +
            of + ";" + numbers +
            "INSERT INTO recipient(message, idx, domain, state, attempts, next_attempt, address,"
            " last, lane) SELECT r.message - 10000000 - n.i, idx, domain, state, attempts, "
            "next_attempt,"
            " address, last, lane FROM n, recipient r WHERE r.message = " +
            of + ";" + numbers +
            "INSERT INTO message(id, deadline, expires, received, size, waiting, held, tried,"
            " delayed, logged, sender, head) SELECT m.id - 10000000 - n.i, deadline, expires, "
            "received, size,"
            " waiting, held, tried, delayed, logged, sender, head FROM n, message m WHERE m.id = " +
            of +
            "; UPDATE recipient SET next_attempt = next_attempt - 100000000"
            " WHERE message IN (SELECT id FROM message WHERE sender = '" +
            sender +
            "'); UPDATE domain SET next_due = 0; UPDATE site SET wake = 0 WHERE wake > 0; COMMIT");
    open();
  }

  // What is handed out, in order, each answered as delivered, until it is of that sender so often.
  std::vector<Lease> until(const std::string& sender, std::size_t times) {
    std::vector<Lease> leased;
    for (std::size_t seen = 0; seen < times;) {
      leased.push_back(hand.next());
      seen += leased.back().message->envelope.sender == sender ? 1 : 0;
      record(answer(leased.back(), Verdict::delivered));
    }
    return leased;
  }
};

// Of all threads.
template <class Work>
double processor_seconds(Work work) {
  const auto begin = std::clock();
  work();
  return static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
}

std::string sender_number(std::size_t number) {
  return "a@s" + std::to_string(number) + ".test";
}

}  // namespace

TEST_CASE_METHOD(Lanes, "a few messages do not wait behind the many of another sender",
                 "[queue][lanes]") {
  must_accept("a@bulk.test", {"c@d.test"});
  std::vector<MessageId> small;
  for (int i = 0; i < 10; ++i) {
    clock.pass(seconds(1));
    small.push_back(must_accept("a@small.test", {"c@d.test"}));
  }
  copy_to("a@bulk.test", 100'000);
  start();
  const auto leased = until("a@small.test", small.size());
  CHECK(leased.size() <= 128);
  std::vector<MessageId> order;
  for (const auto& lease : leased)
    if (lease.message->envelope.sender == "a@small.test")
      order.push_back(lease.message->id);
  CHECK(order == small);
}

TEST_CASE_METHOD(Lanes, "who comes new is handed out at once, whatever of others is in hand",
                 "[queue][lanes]") {
  settings.leased_per_domain = 40;
  must_accept("a@bulk.test", {"c@d.test"});
  copy_to("a@bulk.test", 1000);
  start();
  REQUIRE(hand.wait_for(20));
  settle();
  CHECK(hand.count() == 20);  // half
  for (const auto* sender : {"a@one.test", "a@two.test", "a@three.test"}) {
    const auto id = must_accept(sender, {"c@d.test"});
    hand.next(id);
  }
  settle();
  CHECK(hand.count() == 20);
}

TEST_CASE_METHOD(Lanes, "no sender starves among three hundred, nor behind one with very many",
                 "[queue][lanes]") {
  constexpr std::size_t kSenders = 300, kOfEach = 5;
  must_accept("a@bulk.test", {"c@d.test"});
  std::map<std::string, std::vector<MessageId>> sent, got;
  for (std::size_t i = 0; i < kOfEach; ++i)
    for (std::size_t sender = 0; sender < kSenders; ++sender)
      sent[sender_number(sender)].push_back(must_accept(sender_number(sender), {"c@d.test"}));
  copy_to("a@bulk.test", 5000);
  start();
  std::map<std::string, std::size_t> first;
  std::size_t others = 0, bulk = 0;
  while (others < kSenders * kOfEach) {
    const auto lease = hand.next();
    const auto& sender = lease.message->envelope.sender;
    if (sender == "a@bulk.test") {
      ++bulk;
    } else {
      ++others;
      got[sender].push_back(lease.message->id);
      first.try_emplace(sender, others + bulk);
    }
    record(answer(lease, Verdict::delivered));
  }
  CHECK(got == sent);  // those of one sender in their order
  CHECK(bulk < kSenders * kOfEach);
  CHECK(bulk > 0);
  std::size_t latest = 0;
  for (const auto& [sender, when] : first)
    latest = std::max(latest, when);
  CHECK(latest <= 3 * kSenders);
}

TEST_CASE_METHOD(Lanes, "the oldest message goes out, however many senders there are",
                 "[queue][lanes]") {
  must_accept("a@old.test", {"c@d.test"});
  clock.pass(seconds(1));
  const auto senders = std::size_t{1000};
  for (std::size_t sender = 0; sender < senders; ++sender)
    must_accept(sender_number(sender), {"c@d.test"});
  stop();
  open();
  start();
  CHECK(until("a@old.test", 1).size() <= 128);
}

TEST_CASE_METHOD(Lanes, "urgent mail does not wait behind what else its sender has",
                 "[queue][lanes]") {
  must_accept("a@b.test", {"c@d.test"});
  copy_to("a@b.test", 3000);
  clock.pass(seconds(10));
  start();
  auto urgent = make("a@b.test", {"c@d.test"});
  urgent.envelope.priority = 4;
  const auto id = urgent.id;
  REQUIRE(accept(std::move(urgent)).has_value());
  std::size_t before = 0;
  for (MessageId found; found != id; ++before) {
    const auto lease = hand.next();
    found = lease.message->id;
    record(answer(lease, Verdict::delivered));
  }
  CHECK(before <= settings.leased_per_domain / 2);
}

TEST_CASE_METHOD(Lanes, "the recipients of a message are handed out together, in whatever turn",
                 "[queue][lanes]") {
  must_accept("a@bulk.test", {"c@d.test"});
  must_accept("a@small.test", {"c@d.test", "e@d.test", "f@other.test"});
  copy_to("a@bulk.test", 1000);
  start();
  const auto leased = until("a@small.test", 1);
  CHECK(leased.back().recipients.size() == 3);
}

TEST_CASE("a lane is of a sender and an urgency, and the same in every run", "[queue][lanes]") {
  const auto message = [](const std::string& sender, int priority, mail::Precedence precedence) {
    mail::Message made;
    made.origin = {"c[192.0.2.1]", "ESMTP"};
    made.envelope.sender = sender;
    made.envelope.priority = static_cast<std::int8_t>(priority);
    made.precedence = precedence;
    return made;
  };
  using mail::Precedence;
  const auto normal = waiting_lane(message("a@b.test", 0, Precedence::none));
  CHECK(normal == 7043366196794202408);
  CHECK(weight_of_lane(normal) == 4);
  const auto urgent = waiting_lane(message("a@b.test", 2, Precedence::bulk));
  const auto bulk = waiting_lane(message("a@b.test", 0, Precedence::bulk));
  const auto junk = waiting_lane(message("a@b.test", 0, Precedence::junk));
  CHECK(weight_of_lane(urgent) == 4);
  CHECK(weight_of_lane(bulk) == 2);
  CHECK(weight_of_lane(junk) == 1);
  CHECK(weight_of_lane(kUnknownLane) == 4);
  CHECK(std::set{normal, urgent, bulk, junk}.size() == 4);
  CHECK(waiting_lane(message("x@b.test", -1, Precedence::none)) == normal);
  CHECK(waiting_lane(message("a@c.test", 0, Precedence::none)) != normal);
}

// Figures: POSTRIDER_ROWS=1000000 queue_test "[lanes-bench]".
TEST_CASE_METHOD(Lanes, "what handing out, deferring and storing cost", "[.bench][lanes-bench]") {
  const auto* wanted = std::getenv("POSTRIDER_ROWS");
  const auto rows = wanted == nullptr ? std::size_t{100'000} : std::stoul(wanted);
  must_accept("a@bulk.test", {"c@d.test"});
  clock.pass(seconds(1));
  const auto small = must_accept("a@small.test", {"c@d.test"});
  copy_to("a@bulk.test", rows);
  start();
  const auto rate = [](const char* what, std::size_t count, double taken) {
    std::printf("  %-28s %8.0f/s\n", what, static_cast<double>(count) / taken);
  };
  constexpr std::size_t kCount = 5000;
  rate("accepted and stored", kCount, processor_seconds([&] {
         for (std::size_t i = 0; i < kCount; ++i)
           must_accept("a@bulk.test", {"c@d.test"});
       }));
  stop();
  open();
  start();
  std::size_t position = 0;
  const auto taken = [&](Verdict verdict) {
    return processor_seconds([&] {
      for (std::size_t i = 0; i < kCount; ++i) {
        const auto lease = hand.next();
        ++position;
        if (lease.message->id == small)
          std::printf("  the small sender's is number %zu\n", position);
        record(answer(lease, verdict, clock.now() + hours(1)));
      }
    });
  };
  rate("leased and deferred", kCount, taken(Verdict::retry));
  rate("leased and delivered", kCount, taken(Verdict::delivered));
}

}  // namespace postrider::queue::test
