#include "brokers/batch_taker.h"

#include "brokers/program.h"
#include "events/event_schema.h"

#include <catch2/catch.hpp>

#include <functional>
#include <set>

using namespace postrider;
using namespace postrider::brokers;

namespace {

class StepClock : public Clock {
 public:
  TimePoint now() const override { return {}; }
  SteadyTime steady() const override { return at; }
  SteadyTime at{};
};

std::string event(const std::string& id, const std::string& subject) {
  events::CloudEvent made;
  made.kind = events::Kind::deferred;
  made.time = TimePoint(Duration(1'763'904'884'000));
  made.id = id;
  made.source = "//mx/postrider";
  made.subject = made.message = subject;
  return events::encode(made);
}

// Takes what `takes` says; the first false ends the wave.
class FakePublisher : public Publisher {
 public:
  Result<void> publish(const Wave& wave, SteadyTime, std::vector<bool>& taken) override {
    ++calls;
    std::set<std::string> subjects;
    for (std::size_t i = 0; i < wave.size(); ++i) {
      CHECK(subjects.insert(wave[i]->subject).second);
      if (!takes(wave[i]->id))
        return Error(code, "give it away");
      got.push_back(wave[i]->id);
      taken[i] = true;
    }
    return {};
  }
  std::function<bool(const std::string& id)> takes = [](const auto&) { return true; };
  Errc code = Errc::truncated;
  std::vector<std::string> got;
  int calls = 0;
};

struct Rig {
  StepClock clock;
  FakePublisher publisher;
  BatchTaker taker{publisher, clock, Duration(5000), [this](Duration pause) { clock.at += pause; }};
};

using Ids = std::vector<std::string>;
const std::string kBatch = event("1", "a") + "\n" + event("2", "b") + "\n" + event("3", "a") +
                           "\n" + event("4", "a") + "\n" + event("5", "c");

}  // namespace

TEST_CASE("events of one subject follow each other, those of different ones go together",
          "[batch]") {
  const auto messages = messages_of(kBatch);
  REQUIRE(messages.has_value());
  REQUIRE(messages->size() == 5);
  CHECK(messages->front().type == "deferred");
  CHECK(messages->front().text == event("1", "a"));
  std::vector<Ids> waves;
  for (const auto& wave : waves_of(*messages)) {
    waves.emplace_back();
    for (const auto* one : wave)
      waves.back().push_back(one->id);
  }
  CHECK(waves == std::vector<Ids>{{"1", "2", "5"}, {"3"}, {"4"}});
  CHECK(messages_of("")->empty());
  CHECK_FALSE(messages_of("{").has_value());
  CHECK_FALSE(messages_of(event("1", "a") + "\nx").has_value());
}

TEST_CASE("a batch is taken as a whole, or what is missing of it comes again", "[batch]") {
  Rig rig;
  CHECK(rig.taker.take(kBatch).has_value());
  CHECK(rig.publisher.got == Ids{"1", "2", "5", "3", "4"});
  // The same once more is published once more: the daemon has a reason.
  CHECK(rig.taker.take(kBatch).has_value());
  CHECK(rig.publisher.got.size() == 10);
  // The broker goes away in the middle, beyond the limit.
  rig.publisher.got.clear();
  rig.publisher.takes = [](const std::string& id) { return id != "2" && id != "3"; };
  const auto failed = rig.taker.take(kBatch);
  REQUIRE_FALSE(failed.has_value());
  CHECK(failed.error().code() == Errc::truncated);
  CHECK(rig.publisher.got == Ids{"1"});
  CHECK(rig.clock.at <= SteadyTime() + Duration(5000));
  CHECK(rig.publisher.calls > 4);
  rig.publisher.takes = [](const std::string& id) { return id != "3"; };
  CHECK_FALSE(rig.taker.take(kBatch).has_value());
  CHECK(rig.publisher.got == Ids{"1", "2"});  // and not 4, which is behind 3
  rig.publisher.takes = [](const auto&) { return true; };
  CHECK(rig.taker.take(kBatch).has_value());
  CHECK(rig.publisher.got == Ids{"1", "2", "3", "5", "4"});
}

TEST_CASE("a broker that is back in time has everything once", "[batch]") {
  Rig rig;
  int left = 3;
  rig.publisher.takes = [&](const std::string& id) { return id != "2" || left-- <= 0; };
  CHECK(rig.taker.take(kBatch).has_value());
  CHECK(rig.publisher.got == Ids{"1", "2", "5", "3", "4"});
}

TEST_CASE("what the broker refuses is not asked again at once", "[batch]") {
  Rig rig;
  rig.publisher.code = Errc::refused;
  rig.publisher.takes = [](const auto&) { return false; };
  const auto refused = rig.taker.take(kBatch);
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().code() == Errc::refused);
  CHECK(rig.publisher.calls == 1);
  CHECK(rig.clock.at == SteadyTime());
}

TEST_CASE("a topic has the type of its event", "[batch]") {
  const Message message{"1", "a", "delivered", ""};
  CHECK(topic_of("mail", message) == "mail");
  CHECK(topic_of("mail.{type}", message) == "mail.delivered");
  CHECK(topic_of("{type}/{type}/{x", message) == "delivered/delivered/{x");
}
