#include "cli/trace_view.h"

#include <boost/json/array.hpp>
#include <catch2/catch.hpp>

#include <cstdlib>
#include <ctime>

using namespace postrider::cli;
namespace json = boost::json;

namespace {

json::object step(const char* event, json::object more = {}) {
  ::setenv("TZ", "UTC", 1);
  ::tzset();
  more["time"] = "2026-11-30T12:00:00.123Z";
  more["event"] = event;
  return more;
}

}  // namespace

TEST_CASE("a message from its arrival to its end", "[cli][trace]") {
  CHECK(trace_heading({{"id", "1K1BX3F7Q2A"}}) == "1K1BX3F7Q2A\n");
  CHECK(trace_step(step("accepted", {{"from", "ann@example.org"},
                                     {"to", "bob@example.net"},
                                     {"nrcpt", 3},
                                     {"size", 4096},
                                     {"client", "192.0.2.1"},
                                     {"client_name", "mail.example.org"},
                                     {"helo", "mail"},
                                     {"protocol", "ESMTPS"},
                                     {"tls", "TLSv1.3:X"},
                                     {"message_id", "<1@example.org>"}})) ==
        "  2026-11-30 12:00:00  accepted       from ann@example.org\n"
        "      for bob@example.net and 2 others\n"
        "      by mail.example.org [192.0.2.1], HELO mail, ESMTPS, TLSv1.3:X\n"
        "      4.0K, <1@example.org>\n");
  CHECK(trace_step(step("delivered", {{"from", ""},
                                      {"to", "bob@example.net"},
                                      {"relay", "mx.example.net[192.0.2.9]:25"},
                                      {"tls", "TLSv1.3"},
                                      {"delay", 0.53},
                                      {"delays", "0.01/0/0.21/0.31"},
                                      {"reused", "yes"},
                                      {"reason", "250 ok"}})) ==
        "  2026-11-30 12:00:00  delivered      bob@example.net\n"
        "      mx.example.net[192.0.2.9]:25, TLSv1.3, 0.53 s, delays 0.01/0/0.21/0.31, connection "
        "used again\n"
        "      250 ok\n");
  CHECK(trace_step(step("deferred", {{"to", "b@c"}, {"relay", "none"}, {"reason", "no host"}})) ==
        "  2026-11-30 12:00:00  deferred       b@c\n"
        "      no host\n");
  CHECK(trace_step(step("removed", {{"to", "b@c"}, {"by", "administrator"}, {"uid", 0}})) ==
        "  2026-11-30 12:00:00  removed        b@c\n"
        "      by administrator, uid 0\n");
  CHECK(trace_step(step("notice_created",
                        {{"notice", "1K1BX3F7Q2B"}, {"kind", "failure"}, {"to", "ann@a"}})) ==
        "  2026-11-30 12:00:00  notice_created 1K1BX3F7Q2B (failure) to ann@a\n");
}

TEST_CASE("refused mail, and what waits still", "[cli][trace]") {
  CHECK(trace_step(step("rejected", {{"from", ""},
                                     {"to", "nobody@us.example"},
                                     {"client", "192.0.2.7"},
                                     {"stage", "RCPT"},
                                     {"reply", "550 5.1.1 no"}})) ==
        "  2026-11-30 12:00:00  rejected       from <> to nobody@us.example\n"
        "      192.0.2.7, at RCPT\n"
        "      550 5.1.1 no\n");
  CHECK(trace_step(step("rejected", {{"client", "192.0.2.7"}, {"stage", "CONNECT"}})) ==
        "  2026-11-30 12:00:00  rejected       \n"
        "      192.0.2.7, at CONNECT\n");
  const json::object queued = {
      {"recipients", json::array({json::object{{"address", "b@c"},
                                               {"state", "deferred"},
                                               {"attempts", 2},
                                               {"next_attempt", 1100},
                                               {"delay_reason", "451 later"}}})}};
  CHECK(trace_rest(queued, 1000) ==
        "  now                  b@c: deferred, next attempt in 1m40s (2 attempts)\n"
        "      451 later\n");
  CHECK(trace_rest({}, 1000).empty());
}

TEST_CASE("what outsiders said steers no terminal, and a line that is none is harmless",
          "[cli][trace]") {
  for (const char* event : {"accepted", "rejected", "delivered", "notice_created", "\x1b[2J"}) {
    const auto text = trace_step(step(event, {{"from", "\x1b]0;x\x07@a"},
                                              {"to", "\x1b[31m@b"},
                                              {"helo", "\x1b[2J"},
                                              {"reply", "550 \x1b[2J\r\nx"},
                                              {"reason", "550 \x1b[2J\r\nx"},
                                              {"relay", "\x1b[2J"}}));
    CHECK(text.find('\x1b') == std::string::npos);
    CHECK(text.find('\r') == std::string::npos);
  }
  CHECK_FALSE(trace_step({}).empty());
  CHECK_FALSE(trace_step({{"event", 3}, {"delay", "x"}, {"uid", "y"}}).empty());
}
