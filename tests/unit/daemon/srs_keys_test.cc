#include "daemon/signing/srs_keys.h"

#include "tests/unit/base/temporary_folder.h"

#include <catch2/catch.hpp>

#include <filesystem>
#include <fstream>
#include <sys/stat.h>

using namespace postrider;
using namespace postrider::daemon;

namespace {

std::string problems(const SrsKeys& keys) {
  std::string out;
  for (const auto& one : keys.problems)
    out += std::to_string(one.line) + ": " + one.text + "\n";
  return out;
}

std::string srs_domain(const std::string& text) {
  const auto loaded = parse_config(text, "test.toml", {"mx.example.org", {}});
  INFO(loaded.describe());
  REQUIRE(loaded.config);
  return loaded.config->local.srs_domain;
}

}  // namespace

TEST_CASE("keys of senders stand one a line", "[daemon][srs]") {
  const auto good = parse_srs_keys("# ours\n\n  the first key of all \r\nthe second key, too\n");
  CHECK(problems(good).empty());
  CHECK(good.keys == std::vector<std::string>{"the first key of all", "the second key, too"});
  CHECK(problems(parse_srs_keys("# nothing\n")) == "0: holds no key; expected a line with one\n");
  CHECK(problems(parse_srs_keys("the first key of all\nshort\nthe first key of all\n"
                                "a key with\ta control\n" +
                                std::string(513, 'x'))) ==
        "2: is a key of 5 octets; expected from 16 to 512\n"
        "3: is a key that stands there already\n"
        "4: holds controls; expected a text without them\n"
        "5: is a key of 513 octets; expected from 16 to 512\n");
  std::string many;
  for (int i = 0; i < 21; ++i)
    many += "a key that is long enough " + std::to_string(i) + "\n";
  CHECK(problems(parse_srs_keys(many)) == "0: holds more than 20 keys\n");
}

TEST_CASE("a file of keys is no one else's to read", "[daemon][srs]") {
  const TemporaryFolder folder;
  const auto path = folder.path() + "/keys";
  std::ofstream(path) << "the first key of all\n";
  for (const auto& [mode, is_fine] : {std::pair(0600, true), {0640, true}, {0644, false}}) {
    ::chmod(path.c_str(), static_cast<mode_t>(mode));
    CHECK(load_srs_keys(path, true).problems.empty() == is_fine);
  }
  ::chmod(path.c_str(), 0600);
  std::filesystem::create_symlink(path, folder.path() + "/link");
  CHECK(load_srs_keys(folder.path() + "/link", true).problems.empty());
  CHECK_FALSE(load_srs_keys(folder.path() + "/link", false).problems.empty());
  CHECK_FALSE(load_srs_keys(folder.path(), true).problems.empty());
  ::mkfifo((folder.path() + "/pipe").c_str(), 0600);
  CHECK_FALSE(load_srs_keys(folder.path() + "/pipe", true).problems.empty());
}

TEST_CASE("the key in the spool is made once", "[daemon][srs]") {
  const TemporaryFolder folder;
  Config config;
  config.spool = folder.path();
  config.local.srs_domain = "us.test";
  const SystemClock clock;
  CHECK(*open_sender_rewriter(config, clock) == nullptr);
  CHECK_FALSE(std::filesystem::exists(folder.path() + "/srs_key"));
  config.local.srs = true;
  const auto first = open_sender_rewriter(config, clock);
  REQUIRE(first);
  const auto made = *(*first)->forward("ann@a.test");
  struct stat about {};
  REQUIRE(::stat((folder.path() + "/srs_key").c_str(), &about) == 0);
  CHECK((about.st_mode & 0777) == 0600);
  const auto second = open_sender_rewriter(config, clock);
  REQUIRE(second);
  CHECK(**(*second)->original(made, delivery::SenderRewriter::Seen::now) == "ann@a.test");
  config.local.srs_key = folder.path() + "/other";
  const auto missing = open_sender_rewriter(config, clock);
  REQUIRE_FALSE(missing);
  CHECK(missing.error().describe().find("local.srs_key") != std::string::npos);
  CHECK_FALSE(std::filesystem::exists(folder.path() + "/other"));
}

TEST_CASE("senders are made in a domain that bounces come back to", "[daemon][srs]") {
  CHECK(srs_domain("") == "mx.example.org");
  CHECK(srs_domain("[local]\ndomains = [\"example.org\", \"b.example\"]") == "example.org");
  CHECK(srs_domain("[local]\ndomains = [\"b.example\", \"MX.example.org\"]") == "mx.example.org");
  CHECK(srs_domain("[local]\ndomains = [\"{hostname}\"]") == "mx.example.org");
  CHECK(srs_domain("[local]\nsrs_domain = \"srs.example\"") == "srs.example");
  const auto both = parse_config(
      "[local]\nsrs = true\nsrs_domain = \"srs.example\"\n[accept]\nrelay_to = [\"SRS.example\"]",
      "test.toml", {"mx.example.org", {}});
  REQUIRE(both.problems.size() == 1);
  CHECK(both.problems.front().key == "accept.relay_to");
}
