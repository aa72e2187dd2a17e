#include "web/logins.h"

#include "base/digest.h"
#include "base/network.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace postrider::web {

namespace {

using Limiter = smtpd::auth::LoginLimiter;

// Fewer than the daemon lets mail clients, which try again by themselves.
constexpr Limiter::Rules kTries{10, 30, std::chrono::hours(1)};
constexpr Duration kNoteLimit{std::chrono::minutes(1)};
constexpr std::size_t kTagKey = 32;

// The text is one of a packet whose fields end with NUL.
bool is_one_field(const std::string& text, std::size_t most) {
  return !text.empty() && text.size() <= most && text.find('\0') == std::string::npos;
}

std::uint64_t tag_of(const std::string& key, const std::string& password) {
  const auto digest = hmac_sha256(key, password);
  std::uint64_t tag = 0;
  std::memcpy(&tag, digest.data(), sizeof tag);
  return std::max<std::uint64_t>(tag, 1);
}

}  // namespace

Logins::Logins(Judge judge, const Clock& clock, Log& log)
    : judge_(std::move(judge)),
      clock_(clock),
      log_(log),
      tag_key_(random_bytes(kTagKey)),
      limiter_(kTries) {}

LogEvent Logins::event(Level level, const char* name, const std::string& user,
                       const std::string& client) const {
  LogEvent made(level, name);
  made.add("user", user).add("client", client);
  return made;
}

Result<Role> Logins::judged(const std::string& user, const std::string& password,
                            const std::string& client) {
  if (!is_one_field(user, kMostUser) || !is_one_field(password, kMostPassword))
    return Role::none;
  return judge_(user, password, client);
}

Logins::Entry Logins::enter(const std::string& user, const std::string& password,
                            const std::string& client) {
  struct Place {
    std::atomic<unsigned>& taken;
    const unsigned before = taken++;
    ~Place() { --taken; }
  } place{judging_};
  if (!judge_)
    return {End::unknown};
  if (place.before >= kMostAtOnce)
    return {End::busy};
  const auto address = IpAddress::parse(client).value_or(IpAddress());
  const auto now = clock_.steady();
  Limiter::Try charged;
  {
    const std::lock_guard lock(mutex_);
    charged = limiter_.begin(address, user, tag_of(tag_key_, password), now);
    if (charged.verdict != Limiter::Verdict::may_try) {
      note_limit(user, client, now);
      return {End::too_many};
    }
  }
  const auto role = judged(user, password, address == IpAddress() ? "" : client);
  const std::lock_guard lock(mutex_);
  const auto then = clock_.steady();
  if (!role) {
    limiter_.not_judged(charged, then);
    log_.write(event(Level::error, "web_login_not_judged", user, client)
                   .add("reason", role.error().describe()));
    return {End::unknown};
  }
  if (*role == Role::none) {
    log_.write(event(Level::warn, "web_login_refused", user, client));
    return {End::wrong};
  }
  limiter_.succeeded(charged, user, then);
  log_.write(event(Level::info, "web_login", user, client).add("role", name_of(*role)));
  return {End::opened, *role, sessions_.open({user, *role}, then)};
}

// Who tries for hours does not fill the log.
void Logins::note_limit(const std::string& user, const std::string& client, SteadyTime now) {
  if (limit_noted_ && now - *limit_noted_ < kNoteLimit)
    return;
  limit_noted_ = now;
  log_.write(event(Level::warn, "web_logins_limited", user, client));
}

std::optional<Sessions::User> Logins::find(const Sessions::Secrets& given) {
  const std::lock_guard lock(mutex_);
  return sessions_.find(given, clock_.steady());
}

bool Logins::leave(const Sessions::Secrets& given, const std::string& client) {
  const std::lock_guard lock(mutex_);
  const auto left = sessions_.close(given, clock_.steady());
  if (left)
    log_.write(event(Level::info, "web_logout", left->name, client));
  return left.has_value();
}

}  // namespace postrider::web
