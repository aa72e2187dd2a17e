#include "events/event_filter.h"
#include "events/event_schema.h"
#include "events/file_sink.h"
#include "events/pump.h"
#include "events/webhook.h"

#include "base/base64.h"
#include "base/digest.h"
#include "base/file.h"
#include "tests/unit/base/temporary_folder.h"

#include <catch2/catch.hpp>

#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <sys/stat.h>

using namespace postrider;
using namespace postrider::events;

namespace {

CloudEvent delivered(const std::string& from, const std::string& to, const std::string& tag = {}) {
  CloudEvent event;
  event.kind = Kind::delivered;
  event.time = TimePoint(Duration(1'763'904'884'000));
  event.subject = event.message = "01ABC";
  event.has_from = true;
  event.from = from;
  event.to = to;
  event.tag = tag;
  return event;
}

std::string content(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

class HandClock : public Clock {
 public:
  TimePoint now() const override { return TimePoint(Duration(1'763'904'884'000)); }
  SteadyTime steady() const override { return SteadyTime(time); }
  Duration time{1000};
};

// Takes, or refuses, as it is told.
class FakeSink : public Sink {
 public:
  Result<void> deliver(const std::string& id, const std::vector<std::string>& events) override {
    ids.push_back(id);
    if (is_dead)
      return Error(Errc::refused, "reach the sink");
    for (const auto& event : events)
      taken.push_back(decode(event)->to);
    return {};
  }
  Result<void> sync() override {
    synced = taken.size();
    return can_sync ? Result<void>() : Error(Errc::refused, "sync the sink");
  }
  bool is_dead = false, can_sync = true;
  std::size_t synced = 0;  // of what was taken, when it was asked last
  std::vector<std::string> ids, taken;
};

struct Rig {
  Rig() {
    auto opened = Outbox::open(folder / "events.db", "//mx/postrider", {.bytes = 100'000});
    REQUIRE(opened.has_value());
    outbox.emplace(*std::move(opened));
  }
  void add(const std::vector<std::string>& recipients) {
    std::vector<CloudEvent> events;
    for (const auto& one : recipients)
      events.push_back(delivered("a@example.org", one));
    REQUIRE(outbox->append(events).has_value());
  }
  PumpSettings settings(const std::string& name = "one") const {
    PumpSettings made;
    made.name = name;
    made.outbox = folder / "events.db";
    made.position = folder / name;
    made.most = 2;
    return made;
  }

  TemporaryFolder folder;
  std::optional<Outbox> outbox;
  HandClock clock;
  NullLog log;
};

void run(Pump& pump) {
  while (pump.step() == Pump::Step::moved) {
  }
}

}  // namespace

TEST_CASE("filters by kind, domain, sender and tag", "[sink]") {
  const auto event = delivered("Shop@example.org", "ann@Sub.Example.net", "order-17");
  CHECK(fits({}, event));
  CHECK(fits({.events = {Kind::bounced, Kind::delivered}}, event));
  CHECK_FALSE(fits({.events = {Kind::bounced}}, event));
  CHECK(fits({.domains = {"sub.example.net"}}, event));
  CHECK(fits({.domains = {".example.net"}}, event));
  CHECK_FALSE(fits({.domains = {"example.net"}}, event));
  CHECK_FALSE(fits({.domains = {".ample.net"}}, event));
  CHECK_FALSE(fits({.domains = {".sub.example.net"}}, event));
  CHECK(fits({.senders = {"@EXAMPLE.org"}}, event));
  CHECK(fits({.senders = {"Shop@Example.Org"}}, event));
  CHECK_FALSE(fits({.senders = {"shop@example.org"}}, event));  // local parts have their case
  CHECK_FALSE(fits({.senders = {"<>"}}, event));
  CHECK(fits({.senders = {"<>"}}, delivered("", "x@y")));
  CHECK_FALSE(fits({.senders = {"@"}}, delivered("", "x@y")));
  CHECK(fits({.tags = {"order-*"}}, event));
  CHECK(fits({.tags = {"x", "order-17"}}, event));
  CHECK_FALSE(fits({.tags = {"order-1"}}, event));
  CHECK_FALSE(fits({.tags = {"*"}}, delivered("a@b", "c@d")));
  CHECK_FALSE(fits({.events = {Kind::delivered}, .tags = {"other"}}, event));
  CloudEvent site;
  site.kind = Kind::site_open;
  CHECK_FALSE(fits({.domains = {"example.net"}}, site));
  CHECK_FALSE(fits({.senders = {"<>"}}, site));
}

TEST_CASE("webhooks are signed as Standard Webhooks have it", "[sink]") {
  // The example of the specification's reference libraries.
  const auto key = parse_webhook_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
  REQUIRE(key.has_value());
  CHECK(webhook_signature({*key}, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330",
                          R"({"test": 2432232314})") ==
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
  const std::string other(32, 'k');
  const auto two = webhook_signature({*key, other}, "i", "1", "b");
  CHECK(two ==
        webhook_signature({*key}, "i", "1", "b") + " " + webhook_signature({other}, "i", "1", "b"));
}

TEST_CASE("a webhook secret has a form and a length", "[sink]") {
  CHECK(parse_webhook_secret("whsec_" + encode_base64(std::string(64, 'x'))).has_value());
  CHECK_FALSE(parse_webhook_secret("whsec_" + encode_base64(std::string(65, 'x'))).has_value());
  CHECK_FALSE(parse_webhook_secret("whsec_" + encode_base64(std::string(23, 'x'))).has_value());
  CHECK_FALSE(parse_webhook_secret(encode_base64(std::string(32, 'x'))).has_value());
  CHECK_FALSE(parse_webhook_secret("whsec_!!!").has_value());
  CHECK_FALSE(parse_webhook_secret("").has_value());
}

TEST_CASE("a webhook request carries the batch and what names it", "[sink]") {
  const auto url = parse_http_url("https://shop.example/hook?x=1");
  REQUIRE(url.has_value());
  const auto body = webhook_body({"{\"a\":1}", "{\"b\":2}"});
  CHECK(body == "[{\"a\":1},{\"b\":2}]");
  CHECK(webhook_body({}) == "[]");
  const auto request = webhook_request(*url, {std::string(32, 'k')}, "o-1-2",
                                       TimePoint(Duration(1'614'265'330'999)), body);
  CHECK(request.method == "POST");
  CHECK(request.target == "/hook?x=1");
  CHECK(request.body == body);
  std::map<std::string, std::string> fields(request.fields.begin(), request.fields.end());
  CHECK(fields["Content-Type"] == "application/cloudevents-batch+json");
  CHECK(fields["webhook-id"] == "o-1-2");
  CHECK(fields["webhook-timestamp"] == "1614265330");
  CHECK(fields["webhook-signature"] ==
        webhook_signature({std::string(32, 'k')}, "o-1-2", "1614265330", body));
}

TEST_CASE("only 2xx is taken, 410 ends it, all else comes again", "[sink]") {
  CHECK(judge_webhook(200) == WebhookAnswer::taken);
  CHECK(judge_webhook(204) == WebhookAnswer::taken);
  CHECK(judge_webhook(410) == WebhookAnswer::gone);
  for (const unsigned status : {100U, 199U, 301U, 302U, 400U, 401U, 404U, 429U, 500U, 503U})
    CHECK(judge_webhook(status) == WebhookAnswer::again);
  CHECK(webhook_pause(1, 500) == std::chrono::seconds(5));
  CHECK(webhook_pause(2, 500) == std::chrono::seconds(10));
  CHECK(webhook_pause(1, 0) == std::chrono::seconds(4));
  CHECK(webhook_pause(4'000'000'000U, 999) < std::chrono::minutes(73));
  CHECK(webhook_pause(4'000'000'000U, 0) == std::chrono::minutes(48));
}

TEST_CASE("a file of lines survives its rotation and a cut line", "[sink]") {
  const TemporaryFolder folder;
  const auto path = folder / "events.json";
  std::ofstream(path) << "{\"cut";
  FileSink sink(path);
  REQUIRE(sink.write({"1", "2"}).has_value());
  CHECK(content(path) == "{\"cut\n1\n2\n");
  std::filesystem::rename(path, folder / "events.json.1");
  REQUIRE(sink.write({"3"}).has_value());
  CHECK(content(path) == "3\n");
  std::filesystem::rename(path, folder / "events.json.2");
  std::ofstream(path) << "new\n";  // made by the rotation
  REQUIRE(sink.write({"4"}).has_value());
  CHECK(content(path) == "new\n4\n");
  std::filesystem::resize_file(path, 0);  // copytruncate
  REQUIRE(sink.write({"5"}).has_value());
  CHECK(content(path) == "5\n");
  CHECK(sink.sync().has_value());
  CHECK(sink.sync().has_value());
}

TEST_CASE("what is not a regular file is refused, and never waited for", "[sink]") {
  const TemporaryFolder folder;
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  CHECK_FALSE(FileSink(folder / "pipe").write({"1"}).has_value());
  std::filesystem::create_symlink("/dev/null", folder / "link");
  CHECK_FALSE(FileSink(folder / "link").write({"1"}).has_value());
  CHECK_FALSE(FileSink(folder / "missing/file").write({"1"}).has_value());
  FileSink full("/dev/full");
  CHECK_FALSE(full.write({"1"}).has_value());
}

TEST_CASE("a pump brings all in order, and goes on where it was", "[sink]") {
  Rig rig;
  rig.add({"1@x", "2@x", "3@x", "4@x", "5@x"});
  FakeSink sink;
  {
    Pump pump(rig.settings(), sink, rig.clock, rig.log);
    run(pump);
    CHECK(pump.step() == Pump::Step::idle);
    CHECK(pump.counters().taken == 5);
  }
  rig.add({"6@x"});
  Pump pump(rig.settings(), sink, rig.clock, rig.log);
  run(pump);
  CHECK(sink.taken == std::vector<std::string>{"1@x", "2@x", "3@x", "4@x", "5@x", "6@x"});
}

TEST_CASE("a dead sink gets the same batch again, and no other sink waits", "[sink]") {
  Rig rig;
  rig.add({"1@x", "2@x", "3@x"});
  FakeSink dead, well;
  dead.is_dead = true;
  Pump slow(rig.settings("slow"), dead, rig.clock, rig.log);
  Pump fast(rig.settings("fast"), well, rig.clock, rig.log);
  CHECK(slow.step() == Pump::Step::failed);
  run(fast);
  CHECK(well.taken.size() == 3);
  CHECK(slow.step() == Pump::Step::failed);
  CHECK(dead.ids.at(0) == dead.ids.at(1));
  dead.is_dead = false;
  run(slow);
  CHECK(dead.taken == well.taken);
  CHECK(slow.counters().failures == 2);
}

TEST_CASE("what a sink does not want is passed over, and not looked at again", "[sink]") {
  Rig rig;
  rig.add({"1@a", "2@b", "3@a", "4@b", "5@b"});
  FakeSink sink;
  auto settings = rig.settings();
  settings.filter.domains = {"a"};
  Pump pump(settings, sink, rig.clock, rig.log);
  run(pump);
  CHECK(sink.taken == std::vector<std::string>{"1@a", "3@a"});
  CHECK(pump.counters().passed == 3);
  CHECK(read_position(settings.position)->sequence == 5);
}

TEST_CASE("what was lost to a sink is counted once", "[sink]") {
  Rig rig;
  rig.add({"1@x", "2@x"});
  FakeSink sink;
  Pump pump(rig.settings(), sink, rig.clock, rig.log);
  run(pump);
  std::vector<std::string> many(2000, "y@x");
  rig.add(many);
  const auto lost = rig.outbox->trim(0, TimePoint(Duration(1'763'904'884'000)));
  REQUIRE(lost.has_value());
  run(pump);
  CHECK(pump.counters().lost + pump.counters().taken == 2002);
  CHECK(pump.counters().lost > 0);
  CHECK(pump.step() == Pump::Step::idle);
  CHECK(pump.counters().lost + pump.counters().taken == 2002);
}

TEST_CASE("what was lost to a sink that takes nothing is told once too", "[sink]") {
  Rig rig;
  rig.add({"1@x"});
  FakeSink sink;
  {
    Pump pump(rig.settings(), sink, rig.clock, rig.log);
    run(pump);
    rig.add(std::vector<std::string>(2000, "y@x"));
    REQUIRE(rig.outbox->trim(0, TimePoint(Duration(1'763'904'884'000))).value() > 0);
    sink.is_dead = true;
    CHECK(pump.step() == Pump::Step::failed);
    const auto lost = pump.counters().lost;
    CHECK(lost > 0);
    for (int attempt = 0; attempt < 3; ++attempt)
      CHECK(pump.step() == Pump::Step::failed);
    CHECK(pump.counters().lost == lost);
  }
  sink.is_dead = false;
  Pump pump(rig.settings(), sink, rig.clock, rig.log);  // after a restart
  run(pump);
  CHECK(pump.counters().lost == 0);
  CHECK(pump.counters().taken > 0);
}

TEST_CASE("a reader that sees damage says so", "[sink]") {
  Rig rig;
  rig.add(std::vector<std::string>(50, "y@x"));
  REQUIRE(rig.outbox->checkpoint().has_value());
  rig.outbox.reset();
  std::filesystem::remove(rig.folder / "events.db-wal");
  {
    std::fstream file(rig.folder / "events.db", std::ios::in | std::ios::out | std::ios::binary);
    for (std::streamoff page = 4096; page < 65536; page += 4096) {
      file.seekp(page);
      file << std::string(200, '\x55');
    }
  }
  FakeSink sink;
  auto settings = rig.settings();
  int told = 0;
  settings.on_damage = [&] { ++told; };
  Pump pump(settings, sink, rig.clock, rig.log);
  CHECK(pump.step() == Pump::Step::failed);
  CHECK(told == 1);
}

TEST_CASE("what was lost to a sink before it took anything is told too", "[sink]") {
  Rig rig;
  rig.add({"1@x"});
  FakeSink sink;
  sink.is_dead = true;
  for (int life = 0; life < 2; ++life) {
    Pump pump(rig.settings(), sink, rig.clock, rig.log);
    CHECK(pump.step() == Pump::Step::failed);
    if (life == 0) {
      rig.add(std::vector<std::string>(2000, "y@x"));
      REQUIRE(rig.outbox->trim(0, TimePoint(Duration(1'763'904'884'000))).value() > 0);
    } else {
      CHECK(pump.counters().lost > 0);
    }
  }
}

TEST_CASE("while more is waiting, the position is saved four times a second", "[sink]") {
  Rig rig;
  rig.add(std::vector<std::string>(40, "y@x"));
  FakeSink sink;
  const auto settings = rig.settings();
  Pump pump(settings, sink, rig.clock, rig.log);
  const auto saved = [&] { return read_position(settings.position)->sequence; };
  for (int i = 0; i < 10; ++i)
    REQUIRE(pump.step() == Pump::Step::moved);
  CHECK(pump.has_more());
  CHECK(saved() == 0);
  CHECK(sink.synced == 0);
  rig.clock.time += Duration(249);
  REQUIRE(pump.step() == Pump::Step::moved);
  CHECK(saved() == 0);
  rig.clock.time += Duration(1);
  REQUIRE(pump.step() == Pump::Step::moved);
  CHECK(saved() == 24);
  CHECK(sink.synced == 24);
  REQUIRE(pump.step() == Pump::Step::moved);
  CHECK(saved() == 24);
  pump.settle();
  CHECK(saved() == 26);
  CHECK(sink.synced == 26);
  run(pump);  // the last batch is full, and nothing is behind it
  CHECK(saved() == 40);
  CHECK(sink.synced == 40);
}

TEST_CASE("what a sink cannot bring to the disk comes again", "[sink]") {
  Rig rig;
  rig.add({"1@x", "2@x", "3@x", "4@x", "5@x", "6@x"});
  FakeSink sink;
  const auto settings = rig.settings();
  Pump pump(settings, sink, rig.clock, rig.log);
  REQUIRE(pump.step() == Pump::Step::moved);
  pump.settle();
  CHECK(read_position(settings.position)->sequence == 2);
  sink.can_sync = false;
  REQUIRE(pump.step() == Pump::Step::moved);
  REQUIRE(pump.step() == Pump::Step::moved);
  CHECK(pump.step() == Pump::Step::failed);
  CHECK(pump.error() == "sync the sink: refused");
  CHECK(read_position(settings.position)->sequence == 2);
  sink.can_sync = true;
  run(pump);
  CHECK(sink.taken == std::vector<std::string>{"1@x", "2@x", "3@x", "4@x", "5@x", "6@x", "3@x",
                                               "4@x", "5@x", "6@x"});
  CHECK(read_position(settings.position)->sequence == 6);
}

TEST_CASE("where a sink goes back to, it goes on from, whatever could not be saved", "[sink]") {
  Rig rig;
  rig.add({"1@x", "2@x", "3@x", "4@x"});
  FakeSink sink;
  const auto settings = rig.settings();
  Pump pump(settings, sink, rig.clock, rig.log);
  REQUIRE(pump.step() == Pump::Step::moved);
  REQUIRE(pump.step() == Pump::Step::moved);
  sink.can_sync = false;
  pump.go_to({rig.outbox->name(), 1});
  sink.can_sync = true;
  run(pump);
  CHECK(sink.taken == std::vector<std::string>{"1@x", "2@x", "3@x", "4@x", "2@x", "3@x", "4@x"});
  CHECK(read_position(settings.position)->sequence == 4);
}

TEST_CASE("a sink that fails has its position saved", "[sink]") {
  Rig rig;
  rig.add(std::vector<std::string>(6, "y@x"));
  FakeSink sink;
  const auto settings = rig.settings();
  Pump pump(settings, sink, rig.clock, rig.log);
  REQUIRE(pump.step() == Pump::Step::moved);
  sink.is_dead = true;
  REQUIRE(pump.step() == Pump::Step::failed);
  CHECK(read_position(settings.position)->sequence == 2);
}

TEST_CASE("a sink waits for an outbox that is not made yet", "[sink]") {
  const TemporaryFolder folder;
  FakeSink sink;
  HandClock clock;
  NullLog log;
  PumpSettings settings;
  settings.name = "one";
  settings.outbox = folder / "events.db";
  settings.position = folder / "one";
  Pump pump(settings, sink, clock, log);
  CHECK(pump.step() == Pump::Step::idle);
  std::ofstream(settings.outbox) << "";
  CHECK(pump.step() == Pump::Step::idle);
  CHECK(pump.error().empty());
  CHECK(pump.counters().failures == 0);
}

TEST_CASE("an outbox made again is read from its beginning", "[sink]") {
  Rig rig;
  rig.add({"1@x", "2@x", "3@x"});
  FakeSink sink;
  Pump pump(rig.settings(), sink, rig.clock, rig.log);
  run(pump);
  rig.outbox.reset();
  REQUIRE(KeptDatabase::set_aside(rig.folder / "events.db").has_value());
  auto opened = Outbox::open(rig.folder / "events.db", "//mx/postrider", {});
  REQUIRE(opened.has_value());
  rig.outbox.emplace(*std::move(opened));
  rig.add({"4@x"});
  run(pump);
  CHECK(sink.taken.back() == "4@x");
}

TEST_CASE("a position that is not a position reads as none", "[sink]") {
  Rig rig;
  rig.add({"1@x"});
  std::ofstream(rig.folder / "one") << "rubbish\n";
  FakeSink sink;
  Pump pump(rig.settings(), sink, rig.clock, rig.log);
  run(pump);
  CHECK(sink.taken == std::vector<std::string>{"1@x"});
}
