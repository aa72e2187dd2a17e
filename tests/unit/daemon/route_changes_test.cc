// When waiting mail may go other ways than before.
#include "daemon/route_changes.h"

#include <catch2/catch.hpp>

#include <filesystem>
#include <fstream>

using namespace postrider;
using namespace postrider::daemon;
namespace fs = std::filesystem;

namespace {

SteadyTime at(int seconds) {
  return SteadyTime(std::chrono::seconds(seconds));
}

RouteConfig route(const std::string& domain, const std::string& next_hop) {
  RouteConfig made;
  made.domain = domain;
  made.next_hop = next_hop;
  return made;
}

}  // namespace

TEST_CASE("a change of the routes is told once", "[daemon][routes]") {
  RouteChanges changes;
  Config config;
  config.routes = {route("*", "smtp://old.test")};
  CHECK_FALSE(changes.look(config, at(0)));
  CHECK_FALSE(changes.look(config, at(1)));
  config.hostname = "other.test";
  CHECK_FALSE(changes.look(config, at(2)));
  const auto change = GENERATE(0, 1, 2, 3, 4);
  CAPTURE(change);
  if (change == 0)
    config.routes[0].next_hop = "smtp://new.test";
  else if (change == 1)
    config.routes.clear();
  else if (change == 2)
    config.routes[0].from = {"ann@us.test"};
  else if (change == 3)
    config.routes.insert(config.routes.begin(), route("a.test", "mx"));
  else
    config.delivery.route_map = {"inline:{a.test=smtp://new.test}"};
  CHECK(changes.look(config, at(3)));
  CHECK_FALSE(changes.look(config, at(30)));
}

TEST_CASE("a table of routes that is changed counts when it has been read again",
          "[daemon][routes]") {
  const auto path =
      (fs::temp_directory_path() / "routes_test_").string() + std::to_string(::getpid());
  const auto write = [&](const std::string& text) { std::ofstream(path) << text; };
  write("a.test smtp://old.test\n");
  RouteChanges changes;
  Config config;
  config.delivery.route_map = {"text:" + path};
  CHECK_FALSE(changes.look(config, at(0)));
  write("a.test smtp://newer.test\n");
  CHECK_FALSE(changes.look(config, at(1)));
  CHECK_FALSE(changes.look(config, at(4)));
  write("a.test smtp://the.newest.test\n");
  CHECK_FALSE(changes.look(config, at(5)));  // it begins again
  CHECK_FALSE(changes.look(config, at(8)));
  CHECK(changes.look(config, at(9)));
  CHECK_FALSE(changes.look(config, at(10)));
  fs::remove(path);
  CHECK_FALSE(changes.look(config, at(11)));
  CHECK(changes.look(config, at(15)));
}
