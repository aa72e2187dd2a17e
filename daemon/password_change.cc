#include "daemon/password_change.h"

#include "base/file.h"
#include "base/saslprep.h"
#include "daemon/config/config_file.h"
#include "daemon/privsep/privileges.h"
#include "smtpd/auth/passwords.h"
#include "smtpd/auth/user_key.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

namespace postrider::daemon {

namespace {

namespace auth = smtpd::auth;

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
  if (!loaded.config)
    return Error(Errc::malformed, loaded.describe());
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

Ownership ownership_of(const Target& target) {
  Ownership owner;
  struct stat state {};
  if (stat(target.path.c_str(), &state) == 0)
    return {state.st_uid, state.st_gid, state.st_mode & 0777U};
  if (geteuid() != 0 || target.user.empty())
    return owner;
  if (const auto account = find_account(target.user))
    owner = {0, account->gid, 0640};
  return owner;
}

// As base/file.h's replace_file, but the owner is set before the name is.
Result<void> write_as(const std::string& path, const std::string& text, const Ownership& owner) {
  const auto temporary = path + ".new";
  unlink(temporary.c_str());
  auto file = open_file(temporary, O_WRONLY | O_CREAT | O_EXCL, 0600);
  if (!file)
    return file.error();
  if (fchown(file->get(), owner.uid, owner.gid) != 0 && geteuid() == 0)
    return system_error("give away " + temporary);
  if (fchmod(file->get(), owner.mode) != 0)
    return system_error("set the mode of " + temporary);
  if (auto written = write_all(*file, text); !written)
    return written.error();
  if (auto synced = sync_file(*file); !synced)
    return synced.error();
  if (rename(temporary.c_str(), path.c_str()) != 0)
    return system_error("rename " + temporary);
  return sync_folder(path.substr(0, path.rfind('/') + 1));
}

Result<FileDescriptor> lock_folder_of(const std::string& path) {
  auto folder = open_file(path.substr(0, path.rfind('/') + 1), O_RDONLY | O_DIRECTORY);
  if (folder && flock(folder->get(), LOCK_EX) != 0)
    return system_error("lock the folder of " + path);
  return folder;
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
  const auto lock = lock_folder_of(target->path);
  if (!lock)
    return lock.error();
  const bool is_new = access(target->path.c_str(), F_OK) != 0;
  auto text = is_new ? Result<std::string>("") : read_file(target->path);
  if (!text)
    return text.error();
  if (auto parsed = auth::UserFile::parse(*text); !parsed)
    return parsed.error().during("read " + target->path);
  const auto changed = auth::with_user(*text, user, entry ? &*entry : nullptr);
  if (!changed)
    return Error(Errc::not_found, "\"" + user + "\" is not in " + target->path);
  return write_as(target->path, *changed, ownership_of(*target));
}

}  // namespace postrider::daemon
