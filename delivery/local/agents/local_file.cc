#include "delivery/local/agents/local_file.h"

#include "base/text.h"
#include "delivery/job/job_outcome.h"

#include <climits>

#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>

namespace postrider::delivery {

namespace {

using mail::Outcome;
using mail::Verdict;

std::string_view without_slashes(std::string_view path) {
  while (path.size() > 1 && path.back() == '/')
    path.remove_suffix(1);
  return path;
}

Error bad_place(std::string_view place) {
  return Error(Errc::malformed, "mailbox " + escaped(place));
}

// Of what an address became, which no time will change. The kernel's own word for it may be about
// something else.
boost::system::error_code name_too_long() {
  return boost::system::errc::make_error_code(boost::system::errc::filename_too_long);
}

bool is_below(std::string_view path, std::string_view root) {
  return root == "/" ||
         (path.starts_with(root) && path.size() > root.size() && path[root.size()] == '/');
}

}  // namespace

Outcome local_end(Verdict verdict, mail::EnhancedCode status, std::string text) {
  auto outcome = decide(verdict, mail::Stage::local, status, std::move(text));
  outcome.remote = "local";
  return outcome;
}

Outcome local_failure(const Error& error) {
  const auto number = error.code().value();
  const auto& category = error.code().category();
  const bool is_system =
      category == boost::system::system_category() || category == boost::system::generic_category();
  if (is_system && (number == ENOSPC || number == EDQUOT))
    return local_end(Verdict::retry, {4, 2, 2}, "the mailbox's disk is full: " + error.describe());
  if (category == name_too_long().category() && number == name_too_long().value())
    return local_end(Verdict::bounce, {5, 1, 1},
                     "there can be no such mailbox: " + error.describe());
  return local_end(Verdict::retry, {4, 3, 0}, "the mailbox cannot be written: " + error.describe());
}

Result<FileDescriptor> enter_folder(const FileDescriptor& parent, const std::string& name) {
  const bool is_new = ::mkdirat(parent.get(), name.c_str(), 0700) == 0;
  if (!is_new && errno != EEXIST)
    return system_error("make folder " + escaped(name));
  if (is_new)
    if (auto synced = sync_file(parent); !synced)
      return synced.error().during("make folder " + escaped(name));
  return open_file_at(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
}

std::string last_component(const LocalTarget& target) {
  const auto place = without_slashes(target.place);
  return std::string(place.substr(place.rfind('/') + 1));
}

Result<FileDescriptor> enter_place(const LocalTarget& target, bool whole) {
  auto place = without_slashes(target.place);
  if (place.find('\0') != place.npos || place.front() != '/' || place.size() < 2)
    return bad_place(place);
  const auto parent = place.substr(0, std::max<std::size_t>(place.rfind('/'), 1));
  const auto root = target.root.empty() ? parent : without_slashes(target.root);
  if (!is_below(place, root))
    return bad_place(place);
  for (const auto part : split(place.substr(std::min(root.size(), place.size())), '/'))
    if (part.size() > NAME_MAX)
      return Error(name_too_long(), "open mailbox " + escaped(place));
  if (auto made = make_folder(std::string(root), 0755); !made)
    return made.error();
  auto folder = open_file(std::string(root), O_RDONLY | O_DIRECTORY);
  auto below =
      (whole ? place : parent).substr(std::min(root.size(), (whole ? place : parent).size()));
  while (below.starts_with('/'))
    below.remove_prefix(1);
  for (const auto part : split(below, '/')) {
    if (!folder || below.empty())
      break;
    if (part.empty() || part == "." || part == "..")
      return bad_place(place);
    folder = enter_folder(*folder, std::string(part));
  }
  if (!folder)
    return folder.error().during("open mailbox " + escaped(place));
  return folder;
}

}  // namespace postrider::delivery
