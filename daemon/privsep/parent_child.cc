// A child of the parent: becomes the user for good, and only then reads what it was given. It does
// not do what it was told, but what stands in the source that it was told of.
#include "daemon/privsep/capabilities.h"
#include "daemon/privsep/parent_process.h"
#include "daemon/privsep/sandbox.h"
#include "daemon/privsep/table_reader.h"
#include "delivery/auth/credentials.h"
#include "delivery/auth/token_command.h"
#include "delivery/local/agents/delivery_agent.h"
#include "delivery/local/agents/local_target_codec.h"
#include "mail/address.h"
#include "queue/row_codec.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <grp.h>
#include <optional>
#include <pwd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace postrider::daemon {

namespace {

constexpr std::chrono::seconds kLeastLongest = std::chrono::hours(1);
constexpr std::chrono::seconds kBeyondCommand = std::chrono::minutes(10);
constexpr int kMostGroups = 1024;

using delivery::LocalJob;
using delivery::LocalSource;
using delivery::LocalTarget;

// The daemon's user has the groups that its administrator gave it. A recipient has the one of the
// account: group docker or disk would be root, and a mailbox or a filter needs neither.
Result<std::vector<gid_t>> groups_of(const ParentRules& rules, const Account& account,
                                     gid_t further) {
  std::vector<gid_t> groups = {account.gid};
  if (account.uid == rules.own.uid) {
    groups.resize(kMostGroups);
    int count = kMostGroups;
    if (::getgrouplist(account.name.c_str(), account.gid, groups.data(), &count) < 0)
      return Error(Errc::too_long, "list the groups of " + account.name);
    groups.resize(static_cast<std::size_t>(count));
    std::erase(groups, gid_t{0});
  }
  if (further != 0)
    groups.push_back(further);
  return groups;
}

// Once: the daemon may write to the file meanwhile, and what is performed must be what was looked
// at.
Result<std::string> read_job(const FileDescriptor& file) {
  struct stat about {};
  if (::fstat(file.get(), &about) != 0 || !S_ISREG(about.st_mode))
    return malformed("a delivery that is not a file");
  const auto size = static_cast<std::size_t>(about.st_size);
  if (size > delivery::kMostLocalJob)
    return Error(Errc::too_long, "read a delivery");
  std::string bytes(size, '\0');
  if (::pread(file.get(), bytes.data(), size, 0) != static_cast<ssize_t>(size))
    return system_error("read a delivery");
  return bytes;
}

Result<LocalJob> take_job(const std::string& bytes, const std::string& user) {
  auto job = delivery::decode_local_job(bytes);
  if (job && job->target.user != user)
    return Error(Errc::refused, "deliver as another user than was asked for");
  return job;
}

// The first of the user's files that there is, read now. Where we can become nobody, all users' are
// looked at as who we are, as they are read.
Result<void> check_users_forward(const ParentRules& rules, const LocalJob& job) {
  const auto& user = rules.may_become_users ? job.target.user : job.name;
  const passwd* entry = user.empty() ? nullptr : ::getpwnam(user.c_str());
  if (entry == nullptr)
    return Error(Errc::refused, "deliver as a user without an account");
  const std::string home = entry->pw_dir;
  const auto owner = entry->pw_uid;
  for (const auto& name : delivery::forward_names(rules.source, job.envelope.delivered_to)) {
    const auto text = delivery::read_forward_here(home, name, owner);
    if (!text)
      return text.error();
    if (*text)
      return delivery::check_forward(rules.source, job, user, **text);
  }
  return Error(Errc::refused,
               "deliver to " + job.target.describe() + " (there is no .forward that says it)");
}

Result<void> check_source(const ParentRules& rules, const LocalJob& job, const std::string& bytes,
                          TableReader& tables) {
  switch (job.source) {
    case LocalSource::mailbox:
      return delivery::check_mailbox(rules.source, job);
    case LocalSource::entry: {
      auto forward = check_users_forward(rules, job);
      return forward ? forward : tables.ask(bytes);
    }
    case LocalSource::place:
      return tables.ask(bytes);
  }
  return malformed("a source of this kind");
}

// What is not the daemon's to say: by the configuration, and by the address.
void settle_details(const ParentRules& rules, LocalJob& job) {
  const auto names = delivery::names_of(rules.source, job.envelope.delivered_to);
  job.envelope.local_part = names.local;
  job.envelope.extension = names.extension;
  job.envelope.domain = names.domain;
  job.envelope.hostname = rules.source.hostname;
  job.target.limits = rules.limits;
}

// A mailbox needs neither programs nor the network, nor files elsewhere.
void confine(const LocalJob& job) {
  if (job.target.kind == LocalTarget::Kind::command)
    return;
  const auto parent =
      job.target.place.substr(0, std::max<std::size_t>(job.target.place.rfind('/'), 1));
  auto root = job.target.root.empty() ? parent : job.target.root;
  while (root.size() > 1 && ::access(root.c_str(), F_OK) != 0)  // it will be made
    root.resize(std::max<std::size_t>(root.rfind('/'), 1));
  (void)restrict_files({{}, {root}});  // where the kernel cannot, the daemon has said so
  (void)forbid_programs();
}

bool is_readable_file(const FileDescriptor& file) {
  struct stat about {};
  const int flags = ::fcntl(file.get(), F_GETFL);
  return flags >= 0 && (flags & O_PATH) == 0 && ::fstat(file.get(), &about) == 0 &&
         S_ISREG(about.st_mode);
}

// Commands, and files wherever they are, with the daemon's own rights: whoever has taken the daemon
// over would be out of its sandbox.
Result<void> check_own(const ParentRules& rules, const Account& account, const LocalJob& job) {
  const bool is_own = rules.may_become_users && account.uid == rules.own.uid;
  if (is_own && (job.source == LocalSource::entry || job.target.kind == LocalTarget::Kind::command))
    return Error(Errc::refused,
                 "deliver to " + job.target.describe() + " (the daemon's own user never does)");
  return {};
}

void perform(const ParentRules& rules, const ParentRequest& request, const Account& account,
             const FileDescriptor& asker, const FileDescriptor& file, FileDescriptor body,
             TableReader& tables, const std::optional<delivery::CommandGroup>& group) {
  const auto bytes = read_job(file);
  if (!bytes)
    return answer_error(asker.get(), bytes.error());
  auto job = take_job(*bytes, request.user.data());
  if (!job)
    return answer_error(asker.get(), job.error());
  if (static_cast<std::uint32_t>(job->source) != request.source)
    return answer_error(asker.get(), malformed("a delivery of two sources"));
  if (auto allowed = check_own(rules, account, *job); !allowed)
    return answer_error(asker.get(), allowed.error());
  if (auto allowed = check_source(rules, *job, *bytes, tables); !allowed)
    return answer_error(asker.get(), allowed.error());
  if (!is_readable_file(body))
    return answer_error(asker.get(), malformed("a message that is not a file"));
  settle_details(rules, *job);
  confine(*job);
  delivery::LocalBody content;
  content.file = std::move(body);
  tables.end();
  ::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  const auto outcome =
      delivery::perform_here(*job, content, {asker.get(), group ? &*group : nullptr, true});
  answer(asker.get(), ParentAnswer::outcome, Error(), queue::encode_outcome(outcome));
}

void read_forward(const ParentRequest& request, const FileDescriptor& asker) {
  const passwd* entry = ::getpwnam(request.user.data());
  if (entry == nullptr)
    return answer(asker.get(), ParentAnswer::nothing, Error(), {});
  (void)restrict_files({{entry->pw_dir}, {}});
  (void)forbid_programs();
  const auto text = delivery::read_forward_here(entry->pw_dir, request.name.data(), entry->pw_uid);
  if (!text)
    answer_error(asker.get(), text.error());
  else if (*text)
    answer(asker.get(), ParentAnswer::text, Error(), **text);
  else
    answer(asker.get(), ParentAnswer::nothing, Error(), {});
}

// The daemon says which file, not which command. Without new privileges, so that sudo and the like
// give none, and without signals to the daemon and its parent, whose user it has.
void run_token(const ParentRequest& request, const FileDescriptor& asker) {
  const auto refuse = [&](const std::string& why) {
    answer_error(asker.get(), Error(Errc::refused, why));
  };
  const std::string path = request.name.data();
  const auto loaded = delivery::load_credentials(path);
  if (!loaded.problems.empty())
    return refuse(loaded.problems.front().describe(path));
  if (loaded.file.token_command.empty())
    return refuse(path + " has no token_command any more");
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
    return answer_error(asker.get(), system_error("forbid new privileges"));
  (void)restrict_signals();
  const auto output = delivery::run_token_command(loaded.file.token_command, {}, asker.get());
  if (output)
    answer(asker.get(), ParentAnswer::text, Error(), *output);
  else
    answer_error(asker.get(), output.error());
}

gid_t group_needed(const ParentRules& rules, const ParentRequest& request) {
  const bool is_mailbox = request.verb == ParentVerb::perform &&
                          request.source == static_cast<std::uint32_t>(LocalSource::mailbox);
  return is_mailbox ? mailbox_group(rules) : 0;
}

}  // namespace

