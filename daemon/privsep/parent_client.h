// The daemon's side of its privileged parent: local deliveries, .forward files and ports by
// request. Thread-safe.
#pragma once

#include "base/time.h"
#include "daemon/privsep/parent_process.h"
#include "delivery/local/agents/delivery_agent.h"

#include <optional>
#include <string>
#include <sys/socket.h>

namespace postrider::daemon {

class ParentClient : public delivery::DeliveryAgent {
 public:
  explicit ParentClient(ParentLink link);

  // Comes back within the job's time and some seconds, whatever the delivery's user does.
  mail::Outcome perform(const delivery::LocalJob& job, delivery::LocalBody body) override;
  Result<std::optional<std::string>> read_forward(const std::string& user,
                                                  const std::string& name) override;
  // Binds a socket of ours to the address of a listener of the configuration. Blocks briefly.
  Result<void> bind(int socket, const sockaddr* address, socklen_t size);
  // What the token command of this credentials file prints. Blocks until it ends or `stop`, a
  // descriptor, is readable: Errc::stopped; the command ends then.
  Result<std::string> run_token_command(const std::string& credentials, int stop);
  // A new configuration: read first, then adopted or not, with all other parts.
  Result<void> reload();
  Result<void> adopt();
  Result<void> stay();

  // To the PAM helper, for whoever asks it; once.
  FileDescriptor take_pam_socket() { return std::move(link_.pam); }
  // How the PAM helper has ended since the last call: a status of wait(2). The parent starts it
  // again.
  std::optional<int> helper_ended();

  pid_t pid() const { return link_.pid; }
  bool becomes_users() const override { return link_.may_become_users; }
  const FileDescriptor& socket() const { return link_.socket; }  // readable once the parent is gone

 private:
  struct Answer {
    ParentReply head;
    std::string bytes;
  };
  Result<FileDescriptor> put(const ParentRequest& request, int first, int second);
  static Result<Answer> hear(const FileDescriptor& from, Duration time);
  Result<void> tell(ParentVerb verb);
  Result<Answer> ask(const ParentRequest& request, Duration time, int first = -1, int second = -1);

  ParentLink link_;
};

}  // namespace postrider::daemon
