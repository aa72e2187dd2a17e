// Summaries: the pattern of a reason, and each grouping against a model.
#include "queue/summary.h"

#include "tests/unit/queue/queue_fixture.h"

#include <catch2/catch.hpp>

#include <map>
#include <random>
#include <set>

namespace postrider::queue::test {

using mail::Verdict;

TEST_CASE("a reason's pattern keeps what it says and not of whom", "[queue][summary]") {
  const struct {
    const char* name;
    const char* reason;
    const char* pattern;
  } cases[] = {
      {"a reply with its codes",
       "host mx1.d.test[192.0.2.7] said: 451 4.7.1 try again in 300 seconds (in reply to RCPT TO)",
       "host mx#.d.test[ip] said: 451 4.7.1 try again in # seconds (in reply to RCPT TO)"},
      {"an address", "550 5.1.1 <ann.o'hara+x@d.test>: user unknown",
       "550 5.1.1 <ann.o'address>: user unknown"},
      {"an address without brackets", "user ann@d.test is unknown", "user address is unknown"},
      {"a queue id", "250 2.0.0 Ok: queued as 4ZxW3k2Gz1z9vKL", "250 2.0.0 Ok: queued as id"},
      {"a transaction id with strokes", "421 busy d9443c01a7336-20f1si1234567.64 - gsmtp",
       "421 busy d#c#a#-#f#si#.# - gsmtp"},
      {"an IPv6 address", "connect to 2001:db8::7: Connection refused",
       "connect to ip: Connection refused"},
      {"an address with a port", "connect to 192.0.2.7:25: timed out", "connect to ip: timed out"},
      {"a number where a code would stand elsewhere", "waits 450 seconds", "waits # seconds"},
      {"numbers in a word", "x1y22z", "x#y#z"},
      {"several spaces", "a  b   c", "a b c"},
      {"nothing", "", ""},
      {"a full stop", "too many messages (17).", "too many messages (#)."},
      {"only digits", "12345678", "#"},
      {"a word that ends with a code", "said: 5.7.1", "said: 5.7.1"},
      {"not a code", "version 1.2.3", "version #.#.#"},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.name) {
      CHECK(reason_pattern(c.reason) == c.pattern);
    }
  CHECK(reason_pattern(std::string(100'000, 'x')).size() <= 300);
  CHECK(reason_pattern(std::string("\0\xff\x01", 3)) == std::string("\0\xff\x01", 3));
}

TEST_CASE("an age belongs to one column of qshape's", "[queue][summary]") {
  const TimePoint now{std::chrono::hours(1000)};
  const struct {
    int minutes;
    std::size_t column;
  } cases[] = {{-5, 0}, {0, 0},   {4, 0},   {5, 1},   {9, 1},    {10, 2},   {20, 3},   {40, 4},
               {80, 5}, {160, 6}, {320, 7}, {640, 8}, {1279, 8}, {1280, 9}, {99999, 9}};
  for (const auto& c : cases) {
    Summary summary(SummaryKey::age, now);
    Summary::Item item;
    item.message = {1};
    item.received = now - std::chrono::minutes(c.minutes);
    summary.add(item);
    INFO(c.minutes);
    CHECK(summary.total().ages[c.column] == 1);
  }
}

TEST_CASE("the groups with most recipients come first", "[queue][summary]") {
  Summary summary(SummaryKey::domain, TimePoint{});
  Summary::Item item;
  for (const auto& [id, domain] :
       std::vector<std::pair<int, const char*>>{{1, "b"}, {2, "c"}, {2, "a"}, {2, "c"}, {3, "c"}}) {
    item.message = {id};
    item.domain = domain;
    item.size = 10;
    summary.add(item);
  }
  const auto largest = summary.largest(2);
  REQUIRE(largest.size() == 2);
  CHECK(largest[0]->key == "c");
  CHECK(largest[0]->recipients == 3);
  CHECK(largest[0]->messages == 2);
  CHECK(largest[0]->bytes == 20);
  CHECK(largest[1]->key == "a");
  CHECK(summary.largest(10).size() == 3);
  CHECK(summary.total().messages == 3);
  CHECK(summary.total().bytes == 30);
}

TEST_CASE("groups beyond the most are counted together", "[queue][summary]") {
  Summary summary(SummaryKey::sender, TimePoint{});
  Summary::Item item;
  for (std::size_t i = 0; i < Summary::kMostGroups + 5; ++i) {
    const auto sender = "s" + std::to_string(i) + "@b.test";
    item.message = {static_cast<std::int64_t>(i + 1)};
    item.sender = sender;
    summary.add(item);
  }
  CHECK(summary.groups() == Summary::kMostGroups);
  CHECK(summary.others().messages == 5);
  CHECK(summary.total().messages == Summary::kMostGroups + 5);
}

namespace {

struct Expected {
  std::set<std::int64_t> messages;
  std::uint64_t recipients = 0, bytes = 0;
  TimePoint oldest = TimePoint::max();
  std::array<std::uint64_t, Summary::kAges> ages = {};
};

struct ModelRecipient {
  std::string domain, reason;
  bool has_ended = false;
};
struct ModelMessage {
  mail::MessageId id;
  TimePoint received;
  std::uint64_t size = 0;
  std::string sender, client;
  std::string status;
  std::vector<ModelRecipient> recipients;
};

// 2,000 messages in all states, and what a summary must say of them.
struct Model : QueueFixture {
  Model() {
    settings.delay_notice = Duration(0);
    open();
    start();
    fill();
    settle();
    answer_some();
    hold_some();
  }

  int below(int end) { return static_cast<int>(random() % static_cast<unsigned>(end)); }

  void fill() {
    for (int i = 0; i < 2000; ++i) {
      const auto sender =
          below(10) == 0 ? "" : "s" + std::to_string(below(40)) + "@b" + std::to_string(below(3));
      std::vector<std::string> addresses;
      ModelMessage one;
      for (int left = 1 + below(3); left > 0; --left) {
        const auto domain = "d" + std::to_string(below(30)) + ".test";
        addresses.push_back("r" + std::to_string(below(1000)) + "@" + domain);
        one.recipients.push_back({domain, "", false});
      }
      auto message =
          make(sender, addresses, std::string(1 + static_cast<std::size_t>(below(3000)), 'x'));
      one.client = "192.0.2." + std::to_string(below(20));
      message.origin.client = "helo" + std::to_string(i) + "[" + one.client + "]";
      one.id = message.id;
      one.received = message.received;
      one.size = message.content.size;
      one.sender = sender;
      one.status = "active";
      messages.push_back(one);
      REQUIRE(accept(std::move(message)).has_value());
      clock.pass(std::chrono::seconds(below(120)));
    }
  }

  // A third stays in delivery's hands; the others are deferred, some of their recipients delivered.
  void answer_some() {
    static const char* const patterns[] = {
        "451 4.7.1 greylisted, back in # seconds", "452 4.2.2 mailbox of <address> is full",
        "421 4.3.2 service id is down", "connection to ip timed out"};
    std::vector<Record> records;
    for (auto& one : messages) {
      if (below(3) == 0)
        continue;
      const auto lease = hand.next(one.id);
      Record record;
      record.id = one.id;
      for (const auto& recipient : lease.recipients) {
        auto& model = one.recipients[recipient.index];
        const int kind = below(4);
        const std::string number = std::to_string(below(1000));
        const std::string texts[] = {
            "451 4.7.1 greylisted, back in " + number + " seconds",
            "452 4.2.2 mailbox of <u" + number + "@d.test> is full",
            "421 4.3.2 service 4ZxW3k2Gz1z" + number + " is down",
            "connection to 192.0.2." + std::to_string(below(200)) + " timed out"};
        const bool is_delivered = recipient.index > 0 && below(3) == 0;
        model.has_ended = is_delivered;
        model.reason = is_delivered ? "" : patterns[kind];
        record.results.push_back(
            {recipient.index,
             outcome(is_delivered ? Verdict::delivered : Verdict::retry, texts[kind]),
             clock.now() + std::chrono::hours(60)});
      }
      one.status = "deferred";
      records.push_back(std::move(record));
    }
    queue->record(std::move(records));
    for (int i = 0; i < 10; ++i)
      queue->assign_site("d" + std::to_string(i) + ".test", "site" + std::to_string(i % 3));
    settle();
  }

  void hold_some() {
    Filter filter;
    filter.from = "s7@b1";
    filter.status = "deferred";
    change(Verb::hold, filter);
    for (auto& one : messages)
      if (one.sender == "s7@b1" && one.status == "deferred")
        one.status = "held";
  }

  std::string site_of(const ModelMessage& one, const std::string& domain) const {
    const auto number = std::stoi(domain.substr(1));
    // Known only of what waits: what was accepted last is in delivery's hands for the first time.
    return one.status == "active" || number >= 10 ? "" : "site" + std::to_string(number % 3);
  }

  std::string key_of(SummaryKey by, const ModelMessage& one,
                     const ModelRecipient& recipient) const {
    switch (by) {
      case SummaryKey::domain:
      case SummaryKey::age:
        return recipient.domain;
      case SummaryKey::site:
        return site_of(one, recipient.domain);
      case SummaryKey::sender:
        return one.sender;
      case SummaryKey::client:
        return one.client;
      case SummaryKey::reason:
        return recipient.reason;
    }
    return "";
  }

  using Matches = std::function<bool(const ModelMessage&, const ModelRecipient&)>;
  std::map<std::string, Expected> expected(SummaryKey by, const Matches& matches) const {
    std::map<std::string, Expected> groups;
    for (const auto& one : messages)
      for (const auto& recipient : one.recipients) {
        if (recipient.has_ended || !matches(one, recipient))
          continue;
        auto& group = groups[key_of(by, one, recipient)];
        ++group.recipients;
        if (group.messages.insert(one.id.value).second)
          group.bytes += one.size;
        group.oldest = std::min(group.oldest, one.received);
        const auto minutes =
            std::chrono::duration_cast<std::chrono::minutes>(clock.now() - one.received).count();
        std::size_t column = 0;
        for (const int limit : {5, 10, 20, 40, 80, 160, 320, 640, 1280})
          column += minutes >= limit ? 1 : 0;
        ++group.ages[column];
      }
    return groups;
  }

  void check(SummaryKey by, const Filter& filter, const Matches& matches) {
    Summarizing summarizing(filter, by, clock.now());
    while (!summarizing.is_done)
      REQUIRE(queue->summarize_on(summarizing).has_value());
    const auto wanted = expected(by, matches);
    CHECK(summarizing.summary.groups() == wanted.size());
    CHECK_FALSE(wanted.empty());
    for (const auto* group : summarizing.summary.largest(10'000)) {
      INFO(name_of(by) << " \"" << group->key << "\"");
      REQUIRE(wanted.contains(group->key));
      const auto& want = wanted.at(group->key);
      CHECK(group->messages == want.messages.size());
      CHECK(group->recipients == want.recipients);
      CHECK(group->bytes == want.bytes);
      CHECK(group->oldest == want.oldest);
      CHECK(group->ages == want.ages);
    }
    const auto counted = queue->count(filter);
    REQUIRE(counted.has_value());
    CHECK(summarizing.summary.total().messages == counted->messages);
    CHECK(summarizing.summary.total().recipients == counted->recipients);
  }

  std::mt19937 random{20261129};
  std::vector<ModelMessage> messages;
};

}  // namespace

TEST_CASE_METHOD(Model, "each summary of 2,000 messages equals a model", "[queue][summary]") {
  const SummaryKey keys[] = {SummaryKey::domain, SummaryKey::site,   SummaryKey::sender,
                             SummaryKey::client, SummaryKey::reason, SummaryKey::age};
  struct Case {
    const char* name;
    Filter filter;
    Matches matches;
  };
  std::vector<Case> cases = {{"all", {}, [](const auto&, const auto&) { return true; }}};
  Filter filter;
  filter.from = "@b1";
  cases.push_back({"a sender's domain", filter,
                   [](const auto& one, const auto&) { return one.sender.ends_with("@b1"); }});
  filter = {};
  filter.domain = "d3.test";
  cases.push_back({"a domain", filter, [](const auto&, const auto& recipient) {
                     return recipient.domain == "d3.test";
                   }});
  for (const char* status : {"active", "deferred", "held"}) {
    filter = {};
    filter.status = status;
    cases.push_back(
        {status, filter, [status](const auto& one, const auto&) { return one.status == status; }});
  }
  filter = {};
  filter.reply = "greylisted";
  cases.push_back({"a reply", filter, [](const auto&, const auto& recipient) {
                     return recipient.reason.find("greylisted") != std::string::npos;
                   }});
  for (const auto& c : cases)
    for (const auto by : keys) {
      INFO(c.name);
      check(by, c.filter, c.matches);
    }
}

TEST_CASE_METHOD(QueueFixture, "what nothing was heard of is summed up by what it waits for",
                 "[queue][summary]") {
  open();
  start();
  must_accept("a@b.test", {"a@d.test", "b@d.test", "c@e.test"});
  const auto summarize = [&](Summarizing& summarizing) {
    while (!summarizing.is_done)
      REQUIRE(queue->summarize_on(summarizing));
    std::map<std::string, std::uint64_t> found;
    for (const auto* group : summarizing.summary.largest(10))
      found[group->key] = group->recipients;
    return found;
  };
  using Found = std::map<std::string, std::uint64_t>;
  for (const bool is_waiting : {false, true}) {
    if (is_waiting)
      reopen();
    Summarizing first({}, SummaryKey::reason, clock.now());
    CHECK(summarize(first) == Found{{"", 3}});
    CHECK(first.unheard.size() == 2);
    CHECK(first.unheard.at("e.test") == "c@e.test");
    Summarizing again({}, SummaryKey::reason, clock.now());
    again.waits = {{"d.test", "its rate"}};
    CHECK(summarize(again) == Found{{"", 1}, {"its rate", 2}});
  }
}

TEST_CASE_METHOD(QueueFixture, "a summary goes on where its last slice ended", "[queue][summary]") {
  open();
  start();
  std::vector<Record> records;
  for (int i = 0; i < 4; ++i) {
    std::vector<std::string> addresses(9000, "r@d.test");
    const auto id = must_accept("a@b.test", addresses);
    records.push_back(answer(hand.next(id), Verdict::retry, clock.now() + std::chrono::hours(1)));
  }
  queue->record(std::move(records));
  for (int i = 0; i < 60; ++i)  // pieces, at most
    settle();
  Summarizing summarizing({}, SummaryKey::domain, clock.now());
  int slices = 0;
  while (!summarizing.is_done) {
    REQUIRE(queue->summarize_on(summarizing).has_value());
    ++slices;
  }
  CHECK(slices > 2);
  CHECK(summarizing.summary.total().messages == 4);
  CHECK(summarizing.summary.total().recipients == 36'000);
}

}  // namespace postrider::queue::test
