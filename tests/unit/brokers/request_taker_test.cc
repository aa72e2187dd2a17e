#include "brokers/request_taker.h"

#include "base/base64.h"
#include "base/json.h"
#include "base/text.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <deque>
#include <sysexits.h>
#include <thread>
#include <vector>

using namespace postrider;
using namespace postrider::brokers;

namespace {

class StepClock : public Clock {
 public:
  TimePoint now() const override { return {}; }
  SteadyTime steady() const override { return at; }
  SteadyTime at{};
};

class ListLog : public Log {
 public:
  bool enabled(Level) const override { return true; }
  void write(LogEvent event) override {
    std::string line;
    format_text(event, line);
    lines.push_back(line);
  }
  bool has(const std::string& what) const {
    return std::any_of(lines.begin(), lines.end(),
                       [&](const auto& line) { return line.find(what) != std::string::npos; });
  }
  std::vector<std::string> lines;
};

// A broker that gives what is to come again once more.
class FakeConsumer : public Consumer {
 public:
  Result<std::optional<BrokerRequest>> next(SteadyTime until) override {
    if (!is_there)
      return Error(Errc::truncated, "wait for requests");
    if (waiting.empty()) {
      clock.at = until;
      return std::optional<BrokerRequest>();
    }
    return std::optional(waiting.front());
  }
  Result<void> settle(RequestEnd end, SteadyTime) override {
    order.push_back(end == RequestEnd::taken     ? "ack"
                    : end == RequestEnd::refused ? "drop"
                                                 : "back");
    if (end != RequestEnd::later)
      waiting.pop_front();
    return {};
  }
  bool tend() override {
    ++tended;
    return !is_lost;
  }
  FakeConsumer(StepClock& its_clock, std::vector<std::string>& its_order)
      : clock(its_clock), order(its_order) {}

  StepClock& clock;
  std::vector<std::string>& order;  // of what all did
  std::deque<BrokerRequest> waiting;
  bool is_there = true, is_lost = false;
  int tended = 0;
};

class FakePublisher : public Publisher {
 public:
  explicit FakePublisher(std::vector<std::string>& its_order) : order(its_order) {}
  Result<void> publish(const Wave& wave, SteadyTime, std::vector<bool>& taken) override {
    if (failures > 0) {
      --failures;
      return Error(code, "tell of it");
    }
    order.push_back("tell");
    for (std::size_t i = 0; i < wave.size(); ++i) {
      told.push_back(wave[i]->text);
      taken[i] = true;
    }
    return {};
  }
  std::vector<std::string>& order;
  std::vector<std::string> told;
  int failures = 0;
  Errc code = Errc::truncated;
};

using Answers = std::deque<Result<daemon::SubmitAnswer>>;

Result<daemon::SubmitAnswer> answer(int code, const std::string& cause = "", bool busy = false) {
  daemon::SubmitAnswer one;
  one.exit_code = code;
  one.cause = cause;
  one.busy = busy;
  if (code == EX_OK)
    one.id = "01JDXK3V9QF";
  else
    one.error = "no";
  return one;
}

// Without an answer left the daemon is down.
struct Rig {
  StepClock clock;
  ListLog log;
  std::vector<std::string> order;
  FakeConsumer consumer{clock, order};
  FakePublisher publisher{order};
  Answers answers;
  std::vector<daemon::SubmitHeader> headers;
  std::vector<std::string> contents;
  RequestTaker::Large large;
  RequestTaker taker{settings(), consumer, &publisher, clock, log};

  RequestTaker::Settings settings() {
    RequestTaker::Settings made;
    made.name = "shop";
    made.host = "mx.example";
    made.protocol = "amqp";
    made.most_size = 1U << 20U;
    made.submit = [this](const auto& header,
                         std::string_view content) -> Result<daemon::SubmitAnswer> {
      order.push_back("submit");
      headers.push_back(header);
      contents.emplace_back(content);
      if (answers.empty())
        return Error(Errc::truncated, "connect to the daemon");
      auto one = answers.front();
      answers.pop_front();
      return one;
    };
    made.sleep = [this](Duration pause) { clock.at += pause; };
    made.large = &large;
    return made;
  }
  // The reason in the last event.
  std::string reason() const {
    if (publisher.told.empty())
      return "";
    const auto event = parse_json_object(publisher.told.back(), JsonLimits()).value();
    CHECK(event.at("type").as_string() == "postrider.request_refused");
    CHECK(event.at("source").as_string() == "//mx.example/requests/shop");
    return std::string(event.at("data").as_object().at("reason").as_string());
  }
};

using Order = std::vector<std::string>;

std::string asked(const std::string& members = "") {
  return R"({"from":"shop@us.example","to":["ann@far.example"],"text":"Thank you.")" + members +
         "}";
}

std::string repeated(const std::string& text, std::size_t count) {
  std::string all;
  for (std::size_t i = 0; i < count; ++i)
    all += text;
  return all;
}

}  // namespace

