#include "delivery/tls/sts/policy_cache.h"

#include "base/text.h"
#include "delivery/tls/sts/tags.h"

#include <algorithm>

namespace postrider::delivery {

namespace {

constexpr auto kJustFetched = std::chrono::seconds(10);

constexpr Duration kPause = std::chrono::minutes(5);  // RFC 8461 §5.1: not to hammer a dead host
constexpr Duration kFreshEnough = std::chrono::hours(12);

std::int64_t seconds_of(TimePoint when) {
  return std::chrono::duration_cast<std::chrono::seconds>(when.time_since_epoch()).count();
}

std::optional<TimePoint> time_of(std::string_view text) {
  constexpr std::uint64_t kMost = 253'402'300'799;  // the year 9999
  const auto seconds = parse_unsigned(text);
  if (!seconds || *seconds > kMost)
    return std::nullopt;
  return TimePoint(std::chrono::seconds(*seconds));
}

// Takes "key: value\n" from the front.
std::optional<std::string_view> take_field(std::string_view& text, std::string_view key) {
  if (!text.starts_with(key) || !text.substr(key.size()).starts_with(": "))
    return std::nullopt;
  const auto end = text.find('\n');
  if (end == text.npos)
    return std::nullopt;
  const auto value = text.substr(key.size() + 2, end - key.size() - 2);
  text.remove_prefix(end + 1);
  return value;
}

}  // namespace

const StsEntry* StsCache::find(const std::string& domain, TimePoint now) const {
  const auto found = entries_.find(domain);
  return found != entries_.end() && found->second.expires > now ? &found->second : nullptr;
}

const StsEntry* StsCache::find_or_fetched(const std::string& domain, TimePoint now) const {
  const auto found = entries_.find(domain);
  if (found == entries_.end())
    return nullptr;
  const auto& entry = found->second;
  const bool is_new = entry.fetched <= now && now - entry.fetched < kJustFetched;
  return entry.expires > now || is_new ? &entry : nullptr;
}

const StsFailure* StsCache::failure(const std::string& domain) const {
  const auto found = failures_.find(domain);
  return found != failures_.end() ? &found->second : nullptr;
}

bool StsCache::may_try(const std::string& domain, const std::string& id, TimePoint now) const {
  const auto* last = failure(domain);
  // A clock that was set back must not keep us from ever trying again.
  return last == nullptr || last->id != id || now >= last->when + kPause || now < last->when;
}

StsStep StsCache::step(const std::string& domain, const StsAnnouncement& announcement,
                       TimePoint now) const {
  const auto* entry = find(domain, now);
  if (entry == nullptr)
    return announcement.kind == StsAnnouncement::Kind::announced &&
                   may_try(domain, announcement.id, now)
               ? StsStep::fetch
               : StsStep::use;
  const bool is_announced = announcement.kind == StsAnnouncement::Kind::announced;
  const auto& id = is_announced ? announcement.id : entry->policy->id;
  if (!may_try(domain, id, now))
    return StsStep::use;
  if (id != entry->policy->id)
    return StsStep::fetch;
  const auto half = (entry->expires - entry->fetched) / 2;
  return now >= entry->fetched + std::min<Duration>(half, kFreshEnough) ? StsStep::refresh
                                                                        : StsStep::use;
}

const StsEntry& StsCache::store(const std::string& domain, std::string id, StsPolicyFile file,
                                std::string text, TimePoint now) {
  failures_.erase(domain);
  if (entries_.find(domain) == entries_.end())
    make_room(now);
  auto policy = std::make_shared<StsPolicy>(std::move(file.policy));
  policy->domain = domain;
  policy->id = std::move(id);
  auto& entry = entries_[domain];
  entry.policy = std::move(policy);
  entry.text = std::move(text);
  entry.fetched = now;
  entry.expires = now + file.max_age;
  return entry;
}

void StsCache::fail(const std::string& domain, StsFailure failure) {
  if (failures_.size() >= most_)
    failures_.clear();  // forgets only that they are to be left alone
  failures_[domain] = std::move(failure);
}

void StsCache::restore(const std::string& domain, StsEntry entry, TimePoint now) {
  if (entry.expires <= now || entries_.size() >= most_) {
    dropped_.push_back(domain);
    return;
  }
  // The clock was set back since: no policy is from the future.
  entry.fetched = std::min(entry.fetched, now);
  entries_[domain] = std::move(entry);
}

void StsCache::make_room(TimePoint now) {
  if (entries_.size() < most_)
    return;
  std::erase_if(entries_, [&](const auto& one) {
    if (one.second.expires > now)
      return false;
    dropped_.push_back(one.first);
    return true;
  });
  if (entries_.size() < most_)
    return;
  const auto first = std::min_element(entries_.begin(), entries_.end(), [](auto& a, auto& b) {
    return a.second.expires < b.second.expires;
  });
  dropped_.push_back(first->first);
  entries_.erase(first);
}

std::string encode(const StsEntry& entry) {
  std::string out = "id: " + entry.policy->id;
  out += "\nfetched: " + std::to_string(seconds_of(entry.fetched));
  out += "\nexpires: " + std::to_string(seconds_of(entry.expires));
  out += "\nsize: " + std::to_string(entry.text.size());
  return out + "\n\n" + entry.text;
}

Result<StsEntry> decode_sts_entry(const std::string& domain, std::string_view text) {
  const auto id = take_field(text, "id");
  const auto fetched = id ? take_field(text, "fetched") : std::nullopt;
  const auto expires = fetched ? take_field(text, "expires") : std::nullopt;
  const auto size = expires ? take_field(text, "size") : std::nullopt;
  if (!size || !text.starts_with('\n') || parse_unsigned(*size) != text.size() - 1 ||
      parse_sts_record({"v=STSv1; id=" + std::string(*id)}) != std::string(*id))
    return Error(Errc::corrupt, "read a stored policy");
  StsEntry entry;
  const auto from = time_of(*fetched);
  const auto until = time_of(*expires);
  if (!from || !until)
    return Error(Errc::corrupt, "read a stored policy");
  entry.text = text.substr(1);
  auto file = parse_sts_policy(entry.text);
  if (!file)
    return file.error().during("read a stored policy");
  entry.fetched = *from;
  entry.expires = std::min<TimePoint>(*until, *from + file->max_age);
  auto policy = std::make_shared<StsPolicy>(std::move(file->policy));
  policy->domain = domain;
  policy->id = std::string(*id);
  entry.policy = std::move(policy);
  return entry;
}

}  // namespace postrider::delivery
