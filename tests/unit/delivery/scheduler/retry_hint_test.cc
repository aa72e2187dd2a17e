#include "delivery/scheduler/retry_hint.h"

#include <catch2/catch.hpp>

#include <string>

namespace postrider::scheduler {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;

long asked(std::string_view text) {
  const auto hint = find_hint(text);
  return hint ? static_cast<long>(hint->count() / 1000) : -1;
}

TEST_CASE("hints: the wordings that are in use", "[retry_hint]") {
  CHECK(asked("Try again in 90 seconds") == 90);
  CHECK(asked("Greylisted, please try again in 180 seconds") == 180);
  CHECK(asked("Greylisted for 5 minutes") == 300);
  CHECK(asked("please come back in 00:04:59") == 299);
  CHECK(asked("Greylisting in action, please come back in 01:00:01 (delay)") == 3601);
  CHECK(asked("Greylisted (60s missing)") == 60);
  CHECK(asked("retry in 45s") == 45);
  CHECK(asked("retry in 1m30s") == 90);
  CHECK(asked("wait 2 hours and try again") == 7200);
  CHECK(asked("Please retry after 4 minutes and 30 seconds.") == 270);
  CHECK(asked("Please try again after two minutes") == 120);
  CHECK(asked("retry in 300") == 300);
  CHECK(asked("Ratelimit exceeded,\nplease retry in 15 min.") == 900);
  CHECK(asked("bitte in 5 Minuten erneut versuchen") == 300);
  CHECK(asked("veuillez réessayer dans 10 minutes") == 600);
  CHECK(asked("через 30 секунд") == 30);
}

TEST_CASE("hints: numbers that are none", "[retry_hint]") {
  CHECK(asked("") == -1);
  CHECK(asked("try again later") == -1);
  CHECK(asked("try again in a few hours") == -1);
  CHECK(asked("wait an hour") == -1);
  CHECK(asked("Too many messages (100 in 60 seconds), try again later") == -1);
  CHECK(asked("limit is 5 messages per 10 minutes, try again later") == -1);
  CHECK(asked("try again later, see http://192.0.2.1/30/seconds") == -1);
  CHECK(asked("blocked 192.0.2.30 seconds ago") == -1);
  CHECK(asked("retry: message of 300 kilobytes") == -1);
  CHECK(asked("The connection was open for 90 seconds") == -1);
  CHECK(asked("try again in 0 seconds") == -1);
  CHECK(asked("try again in 99999999999999999999999 seconds") == -1);
  CHECK(asked("try again in -5 seconds") == -1);
  CHECK(asked("come back in 1:2") == -1);
  CHECK(asked("come back in 00:61:00") == -1);
}

TEST_CASE("hints: long and odd text is no trouble", "[retry_hint]") {
  CHECK(asked(std::string(1 << 20, '(')) == -1);
  CHECK(asked(std::string(1 << 20, '9')) == -1);
  std::string text;
  for (int c = 0; c < 256; ++c)
    text += static_cast<char>(c);
  CHECK(asked(text) == -1);
}

TEST_CASE("hints: bounds", "[retry_hint]") {
  CHECK(bounded_hint(seconds(1)) == seconds(33) + Duration(300));
  CHECK(bounded_hint(seconds(90)) == seconds(93) + Duration(900));
  CHECK(bounded_hint(hours(24)) < minutes(61));
  CHECK(bounded_hint(hours(1)) >= hours(1));
}

}  // namespace
}  // namespace postrider::scheduler
