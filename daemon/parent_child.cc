// A child of the parent: becomes the user for good, and only then reads what it was given.
#include "daemon/capabilities.h"
#include "daemon/parent_process.h"
#include "daemon/sandbox.h"
#include "delivery/credentials.h"
#include "delivery/local/performer.h"
#include "delivery/local/target_codec.h"
#include "delivery/token_command.h"
#include "queue/codec.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace postrider::daemon {

namespace {

constexpr unsigned kLongest = 3600;  // seconds; the job's own limits are shorter
constexpr int kMostGroups = 1024;

using delivery::LocalJob;
using delivery::Target;

Result<std::vector<gid_t>> groups_of(const Account& account, gid_t further) {
  std::vector<gid_t> groups(kMostGroups);
  int count = kMostGroups;
  if (::getgrouplist(account.name.c_str(), account.gid, groups.data(), &count) < 0)
    return Error(Errc::too_long, "list the groups of " + account.name);
  groups.resize(static_cast<std::size_t>(count));
  std::erase(groups, gid_t{0});
  if (further != 0)
    groups.push_back(further);
  return groups;
}

// No way back: all three ids, no capability, and the kernel is asked whether that is so.
Result<void> become(const Account& account, gid_t further) {
  const auto groups = groups_of(account, further);
  if (!groups)
    return groups.error();
  if (account.uid == 0 || account.gid == 0)
    return Error(Errc::refused, "act as root");
  if (::setgroups(groups->size(), groups->data()) != 0 ||
      ::setresgid(account.gid, account.gid, account.gid) != 0 ||
      ::setresuid(account.uid, account.uid, account.uid) != 0)
    return system_error("become " + account.name);
  if (auto none = keep_only(0, 0); !none)
    return none;
  uid_t real = 0, effective = 0, saved = 0;
  const bool is_gone = ::getresuid(&real, &effective, &saved) == 0 && real == account.uid &&
                       effective == account.uid && saved == account.uid && ::setuid(0) != 0 &&
                       effective_capabilities() == 0;
  if (!is_gone)
    return Error(Errc::refused, "become " + account.name + " for good");
  return {};
}

Result<std::string> read_job(const FileDescriptor& file) {
  struct stat about {};
  if (::fstat(file.get(), &about) != 0 || !S_ISREG(about.st_mode))
    return malformed("a delivery that is no file");
  const auto size = static_cast<std::size_t>(about.st_size);
  if (size > delivery::kMostLocalJob)
    return Error(Errc::too_long, "read a delivery");
  std::string bytes(size, '\0');
  if (::pread(file.get(), bytes.data(), size, 0) != static_cast<ssize_t>(size))
    return system_error("read a delivery");
  return bytes;
}

// A mailbox needs neither programs nor the network, nor files elsewhere.
void confine(const LocalJob& job) {
  if (job.target.kind == Target::Kind::command)
    return;
  const auto parent =
      job.target.place.substr(0, std::max<std::size_t>(job.target.place.rfind('/'), 1));
  auto root = job.target.root.empty() ? parent : job.target.root;
  while (root.size() > 1 && ::access(root.c_str(), F_OK) != 0)  // it will be made
    root.resize(std::max<std::size_t>(root.rfind('/'), 1));
  (void)restrict_files({{}, {root}});  // where the kernel cannot, the daemon has said so
  (void)forbid_programs();
}

void perform(const ParentRequest& request, const FileDescriptor& asker, const FileDescriptor& file,
             FileDescriptor body) {
  const auto fail = [&](const Error& error) {
    answer(asker.get(), ParentAnswer::failed, error.code().value(), error.describe());
  };
  const auto bytes = read_job(file);
  if (!bytes)
    return fail(bytes.error());
  const auto job = delivery::decode_local_job(*bytes);
  if (!job)
    return fail(job.error());
  // The mail group is for the mailboxes' folder, not for programs.
  if (request.in_mail_folder != 0 && job->target.kind == Target::Kind::command)
    return fail(Error(Errc::refused, "run a command with the mailboxes' group"));
  confine(*job);
  delivery::LocalBody content;
  content.file = std::move(body);
  const auto outcome = delivery::perform_here(*job, content, asker.get());
  answer(asker.get(), ParentAnswer::outcome, 0, queue::encode_outcome(outcome));
}

void read_forward(const ParentRequest& request, const FileDescriptor& asker) {
  const passwd* entry = ::getpwnam(request.user.data());
  if (entry == nullptr)
    return answer(asker.get(), ParentAnswer::nothing, 0, {});
  (void)restrict_files({{entry->pw_dir}, {}});
  (void)forbid_programs();
  const auto text = delivery::read_forward_here(entry->pw_dir, request.name.data(), entry->pw_uid);
  if (text && *text)
    answer(asker.get(), ParentAnswer::text, 0, **text);
  else if (text)
    answer(asker.get(), ParentAnswer::nothing, 0, {});
  else if (text.error().code() == make_error_code(Errc::refused))
    answer(asker.get(), ParentAnswer::refused, 0, text.error().step());
  else
    answer(asker.get(), ParentAnswer::failed, text.error().code().value(), text.error().describe());
}

// The daemon says which file, not which command. Without new privileges, so that sudo and the like
// give none.
void run_token(const ParentRequest& request, const FileDescriptor& asker) {
  const auto refuse = [&](const std::string& why) {
    answer(asker.get(), ParentAnswer::refused, 0, why);
  };
  const std::string path = request.name.data();
  const auto loaded = delivery::load_credentials(path);
  if (!loaded.problems.empty())
    return refuse(loaded.problems.front().describe(path));
  if (loaded.file.token_command.empty())
    return refuse(path + " has no token_command any more");
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
    return answer(asker.get(), ParentAnswer::failed, errno, "forbid new privileges");
  const auto output = delivery::run_token_command(loaded.file.token_command, {}, asker.get());
  if (output)
    answer(asker.get(), ParentAnswer::text, 0, *output);
  else if (output.error().code().category() == boost::system::system_category())
    answer(asker.get(), ParentAnswer::failed, output.error().code().value(), output.error().step());
  else
    refuse(output.error().step());
}

}  // namespace

[[noreturn]] void run_child(const ParentRules& rules, const ParentRequest& request,
                            const Account& account, std::array<FileDescriptor, 3> descriptors) {
  ::signal(SIGCHLD, SIG_DFL);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::alarm(kLongest);
  auto& [asker, file, body] = descriptors;
  const bool needs_group = request.in_mail_folder != 0 && request.verb == ParentVerb::perform;
  Result<void> ready;
  if (rules.may_become_users)
    ready = become(account, needs_group ? mailbox_group(rules) : 0);
  if (!ready)
    answer(asker.get(), ParentAnswer::failed, ready.error().code().value(),
           ready.error().describe());
  else if (request.verb == ParentVerb::perform)
    perform(request, asker, file, std::move(body));
  else if (request.verb == ParentVerb::token)
    run_token(request, asker);
  else
    read_forward(request, asker);
  ::_exit(0);
}

}  // namespace postrider::daemon
