#include "daemon/password_change.h"

#include "base/file.h"
#include "base/saslprep.h"
#include "daemon/config/config_file.h"
#include "daemon/privsep/privileges.h"
#include "daemon/tool_folder.h"
#include "smtpd/auth/passwords.h"
#include "smtpd/auth/user_key.h"

#include <chrono>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

namespace postrider::daemon {

namespace {

namespace auth = smtpd::auth;

constexpr std::size_t kMostPasswords = 64U << 20U;
constexpr int kTriesForLock = 200;
constexpr std::chrono::milliseconds kPauseForLock{100};

struct Target {
  std::string path;
  std::string user;  // the daemon's
};

Result<Target> find_target(const Options& options, const PasswordChange& change) {
  Target target{change.file, {}};
  const auto loaded = load_config(config_path(options));
  if (loaded.config)
    target.user = loaded.config->user;
  if (!target.path.empty())
    return target;
  if (!loaded.config) {
    auto problems = loaded.describe();
    while (problems.ends_with('\n'))
      problems.pop_back();
    return loaded.is_forbidden ? system_error(EACCES, std::move(problems))
                               : Error(Errc::unsupported, std::move(problems));
  }
  if (loaded.config->auth.users.empty())
    return Error(Errc::not_found, "auth.users is not set in " + loaded.file +
                                      "; set it, or name the file with --file");
  target.path = loaded.config->auth.users;
  return target;
}

// Owner and mode of the file as it will be.
struct Ownership {
  uid_t uid = geteuid();
  gid_t gid = getegid();
  mode_t mode = 0600;
};

Ownership ownership_of_new(const Target& target) {
  Ownership owner;
  if (geteuid() != 0 || target.user.empty())
    return owner;
  if (const auto account = find_account(target.user))
    owner = {0, account->gid, 0640};
  return owner;
}

// By descriptor, all of it: in a folder of another's, names may be something else at any time.
struct PasswordFile {
  FileDescriptor folder;
  std::string name;
  std::string text;  // empty if it is new
  Ownership owner;
};

Result<PasswordFile> open_password_file(const Target& target, FileDescriptor folder) {
  PasswordFile opened{std::move(folder), target.path.substr(target.path.rfind('/') + 1), {}, {}};
  const auto file =
      open_file_at(opened.folder, opened.name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
  if (!file && file.error().code() == boost::system::errc::no_such_file_or_directory) {
    opened.owner = ownership_of_new(target);
    return opened;
  }
  if (!file && file.error().code() == boost::system::errc::too_many_symbolic_link_levels)
    return Error(Errc::malformed, target.path + " is a symbolic link; name the file itself");
  if (!file)
    return file.error().during(target.path);
  struct stat about {};
  if (fstat(file->get(), &about) != 0)
    return system_error("look at " + target.path);
  opened.owner = {about.st_uid, about.st_gid, about.st_mode & 0777U};
  auto text = read_file(*file, target.path, kMostPasswords);
  if (!text)
    return text.error();
  opened.text = *std::move(text);
  return opened;
}

// As base/file.h's replace_file, but the owner is set before the name is.
Result<void> replace(const PasswordFile& old, const std::string& path, const std::string& text) {
  const auto temporary = old.name + ".new";
  const auto& folder = old.folder;
  unlinkat(folder.get(), temporary.c_str(), 0);
  auto file = open_file_at(folder, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
  if (!file)
    return file.error().during(path);
  const auto& owner = old.owner;
  if (fchown(file->get(), owner.uid, owner.gid) != 0 && geteuid() == 0)
    return system_error("give away " + path);
  if (fchmod(file->get(), owner.mode) != 0)
    return system_error("set the mode of " + path);
  if (auto written = write_all(*file, text); !written)
    return written.error();
  if (auto synced = sync_file(*file); !synced)
    return synced.error();
  if (renameat(folder.get(), temporary.c_str(), folder.get(), old.name.c_str()) != 0)
    return system_error("make " + path);
  return sync_file(folder);
}

// Locks a file that only the folder's owner and root can open: others could take, and keep, a lock
// on a file that they may read.
Result<FileDescriptor> lock_beside(const FileDescriptor& folder, const std::string& path) {
  const auto name = path.substr(path.rfind('/') + 1) + ".lock";
  auto lock = open_file_at(folder, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0600);
  if (!lock)
    return lock.error().during(path + ".lock");
  struct stat about {};
  struct stat above {};
  if (fstat(lock->get(), &about) != 0 || fstat(folder.get(), &above) != 0)
    return system_error("look at " + path + ".lock");
  if (geteuid() == 0 && about.st_uid == 0 && above.st_uid != 0 &&
      fchown(lock->get(), above.st_uid, above.st_gid) != 0)
    return system_error("give away " + path + ".lock");
  for (int tries = kTriesForLock; flock(lock->get(), LOCK_EX | LOCK_NB) != 0; --tries) {
    if (errno != EWOULDBLOCK && errno != EINTR)
      return system_error("lock " + path);
    if (tries == 0)
      return Error(Errc::malformed, path + " is being changed by another program, which holds " +
                                        path + ".lock; try again later");
    std::this_thread::sleep_for(kPauseForLock);
  }
  return lock;
}

Result<auth::UserEntry> make_entry(const PasswordChange& change) {
  const auto prepared = saslprep(*change.password);
  if (!prepared)
    return malformed("the password is empty, longer than 1024 octets, or holds controls");
  auto hash = auth::hash_password(*prepared);
  if (!hash)
    return hash.error();
  auth::UserEntry entry;
  entry.hash = std::move(*hash);
  if (change.has_scram)
    entry.scram = auth::make_scram_keys(*prepared, auth::UserFile::kIterations);
  return entry;
}

}  // namespace

Result<std::string> password_file(const Options& options, const PasswordChange& change) {
  if (!auth::user_key(change.user))
    return malformed("a user's name has no spaces, colons or controls, and 255 octets at most");
  auto target = find_target(options, change);
  if (!target)
    return target.error();
  if (!target->path.starts_with('/'))
    return malformed("the file's path must begin with /");
  return target->path;
}

Result<void> change_password(const Options& options, const PasswordChange& change) {
  const auto target = find_target(options, change);
  if (!target)
    return target.error();
  const auto user = auth::user_key(change.user).value_or("");
  std::optional<auth::UserEntry> entry;
  if (change.password) {
    auto made = make_entry(change);
    if (!made)
      return made.error();
    entry = std::move(*made);
  }
  auto folder = open_folder_to_write(target->path.substr(0, target->path.rfind('/') + 1));
  if (!folder)
    return folder.error();
  const auto lock = lock_beside(*folder, target->path);
  if (!lock)
    return lock.error();
  const auto old = open_password_file(*target, std::move(*folder));
  if (!old)
    return old.error();
  if (auto parsed = auth::UserFile::parse(old->text); !parsed)
    return parsed.error().during("read " + target->path);
  const auto changed = auth::with_user(old->text, user, entry ? &*entry : nullptr);
  if (!changed)
    return Error(Errc::not_found, "look for \"" + user + "\" in " + target->path);
  return replace(*old, target->path, *changed);
}

}  // namespace postrider::daemon
