// Reads a message out of its old files, and takes custody of it. Has no rights but to our queue.
#pragma once

#include "base/file.h"
#include "base/time.h"
#include "daemon/control/offline_intake.h"
#include "daemon/predecessor/old_message.h"
#include "daemon/predecessor/taken_over.h"

#include <memory>
#include <set>
#include <string>
#include <vector>

namespace postrider::daemon {

class OldMailTaker {
 public:
  struct Settings {
    Predecessor whose = Predecessor::postfix;
    std::string hostname;  // for what local mail lacks in its header
    std::string origin;    // the domain of addresses without one
  };
  // queue: started without a consumer; null: a dry run, in which messages are only read. log: told
  // what was taken.
  OldMailTaker(queue::Queue* queue, const Clock& clock, Settings settings, Log& log);

  // files: open ones, of Postfix its queue file, of Exim ID-H and ID-D, and if order.has_more the
  // file of bounce, or ID-J. In custody, or nothing of it is: but of one with several senders a part
  // may be, which a second call knows.
  TakenOver take(const OldMailOrder& order, std::vector<FileDescriptor> files);
  // Once their old files are gone for good.
  void forget(std::vector<std::string> drop_ids);

 private:
  struct Source {
    OldMessage message;
    std::shared_ptr<const std::set<std::string>> failed;  // of Postfix
    std::function<Result<void>(const OnOldContent&)> content;
  };
  Result<Source> open(const OldMailOrder& order, const std::vector<OldFile>& files) const;
  Result<Source> open_postfix(const OldMailOrder& order, const std::vector<OldFile>& files) const;
  Result<void> read_to_end(const Source& source, TakenOver& taken) const;
  Result<void> store(const OldMailOrder& order, const Source& source, TakenOver& taken);
  Result<queue::Submission> submission_of(const OldMailOrder& order, const Source& source,
                                          mail::Envelope envelope);
  Result<queue::Submission> complete(const OldMailOrder& order, const Source& source,
                                     mail::Envelope envelope);
  std::string drop_id_of(const OldMailOrder& order, std::int64_t when,
                         const std::string& sender) const;
  TimePoint received(const OldMailOrder& order, const OldMessage& message) const;

  queue::Queue* queue_;
  const Clock& clock_;
  const Settings settings_;
  std::unique_ptr<OfflineIntake> intake_;
};

}  // namespace postrider::daemon