TEST_CASE("a request is acknowledged when its mail is in custody, and not before", "[requests]") {
  Rig rig;
  rig.answers = {answer(EX_OK)};
  rig.consumer.waiting.push_back({"order 17", asked(), false});
  rig.taker.turn();
  CHECK(rig.order == Order{"submit", "ack"});
  REQUIRE(rig.headers.size() == 1);
  const auto& header = rig.headers.front();
  CHECK(header.sender == "shop@us.example");
  CHECK(header.recipients == std::vector<std::string>{"ann@far.example"});
  CHECK(header.token == "shop");
  CHECK(header.way == "amqp");
  CHECK(header.size == rig.contents.front().size());
  CHECK(header.key == daemon::submit_key("shop", "order 17", asked()));
  // Nothing waits.
  rig.taker.turn();
  CHECK(rig.order.size() == 2);
}

TEST_CASE("a request may have its key itself, and the one of the broker's message goes before it",
          "[requests]") {
  const std::string body = R"({"from":"a@us.example","to":"b@far.example","text":"x","key":"k"})";
  for (const auto* given : {"", "order 17"}) {
    Rig rig;
    rig.answers = {answer(EX_OK)};
    rig.consumer.waiting.push_back({given, body, false});
    rig.taker.turn();
    REQUIRE(rig.headers.size() == 1);
    const std::string key = *given == '\0' ? "k" : given;
    CHECK(rig.headers.front().key == daemon::submit_key("shop", key, body));
  }
}

