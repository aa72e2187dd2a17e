#include "delivery/auth/token_command.h"

#include "tests/unit/base/temporary_folder.h"

#include <catch2/catch.hpp>

#include <fstream>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace postrider;
using namespace postrider::delivery;
using namespace std::chrono_literals;

namespace {

struct Script {
  explicit Script(const std::string& text) {
    std::ofstream(path) << "#!/bin/sh\n" << text;
    ::chmod(path.c_str(), 0755);
  }
  std::string run(std::vector<std::string> arguments = {}, TokenCommandLimits limits = {},
                  int asker = -1) const {
    arguments.insert(arguments.begin(), path);
    const auto output = run_token_command(arguments, limits, asker);
    return output ? *output : "error: " + output.error().step();
  }
  TemporaryFolder folder;
  std::string path = folder / "command";
};

}  // namespace

TEST_CASE("a token command gets its arguments, a clean environment and no input",
          "[delivery][token]") {
  ::setenv("SECRET", "of the daemon", 1);
  const Script script("echo \"$1,$2,$SECRET,$(cat | wc -c)\"\n");
  CHECK(script.run({"a b", "$(x)"}) == "a b,$(x),,0\n");
}

TEST_CASE("how a token command can fail", "[delivery][token]") {
  CHECK(Script("echo token; exit 3\n").run() == "error: it ended with exit code 3");
  CHECK(Script("echo 'no luck' >&2; echo more >&2; exit 1\n").run() ==
        "error: it ended with exit code 1: no luck");
  CHECK(Script("kill -9 $$\n").run() == "error: it ended by signal 9");
  CHECK(Script("echo complaint >&2; echo token\n").run() == "token\n");
  TokenCommandLimits limits;
  limits.output = 10;
  CHECK(Script("echo 123456789\n").run({}, limits) == "123456789\n");
  CHECK(Script("echo 1234567890\n").run({}, limits) == "error: it prints more than 10B");
  CHECK(Script("exec yes\n").run({}, limits) == "error: it prints more than 10B");
  CHECK(Script("exec yes >&2\n").run({}, {200ms, 100}) == "error: it did not end in 200ms");
  CHECK(Script("exec sleep 100\n").run({}, {50ms, 100}) == "error: it did not end in 50ms");
  CHECK_FALSE(run_token_command({"/no/such/program"}, {}, -1).has_value());
}

TEST_CASE("a token command ends when nobody waits for it", "[delivery][token]") {
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  ::close(ends[1]);
  CHECK(Script("exec sleep 100\n").run({}, {}, ends[0]) == "error: nobody waits for it");
  ::close(ends[0]);
}
