#include "base/file_at_rest.h"

#include "base/user_mounts.h"

#include <algorithm>
#include <ctime>
#include <fcntl.h>

namespace postrider {

namespace {

constexpr std::chrono::seconds kAhead{1};  // the stamp of a write may lie ahead of the clock
constexpr std::chrono::milliseconds kSameMoment{
    200};  // making a file, and a first write of nothing

std::chrono::nanoseconds since_epoch(std::int64_t seconds, std::int64_t nanoseconds) {
  return std::chrono::seconds(seconds) + std::chrono::nanoseconds(nanoseconds);
}

boost::system::error_code try_again() {
  return boost::system::errc::make_error_code(boost::system::errc::resource_unavailable_try_again);
}

}  // namespace

Duration time_at_rest(const struct stat& about) {
  timespec now{};
  if (::clock_gettime(CLOCK_REALTIME, &now) != 0)
    return Duration(0);
  const auto age = since_epoch(now.tv_sec, now.tv_nsec) -
                   since_epoch(about.st_mtim.tv_sec, about.st_mtim.tv_nsec);
  if (age < -kAhead)
    return kLongAtRest;
  return std::clamp(std::chrono::duration_cast<Duration>(age), Duration(0), kLongAtRest);
}

bool was_made_empty(const std::string& path) {
  struct statx about {};
  constexpr unsigned kWanted = STATX_SIZE | STATX_MTIME | STATX_BTIME;
  const auto place = find_place(path);
  if (!place || ::statx(place->get(), "", AT_EMPTY_PATH, kWanted, &about) != 0 ||
      (about.stx_mask & kWanted) != kWanted || about.stx_size != 0)
    return false;
  return since_epoch(about.stx_mtime.tv_sec, about.stx_mtime.tv_nsec) -
             since_epoch(about.stx_btime.tv_sec, about.stx_btime.tv_nsec) <
         kSameMoment;
}

Error perhaps_unfinished(const std::string& path, const std::string& reason) {
  return Error(try_again(), path + ": " + reason + ", perhaps because it is being written");
}

bool is_perhaps_unfinished(const Error& error) {
  return error.code() == try_again();
}

}  // namespace postrider
