#include "web/history.h"

#include "web/site_history.h"

#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <catch2/catch.hpp>

#include <string>
#include <vector>

using namespace postrider::web;
namespace json = boost::json;

namespace {

json::object parsed(const std::string& text) {
  return json::parse(text).as_object();
}

json::object deferrals(std::int64_t now, const std::string& classes) {
  return parsed(R"({"now":)" + std::to_string(now) + R"(,"deferred_by_class":{)" + classes + "}}");
}

json::object busy(std::int64_t now, const std::string& sites) {
  return parsed(R"({"now":)" + std::to_string(now) + R"(,"busiest_sites":[)" + sites + "]}");
}

std::string site(const std::string& name, int limit, double rate = 0) {
  auto text = R"({"site":")" + name + R"(","limit":)" + std::to_string(limit);
  if (rate > 0)
    text += R"(,"rate":)" + std::to_string(rate);
  return text + "}";
}

std::vector<double> numbers(const json::value& array) {
  std::vector<double> out;
  for (const auto& one : array.as_array())
    out.push_back(one.to_number<double>());
  return out;
}

}  // namespace

TEST_CASE("history: deferrals by class are gains, of those classes that have any", "[web]") {
  History history;
  history.add(deferrals(10, R"("rate":5,"busy":2,"tls":0)"));
  history.add(deferrals(20, R"("rate":9,"busy":2,"tls":0)"));
  history.add(deferrals(30, R"("rate":1,"busy":2,"tls":0,"dns":4)"));  // started again
  const auto past = parsed(history.json_since(0)).at("by_class").as_object();
  CHECK(past.size() == 2);
  CHECK(numbers(past.at("rate")) == std::vector<double>{0, 4, 1});
  CHECK(numbers(past.at("dns")) == std::vector<double>{0, 0, 4});
  CHECK(parsed(history.json_since(25)).at("by_class").as_object().empty());
}

TEST_CASE("history: classes are bounded, and what is none is left out", "[web]") {
  History history;
  std::string all = R"("text":"x","list":[1])";
  for (int i = 0; i < 500; ++i)
    all += ",\"c" + std::to_string(i) + "\":" + std::to_string(i);
  all += ",\"" + std::string(65, 'x') + "\":1";
  history.add(deferrals(10, ""));
  history.add(deferrals(20, all));
  const auto past = parsed(history.json_since(0)).at("by_class").as_object();
  CHECK(past.size() == History::kMostClasses - 1);  // c0 gained nothing
  history.add(parsed(R"({"now":30,"deferred_by_class":7})"));
  CHECK(parsed(history.json_since(0)).at("time").as_array().size() == 3);
}

TEST_CASE("site history: a point when a limit changes, else one a minute", "[web]") {
  SiteHistory history;
  for (std::int64_t now = 0; now <= 180; now += 10)
    history.add(busy(now, site("a.test", now < 100 ? 5 : 20, now < 100 ? 0 : 1.5)));
  const auto sites = parsed(history.json_since(-1)).at("sites").as_array();
  REQUIRE(sites.size() == 1);
  CHECK(sites[0].at("site") == "a.test");
  CHECK(numbers(sites[0].at("time")) == std::vector<double>{0, 60, 100, 160});
  CHECK(numbers(sites[0].at("limit")) == std::vector<double>{5, 5, 20, 20});
  CHECK(numbers(sites[0].at("rate")) == std::vector<double>{0, 0, 1.5, 1.5});
  // The one that held when the span began is there, too.
  CHECK(numbers(parsed(history.json_since(130)).at("sites").as_array()[0].at("time")) ==
        std::vector<double>{100, 160});
  // A clock that was set back adds nothing.
  history.add(busy(50, site("a.test", 1)));
  CHECK(numbers(parsed(history.json_since(-1)).at("sites").as_array()[0].at("limit")).back() == 20);
  CHECK(parsed(history.json_since(1000)).at("sites").as_array().empty());
}

