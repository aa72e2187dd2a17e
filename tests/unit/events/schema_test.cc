#include "events/event_schema.h"

#include "base/text.h"
#include "tests/unit/base/temporary_folder.h"

#include <catch2/catch.hpp>

#include <cstdlib>
#include <fstream>

using namespace postrider;
using namespace postrider::events;

namespace {

CloudEvent sample(Kind kind) {
  CloudEvent event;
  event.kind = kind;
  event.time = TimePoint(Duration(1'763'904'884'123));
  event.id = "4f2a-17";
  event.source = "//mx.example.org/postrider";
  event.subject = event.message = "01ABCDEFGHJ";
  event.has_from = true;
  event.from = "shop@example.org";
  event.to = "\"a b\"@example.net";
  event.tag = "order 17";
  event.dsn = "2.0.0";
  event.status_class = "success";
  event.relay = "mx1.example.net[192.0.2.1]:25";
  event.delay = "0.53";
  event.delays = "0.01/0/0.02/0.5";
  event.attempt = "2";
  event.traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  return event;
}

// An event of each kind, with what that kind has.
CloudEvent full(Kind kind) {
  auto event = sample(kind);
  if (kind == Kind::accepted)
    event.nrcpt = "3", event.size = "4096", event.client = "192.0.2.7", event.user = "shop";
  if (kind == Kind::rejected)
    event.message.clear(), event.session = "s1", event.stage = "RCPT", event.reply = "550 5.1.1 no";
  if (kind == Kind::site_blocked)
    event.site = "mx1.example.net", event.until = "2026-11-23T14:00:00.000Z", event.failures = "4";
  if (kind == Kind::site_open)
    event.site = "mx1.example.net";
  if (kind == Kind::alarm_on || kind == Kind::alarm_off)
    event.alarm = "disk_full";
  return event;
}

// "" when the schema has it, else what it says.
std::string complaint(const std::string& texts) {
  const TemporaryFolder folder;
  std::ofstream(folder / "events") << texts;
  const std::string program =
      "import json,sys,jsonschema\n"
      "schema=json.load(open(sys.argv[1]))\n"
      "jsonschema.Draft202012Validator.check_schema(schema)\n"
      "v=jsonschema.Draft202012Validator(schema,format_checker=jsonschema.FormatChecker())\n"
      "bad=[e.message for l in open(sys.argv[2],'rb') for e in v.iter_errors(json.loads(l))]\n"
      "open(sys.argv[3],'w').write('\\n'.join(bad))\n";
  std::ofstream(folder / "check.py") << program;
  const std::string command = "/usr/bin/python3 -B " + (folder / "check.py") + " " + EVENTS_SCHEMA +
                              " " + (folder / "events") + " " + (folder / "said");
  if (std::system(command.c_str()) != 0)
    return "the check did not run";
  std::ifstream said(folder / "said");
  return {std::istreambuf_iterator<char>(said), {}};
}

}  // namespace

TEST_CASE("an event reads as CloudEvents have it", "[events]") {
  CHECK(encode(sample(Kind::delivered)) ==
        R"({"specversion":"1.0","id":"4f2a-17","source":"//mx.example.org/postrider",)"
        R"("type":"postrider.delivered","time":"2025-11-23T13:34:44.123Z","subject":"01ABCDEFGHJ",)"
        R"("traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",)"
        R"("datacontenttype":"application/json","data":{"id":"01ABCDEFGHJ","tag":"order 17",)"
        R"("from":"shop@example.org","to":"\"a b\"@example.net","attempt":2,)"
        R"("relay":"mx1.example.net[192.0.2.1]:25","dsn":"2.0.0","class":"success","delay":0.53,)"
        R"("delays":"0.01/0/0.02/0.5"}})");
}

TEST_CASE("the published schema has every event that is written", "[events]") {
  std::string texts;
  for (std::size_t kind = 0; kind < kKinds; ++kind)
    texts.append(encode(full(static_cast<Kind>(kind)))).push_back('\n');
  CHECK(complaint(texts) == "");
}

