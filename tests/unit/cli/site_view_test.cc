#include "cli/site_view.h"

#include <catch2/catch.hpp>

#include <ctime>

using namespace postrider::cli;
namespace json = boost::json;

TEST_CASE("a site that is well, with its limits", "[cli][sites]") {
  const json::object site = {{"site", "mx.example.net"},
                             {"state", "open"},
                             {"connections", 5},
                             {"idle", 1},
                             {"limit", 5},
                             {"in_hand", 12},
                             {"limits", "5 connections at one time: one more was refused"}};
  CHECK(site_view(site, 1000) ==
        "mx.example.net: open\n"
        "  5 of 5 connections (1 idle), 12 messages in hand for it\n"
        "  5 connections at one time: one more was refused\n");
}

TEST_CASE("a site in trouble, with its next try and its reason", "[cli][sites]") {
  const std::int64_t now = 1764446400;
  json::object site = {{"site", "mx.\x1b[31m.net"}, {"state", "blocked"},
                       {"alarm", "credentials"},    {"failures", 3},
                       {"since", now - 60},         {"blocked_until", now + 40},
                       {"recipients", 2},           {"reason", "Connection refused"}};
  const auto text = site_view(site, now);
  CHECK(text.find('\x1b') == std::string::npos);
  CHECK(text.find(", 3 failures, next try in 40s\n") != std::string::npos);
  CHECK(text.find("  ALARM: credentials\n") != std::string::npos);
  CHECK(text.find("  2 recipients waiting\n") != std::string::npos);
  CHECK(text.find("  Connection refused\n") != std::string::npos);
  site["blocked_until"] = now - 1;
  CHECK(site_view(site, now).find("next try now") != std::string::npos);
  CHECK(site_view({}, now) == ": \n");
}
