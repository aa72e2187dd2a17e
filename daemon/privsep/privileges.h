// Who we are. Started as root, the daemon opens its files as its own user, binds its sockets as
// root, and then stays that user for good.
#pragma once

#include "base/file.h"
#include "base/result.h"

#include <cstdint>
#include <string>
#include <sys/types.h>
#include <vector>

namespace postrider::daemon {

struct Account {
  std::string name;
  uid_t uid = 0;
  gid_t gid = 0;
};
Result<Account> find_account(const std::string& name);
Result<gid_t> find_group(const std::string& name);  // not_found: there is none

// Acts as the account until it is destroyed (effective ids and groups, of every thread).
// Without root, or with an account of root's, it does nothing.
class ActingAs {
 public:
  static Result<ActingAs> become(const Account& account);
  ActingAs(ActingAs&& other) noexcept : active_(std::exchange(other.active_, false)) {}
  ActingAs& operator=(ActingAs&&) = delete;
  ~ActingAs();  // root again; aborts if that fails

 private:
  explicit ActingAs(bool active) : active_(active) {}
  bool active_;
};

// For good: groups, group, user; then makes sure that there is no way back.
Result<void> become_for_good(const Account& account);
// Of a tool that root has started, before it reads what strangers send: for good, the user of that
// name. Without root, or a name, who it is.
Result<void> give_up_root(const std::string& user);

// Makes the folder if it is missing, as root, and gives it to the account; missing parents stay
// root's and open to all, and what exists stays as it is. A symbolic link on the way is followed if
// root made it in a folder of root's, and refused otherwise: nobody leads root elsewhere.
Result<void> provide_folder(const std::string& path, const Account& account, mode_t mode);

enum class FolderUse : std::uint8_t {
  change,        // what is in it can be listed and synced
  pass_through,  // O_PATH: to open what is in it; needs no right to read it
};
// Opens a folder in that way. For root, where a path leads through folders of others.
Result<FileDescriptor> open_folder_as_root(const std::string& path,
                                           FolderUse use = FolderUse::change);

// The same with O_PATH, and only if nobody but these could have put each folder on the way there:
// it is one's of them, and others may not write to it (or it is root's and sticky, as /tmp).
Result<FileDescriptor> open_folder_of(const std::string& path, const std::vector<uid_t>& keepers);

// The soft limit of open files becomes the hard one. Gives the limit.
std::uint64_t raise_file_limit();

}  // namespace postrider::daemon