TEST_CASE("mail has the trace of its request, and what is none does no harm", "[requests]") {
  const std::string good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  for (const auto& given :
       {good, std::string(), good + " ", std::string(100'000, '0'), std::string("00-\0\"\n", 6)}) {
    Rig rig;
    rig.answers = {answer(EX_OK)};
    rig.consumer.waiting.push_back({"order 17", asked(), false, given});
    rig.taker.turn();
    CHECK(rig.order == Order{"submit", "ack"});
    REQUIRE(rig.headers.size() == 1);
    CHECK(rig.headers.front().trace_parent == (given == good ? good : ""));
  }
}

TEST_CASE("without a key nothing makes two requests the same", "[requests]") {
  Rig rig;
  rig.answers = {answer(EX_OK)};
  rig.consumer.waiting.push_back({"", asked(), false});
  rig.taker.turn();
  CHECK(rig.headers.front().key.empty());
  CHECK(rig.order == Order{"submit", "ack"});
}

TEST_CASE("a request that can never be mail is told of, and gives way to the next", "[requests]") {
  struct Case {
    std::string name;
    BrokerRequest request;
    std::string reason;
  };
  const auto injected = [](const std::string& members) {
    return R"({"from":"a@us.example","to":"b@far.example","text":"x",)" + members + "}";
  };
  const std::string kEvil = R"(\r\nBcc: evil@far.example)";
  const std::vector<Case> cases = {
      {"nothing", {"k", "", false}, "JSON"},
      {"no JSON", {"k", "no json at all", false}, "JSON"},
      {"octets", {"k", "\xff\xfe\x80", false}, "JSON"},
      {"an array", {"k", "[1,2]", false}, "JSON"},
      {"half of it", {"k", asked().substr(0, 40), false}, "JSON"},
      {"two of them", {"k", asked() + asked(), false}, "JSON"},
      {"a bomb of depth", {"k", std::string(1'000'000, '['), false}, "JSON"},
      {"a bomb of members",
       {"k", "{\"headers\":{" + repeated("\"a\":\"b\",", 100'000) + "\"z\":\"\"}}", false},
       "JSON"},
      {"a bomb of recipients",
       {"k", R"({"from":"a@us.example","to":[)" + repeated("\"b@c.example\",", 200'000) + "\"\"]}",
        false},
       "JSON"},
      {"an unknown member", {"k", asked(R"(,"colour":"red")"), false}, "colour"},
      {"a member that stands twice", {"k", asked(R"(,"to":"e@far.example")"), false}, "twice"},
      {"no sender", {"k", R"({"to":"b@far.example","text":"x"})", false}, "from"},
      {"no recipient", {"k", R"({"from":"a@us.example","text":"x"})", false}, "recipient"},
      {"nothing to send", {"k", R"({"from":"a@us.example","to":"b@c.example"})", false}, "nothing"},
      {"injection into from",
       {"k", R"({"from":"a@us.example)" + kEvil + R"(","to":"b@c.example","text":"x"})", false},
       "from"},
      {"injection into to",
       {"k", R"({"from":"a@us.example","to":"b@c.example)" + kEvil + R"(","text":"x"})", false},
       "to"},
      {"injection into cc", {"k", injected("\"cc\":\"c@far.example" + kEvil + "\""), false}, "cc"},
      {"injection into bcc", {"k", injected("\"bcc\":\"c@d.example" + kEvil + "\""), false}, "bcc"},
      {"injection into reply_to",
       {"k", injected("\"reply_to\":\"c@far.example" + kEvil + "\""), false},
       "reply_to"},
      {"injection into the name of a sender",
       {"k", R"({"from":"A)" + kEvil + R"( <a@us.example>","to":"b@far.example","text":"x"})",
        false},
       "from"},
      {"injection into subject",
       {"k", injected("\"subject\":\"x" + kEvil + "\""), false},
       "subject"},
      {"a lone line feed in subject",
       {"k", injected(R"("subject":"x\nBcc: e@f.example")"), false},
       "subject"},
      {"injection into tag", {"k", injected("\"tag\":\"x" + kEvil + "\""), false}, "tag"},
      {"injection into the value of a field",
       {"k", injected(R"("headers":{"X-A":"x)" + kEvil + "\"}"), false},
       "headers.X-A"},
      {"injection into the name of a field",
       {"k", injected(R"("headers":{"X-A: b)" + kEvil + R"(":"x"})"), false},
       "headers"},
      {"a field that is ours",
       {"k", injected(R"("headers":{"Bcc":"e@far.example"})"), false},
       "Bcc"},
      {"injection into the name of a file",
       {"k", injected(R"("attachments":[{"content":"QUJD","filename":"a)" + kEvil + "\"}]"), false},
       "attachments.filename"},
      {"injection into a type",
       {"k", injected(R"("attachments":[{"content":"QUJD","type":"text/plain)" + kEvil + "\"}]"),
        false},
       "attachments.type"},
      {"injection into a content id",
       {"k", injected(R"("attachments":[{"content":"QUJD","content_id":"a@b)" + kEvil + "\"}]"),
        false},
       "attachments.content_id"},
      {"ten megabytes of attachments",
       {"k",
        asked(R"(,"attachments":[{"content":")" + encode_base64(std::string(10'000'000, 'x')) +
              "\"}]"),
        false},
       "1MiB"},
      {"more than is read", {"k", "", true}, "16MiB"},
      {"a key that is too long", {std::string(256, 'k'), asked(), false}, "key"},
      {"a key with a line end", {"k\r\nx", asked(), false}, "key"},
      {"a key that is no ASCII", {"k\xc3\xa4", asked(), false}, "key"}};
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.name) {
      Rig rig;
      rig.answers = {answer(EX_OK)};
      rig.consumer.waiting = {c.request, {"next", asked(), false}};
      rig.taker.turn();
      CHECK(rig.order == Order{"tell", "drop"});
      CHECK(rig.reason().find(c.reason) != std::string::npos);
      CHECK((rig.publisher.told.back().find("sha256") == std::string::npos) ==
            c.request.is_too_large);
      CHECK(rig.log.has("request_refused"));
      CHECK(rig.headers.empty());
      rig.taker.turn();
      CHECK(rig.order == Order{"tell", "drop", "submit", "ack"});
    }
}

