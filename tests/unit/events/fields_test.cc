#include "events/event_fields.h"
#include "events/event_schema.h"
#include "events/from_log.h"

#include <catch2/catch.hpp>

#include <fstream>
#include <iterator>
#include <set>
#include <string>

using namespace postrider;
using namespace postrider::events;

namespace {

std::string text_of(const char* path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

TEST_CASE("each kind has one name, in the schema and in the manual too", "[events]") {
  const auto schema = text_of(EVENTS_SCHEMA);
  const auto manual = text_of(EVENTS_MANUAL);
  std::set<std::string> names;
  for (std::size_t i = 0; i < kKinds; ++i) {
    const std::string name = name_of(static_cast<Kind>(i));
    CHECK(names.insert(name).second);
    CHECK(parse_kind(name) == static_cast<Kind>(i));
    CHECK(schema.find("\"postrider." + name + "\"") != std::string::npos);
    CHECK(manual.find(name) != std::string::npos);
  }
  CHECK_FALSE(parse_kind("attempted").has_value());
}

TEST_CASE("a field has one name, from the log to the published schema", "[events]") {
  const auto schema = text_of(EVENTS_SCHEMA);
  std::set<std::string> names;
  for (const auto& field : fields()) {
    DYNAMIC_SECTION(field.name) {
      CHECK(names.insert(field.name).second);
      CHECK(find_field(field.name) == &field);
      CHECK(schema.find("\"" + std::string(field.name) + "\":") != std::string::npos);
      const std::string value = field.is_number() ? "17" : "seventeen";
      if (field.origin == Field::Origin::line) {
        const auto event = event_of(LogEvent(Level::info, "removed").add(field.name, value));
        REQUIRE(event.has_value());
        CHECK((*event).*field.value == value);
      }
      CloudEvent event;
      event.id = "1";
      event.source = "//mx/postrider";
      event.*field.value = value;
      const auto again = decode(encode(event));
      REQUIRE(again.has_value());
      CHECK((*again).*field.value == value);
    }
  }
  CHECK(find_field("traceparent") == nullptr);
}
