// Who exists on this machine: a system account, an existing mailbox folder, or postmaster. User
// names are lower-cased, and "+tag" behind a name is ignored.
#pragma once

#include "base/result.h"
#include "base/time.h"
#include "mail/directory.h"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::delivery {

// Thread-safe: answers from a cache of some seconds.
class LocalDirectory : public mail::Directory {
 public:
  // domains: lower case, A-labels. mailbox: the pattern of local.mailbox. clock outlives this.
  LocalDirectory(std::vector<std::string> domains, std::string mailbox, const Clock& clock);
  ~LocalDirectory() override;
  bool is_local_domain(std::string_view domain) const override;
  Answer lookup(std::string_view local_part, std::string_view domain) const override;
  // After a reload. Any thread.
  void reconfigure(std::vector<std::string> domains, std::string mailbox);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace postrider::delivery
