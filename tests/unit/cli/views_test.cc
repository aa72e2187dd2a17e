#include "cli/views.h"

#include <boost/json/array.hpp>
#include <catch2/catch.hpp>

#include <string>

namespace postrider::cli {
namespace {

namespace json = boost::json;

json::object site(const std::string& name, int recipients) {
  json::object object;
  object["site"] = name;
  object["recipients"] = recipients;
  object["failures"] = 1;
  object["since"] = 1;
  object["blocked_until"] = 2;
  object["reason"] = "connection refused";
  return object;
}

std::size_t lines_with(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1))
    ++found;
  return found;
}

TEST_CASE("the status of a thousand sites in trouble fits on a screen", "[cli][unit]") {
  json::array sites;
  for (int i = 0; i < 1000; ++i)
    sites.push_back(site("mx" + std::to_string(i) + ".test", i == 500 ? 100'000 : i));
  json::object status;
  status["now"] = 3;
  status["sites_in_trouble"] = sites;
  const auto text = status_view(status);
  CHECK(lines_with(text, "recipients wait") == 10);
  CHECK(text.find("999 sites, and 1 site without mail: postrider sites --trouble\n") !=
        std::string::npos);
  CHECK(text.find("and 989 other sites") != std::string::npos);
  CHECK(text.find("mx0.test") == std::string::npos);
  // Those for whom most waits come first.
  CHECK(text.find("mx500.test: 100000 recipients wait") < text.find("mx999.test"));
  CHECK(text.find("mx991.test") != std::string::npos);
  CHECK(text.find("mx990.test") == std::string::npos);

  status["sites_in_trouble"] = json::array(sites.begin(), sites.begin() + 10);
  CHECK(lines_with(status_view(status), "other site") == 0);
  CHECK(status_view(status).find("mx1.test: 1 recipient waits, 1 failure") != std::string::npos);
}

TEST_CASE("a site in trouble without mail is no trouble of the queue's", "[cli][unit]") {
  json::object status;
  status["sites_in_trouble"] = json::array{site("mx.test", 0)};
  CHECK(status_view(status).find("1 site without mail: postrider sites --trouble\n") !=
        std::string::npos);
  status["sites_in_trouble"] = json::array{site("mx.test", 1)};
  CHECK(status_view(status).find("1 site:\n  mx.test: 1 recipient waits") != std::string::npos);
  status["sites_in_trouble"] = json::array();
  CHECK(status_view(status).find("no site\n") != std::string::npos);
}

TEST_CASE("what the daemon adds to the status stands in words, in a column", "[cli][unit]") {
  json::object status;
  status["pid"] = 7;
  status["users_at_their_limit"] = json::array{"uid 0: 5 messages an hour", "uid 4294967294: 6"};
  status["delivered"] = 9;  // stands in "since start"
  const auto text = status_view(status);
  CHECK(text.find("pid                   7\n"
                  "users at their limit  uid 0 (root): 5 messages an hour, uid 4294967294: 6\n") !=
        std::string::npos);
  CHECK(text.find("delivered") == std::string::npos);
}

TEST_CASE("status tells how many messages are in each state", "[cli][unit]") {
  json::object queue;
  queue["messages"] = 10;
  queue["active"] = 1;
  queue["queued"] = 2;
  queue["deferred"] = 3;
  queue["held"] = 4;
  json::object status;
  status["queue"] = queue;
  CHECK(status_view(status).find("1 active, 2 queued, 3 deferred, 4 held") != std::string::npos);
}

TEST_CASE("status counts what happened lately, each span in its row", "[cli][unit]") {
  json::object status;
  int accepted = 0;
  for (const char* span : {"last_minute", "last_hour", "since_start"})
    status[span] = json::object{{"accepted", ++accepted}};
  const auto text = status_view(status);
  const std::string others =
      " accepted, 0 delivered, 0 bounced, 0 removed, 0 deferrals, 0 untried\n";
  CHECK(text.find("last minute   1" + others) != std::string::npos);
  CHECK(text.find("last hour     2" + others) != std::string::npos);
  CHECK(text.find("since start   3" + others) != std::string::npos);
}

}  // namespace
}  // namespace postrider::cli
