#include "delivery/local/agents/settled_file.h"

#include <algorithm>
#include <cstdint>
#include <ctime>
#include <functional>
#include <thread>

namespace postrider::delivery {

namespace {

constexpr std::int64_t kNano = 1'000'000'000;
constexpr std::int64_t kCutFor = 10 * kNano;
constexpr std::int64_t kWholeFor = kNano / 2;
constexpr std::chrono::seconds kSameFor{10};

std::int64_t in_nanoseconds(const timespec& time) {
  return time.tv_sec * kNano + time.tv_nsec;
}

bool is_same(const timespec& one, const timespec& other) {
  return one.tv_sec == other.tv_sec && one.tv_nsec == other.tv_nsec;
}

Error unsettled(const std::string& shown, const char* why) {
  return Error(
      boost::system::errc::make_error_code(boost::system::errc::resource_unavailable_try_again),
      shown + ": " + why);
}

std::int64_t now_in_nanoseconds() {
  timespec clock{};
  ::clock_gettime(CLOCK_REALTIME, &clock);
  return in_nanoseconds(clock);
}

// The kernel's stamp of a write may lie ahead of the clock; what lies far ahead was set by
// somebody.
bool is_within(const timespec& stamp, std::int64_t span, std::int64_t now) {
  const auto age = now - in_nanoseconds(stamp);
  return age < span && age > -kNano;
}

SeenContents& seen_contents() {
  static SeenContents seen;
  return seen;
}

// False: not as it was read.
Result<bool> is_unchanged(const FileDescriptor& file, const struct stat& before, std::size_t size,
                          struct stat& after, const std::string& shown) {
  if (::fstat(file.get(), &after) != 0)
    return system_error("stat " + shown);
  return after.st_size == before.st_size && is_same(after.st_mtim, before.st_mtim) &&
         static_cast<std::uint64_t>(after.st_size) == size;
}

// By its stamps alone: why it cannot be believed; nullptr: it can.
const char* doubt_of(const struct stat& after, bool same, std::string_view text) {
  if (!same)
    return "it is being written";
  if (!may_be_cut(after, text, now_in_nanoseconds()))
    return nullptr;
  return text.empty() ? "it is empty, perhaps because it is being written"
                      : "it ends within a line, perhaps because it is being written";
}

}  // namespace

Result<void> check_settled(const FileDescriptor& file, const struct stat& before,
                           std::string_view text, Settling settling, const std::string& shown,
                           SteadyTime now) {
  if (before.st_size == 0 && !text.empty())
    return {};  // the kernel's own
  struct stat after {};
  auto same = is_unchanged(file, before, text.size(), after, shown);
  if (!same)
    return same.error();
  const char* doubt = doubt_of(after, *same, text);
  const bool is_fresh = doubt == nullptr && settling == Settling::always &&
                        is_within(after.st_mtim, kWholeFor, now_in_nanoseconds());
  if (doubt == nullptr && !is_fresh) {
    seen_contents().forget(after);
    return {};
  }
  const bool is_whole = static_cast<std::uint64_t>(after.st_size) == text.size();
  if (is_whole && seen_contents().age(after, text, now) >= kSameFor)
    return {};
  if (is_fresh) {
    std::this_thread::sleep_for(std::chrono::nanoseconds(kWholeFor));
    same = is_unchanged(file, before, text.size(), after, shown);
    if (!same)
      return same.error();
    doubt = *same ? nullptr : "it is being written";
  }
  if (doubt != nullptr)
    return unsettled(shown, doubt);
  return {};
}

SteadyTime::duration SeenContents::age(const struct stat& about, std::string_view text,
                                       SteadyTime now) {
  const auto digest = std::hash<std::string_view>()(text);
  const std::lock_guard lock(mutex_);
  const auto [at, is_new] = seen_.try_emplace({about.st_dev, about.st_ino});
  auto& seen = at->second;
  if (is_new || seen.digest != digest || seen.size != text.size())
    seen = {digest, text.size(), now, now};
  seen.looked = now;
  const auto age = now - seen.since;
  if (seen_.size() > kMost)
    seen_.erase(std::min_element(seen_.begin(), seen_.end(), [](const auto& a, const auto& b) {
      return a.second.looked < b.second.looked;
    }));
  return age;
}

void SeenContents::forget(const struct stat& about) {
  const std::lock_guard lock(mutex_);
  seen_.erase({about.st_dev, about.st_ino});
}

std::size_t SeenContents::size() const {
  const std::lock_guard lock(mutex_);
  return seen_.size();
}

// The change time is the one that nobody can set back.
bool may_be_cut(const struct stat& about, std::string_view text, std::int64_t now) {
  const bool is_cut = text.empty() || text.back() != '\n';
  return is_cut && is_within(about.st_ctim, kCutFor, now);
}

bool is_unsettled(const Error& error) {
  return error.code() == boost::system::errc::resource_unavailable_try_again;
}

}  // namespace postrider::delivery
