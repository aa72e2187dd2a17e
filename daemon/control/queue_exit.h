// The exit code of sysexits.h for a queue that cannot be opened.
#pragma once

#include "base/result.h"

#include <sysexits.h>

namespace postrider::daemon {

// 74: what stands where the database belongs is none; 77: its rights; otherwise as given.
inline int exit_code_of_queue(const Error& error, int otherwise) {
  const auto code = error.code();
  if (code == boost::system::errc::permission_denied)
    return EX_NOPERM;
  if (code == boost::system::errc::is_a_directory ||
      code == boost::system::errc::no_such_file_or_directory ||
      code == boost::system::errc::read_only_file_system ||
      code == boost::system::errc::invalid_seek)
    return EX_IOERR;
  return otherwise;
}

}  // namespace postrider::daemon
