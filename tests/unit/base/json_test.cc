#include "base/json.h"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <catch2/catch.hpp>

#include <string>

namespace postrider {
namespace {

std::string members(std::size_t count) {
  std::string text = "{";
  for (std::size_t i = 0; i < count; ++i)
    text.append(i > 0 ? "," : "").append("\"key").append(std::to_string(i)).append("\":1");
  return text + "}";
}

TEST_CASE("JSON is read as it was written", "[base][unit]") {
  for (const char* text : {R"({"a":[1,-2,3.5,true,null,"x\n\u00e4"],"b":{"c":{}}})", R"([])", "1",
                           R"("text")", R"({"n":18446744073709551615})"}) {
    const auto value = parse_json(text);
    REQUIRE(value);
    CHECK(boost::json::serialize(*value) == boost::json::serialize(boost::json::parse(text)));
  }
  CHECK(parse_json(" {} \n"));
  for (const char* text : {"", "{", "{}x", "{} {}", "[1,]", R"({"a":})", "nul", R"(["\ud800x"])"}) {
    INFO(text);
    CHECK_FALSE(parse_json(text));
  }
  CHECK_FALSE(parse_json_object("[]"));
}

// Keys that fall into one bucket cost the square of their number, so their number is limited
// before one of them is put into an object.
TEST_CASE("a name that stands twice in an object is refused where that matters", "[base][unit]") {
  JsonLimits strict;
  strict.allows_twice = false;
  for (const char* text : {R"({"a":1,"a":2})", R"([{"b":{"a":1,"c":2,"\u0061":1}}])"}) {
    CHECK(parse_json(text).has_value());
    const auto refused = parse_json(text, strict);
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().code() == Errc::refused);
  }
  CHECK(parse_json(R"({"a":{"a":1},"b":[{"a":1},{"a":2}]})", strict).has_value());
}

TEST_CASE("JSON with too much of anything is left where that shows", "[base][unit]") {
  JsonWork work;
  CHECK(parse_json(members(256), {}, {}, &work));
  CHECK(work.members == 256);
  const auto many = parse_json(members(100'000), {}, {}, &work);
  REQUIRE_FALSE(many);
  CHECK(many.error().code() == Errc::too_long);
  CHECK(work.members == 257);
  CHECK(work.values < 260);
  // Each object by itself.
  CHECK(parse_json("[" + members(200) + "," + members(200) + "]"));
  CHECK_FALSE(parse_json(R"({"in":[0,)" + members(257) + "]}"));

  JsonLimits few;
  few.values = 10;
  CHECK(parse_json("[1,2,3,4,5,6,7,8,9]", few));
  CHECK_FALSE(parse_json("[1,2,3,4,5,6,7,8,9,10]", few));
  CHECK(parse_json(std::string(16, '[') + std::string(16, ']')));
  CHECK_FALSE(parse_json(std::string(17, '[') + std::string(17, ']')));
  CHECK_FALSE(parse_json(std::string(100'000, '[')));
}

}  // namespace
}  // namespace postrider
