#include "cli/mailq_listing.h"

#include "base/file.h"
#include "cli/output.h"
#include "daemon/protocol/control_protocol.h"
#include "tests/support/folder.h"
#include "tests/support/results.h"

#include <catch2/catch.hpp>

#include <cstdlib>
#include <ctime>

namespace postrider::cli {
namespace {

namespace json = boost::json;

// What `postqueue -j` of Postfix 3.7 said of two messages; the golden files are what its
// `postqueue -p` said at the same moment.
constexpr const char* kDeferred[] = {
    R"({"queue_name": "deferred", "queue_id": "32D3DA7C051", "arrival_time": 1795444657,
    "message_size": 237, "forced_expire": false, "sender": "MAILER-DAEMON", "recipients": [
    {"address": "x@test",
     "delay_reason": "connect to 127.0.0.1[127.0.0.1]:1: Connection refused"}]})",
    R"({"queue_name": "deferred", "queue_id": "2E7B2A7C053", "arrival_time": 1795444657,
    "message_size": 248, "forced_expire": false, "sender": "alice@example.org", "recipients": [
    {"address": "carol@example.com",
     "delay_reason": "connect to 127.0.0.1[127.0.0.1]:1: Connection refused"},
    {"address": "bob@example.net",
     "delay_reason": "connect to 127.0.0.1[127.0.0.1]:1: Connection refused"}]})"};

json::object object(const std::string& text) {
  auto parsed = daemon::parse_json_line(text);
  REQUIRE(parsed);
  return std::move(*parsed);
}

void use_utc() {
  ::setenv("TZ", "UTC", 1);
  ::tzset();
}

std::string golden(const char* name) {
  auto text = read_file(test::tests_folder() + "/golden/" + name);
  REQUIRE(text);
  return std::move(*text);
}

std::string listing(const char* queue_name) {
  use_utc();
  MailqListing listing;
  std::string text;
  for (const char* line : kDeferred) {
    auto message = object(line);
    message["queue_name"] = queue_name;
    text.append(listing.message(message));
  }
  return text.append(listing.end());
}

TEST_CASE("mailq lists deferred mail byte for byte as Postfix does", "[cli][unit]") {
  CHECK(listing("deferred") == golden("mailq_deferred.txt"));
}

TEST_CASE("mailq marks held mail as Postfix does", "[cli][unit]") {
  CHECK(listing("hold") == golden("mailq_held.txt"));
}

TEST_CASE("mailq marks mail in delivery with a star", "[cli][unit]") {
  use_utc();
  auto message = object(kDeferred[0]);
  message["queue_name"] = "active";
  CHECK(MailqListing().message(message).find("\n32D3DA7C051*     237 Mon") != std::string::npos);
}

TEST_CASE("mailq says that there is nothing", "[cli][unit]") {
  CHECK(MailqListing().end() == "Mail queue is empty\n");
}

TEST_CASE("mailq counts one request in the singular and whole kilobytes", "[cli][unit]") {
  MailqListing listing;
  auto message = object(kDeferred[0]);
  message["message_size"] = 5000;
  (void)listing.message(message);
  CHECK(listing.end() == "-- 4 Kbytes in 1 Request.\n");
}

TEST_CASE("mailq does not repeat a reason that several recipients share", "[cli][unit]") {
  use_utc();
  auto message = object(kDeferred[1]);
  message["recipients"].as_array()[1].as_object()["delay_reason"] = "another";
  const auto text = MailqListing().message(message);
  CHECK(text.find("(another)\n                                         bob@") != std::string::npos);
}

TEST_CASE("I06: a listing shows control bytes escaped, in one line", "[cli][unit]") {
  auto message = object(kDeferred[0]);
  message["sender"] = "a\r\nb\x1b[2J@x";
  message["recipients"].as_array()[0].as_object()["delay_reason"] =
      "said: \xE2\x80\xA8 \xE2\x80\xAE \x1b]0;x\x07";
  const auto text = MailqListing().message(message);
  CHECK(text.find('\x1b') == std::string::npos);
  CHECK(text.find("a\\x0d\\x0ab\\x1b[2J@x") != std::string::npos);
  CHECK(text.find("\xE2\x80") == std::string::npos);
}

TEST_CASE("a line of another version of the daemon does not break the listing", "[cli][unit]") {
  for (const char* odd : {"{}", R"({"queue_id":1,"recipients":{}})",
                          R"({"recipients":[1,"x",{}],"message_size":"a","arrival_time":[]})"})
    CHECK_FALSE(MailqListing().message(object(odd)).empty());
}

// And what turns the direction of writing is not left to a terminal.
TEST_CASE("a line of JSON is one line for every reader", "[cli][unit]") {
  CHECK(json_line(
            object("{\"a\":\"x\xe2\x80\xa8y\xe2\x80\xa9\xe2\x80\xa8\",\"b\":\"\xe2\x80\xaa\"}")) ==
        "{\"a\":\"x\\u2028y\\u2029\\u2028\",\"b\":\"\\u202a\"}\n");
}

}  // namespace
}  // namespace postrider::cli
