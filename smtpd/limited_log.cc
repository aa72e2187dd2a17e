#include "smtpd/limited_log.h"

#include <algorithm>
#include <utility>

namespace postrider::smtpd {

namespace {

// What programs that ban addresses look for.
bool tells_of_attacks(std::string_view event) {
  return event == "auth_failed" || event == "rejected" || event == "tls_failed";
}

// What one party is given: no host of it makes another. Empty: not from the network.
std::string network_of_client(std::string_view client) {
  const auto address = IpAddress::parse(client);
  return address ? address->masked(address->is_v4() ? 24 : 48).str() : std::string();
}

}  // namespace

LimitedLog::LimitedLog(Log& log, const Clock& clock, DeadlineWheel& wheel)
    : log_(log), clock_(clock), report_(wheel, [this] { report(); }) {}

std::uint64_t LimitedLog::Room::left(SteadyTime now) {
  if (room_ < burst_) {
    const auto passed = std::chrono::duration_cast<Duration>(now - filled_);
    const auto earned = std::max<Duration::rep>(passed / each_, 0);
    if (earned > 0) {
      room_ = std::min(burst_, room_ + static_cast<std::uint64_t>(earned));
      filled_ = now;
    }
  } else {
    filled_ = now;
  }
  return room_;
}

bool LimitedLog::Room::take(SteadyTime now) {
  if (left(now) == 0)
    return false;
  --room_;
  return true;
}

bool LimitedLog::has_precedence(Kind& kind, Network& network, SteadyTime now) {
  const auto left = network.few.left(now);
  auto& shared = left > kFew - kFirst ? kind.of_first : kind.of_few;
  return left > 0 && shared.take(now) && network.few.take(now);
}

bool LimitedLog::has_own_room(Kind& kind, std::string_view client, SteadyTime now) {
  auto name = network_of_client(client);
  if (name.empty())
    return false;
  const auto known = kind.by_name.find(name);
  if (known == kind.by_name.end()) {
    if (kind.networks.size() == kMostNetworks) {
      kind.by_name.erase(kind.networks.front().name);
      kind.networks.pop_front();
    }
    kind.networks.push_back({std::move(name)});
    kind.by_name.emplace(kind.networks.back().name, std::prev(kind.networks.end()));
  } else {
    kind.networks.splice(kind.networks.end(), kind.networks, known->second);
  }
  auto& network = kind.networks.back();
  auto& own = network.room;
  const bool has_room = own.take(now);
  if (has_precedence(kind, network, now))
    return true;
  if (!has_room)
    return false;
  if (kind.of_networks.take(now))
    return true;
  own.give_back();
  return false;
}

void LimitedLog::write(LogEvent event) {
  auto& kind = kinds_[event.name()];
  const auto now = clock_.steady();
  if ((tells_of_attacks(event.name()) && has_own_room(kind, event.value("client"), now)) ||
      kind.room.take(now)) {
    log_.write(std::move(event));
    return;
  }
  ++kind.suppressed;
  if (!report_.is_set())
    report_.set(kReport);
}

void LimitedLog::report() {
  for (auto& [name, kind] : kinds_)
    if (const auto suppressed = std::exchange(kind.suppressed, 0); suppressed > 0)
      log_.write(LogEvent(Level::warn, "log_limited")
                     .add("of", name)
                     .add("suppressed", std::to_string(suppressed)));
}

}  // namespace postrider::smtpd
