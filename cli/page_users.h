// Who may log in to the page of postrider-web, for postrider-pam: lists of users, and of groups with
// @ before them.
#pragma once

#include <algorithm>
#include <grp.h>
#include <pwd.h>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::cli {

inline constexpr const char* kNobodysName = ":";  // which no account can have

class PageUsers {
 public:
  PageUsers(std::string_view read, std::string_view change)
      : read_(names_of(read)), change_(names_of(change)) {}

  // 'c' of change, 'r' of read, 'n' of nothing. Looks the account up; may block.
  char role_of(const std::string& user) const {
    const passwd* account = getpwnam(user.c_str());
    if (account == nullptr || account->pw_name != user)  // or by another name of it
      return 'n';
    const auto groups = groups_of(user, account->pw_gid);
    return holds(change_, user, groups) ? 'c' : holds(read_, user, groups) ? 'r' : 'n';
  }

 private:
  using Names = std::vector<std::string>;

  static Names names_of(std::string_view list) {
    Names names;
    while (!list.empty()) {
      const auto end = std::min(list.find(','), list.size());
      if (end > 0)
        names.emplace_back(list.substr(0, end));
      list.remove_prefix(std::min(end + 1, list.size()));
    }
    return names;
  }

  static std::vector<gid_t> groups_of(const std::string& user, gid_t own) {
    constexpr int kMost = 65536;
    int count = kMost;
    std::vector<gid_t> groups(kMost);
    if (getgrouplist(user.c_str(), own, groups.data(), &count) < 0)
      count = 0;
    groups.resize(static_cast<std::size_t>(count));
    return groups;
  }

  static bool holds(const Names& names, const std::string& user, const std::vector<gid_t>& groups) {
    return std::any_of(names.begin(), names.end(), [&](const std::string& name) {
      if (name.front() != '@')
        return name == user;
      const group* found = getgrnam(name.c_str() + 1);
      return found != nullptr &&
             std::find(groups.begin(), groups.end(), found->gr_gid) != groups.end();
    });
  }

  Names read_, change_;
};

}  // namespace postrider::cli
