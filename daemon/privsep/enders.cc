#include "daemon/privsep/enders.h"

#include <algorithm>
#include <utility>

namespace postrider::daemon {

std::vector<Account> Enders::due(const std::map<uid_t, Account>& wanted, SteadyTime now) {
  for (auto& [uid, user] : users_)
    user.is_wanted = wanted.contains(uid);
  std::erase_if(users_,
                [](const auto& entry) { return entry.second.pid == 0 && !entry.second.is_wanted; });
  for (const auto& [uid, account] : wanted)
    if (!users_.contains(uid)) {
      User fresh;
      fresh.account = account;
      fresh.due = now;
      users_.emplace(uid, std::move(fresh));
    }
  std::vector<const User*> waiting;
  for (const auto& [uid, user] : users_)
    if (user.pid == 0 && user.due <= now)
      waiting.push_back(&user);
  std::sort(waiting.begin(), waiting.end(), [](const User* one, const User* other) {
    return std::pair(one->due, one->account.uid) < std::pair(other->due, other->account.uid);
  });
  const auto busy = running();
  waiting.resize(std::min(waiting.size(), busy < kMostAtOnce ? kMostAtOnce - busy : 0));
  std::vector<Account> accounts;
  accounts.reserve(waiting.size());
  for (const auto* user : waiting)
    accounts.push_back(user->account);
  return accounts;
}

void Enders::started(uid_t uid, pid_t pid, SteadyTime now) {
  if (const auto found = users_.find(uid); found != users_.end()) {
    found->second.pid = pid;
    found->second.started = now;
  }
}

void Enders::not_started(uid_t uid, SteadyTime now) {
  if (const auto found = users_.find(uid); found != users_.end())
    rest(found->second, now);
}

void Enders::rest(User& user, SteadyTime now) {
  user.pid = 0;
  user.due = now + user.pause;
  user.pause = std::min(user.pause * 2, kLongestPause);
}

bool Enders::has_ended(pid_t pid, SteadyTime now) {
  const auto found = std::find_if(users_.begin(), users_.end(), [&](const auto& entry) {
    return entry.second.pid == pid && pid > 0;
  });
  if (found == users_.end())
    return false;
  rest(found->second, now);
  return true;
}

std::vector<pid_t> Enders::overdue(SteadyTime now) const {
  std::vector<pid_t> found;
  for (const auto& [uid, user] : users_)
    if (user.pid > 0 && now - user.started > kPatience)
      found.push_back(user.pid);
  return found;
}

bool Enders::has(pid_t pid) const {
  return pid > 0 && std::any_of(users_.begin(), users_.end(),
                                [&](const auto& entry) { return entry.second.pid == pid; });
}

std::size_t Enders::running() const {
  return static_cast<std::size_t>(std::count_if(
      users_.begin(), users_.end(), [](const auto& entry) { return entry.second.pid > 0; }));
}

}  // namespace postrider::daemon