std::chrono::seconds longest_life(const ParentRules& rules) {
  return std::max(kLeastLongest,
                  std::chrono::ceil<std::chrono::seconds>(rules.limits.time) + kBeyondCommand);
}

// No way back: all three ids, no capability, and the kernel is asked whether that is so.
Result<void> become(const ParentRules& rules, const Account& account, gid_t further) {
  const auto groups = groups_of(rules, account, further);
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

Result<void> act_against(const ParentRules& rules, const Account& account) {
  if (!rules.may_become_users)
    return {};
  const auto groups = groups_of(rules, account, 0);
  if (!groups)
    return groups.error();
  if (account.uid == 0 || account.gid == 0)
    return Error(Errc::refused, "act as root");
  constexpr auto kSame = static_cast<uid_t>(-1);
  if (::setgroups(groups->size(), groups->data()) != 0 ||
      ::setresgid(account.gid, account.gid, account.gid) != 0 ||
      ::setresuid(kSame, account.uid, kSame) != 0)
    return system_error("act as " + account.name);
  uid_t real = 0, effective = 0, saved = 0;
  const bool is_out_of_reach = ::getresuid(&real, &effective, &saved) == 0 &&
                               real == rules.own.uid && saved == rules.own.uid &&
                               effective == account.uid;
  return is_out_of_reach ? Result<void>() : Error(Errc::refused, "act as " + account.name);
}

namespace {

// Without becoming anybody: ports below 1024 need what the parent has. Not in the parent itself:
// who has the socket too may keep it busy.
[[noreturn]] void bind_and_end(const ParentRequest& request, const FileDescriptor& asker,
                               const FileDescriptor& socket) {
  const auto* const address = reinterpret_cast<const sockaddr*>(&request.address);
  if (::bind(socket.get(), address, request.address_size) == 0)
    answer(asker.get(), ParentAnswer::nothing, Error(), {});
  else
    answer_error(asker.get(), system_error("bind"));
  ::_exit(0);
}

}  // namespace

[[noreturn]] void run_child(const ParentRules& rules, const CommandGroups& groups,
                            const ParentRequest& request, const Account& account,
                            std::array<FileDescriptor, 3> descriptors) {
  ::signal(SIGCHLD, SIG_DFL);
  ::setpgid(0, 0);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::alarm(static_cast<unsigned>(longest_life(rules).count()));
  auto& [asker, file, body] = descriptors;
  if (request.verb == ParentVerb::bind)
    bind_and_end(request, asker, file);
  TableReader tables;
  const bool reads_tables = request.verb == ParentVerb::perform && request.source != 0;
  Result<void> ready;
  if (reads_tables)
    ready = tables.start(rules, {asker.get(), file.get(), body.get()});
  std::optional<delivery::CommandGroup> group;
  if (ready && reads_tables && groups.exist())
    if (auto made = groups.make(std::to_string(::getpid()), rules.limits))
      group = std::move(*made);
  if (ready && rules.may_become_users)
    ready = become(rules, account, group_needed(rules, request));
  if (!ready)
    answer_error(asker.get(), ready.error());
  else if (request.verb == ParentVerb::perform)
    perform(rules, request, account, asker, file, std::move(body), tables, group);
  else if (request.verb == ParentVerb::token)
    run_token(request, asker);
  else
    read_forward(request, asker);
  tables.end();
  ::_exit(0);
}

}  // namespace postrider::daemon
