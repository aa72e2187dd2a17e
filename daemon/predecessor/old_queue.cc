#include "daemon/predecessor/old_queue.h"

#include "base/text.h"
#include "daemon/privsep/privileges.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

namespace postrider::daemon {

namespace {

constexpr unsigned kAsideMode = 0700;

Error refused(std::string sentence) {
  return {Errc::refused, std::move(sentence)};
}

// "deferred/5" -> "deferred-5": one level is enough to tell them apart.
std::string flat(std::string name) {
  std::replace(name.begin(), name.end(), '/', '-');
  return name;
}

// A folder of root's that nobody else could have made; it is made if it is missing.
Result<FileDescriptor> own_folder(const FileDescriptor& above, const std::string& name) {
  if (::mkdirat(above.get(), name.c_str(), kAsideMode) != 0 && errno != EEXIST)
    return system_error("make folder " + name);
  auto folder = open_file_at(above, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!folder)
    return folder;
  struct stat about {};
  if (::fstat(folder->get(), &about) != 0)
    return system_error("look at folder " + name);
  if (about.st_uid != ::geteuid() || (about.st_mode & 0022U) != 0)
    return refused("the folder " + name + " belongs to somebody else");
  return folder;
}

}  // namespace

Result<std::unique_ptr<OldQueue>> OldQueue::open(Predecessor whose, const std::string& path) {
  auto folder = open_folder_as_root(path);
  if (!folder) {
    const bool is_refused = folder.error().code() == Errc::refused;
    return Error(is_refused ? Errc::refused : Errc::not_found, folder.error().describe());
  }
  return whose == Predecessor::postfix ? open_postfix_queue(path, *std::move(folder))
                                       : open_exim_queue(path, *std::move(folder));
}

Result<void> OldQueue::scan() {
  entries_.clear();
  rest_.clear();
  odd_.clear();
  return find();
}

bool OldQueue::has(const FileDescriptor& folder, const std::string& name) const {
  struct stat about {};
  return ::fstatat(folder.get(), name.c_str(), &about, AT_SYMLINK_NOFOLLOW) == 0;
}

Result<OldQueue::Folder> OldQueue::enter(const FileDescriptor& above,
                                         const std::string& name) const {
  auto folder = open_file_at(above, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!folder && folder.error().code() == boost::system::errc::no_such_file_or_directory)
    return Folder{};
  if (!folder)
    return folder.error();
  struct stat about {};
  if (::fstat(folder->get(), &about) != 0)
    return system_error("look at folder " + name);
  return Folder{std::make_shared<FileDescriptor>(*std::move(folder)), about.st_uid};
}

Result<std::vector<std::string>> OldQueue::names_in(const FileDescriptor& folder) {
  auto again = open_file_at(folder, ".", O_RDONLY | O_DIRECTORY);
  if (!again)
    return again.error();
  DIR* listing = ::fdopendir(again->get());
  if (listing == nullptr)
    return system_error("list a folder");
  again->release();
  std::vector<std::string> names;
  errno = 0;
  while (const auto* entry = ::readdir(listing)) {
    const std::string_view name = &entry->d_name[0];
    if (!name.starts_with('.'))
      names.emplace_back(name);
    errno = 0;
  }
  const int number = errno;
  ::closedir(listing);
  if (number != 0)
    return system_error(number, "list a folder");
  std::sort(names.begin(), names.end());
  return names;
}

Result<FileDescriptor> OldQueue::open_plain(const Entry& entry, const std::string& name, int flags,
                                            bool any_owner, struct stat& about) {
  struct stat seen {};
  if (::fstatat(entry.folder->get(), name.c_str(), &seen, AT_SYMLINK_NOFOLLOW) != 0)
    return errno == ENOENT ? Error(Errc::not_found, "it is gone") : system_error("look at it");
  if (S_ISLNK(seen.st_mode))
    return refused("it is a link, which is not followed");
  if (!S_ISREG(seen.st_mode))
    return refused("it is not a file");
  auto file = open_file_at(*entry.folder, name, flags | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
  if (!file)
    return file;
  if (::fstat(file->get(), &about) != 0)
    return system_error("look at it");
  if (!S_ISREG(about.st_mode) || about.st_ino != seen.st_ino || about.st_dev != seen.st_dev)
    return refused("it was exchanged while it was opened");
  if (about.st_nlink != 1)
    return refused("it has a second name, by which it may be somebody else's");
  if (!any_owner && about.st_uid != entry.owner && about.st_uid != 0)
    return refused("it belongs to user " + std::to_string(about.st_uid) +
                   ", not to the owner of its folder");
  return file;
}

Result<std::shared_ptr<FileDescriptor>> OldQueue::aside_for(const std::string& queue) {
  for (const auto& [name, known] : asides_)
    if (name == queue)
      return known;
  if (!aside_) {
    auto made = own_folder(folder_, kTakenFolder);
    if (!made)
      return made.error();
    aside_ = std::make_shared<FileDescriptor>(*std::move(made));
    changed_.push_back(aside_);
  }
  auto made = own_folder(*aside_, flat(queue));
  if (!made)
    return made.error();
  auto aside = std::make_shared<FileDescriptor>(*std::move(made));
  asides_.emplace_back(queue, aside);
  changed_.push_back(aside);
  return aside;
}

Result<void> OldQueue::put_aside(const Entry& entry) {
  auto aside = aside_for(entry.queue);
  if (!aside)
    return aside.error();
  if (changed_.empty() ||
      std::find(changed_.begin(), changed_.end(), entry.folder) == changed_.end())
    changed_.push_back(entry.folder);
  for (const auto& ending : endings()) {
    const auto name = entry.id + ending;
    if (::renameat2(entry.folder->get(), name.c_str(), (*aside)->get(), name.c_str(),
                    RENAME_NOREPLACE) != 0 &&
        errno != ENOENT)
      return system_error("put " + name + " into " + path_ + "/" + kTakenFolder);
  }
  return {};
}

Result<void> OldQueue::put_rest_aside() {
  for (const auto& entry : rest_)
    if (auto done = put_aside(entry); !done)
      return done;
  return {};
}

bool OldQueue::is_aside(const Entry& entry, const std::string& name) const {
  return has(folder_, std::string(kTakenFolder) + "/" + flat(entry.queue) + "/" + name);
}

Result<void> OldQueue::sync() {
  if (!changed_.empty())
    if (auto synced = sync_file(folder_); !synced)
      return synced;
  for (const auto& folder : changed_)
    if (auto synced = sync_file(*folder); !synced)
      return synced;
  return {};
}

}  // namespace postrider::daemon
