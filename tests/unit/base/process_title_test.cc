#include "base/process_title.h"

#include "base/file.h"

#include <catch2/catch.hpp>

#include <cstdlib>
#include <string>
#include <sys/wait.h>
#include <unistd.h>

namespace postrider {
namespace {

std::string command_line() {
  const auto text = read_file("/proc/self/cmdline");
  return text ? *text : std::string();
}

// In a child, which alone has another title then.
int titled(const std::string& title) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    const auto room = command_line().size();
    set_process_title("something else first");
    set_process_title(title);
    const char* const home = std::getenv("PATH");
    const auto wanted = title.substr(0, room - 1);
    const auto shown = command_line();
    ::_exit(std::string(shown.c_str()) == wanted && shown.size() == room && home != nullptr ? 0
                                                                                            : 1);
  }
  int status = -1;
  ::waitpid(pid, &status, 0);
  return status;
}

TEST_CASE("a process has the title that it gave itself, as far as there is room", "[base]") {
  const auto before = command_line();
  CHECK(titled("p: parent") == 0);
  CHECK(titled("") == 0);
  CHECK(titled(std::string(100'000, 'x')) == 0);
  CHECK(command_line() == before);
}

}  // namespace
}  // namespace postrider
