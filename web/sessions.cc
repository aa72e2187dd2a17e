#include "web/sessions.h"

#include "base/digest.h"

#include <algorithm>

namespace postrider::web {

namespace {

constexpr std::size_t kSecretOctets = 32;

}  // namespace

bool Sessions::has_ended(const Session& session, SteadyTime now) {
  return now - session.used >= kIdle || now - session.begun >= kLife;
}

void Sessions::make_room(const std::string& user, SteadyTime now) {
  std::erase_if(sessions_, [&](const auto& one) { return has_ended(one.second, now); });
  auto oldest = sessions_.end(), oldest_of_user = sessions_.end();
  std::size_t of_user = 0;
  for (auto one = sessions_.begin(); one != sessions_.end(); ++one) {
    if (oldest == sessions_.end() || one->second.used < oldest->second.used)
      oldest = one;
    if (one->second.user.name != user)
      continue;
    ++of_user;
    if (oldest_of_user == sessions_.end() || one->second.used < oldest_of_user->second.used)
      oldest_of_user = one;
  }
  if (of_user >= kMostOfUser)
    sessions_.erase(oldest_of_user);
  else if (sessions_.size() >= kMost)
    sessions_.erase(oldest);
}

Sessions::Secrets Sessions::open(User user, SteadyTime now) {
  make_room(user.name, now);
  Secrets made{encode_hex(random_bytes(kSecretOctets)), encode_hex(random_bytes(kSecretOctets))};
  sessions_[sha256(made.cookie)] = Session{std::move(user), sha256(made.key), now, now};
  return made;
}

Sessions::Map::iterator Sessions::lookup(const Secrets& given, SteadyTime now) {
  const auto found = sessions_.find(sha256(given.cookie));
  if (found == sessions_.end() ||
      !equal_in_constant_time(found->second.key_hash, sha256(given.key)))
    return sessions_.end();
  if (!has_ended(found->second, now))
    return found;
  sessions_.erase(found);
  return sessions_.end();
}

std::optional<Sessions::User> Sessions::find(const Secrets& given, SteadyTime now) {
  const auto found = lookup(given, now);
  if (found == sessions_.end())
    return std::nullopt;
  found->second.used = now;
  return found->second.user;
}

std::optional<Sessions::User> Sessions::close(const Secrets& given, SteadyTime now) {
  const auto found = lookup(given, now);
  if (found == sessions_.end())
    return std::nullopt;
  auto user = std::move(found->second.user);
  sessions_.erase(found);
  return user;
}

}  // namespace postrider::web
