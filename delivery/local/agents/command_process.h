// A command that runs: its pipes, its time, its end. It is the leader of its own session, and all
// of its group ends with this object if the command has not ended by then.
#pragma once

#include "base/file.h"
#include "base/result.h"
#include "delivery/local/agents/command_exit.h"

#include <cstdint>
#include <string>
#include <sys/types.h>
#include <vector>

namespace postrider::delivery {

// What a command may have. Applied on its way to execve.
struct CommandBounds {
  std::uint64_t more_tasks = 0;  // than its user has now; 0: no limit
  std::uint64_t data = 0;        // octets of memory of each of its processes; 0: no limit
  int group = -1;                // cgroup.procs of the group that it joins
  bool is_nice = false;          // others go first
};

class CommandProcess {
 public:
  enum class Errors : std::uint8_t { with_output, apart };
  // Requires a first argument that is an absolute path. An error is execve's or the system's.
  static Result<CommandProcess> start(const std::vector<std::string>& arguments,
                                      const std::vector<std::string>& environment,
                                      const std::string& folder,
                                      Errors errors = Errors::with_output,
                                      const CommandBounds& bounds = {});
  CommandProcess(CommandProcess&& other) noexcept;
  CommandProcess& operator=(CommandProcess&&) = delete;
  ~CommandProcess();

  int input() const { return input_.get(); }    // for poll; -1 once closed
  int output() const { return output_.get(); }  // standard output, and error unless apart
  int errors() const { return errors_.get(); }  // standard error, if apart
  int ended() const { return watch_.get(); }    // readable once it has ended
  bool has_ended() const { return pid_ <= 0; }

  void close_input() { input_.reset(); }
  // What there is, without waiting; kept up to `most` octets, read and dropped beyond.
  void read_output(std::string& kept, std::uint64_t most) { read_from(output_, kept, most); }
  void read_errors(std::string& kept, std::uint64_t most) { read_from(errors_, kept, most); }
  void reap();
  // Requires has_ended().
  CommandEnd end(std::string output) const;

 private:
  CommandProcess() = default;
  static void read_from(FileDescriptor& pipe, std::string& kept, std::uint64_t most);
  pid_t pid_ = 0;
  int status_ = 0;
  FileDescriptor input_, output_, errors_, watch_;
};

}  // namespace postrider::delivery
