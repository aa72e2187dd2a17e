// A command that runs: its pipes, its time, its end. It is the leader of its own session, and all
// of its group ends with this object if the command has not ended by then.
#pragma once

#include "base/file.h"
#include "base/result.h"
#include "delivery/local/command_exit.h"

#include <string>
#include <sys/types.h>
#include <vector>

namespace postrider::delivery {

class CommandProcess {
 public:
  // Requires a first argument that is an absolute path. An error is execve's or the system's.
  static Result<CommandProcess> start(const std::vector<std::string>& arguments,
                                      const std::vector<std::string>& environment,
                                      const std::string& folder);
  CommandProcess(CommandProcess&& other) noexcept;
  CommandProcess& operator=(CommandProcess&&) = delete;
  ~CommandProcess();

  int input() const { return input_.get(); }    // for poll; -1 once closed
  int output() const { return output_.get(); }  // standard output and error
  int ended() const { return watch_.get(); }    // readable once it has ended
  bool has_ended() const { return pid_ <= 0; }

  void close_input() { input_.reset(); }
  // What there is, without waiting; kept up to `most` octets, read and dropped beyond.
  void read_output(std::string& kept, std::uint64_t most);
  void reap();
  // Requires has_ended().
  CommandEnd end(std::string output) const;

 private:
  CommandProcess() = default;
  pid_t pid_ = 0;
  int status_ = 0;
  FileDescriptor input_, output_, watch_;
};

}  // namespace postrider::delivery
