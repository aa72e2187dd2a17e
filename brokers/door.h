// Where the daemon brings events for a broker: a Unix socket, by the protocol of the sink `socket`
// (postrider-events(7)). One caller at a time; those who are not among the users named are sent
// away. Blocking; of one thread.
#pragma once

#include "base/file.h"
#include "base/result.h"

#include <functional>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <vector>

namespace postrider::brokers {

class Door {
 public:
  // Replaces a socket that was left behind there.
  static Result<Door> open(const std::string& path, std::vector<uid_t> callers);

  using Take = std::function<Result<void>(std::string_view batch)>;
  // Waits for a caller and serves it until it has gone. tend: about once a second while nothing
  // comes. Errc::refused: it was not one of ours.
  Result<void> serve(const Take& take, const std::function<void()>& tend) const;

 private:
  Door() = default;
  Result<void> check_caller(const FileDescriptor& caller) const;
  Result<void> converse(const FileDescriptor& caller, const Take& take,
                        const std::function<void()>& tend) const;

  FileDescriptor socket_;
  std::vector<uid_t> callers_;
};

}  // namespace postrider::brokers
