#include "events/event_schema.h"
#include "events/event_view.h"

#include <catch2/catch.hpp>

using namespace postrider;
using namespace postrider::events;

namespace {

CloudEvent bounced() {
  CloudEvent event;
  event.kind = Kind::bounced;
  event.id = "1";
  event.source = "//mx/postrider";
  event.message = "01ABC";
  event.has_from = true;
  event.from = "shop@example.org";
  event.to = "ann.lee@example.net";
  event.user = "carol";
  event.dsn = "5.1.1";
  event.reason = "host mx[192.0.2.1] said: 550 5.1.1 <ann.lee@example.net>: no such user";
  return event;
}

}  // namespace

TEST_CASE("local parts are hidden wherever they stand", "[view]") {
  const struct {
    const char* text;
    const char* want;
  } cases[] = {
      {"", ""},
      {"no address", "no address"},
      {"ann@b.test", "*@b.test"},
      {"@b.test", "@b.test"},
      {"<a@b.test>, <c@d.test>;e@f", "<*@b.test>, <*@d.test>;*@f"},
      {"rfc822;x+y=z@b.test unknown", "rfc822;*@b.test unknown"},
      {"\"ann lee\"@b.test", "*@b.test"},
      {"550 \"a\" b@c said \"x y\"@z", "550 \"a\" *@c said *@z"},
      {"a@b@c", "*@*@c"},
      {"lee\"@b", "*@b"},
  };
  for (const auto& each : cases)
    CHECK(without_local_parts(each.text) == each.want);
}

TEST_CASE("with privacy no local part is left in an event", "[view]") {
  const auto seen = seen_by({{}, Privacy::domains}, bounced());
  CHECK(seen.from == "*@example.org");
  CHECK(seen.to == "*@example.net");
  CHECK(seen.user == "*");
  const auto text = encode(seen);
  for (const auto* word : {"ann", "lee", "shop", "carol"})
    CHECK(text.find(word) == std::string::npos);
  CHECK(text.find("no such user") != std::string::npos);
}

TEST_CASE("a sink sees the fields that it asks for, and what the event is about", "[view]") {
  const auto seen = seen_by({{"to", "dsn"}, Privacy::none}, bounced());
  CHECK(seen.message == "01ABC");
  CHECK((seen.to == "ann.lee@example.net" && seen.dsn == "5.1.1"));
  CHECK_FALSE(seen.has_from);
  CHECK((seen.from.empty() && seen.reason.empty() && seen.user.empty()));
  CHECK(seen_by({{"from"}, Privacy::none}, bounced()).has_from);
}
