#include "delivery/local/agents/account.h"

#include "base/text.h"

#include <array>
#include <cerrno>
#include <optional>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

namespace postrider::delivery {

namespace {

constexpr uid_t kNobody = 65534;

// nullopt: there is no such account.
Result<std::optional<uid_t>> uid_of_account(const std::string& user) {
  std::array<char, 16384> room{};
  passwd entry{};
  passwd* found = nullptr;
  const int failed = ::getpwnam_r(user.c_str(), &entry, room.data(), room.size(), &found);
  if (found != nullptr)
    return std::optional(entry.pw_uid);
  // POSIX leaves open how "no such user" is reported; these are the ways that exist.
  const bool absent =
      failed == 0 || failed == ENOENT || failed == ESRCH || failed == EBADF || failed == EPERM;
  if (absent)
    return std::optional<uid_t>();
  return system_error(failed, "look up user " + escaped(user));
}

}  // namespace

Result<std::string> acting_user(const std::string& user, uid_t minimum) {
  const auto uid = uid_of_account(user);
  if (!uid)
    return uid.error();
  const bool is_usable = *uid && **uid >= minimum && **uid != 0 && **uid != kNobody;
  return is_usable ? user : std::string();
}

Result<bool> has_account(const std::string& user) {
  const auto uid = uid_of_account(user);
  if (!uid)
    return uid.error();
  return uid->has_value();
}

Home home_of_this_user() {
  std::array<char, 16384> room{};
  passwd entry{};
  passwd* found = nullptr;
  if (::getpwuid_r(::geteuid(), &entry, room.data(), room.size(), &found) != 0 || found == nullptr)
    return {};
  struct stat about {};
  const bool exists = ::stat(entry.pw_dir, &about) == 0 && S_ISDIR(about.st_mode);
  return {entry.pw_name, exists ? entry.pw_dir : "/"};
}

}  // namespace postrider::delivery
