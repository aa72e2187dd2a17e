#include "base/standard_streams.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <sysexits.h>
#include <unistd.h>

namespace postrider {

void guard_standard_streams() {
  constexpr struct {
    int descriptor;
    int flags;  // so that it can be used neither as it is meant, nor for anything else
  } kStreams[] = {{STDIN_FILENO, O_WRONLY}, {STDOUT_FILENO, O_RDONLY}, {STDERR_FILENO, O_RDONLY}};
  for (const auto& [descriptor, flags] : kStreams)
    if (::fcntl(descriptor, F_GETFD) < 0 && errno == EBADF) {
      const int opened = ::open("/dev/null", flags);  // the lowest that is free, so this one
      if (opened >= 0 && opened != descriptor)
        ::close(opened);
    }
}

namespace {

bool is_reader_gone() {
  pollfd output{STDOUT_FILENO, POLLOUT, 0};
  return ::poll(&output, 1, 0) == 1 && (output.revents & POLLERR) != 0;
}

}  // namespace

int end_standard_output(std::string_view program, int exit_code) {
  const bool was_lost = std::ferror(stdout) != 0;
  errno = 0;
  const bool is_flushed = std::fflush(stdout) == 0;
  if (!was_lost && is_flushed)
    return exit_code;
  if (!is_reader_gone())
    std::fprintf(stderr, "%.*s: write to standard output: %s; what it shows is not complete\n",
                 static_cast<int>(program.size()), program.data(),
                 std::strerror(errno != 0 ? errno : EIO));
  return exit_code == EX_OK ? EX_IOERR : exit_code;
}

}  // namespace postrider
