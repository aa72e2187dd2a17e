#include "queue/body_folder.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <utility>

namespace postrider::queue {

namespace {

constexpr Duration kSettling = std::chrono::minutes(10);

Error misplaced(std::string sentence) {
  return Error(Errc::storage, std::move(sentence));
}

FileIdentity identity_in(const struct stat& about) {
  return FileIdentity{about.st_dev, about.st_ino};
}

// What no restart and no waiting mends is said with its remedy.
Result<void> check_ours(const std::string& path, const struct stat& about, unsigned owner) {
  if (!S_ISDIR(about.st_mode))
    return misplaced(path + " is not a folder: put the folder in its place");
  if (about.st_uid != owner)
    return misplaced("the folder " + path + " belongs to user " + std::to_string(about.st_uid) +
                     " and not to user " + std::to_string(owner) + ": chown it and what is in it");
  if ((about.st_mode & (S_IWOTH | S_IWGRP)) != 0)
    return misplaced("the folder " + path + " is open to other users: chmod it to 0700");
  return {};
}

}  // namespace

BodyFolder::BodyFolder(std::string spool, unsigned owner)
    : spool_(std::move(spool)), path_(spool_ + "/body"), owner_(owner) {}

Result<void> BodyFolder::open() {
  if (::mkdir(path_.c_str(), 0700) == 0) {
    if (auto synced = sync_folder(spool_); !synced)
      return synced.error();
  } else if (errno != EEXIST) {
    return system_error("make " + path_);
  }
  auto opened = follow();
  return opened ? Result<void>() : opened.error();
}

Result<BodyFolder::Handle> BodyFolder::follow() {
  struct stat about {};
  if (::lstat(path_.c_str(), &about) != 0) {
    if (errno == ENOENT)
      return misplaced("the folder " + path_ +
                       " is gone: put it back, or restart the mail system, which makes a new one");
    return system_error("look at " + path_);
  }
  const auto found = identity_in(about);
  {
    const std::lock_guard lock(mutex_);
    if (current_ && current_->identity == found)
      return current_;
  }
  if (auto ours = check_ours(path_, about, owner_); !ours)
    return ours.error();
  return take_up(found);
}

Result<BodyFolder::Handle> BodyFolder::take_up(const FileIdentity& found) {
  auto file = open_file(path_, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!file)
    return file.error();
  struct stat about {};
  if (::fstat(file->get(), &about) != 0)
    return system_error("look at " + path_);
  if (identity_in(about) != found)
    return misplaced("the folder " + path_ + " is being replaced");
  // What is promised from now on stands in it: after a power cut the name must lead here.
  if (current())
    if (auto synced = sync_folder(spool_); !synced)
      return synced.error();
  auto opened = std::make_shared<const Opened>(Opened{*std::move(file), found});
  const std::lock_guard lock(mutex_);
  if (current_ && current_->identity == found)
    return current_;  // another thread was faster
  if (current_) {
    was_replaced_ = true;
    settling_since_.reset();
    is_settling_ = true;
  }
  current_ = std::move(opened);
  return current_;
}

BodyFolder::Handle BodyFolder::current() const {
  const std::lock_guard lock(mutex_);
  return current_;
}

void BodyFolder::settle(SteadyTime now) {
  if (!is_settling_)
    return;
  const std::lock_guard lock(mutex_);
  if (!settling_since_)
    settling_since_ = now;
  is_settling_ = now < *settling_since_ + kSettling;
}

}  // namespace postrider::queue