TEST_CASE("what the daemon says decides whether a request is given up or comes again",
          "[requests]") {
  struct Case {
    std::string name;
    Result<daemon::SubmitAnswer> said;
    std::string end;
  };
  auto nameless = answer(EX_OK);
  nameless->id.clear();
  const std::vector<Case> cases = {
      {"taken", answer(EX_OK), "ack"},
      {"taken before, with this key", answer(EX_OK, std::string(daemon::kCauseKey)), "ack"},
      {"taken, but nobody says as what", nameless, "back"},
      {"no answer", Error(Errc::truncated, "read"), "back"},
      {"an answer that is none", malformed("answer"), "back"},
      {"no room for it", answer(EX_TEMPFAIL, "", true), "back"},
      {"a full disk", answer(EX_TEMPFAIL), "back"},
      {"a filter that is away", answer(EX_UNAVAILABLE, "", true), "back"},
      {"a filter that refuses it", answer(EX_UNAVAILABLE), "drop"},
      {"the limits of the source", answer(EX_TEMPFAIL, std::string(daemon::kCauseLimit)), "back"},
      {"more recipients than it may ever have", answer(EX_NOPERM), "drop"},
      {"the user may not speak for a source", answer(EX_CONFIG), "back"},
      {"another version's daemon", answer(EX_PROTOCOL), "back"},
      {"a fault of the daemon", answer(EX_SOFTWARE), "back"},
      {"something is wrong with it", answer(EX_DATAERR), "drop"},
      {"the key of another request", answer(EX_DATAERR, std::string(daemon::kCauseKey)), "drop"}};
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.name) {
      Rig rig;
      rig.answers = Answers(100, c.said);
      rig.consumer.waiting.push_back({"k", asked(), false});
      rig.taker.turn();
      CHECK(rig.order.back() == c.end);
      CHECK(rig.publisher.told.size() == (c.end == "drop" ? 1U : 0U));
      if (c.end == "back") {
        CHECK(rig.log.has("request_waits"));
        CHECK(rig.consumer.waiting.size() == 1);
        CHECK(rig.consumer.tended > 10);  // the broker hears of us while the daemon is asked
        CHECK(rig.clock.at <= SteadyTime() + Duration(60'000));
      }
    }
}

TEST_CASE("a daemon that is back in time has the request once", "[requests]") {
  Rig rig;
  rig.answers = {Error(Errc::truncated, "connect"), answer(EX_TEMPFAIL, "", true), answer(EX_OK)};
  rig.consumer.waiting.push_back({"k", asked(), false});
  rig.taker.turn();
  CHECK(rig.order == Order{"submit", "submit", "submit", "ack"});
  CHECK(rig.headers[0].key == rig.headers[2].key);
}

TEST_CASE("a request of a broker that is lost meanwhile is not asked for any more", "[requests]") {
  Rig rig;
  rig.consumer.is_lost = true;
  rig.consumer.waiting.push_back({"k", asked(), false});
  rig.taker.turn();
  CHECK(rig.order == Order{"submit", "back"});
}

TEST_CASE("a refusal that cannot be told loses nothing", "[requests]") {
  Rig rig;
  rig.consumer.waiting.push_back({"k", "no json", false});
  SECTION("a connection that was lost meanwhile is made anew") {
    rig.publisher.failures = 1;
    rig.taker.turn();
    CHECK(rig.order == Order{"tell", "drop"});
  }
  SECTION("a broker that does not take it is waited for") {
    rig.publisher.failures = 2;
    rig.taker.turn();
    CHECK(rig.order == Order{"back"});
    CHECK(rig.log.has("request_refusal_not_told"));
    rig.taker.turn();
    CHECK(rig.order == Order{"back", "tell", "drop"});
  }
  SECTION("a place that is not there is asked once a turn") {
    rig.publisher.failures = 2;
    rig.publisher.code = Errc::refused;
    rig.taker.turn();
    CHECK(rig.publisher.failures == 1);
    CHECK(rig.order == Order{"back"});
  }
}

TEST_CASE("without a place for refusals the log alone has them", "[requests]") {
  Rig rig;
  RequestTaker taker(rig.settings(), rig.consumer, nullptr, rig.clock, rig.log);
  rig.consumer.waiting = {{"k1", "no json", false}, {"k2", "no json", false}};
  taker.turn();
  taker.turn();
  CHECK(rig.order == Order{"drop", "drop"});
  CHECK(rig.log.has("refused=1"));
  CHECK(rig.log.has("refused=2"));
}

TEST_CASE("a broker that is away is asked less and less", "[requests]") {
  Rig rig;
  rig.consumer.is_there = false;
  std::vector<Duration> pauses;
  for (int i = 0; i < 8; ++i) {
    const auto before = rig.clock.at;
    rig.taker.turn();
    pauses.push_back(std::chrono::duration_cast<Duration>(rig.clock.at - before));
  }
  CHECK(pauses.front() == Duration(1000));
  CHECK(pauses[1] == Duration(2000));
  CHECK(pauses.back() == Duration(60'000));
  rig.consumer.is_there = true;
  rig.answers = {answer(EX_OK)};
  rig.consumer.waiting.push_back({"k", asked(), false});
  rig.taker.turn();
  CHECK(rig.order == Order{"submit", "ack"});
}

TEST_CASE("a large request waits until another one is through", "[requests]") {
  Rig rig;
  rig.answers = {answer(EX_OK)};
  rig.consumer.waiting.push_back(
      {"k", asked(R"(,"html":")" + std::string(600'000, 'x') + "\"") + std::string(600'000, ' '),
       false});
  SECTION("which is at once if there is none") {
    rig.taker.turn();
    CHECK(rig.order == Order{"submit", "ack"});
  }
  SECTION("and goes back when the broker is lost meanwhile") {
    rig.consumer.is_lost = true;
    const std::lock_guard other(rig.large);
    std::thread([&] { rig.taker.turn(); }).join();
    CHECK(rig.order == Order{"back"});
  }
}