TEST_CASE("site history: sites and points are bounded, and who was busy last stays", "[web]") {
  SiteHistory history;
  for (int i = 0; i < 1000; ++i)
    history.add(busy(i, site("s" + std::to_string(i) + ".test", 5)));
  auto sites = parsed(history.json_since(0)).at("sites").as_array();
  CHECK(sites.size() == SiteHistory::kMostSites);
  CHECK(sites[0].at("site") == "s999.test");
  CHECK(sites.back().at("site") == "s976.test");
  // As many at once as there are places, and more: nobody pushes out who is as busy.
  std::string many = site("t0.test", 1);
  for (int i = 1; i < 100; ++i)
    many += "," + site("t" + std::to_string(i) + ".test", 1);
  history.add(busy(2000, many));
  sites = parsed(history.json_since(1999)).at("sites").as_array();
  CHECK(sites.size() == 10);
  CHECK(sites[0].at("site") == "t0.test");
  for (int i = 0; i < 5000; ++i)
    history.add(busy(3000 + i, site("a.test", i % 7 + 1)));
  const auto times = numbers(parsed(history.json_since(0)).at("sites").as_array()[0].at("time"));
  CHECK(times.size() <= SiteHistory::kMostGiven);
  CHECK(times.size() > SiteHistory::kMostGiven / 2);
  CHECK(times.back() == 7999);
  CHECK(times.front() >= 8000 - static_cast<double>(SiteHistory::kMostPoints));
}

TEST_CASE("site history: an answer of other types adds nothing", "[web]") {
  SiteHistory history;
  for (const char* wrong :
       {"{}", R"({"now":"x","busiest_sites":[]})", R"({"now":1,"busiest_sites":7})",
        R"({"now":1,"busiest_sites":[7,{},{"site":7},{"limit":3}]})"})
    history.add(parsed(wrong));
  history.add(busy(1, site(std::string(256, 'x'), 3)));
  CHECK(parsed(history.json_since(0)).at("sites").as_array().empty());
  history.add(parsed(R"({"now":2,"busiest_sites":[{"site":"a","limit":"many","rate":[]}]})"));
  CHECK(numbers(parsed(history.json_since(0)).at("sites").as_array()[0].at("limit")) ==
        std::vector<double>{0});
}

TEST_CASE("history: each column is of its own figure", "[web]") {
  History history;
  const auto add = [&](std::int64_t now, int times) {
    const auto figure = [&](const char* name, int value) {
      return std::string("\"") + name + "\":" + std::to_string(value * times);
    };
    history.add(parsed(
        R"({"now":)" + std::to_string(now) + R"(,"queue":{)" + figure("messages", 1) + "," +
        figure("deferred", 2) + "," + figure("active", 3) + "," + figure("held", 100) +
        R"(},"since_start":{)" + figure("accepted", 4) + "," + figure("delivered", 5) + "," +
        figure("bounced", 6) + "," + figure("deferrals", 7) + "," + figure("untried", 100) + "}}"));
  };
  add(10, 1);
  add(20, 3);
  const auto past = parsed(history.json_since(0));
  CHECK(numbers(past.at("time")) == std::vector<double>{10, 20});
  CHECK(numbers(past.at("queue")) == std::vector<double>{1, 3});
  CHECK(numbers(past.at("deferred")) == std::vector<double>{2, 6});
  CHECK(numbers(past.at("active")) == std::vector<double>{3, 9});
  CHECK(numbers(past.at("accepted")) == std::vector<double>{0, 8});
  CHECK(numbers(past.at("delivered")) == std::vector<double>{0, 10});
  CHECK(numbers(past.at("bounced")) == std::vector<double>{0, 12});
  CHECK(numbers(past.at("deferrals")) == std::vector<double>{0, 14});
}

TEST_CASE("history: what is older than a day is forgotten", "[web]") {
  History history;
  const auto most = static_cast<std::int64_t>(History::kMost);
  for (std::int64_t i = 1; i <= most + 1000; ++i)
    history.add(parsed(R"({"now":)" + std::to_string(i * History::kPace) + "}"));
  const auto times = numbers(parsed(history.json_since(0)).at("time"));
  CHECK(times.size() <= History::kMostPoints);
  CHECK(times.back() == static_cast<double>((most + 1000) * History::kPace));
  CHECK(times.front() > static_cast<double>(1000 * History::kPace));
}
