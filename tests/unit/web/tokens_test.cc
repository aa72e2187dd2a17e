#include "web/tokens.h"

#include "base/digest.h"
#include "base/file.h"
#include "tests/unit/base/temporary_folder.h"

#include <catch2/catch.hpp>

#include <fstream>
#include <sys/stat.h>
#include <vector>

using namespace postrider;
using namespace postrider::web;

namespace {

std::string line(const std::string& role, const std::string& secret, const std::string& name) {
  return role + " " + encode_hex(sha256(secret)) + " " + name + "\n";
}

}  // namespace

TEST_CASE("tokens: a file of them", "[web]") {
  const auto tokens = parse_tokens("# who may\n\n" + line("read", "alpha", "ann") + "  " +
                                   line("change", "beta", "bob"));
  REQUIRE(tokens.has_value());
  REQUIRE(tokens->size() == 2);
  REQUIRE(find_token(*tokens, "alpha"));
  CHECK(find_token(*tokens, "alpha")->role == Role::read);
  CHECK(find_token(*tokens, "beta")->role == Role::change);
  CHECK(find_token(*tokens, "beta")->name == "bob");
  for (const std::string& wrong :
       std::vector<std::string>{std::string(), std::string("Alpha"), std::string("alpha "),
                                std::string("gamma"), encode_hex(sha256("alpha"))}) {
    INFO(wrong);
    CHECK_FALSE(find_token(*tokens, wrong));
  }
}

TEST_CASE("tokens: a wrong line is named", "[web]") {
  const auto good = line("read", "alpha", "ann");
  const auto hash = encode_hex(sha256("alpha"));
  for (const std::string& wrong : std::vector<std::string>{
           std::string("write ") + hash + " ann", std::string("read ") + hash.substr(1) + " ann",
           std::string("read ") + hash + "0 ann", "read " + hash, "read " + hash + " ann two",
           std::string("read ") + std::string(64, 'A') + " ann", std::string("read"),
           std::string("change  "), "read " + hash + " " + std::string(65, 'n')}) {
    INFO(wrong);
    const auto tokens = parse_tokens(good + wrong + "\n" + good);
    REQUIRE_FALSE(tokens.has_value());
    CHECK(tokens.error().step().rfind("line 2: ", 0) == 0);
  }
  std::string many;
  for (std::size_t i = 0; i < kMostTokens; ++i)
    many += good;
  CHECK(parse_tokens(many).has_value());
  CHECK_FALSE(parse_tokens(many + good).has_value());
}

TEST_CASE("tokens: one that was made is found by its line", "[web]") {
  const auto made = make_token(Role::change, "ann");
  const auto other = make_token(Role::change, "ann");
  CHECK(made.secret != other.secret);
  CHECK(made.secret.size() > 64);
  CHECK(made.line.find(made.secret) == std::string::npos);
  const auto tokens = parse_tokens(made.line + make_token(Role::read, "bob").line);
  REQUIRE(tokens.has_value());
  REQUIRE(find_token(*tokens, made.secret));
  CHECK(find_token(*tokens, made.secret)->name == "ann");
  CHECK_FALSE(find_token(*tokens, other.secret));
}

TEST_CASE("tokens: a file that others may write or read is refused", "[web]") {
  const TemporaryFolder folder;
  const auto path = folder.path() + "/tokens";
  std::ofstream(path) << line("read", "alpha", "ann");
  for (const auto& [mode, is_good] : std::initializer_list<std::pair<mode_t, bool>>{
           {0600, true}, {0640, true}, {0440, true}, {0660, false}, {0644, false}, {0602, false}}) {
    INFO(mode);
    REQUIRE(::chmod(path.c_str(), mode) == 0);
    CHECK(read_tokens(path).has_value() == is_good);
  }
  CHECK_FALSE(read_tokens(folder.path()).has_value());
  CHECK_FALSE(read_tokens(folder.path() + "/none").has_value());
}

TEST_CASE("tokens: guesses end after ten, for a minute, for this address", "[web]") {
  GuessLimiter limiter;
  SteadyTime now{};
  now += std::chrono::hours(5);
  for (int i = 0; i < 10; ++i) {
    REQUIRE(limiter.may_try("192.0.2.1", now));
    limiter.failed("192.0.2.1", now);
  }
  CHECK_FALSE(limiter.may_try("192.0.2.1", now));
  CHECK(limiter.may_try("192.0.2.2", now));
  CHECK_FALSE(limiter.may_try("192.0.2.1", now + std::chrono::seconds(59)));
  CHECK(limiter.may_try("192.0.2.1", now + std::chrono::seconds(60)));
  for (int i = 0; i < 20000; ++i)
    limiter.failed("2001:db8::" + std::to_string(i), now);
  CHECK(limiter.may_try("198.51.100.1", now));
}
