// Performs local deliveries with the rights of the target's user: here, or in a process of that
// user (daemon/privsep/parent_client.h).
#pragma once

#include "delivery/local/agents/command_group.h"
#include "delivery/local/agents/local_target.h"
#include "mail/outcome.h"

#include <optional>
#include <string>
#include <sys/types.h>

namespace postrider::delivery {

class DeliveryAgent {
 public:
  virtual ~DeliveryAgent() = default;

  // Blocks: for the pool. Thread-safe. Delivered means on stable storage, or accepted by the
  // command; a crash before the result is recorded makes a duplicate, never a loss. Every failure
  // is an outcome, stage `local`. Not for Target::Kind::lmtp.
  virtual mail::Outcome perform(const LocalJob& job, LocalBody body) = 0;

  // The text of a file of that name in the user's home folder, read with the user's rights: name is
  // ".forward" or ".forward+extension". nullopt: there is none. Errc::refused: it is there, but not
  // to be used (another owner, writable by others, no regular file, above 64 KiB); the text says
  // why. Other errors: try again later. Blocks: for the pool.
  virtual Result<std::optional<std::string>> read_forward(const std::string& user,
                                                          const std::string& name) = 0;

  // This process ends: commands that run do not go on without it. Thread-safe.
  virtual void stop() {}

  // Whether it has the rights of the targets' users, rather than those of this process.
  virtual bool becomes_users() const { return false; }
};

// With the rights of this process, whatever the target's user is.
class OwnPerformer : public DeliveryAgent {
 public:
  OwnPerformer();
  mail::Outcome perform(const LocalJob& job, LocalBody body) override;
  Result<std::optional<std::string>> read_forward(const std::string& user,
                                                  const std::string& name) override;
  void stop() override;

 private:
  FileDescriptor stop_;
};

// The same synchronously, for a process that already is the user: see DeliveryAgent.
mail::Outcome perform_here(const LocalJob& job, const LocalBody& body,
                           const CommandSetting& setting = {});
// owner: who, besides root, the file may belong to.
Result<std::optional<std::string>> read_forward_here(const std::string& home,
                                                     const std::string& name, uid_t owner);

// Whether a header section says that the message has been here before (Delivered-To, RFC 9228):
// `content` is the beginning of a message, trace included. To be asked before a Target is
// performed, and before aliases are expanded.
// separator: what follows the first octet of it in a local part does not count.
bool was_delivered_to(std::string_view content, std::string_view address,
                      std::string_view separator = {});
// How many such fields there are: mail that is forwarded in ever new forms is a loop too.
std::size_t count_delivered_to(std::string_view content);

}  // namespace postrider::delivery
