// Who exists on this machine: what the address book knows, a system account, an existing mailbox
// folder, or postmaster. User names are lower-cased, and an extension behind a name is ignored.
#pragma once

#include "base/result.h"
#include "base/time.h"
#include "delivery/local/addresses/expander.h"
#include "delivery/local/addresses/local_addresses.h"
#include "mail/directory.h"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::delivery {

// Thread-safe: answers from a cache of some seconds. What is not there is asked of the system's
// user database and of folders, which may take long: see base/memory_only.h.
class LocalDirectory : public mail::Directory, public Users {
 public:
  // mailbox: the pattern of local.mailbox. clock outlives this.
  LocalDirectory(std::shared_ptr<const LocalAddresses> book, std::string mailbox,
                 const Clock& clock);
  ~LocalDirectory() override;
  bool is_local_domain(std::string_view domain) const override;
  Answer lookup(std::string_view local_part, std::string_view domain) const override;
  // Accounts and folders alone. user: as local_user() gives it.
  Answer find_user(const std::string& user, std::string_view domain) const override;
  std::shared_ptr<const LocalAddresses> book() const;
  // After a reload. Any thread.
  void reconfigure(std::shared_ptr<const LocalAddresses> book, std::string mailbox);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace postrider::delivery
