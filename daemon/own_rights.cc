#include "daemon/own_rights.h"

#include "base/file.h"
#include "base/log.h"
#include "daemon/privsep/capabilities.h"
#include "daemon/privsep/parent_client.h"

#include <algorithm>
#include <string_view>
#include <unistd.h>

namespace postrider::daemon {

namespace {

constexpr mode_t kSpoolMode = 0700;
constexpr mode_t kSocketFolderMode = 0755;
constexpr mode_t kSinkFolderMode = 0750;

std::string folder_of(const std::string& path) {
  return path.substr(0, std::max<std::size_t>(path.rfind('/'), 1));
}

}  // namespace

void OwnRights::find_user(const Loaded& loaded, StartProblems& problems) {
  const auto& user = loaded.config->user;
  if (geteuid() != 0 || user.empty())
    return;
  auto account = find_account(user);
  if (account)
    account_ = *account;
  else if (account.error().code() == make_error_code(Errc::not_found))
    problems.blame(loaded, "user",
                   "\"" + user + "\" is not a user of this system; expected a login name");
  else
    problems.add(account.error());
}

void OwnRights::provide_folders(const Config& config, StartProblems& problems) const {
  if (!account_)
    return;
  const auto provide = [&](const std::string& path, mode_t mode) {
    if (auto provided = provide_folder(path, *account_, mode); !provided)
      problems.add(provided.error());
  };
  provide(config.spool, kSpoolMode);
  provide(folder_of(config.control.socket), kSocketFolderMode);
  for (const auto& sink : config.events)
    if (!sink.file.empty())
      provide(folder_of(sink.file), kSinkFolderMode);
  provide(folder_of(config.control.submit), kSocketFolderMode);
  if (config.log.target.starts_with('/'))
    provide(folder_of(config.log.target), kSocketFolderMode);
  constexpr std::string_view kUnix = "unix:";
  for (const auto& listener : config.listeners)
    if (listener.address.starts_with(kUnix))
      provide(folder_of(listener.address.substr(kUnix.size())), kSocketFolderMode);
}

std::optional<Result<ActingAs>> OwnRights::act_as_user() const {
  if (!account_)
    return std::nullopt;
  return ActingAs::become(*account_);
}

void OwnRights::restrict_own_files(const Loaded& loaded) {
  reach_ = sandbox_paths(*loaded.config, loaded.file);
  // What is missing now could not be made later; what cannot be made is reported by who needs it.
  // As the user, who may be able to.
  {
    const auto acting = act_as_user();
    if (!acting || *acting) {
      (void)make_folder(loaded.config->spool, kSpoolMode);
      for (const auto& folder : reach_.write)
        if (::access(folder.c_str(), F_OK) != 0)
          (void)make_folder(folder, kSocketFolderMode);
    }
  }
  const auto why_not = restrict_files(reach_);
  confinement_.files =
      why_not.empty() ? "Landlock, version " + std::to_string(landlock_version()) : why_not;
  confinement_.files_held = why_not.empty();
}

void OwnRights::become_user(StartProblems& problems) const {
  if (!account_)
    return;
  drop_for_ever_but(0);
  if (!problems.none())
    return;
  if (auto become = become_for_good(*account_); !become)
    problems.add(become.error());
}

void OwnRights::restrict_own_calls(const Config& config, const ParentClient& parent,
                                   StartProblems& problems) {
  if (account_ || geteuid() != 0)
    if (auto none = keep_only(0, 0); !none)
      problems.add(none.error());
  hide_memory(!config.sandbox.core_dumps);
  const auto why_not = restrict_calls();
  confinement_.calls = why_not.empty() ? "seccomp" : why_not;
  confinement_.calls_held = why_not.empty();
  confinement_.users =
      parent.becomes_users()
          ? "as its user, by process " + std::to_string(parent.pid())
          : "as " + (account_ ? account_->name : "uid " + std::to_string(geteuid())) + ", no other";
}

// What holds, and plainly what does not.
void OwnRights::report(Log& log) const {
  const bool all = confinement_.calls_held && confinement_.files_held;
  log.write(LogEvent(all ? Level::info : Level::warn, "confined")
                .add("calls", confinement_.calls_held ? "on" : "off")
                .add("files", confinement_.files_held ? "on" : "off")
                .add("by", confinement_.calls + "; " + confinement_.files)
                .add("local_delivery", confinement_.users));
}

std::vector<std::string> OwnRights::beyond_reach(const Loaded& fresh) const {
  return out_of_reach(reach_, sandbox_paths(*fresh.config, fresh.file));
}

}  // namespace postrider::daemon
