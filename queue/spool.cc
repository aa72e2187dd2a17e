#include "queue/spool.h"

#include "base/regular_file.h"
#include "queue/checksum.h"
#include "queue/row_codec.h"

#include <cerrno>
#include <dirent.h>
#include <fcntl.h>
#include <memory>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <thread>
#include <unistd.h>

namespace postrider::queue {

namespace {

constexpr const char* kReserveName = "/reserve";  // made when the queue has been opened
constexpr off_t kReserve = 4 << 20;               // octets
constexpr off_t kLogReserve = 1 << 20;  // enough for what one transaction of delivery's writes
constexpr std::size_t kMostKeptLog = 256U << 20U;
constexpr int kTriesForFolder = 50;
constexpr std::chrono::milliseconds kPauseForFolder{10};

Error refused(std::string sentence) {
  return Error(Errc::refused, std::move(sentence));
}

// Anyone who could write here could replace files under our feet.
Result<void> check_kept(const std::string& folder, const struct stat& about) {
  if (!S_ISDIR(about.st_mode))
    return refused("the spool " + folder + " is not a folder");
  if ((about.st_mode & (S_IROTH | S_IWOTH | S_IWGRP)) != 0)
    return refused("the spool " + folder +
                   " is open to other users; it must have mode 0700, 0711 or 0750");
  return {};
}

Result<unsigned> check_folder(const std::string& folder) {
  struct stat about {};
  if (::lstat(folder.c_str(), &about) != 0)
    return system_error("look at the spool " + folder);
  if (auto kept = check_kept(folder, about); !kept)
    return kept.error();
  // Root too: who owns it can put links and files into the way of what is done in it.
  if (about.st_uid != ::geteuid())
    return refused("the spool " + folder + " belongs to user " + std::to_string(about.st_uid) +
                   " and not to user " + std::to_string(::geteuid()) +
                   ", who runs this: chown it, or correct the key user");
  return about.st_uid;
}

Result<FileDescriptor> take_lock(const std::string& folder) {
  auto lock = open_regular_file(folder + "/lock", O_RDWR | O_CREAT, 0600);
  if (!lock)
    return lock.error().during("lock the spool");
  if (::flock(lock->get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK)
      return system_error("lock the spool");
    char holder[32] = {};
    const auto size = ::pread(lock->get(), holder, sizeof holder - 1, 0);
    std::string pid(holder, size > 0 ? static_cast<std::size_t>(size) : 0);
    pid = pid.substr(0, pid.find('\n'));
    return refused("the spool " + folder + " is in use by process " + (pid.empty() ? "?" : pid) +
                   ": stop that one, or name another spool");
  }
  const std::string pid = std::to_string(::getpid()) + "\n";
  if (::ftruncate(lock->get(), 0) != 0 || ::pwrite(lock->get(), pid.data(), pid.size(), 0) < 0) {
    // The pid is only for people; a full disk must not keep the daemon from delivering.
  }
  return lock;
}

// Against a second program after somebody removed the lock file.
Result<FileDescriptor> lock_folder(const std::string& folder) {
  auto lock = open_file(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!lock)
    return lock.error().during("lock the spool");
  // One that is ending has let go of its lock file a moment before.
  for (int tries = kTriesForFolder; ::flock(lock->get(), LOCK_EX | LOCK_NB) != 0; --tries) {
    if (errno != EWOULDBLOCK)
      return system_error("lock the spool");
    if (tries == 0)
      return refused("the spool " + folder + " is in use by a process whose lock was removed");
    std::this_thread::sleep_for(kPauseForFolder);
  }
  return lock;
}

bool same_as_recorded(const struct stat& about, unsigned owner, const mail::Message& message) {
  return S_ISREG(about.st_mode) && about.st_nlink == 1 && about.st_uid == owner &&
         static_cast<std::uint64_t>(about.st_size) == message.content.size;
}

// What stands in its place is said with what helps; SQLite says of all of it that it cannot open it,
// or waits at it.
Result<void> check_database_file(const std::string& path, const char* advice) {
  namespace errc = boost::system::errc;
  struct stat about {};
  if (::lstat(path.c_str(), &about) != 0)
    return {};  // none yet
  if (S_ISLNK(about.st_mode) && ::stat(path.c_str(), &about) != 0 && errno == ENOENT)
    return Error(make_error_code(errc::no_such_file_or_directory),
                 "the queue " + path + " is a link that leads nowhere" + advice);
  if (const auto fit = require_regular_or_none(path); !fit)
    return Error(
        make_error_code(S_ISDIR(about.st_mode) ? errc::is_a_directory : errc::invalid_seek),
        "the queue " + fit.error().step() + advice);
  if (::access(path.c_str(), R_OK | W_OK) == 0)
    return {};
  if (errno == EROFS)
    return Error(make_error_code(errc::read_only_file_system),
                 "the queue " + path + " cannot be written: mount its file system with `rw`");
  if (errno == EACCES)
    return Error(
        make_error_code(errc::permission_denied),
        "the queue " + path + " belongs to user " + std::to_string(about.st_uid) +
            " or lacks rights, and user " + std::to_string(::geteuid()) +
            " must read and write it: as root, give it (and queue.db-wal and queue.db-shm) "
            "to that user with `chown`, and `chmod 0600`");
  return {};
}

Result<void> check_database(const std::string& path) {
  constexpr const char* kPutBack =
      "; stop the mail system, move it away and put the database back, or nothing where no mail "
      "was queued, and keep what is in body/ until then";
  constexpr const char* kPutLogBack =
      "; stop the mail system, move it away and put the log of the database back, or nothing where "
      "there is none";
  constexpr const char* kMoveAway = "; stop the mail system and move it away: it is made again";
  if (auto fit = check_database_file(path, kPutBack); !fit)
    return fit;
  if (auto fit = check_database_file(path + "-wal", kPutLogBack); !fit)
    return fit;
  return check_database_file(path + "-shm", kMoveAway);
}

struct CloseFolder {
  void operator()(DIR* folder) const { ::closedir(folder); }
};

}  // namespace

Result<void> Spool::check(const std::string& folder) {
  struct stat about {};
  if (::lstat(folder.c_str(), &about) != 0)
    return {};
  return check_kept(folder, about);
}

Result<Spool> Spool::open(const std::string& folder) {
  Spool spool;
  spool.folder_ = folder;
  if (auto made = make_folder(folder, 0700); !made)
    return made.error();
  auto owner = check_folder(folder);
  if (!owner)
    return owner.error();
  spool.owner_ = *owner;
  auto lock = take_lock(folder);
  if (!lock)
    return lock.error();
  spool.lock_ = *std::move(lock);
  auto folder_lock = lock_folder(folder);
  if (!folder_lock)
    return folder_lock.error();
  spool.locked_folder_ = *std::move(folder_lock);
  if (auto checked = check_database(spool.database()); !checked)
    return checked.error();
  spool.bodies_ = std::make_unique<BodyFolder>(folder, *owner);
  if (auto opened = spool.bodies_->open(); !opened)
    return opened.error();
  return spool;
}

Result<FileIdentity> Spool::identity_of(const std::string& path) {
  struct stat about {};
  if (::stat(path.c_str(), &about) != 0)
    return system_error("look at " + path);
  return FileIdentity{about.st_dev, about.st_ino};
}

void Spool::make_reserve() const {
  reserve_log();
  const auto path = folder_ + kReserveName;
  if (::access(path.c_str(), F_OK) == 0)
    return;
  auto file = open_file(path, O_WRONLY | O_CREAT | O_NOFOLLOW, 0600);
  if (!file || ::posix_fallocate(file->get(), 0, kReserve) != 0)
    ::unlink(path.c_str());
}

void Spool::reserve_log() const {
  constexpr blkcnt_t kBlock = 512;
  const auto log = open_regular_file(database() + "-wal", O_WRONLY);
  struct stat about {};
  if (log && ::fstat(log->get(), &about) == 0 && about.st_blocks * kBlock < kLogReserve)
    (void)::fallocate(log->get(), FALLOC_FL_KEEP_SIZE, 0, kLogReserve);  // not all file systems can
}

bool Spool::give_up_reserve() const {
  return ::unlink((folder_ + kReserveName).c_str()) == 0;
}

bool Spool::has_room(std::uint64_t needed) const {
  struct statvfs about {};
  if (::statvfs(folder_.c_str(), &about) != 0)
    return true;  // the write itself will tell
  const bool no_inodes = about.f_files > 0 && about.f_favail == 0;
  return !no_inodes && std::uint64_t{about.f_bavail} * about.f_frsize >= needed;
}

Result<FileDescriptor> Spool::create_body(const std::string& name, BodyFolder::Handle& in) const {
  auto folder = bodies_->follow();
  if (!folder)
    return folder.error();
  in = *std::move(folder);
  return open_file_at(in->file, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
}

Result<FileDescriptor> Spool::open_body(const mail::Message& message) const {
  if (!is_body_name(message.content.file))
    return Error(Errc::corrupt, "open body: illegal name");
  const auto known = bodies_->current();
  auto file = open_checked(*known, message);
  if (file || file.error().code() != Errc::corrupt)
    return file;
  // Not there, or another: so it may be because the folder is another.
  const auto folder = bodies_->follow();
  if (!folder)
    return folder.error();
  if (*folder != known)
    file = open_checked(**folder, message);
  if (!file && file.error().code() == Errc::corrupt && bodies_->is_settling())
    return Error(Errc::storage, file.error().describe() + " (another folder took the place of " +
                                    bodies() + " just now)");
  return file;
}

Result<FileDescriptor> Spool::open_checked(const BodyFolder::Opened& folder,
                                           const mail::Message& message) const {
  const auto& name = message.content.file;
  auto file = open_file_at(folder.file, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  if (!file) {
    // Not there, or a link in its place: damage. All else passes (descriptors, memory, a folder
    // that somebody closed, a file server that is away).
    const int number = file.error().code().value();
    const bool is_damage = number == ENOENT || number == ELOOP || number == ENXIO;
    return is_damage ? Error(Errc::corrupt, file.error().describe()) : file.error();
  }
  struct stat about {};
  if (::fstat(file->get(), &about) != 0)
    return system_error("stat body " + name);
  if (!same_as_recorded(about, owner_, message))
    return Error(Errc::corrupt, "body " + name + " is not the file that was stored");
  return file;
}

Result<std::uint32_t> Spool::checksum_of_body(const mail::Message& message,
                                              const std::atomic<bool>& ending) const {
  auto file = open_body(message);
  if (!file)
    return file.error();
  Checksum checksum;
  std::string block(256U << 10U, '\0');
  while (!ending) {
    const auto got = ::read(file->get(), block.data(), block.size());
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      return system_error("read body " + message.content.file);
    if (got == 0)
      break;
    checksum.feed({block.data(), static_cast<std::size_t>(got)});
  }
  return checksum.value();
}

void Spool::remove_body(const std::string& name) const {
  if (!is_body_name(name) || ::unlinkat(bodies_->current()->file.get(), name.c_str(), 0) == 0 ||
      errno == ENOENT)
    return;
  const std::lock_guard lock(left_->mutex);
  if (left_->names.size() < kMostLeft)
    left_->names.push_back(name);
  else
    left_->are_more = true;
}

bool Spool::remove_left() const {
  (void)bodies_->follow();
  std::vector<std::string> names;
  {
    const std::lock_guard lock(left_->mutex);
    names.swap(left_->names);
  }
  for (const auto& name : names)
    remove_body(name);
  const std::lock_guard lock(left_->mutex);
  return left_->names.empty() && !left_->are_more && !bodies_->was_replaced();
}

std::vector<std::string> Spool::body_names() const {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, CloseFolder> folder(::opendir(bodies().c_str()));
  while (const dirent* entry = folder ? ::readdir(folder.get()) : nullptr)
    if (is_body_name(entry->d_name))
      names.emplace_back(entry->d_name);
  return names;
}

Result<std::size_t> Spool::sweep(
    const std::function<Result<bool>(const std::string& name)>& is_known, Unknown what) {
  const auto lost = folder_ + "/lost";
  if (what == Unknown::move_aside)
    if (auto made = make_folder(lost, 0700); !made)
      return made.error();
  std::unique_ptr<DIR, CloseFolder> folder(::opendir(bodies().c_str()));
  if (!folder)
    return system_error("read " + bodies());
  const auto bodies = bodies_->current();
  std::size_t swept = 0;
  while (const dirent* entry = ::readdir(folder.get())) {
    const std::string name(entry->d_name);
    if (!is_body_name(name))
      continue;
    auto known = is_known(name);
    if (!known)
      return known.error();
    if (*known)
      continue;
    const int done = what == Unknown::remove ? ::unlinkat(bodies->file.get(), name.c_str(), 0)
                                             : ::renameat(bodies->file.get(), name.c_str(),
                                                          AT_FDCWD, (lost + "/" + name).c_str());
    swept += done == 0 ? 1 : 0;
  }
  // The next start no longer knows that the log was damaged, and would remove them.
  if (what == Unknown::move_aside && swept > 0) {
    if (auto synced = sync_folder(lost); !synced)
      return synced.error();
    if (auto synced = sync_file(bodies->file); !synced)
      return synced.error().during("sync folder body");
  }
  return swept;
}

namespace {

constexpr const char* kLost = "/lost";

// "<folder>/lost/queue.db-wal-1767225600", in a folder that exists.
Result<std::string> place_in_lost(const std::string& folder, const std::string& name,
                                  std::time_t changed) {
  const auto lost = folder + kLost;
  if (auto made = make_folder(lost, 0700); !made)
    return made.error();
  return lost + "/" + name + "-" + std::to_string(changed);
}

Result<std::string> move_to_lost(const std::string& folder, const std::string& name,
                                 std::time_t changed) {
  const auto place = place_in_lost(folder, name, changed);
  if (!place)
    return place.error();
  auto kept = *place;
  for (int other = 1; ::access(kept.c_str(), F_OK) == 0; ++other)
    kept = *place + "-" + std::to_string(other);
  const auto path = folder + "/" + name;
  if (::rename(path.c_str(), kept.c_str()) != 0)
    return system_error("move " + path + " to " + kept);
  for (const auto& changed_folder : {folder + kLost, folder})  // before another is begun there
    if (auto synced = sync_folder(changed_folder); !synced)
      return synced.error();
  return kept;
}

// Reads no further than the first octet that is not zero.
Result<bool> is_hollow(const std::string& path, std::uint64_t size) {
  constexpr std::uint64_t kSmallestPage = 512;
  if (size < kSmallestPage)
    return true;
  const auto file = open_regular_file(path, O_RDONLY);
  if (!file)
    return file.error();
  std::string block(256U << 10U, '\0');
  for (;;) {
    const auto got = ::read(file->get(), block.data(), block.size());
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      return system_error("read " + path);
    const std::string_view octets(block.data(), static_cast<std::size_t>(got));
    if (octets.find_first_not_of('\0') != octets.npos)
      return false;
    if (got == 0)
      return true;
  }
}

}  // namespace

Result<std::string> Spool::keep_log() const {
  const auto log = database() + "-wal";
  struct stat about {};
  if (::stat(log.c_str(), &about) != 0)
    return system_error("look at " + log);
  auto kept = place_in_lost(folder_, "queue.db-wal", about.st_mtime);
  if (!kept || ::access(kept->c_str(), F_OK) == 0)
    return kept;
  auto octets = read_file(log, kMostKeptLog);
  if (!octets)
    return octets.error();
  if (auto done = replace_file(*kept, *octets, 0600); !done)
    return done.error();
  return kept;
}

Result<Spool::Remains> Spool::keep_remains(bool is_log_sound) const {
  Remains remains;
  struct stat about {};
  const bool is_there = ::stat(database().c_str(), &about) == 0;
  if (!is_there && errno != ENOENT)
    return system_error("look at " + database());
  const auto size = is_there ? static_cast<std::uint64_t>(about.st_size) : 0;
  if (size > 0) {
    const auto hollow = is_hollow(database(), size);
    if (!hollow)
      return hollow.error();
    if (!*hollow || is_log_sound)
      return remains;
  }
  remains.was_here = ::access((folder_ + kReserveName).c_str(), F_OK) == 0;
  const auto keep = [this](const std::string& name, std::string& place) -> Result<void> {
    struct stat found {};
    if (::stat((folder_ + "/" + name).c_str(), &found) != 0 || found.st_size == 0)
      return {};
    auto kept = move_to_lost(folder_, name, found.st_mtime);
    if (!kept)
      return kept.error();
    place = *std::move(kept);
    return {};
  };
  if (auto done = keep("queue.db-wal", remains.log); !done)
    return done.error();
  if (auto done = keep("queue.db", remains.database); !done)
    return done.error();
  return remains;
}

void Spool::note_in_lost(const std::string& sentence, std::time_t now) const {
  if (const auto place = place_in_lost(folder_, "queue.db-missing", now))
    (void)replace_file(*place, sentence + "\n", 0600);  // the log has it as well
}

}  // namespace postrider::queue