TEST_CASE("the published schema refuses what is not an event", "[events]") {
  auto text = encode(full(Kind::delivered));
  for (const auto& [from, to] : {std::pair<std::string, std::string>("postrider.delivered", "x.y"),
                                 {"\"delay\":0.53", "\"delay\":\"0.53\""},
                                 {"\"class\":\"success\"", "\"class\":\"good\""},
                                 {"\"specversion\":\"1.0\"", "\"specversion\":\"2.0\""},
                                 {"\"attempt\":2", "\"atempt\":2"}}) {
    auto changed = text;
    changed.replace(changed.find(from), from.size(), to);
    CAPTURE(changed);
    CHECK(complaint(changed + "\n") != "");
  }
}

TEST_CASE("what was written is read back", "[events]") {
  for (std::size_t kind = 0; kind < kKinds; ++kind) {
    const auto event = full(static_cast<Kind>(kind));
    const auto text = encode(event);
    const auto again = decode(text);
    REQUIRE(again.has_value());
    CHECK(again->kind == event.kind);
    CHECK(again->time == event.time);
    CHECK(again->tag == event.tag);
    CHECK(again->to == event.to);
    CHECK(encode(*again) == text);
  }
}

TEST_CASE("the null sender is told as empty, no sender not at all", "[events]") {
  auto event = sample(Kind::bounced);
  event.from.clear();
  CHECK(encode(event).find(R"("from":"",)") != std::string::npos);
  event.has_from = false;
  CHECK(encode(event).find("\"from\"") == std::string::npos);
}

TEST_CASE("octets from outside cannot break an event", "[events]") {
  auto event = sample(Kind::rejected);
  event.to = "a\"},\"x\":\"\r\n\x01@example.org";
  event.reply = "550 \xff\xfe caf\xe9";
  event.helo = std::string("nul\0nul", 7);
  event.reason = std::string(100'000, 'x');
  event.delay = "1,\"evil\":2";
  event.traceparent = "00-\"}";
  const auto text = encode(event);
  CHECK(is_utf8(text));
  CHECK(text.find_first_of(std::string("\r\n\0", 3)) == std::string::npos);
  CHECK(text.size() < 4096);
  CHECK(text.find("evil") == std::string::npos);
  const auto again = decode(text);
  REQUIRE(again.has_value());
  CHECK(again->to == event.to);
  CHECK(again->reply == "550 \\xff\\xfe caf\\xe9");
  CHECK(again->helo == event.helo);
  CHECK(again->traceparent.empty());
}

TEST_CASE("the longest event is within the limit for reading", "[events]") {
  const std::string worst(kMostValue, '\x01');
  auto event = sample(Kind::accepted);
  for (auto* value :
       {&event.id,         &event.source, &event.subject,   &event.message,  &event.session,
        &event.message_id, &event.tag,    &event.from,      &event.to,       &event.client,
        &event.helo,       &event.user,   &event.mechanism, &event.protocol, &event.tls,
        &event.stage,      &event.reply,  &event.relay,     &event.dsn,      &event.status_class,
        &event.reason,     &event.delays, &event.reused,    &event.site,     &event.until,
        &event.alarm,      &event.by})
    *value = worst;
  CHECK(decode(encode(event)).has_value());
}

TEST_CASE("what is not an event is refused", "[events]") {
  const auto good = encode(sample(Kind::delivered));
  REQUIRE(decode(good).has_value());
  CHECK_FALSE(decode("").has_value());
  CHECK_FALSE(decode("[]").has_value());
  CHECK_FALSE(decode("{}").has_value());
  CHECK_FALSE(decode(good.substr(0, good.size() - 1)).has_value());
  CHECK_FALSE(decode(good + std::string(kMostEvent, ' ')).has_value());
  for (const auto& [from, to] : {std::pair<std::string, std::string>("2025-11-23T", "2025-13-23T"),
                                 {"13:34:44.123Z", "13:34:44.123+"},
                                 {"\"id\":\"4f2a-17\"", "\"id\":17"},
                                 {"\"id\":\"4f2a-17\"", "\"id\":\"\""},
                                 {"postrider.delivered", "postrider.eaten"},
                                 {"\"attempt\":2", "\"attempt\":-2"},
                                 {"\"data\":{", "\"data\":[{"},
                                 {"\"tag\":\"order 17\"", "\"tag\":{}"},
                                 {"00-4bf92f", "00-00000g"}}) {
    auto changed = good;
    changed.replace(changed.find(from), from.size(), to);
    CAPTURE(changed);
    CHECK_FALSE(decode(changed).has_value());
  }
}
