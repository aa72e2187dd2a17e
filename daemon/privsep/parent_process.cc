#include "daemon/privsep/parent_process.h"

#include "base/close_aside.h"
#include "base/passed_descriptors.h"
#include "base/process_title.h"
#include "base/time.h"
#include "daemon/config/config_file.h"
#include "daemon/privsep/capabilities.h"
#include "daemon/privsep/child_shares.h"
#include "daemon/privsep/enders.h"
#include "daemon/privsep/pam_keeper.h"
#include "daemon/privsep/sandbox.h"
#include "daemon/privsep/table_reader.h"
#include "delivery/local/agents/account.h"
#include "delivery/local/agents/process_tree.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <grp.h>
#include <linux/capability.h>
#include <map>
#include <optional>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <unordered_set>

namespace postrider::daemon {

namespace {

constexpr std::uint64_t kKept =
    capability(CAP_SETUID) | capability(CAP_SETGID) | capability(CAP_NET_BIND_SERVICE);
constexpr int kLookAgain = 250;  // milliseconds
constexpr int kLookSometime = 60'000;
// Between a hang-up and the end. A command that prints a token watches its asker itself.
constexpr std::chrono::seconds kGrace{1}, kGraceOfToken{5};
constexpr std::chrono::minutes kSweep{1};  // for what a delivery left behind
constexpr std::chrono::minutes kLate{5};   // after its own alarm
constexpr int kMostReaped = 1000;          // before others have their turn
constexpr std::uint64_t kOfAskers = 1;     // a share of their own when they are closed

bool may_become_users() {
  return (effective_capabilities() & kKept) == kKept;
}

// Loses all that is not needed, for good.
Result<void> settle(const ParentRules& rules, bool privileged) {
  ::prctl(PR_SET_NAME, "postrider-parent");
  set_process_title("postrider: parent");
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  if (!privileged)
    return {};
  if (::prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0 || ::setgroups(0, nullptr) != 0 ||
      ::setresgid(rules.own.gid, rules.own.gid, rules.own.gid) != 0)
    return system_error("take on the group of " + rules.own.name);
  // The set of what can ever be had again shrinks while we still may shrink it.
  const auto shrinking = effective_capabilities() & capability(CAP_SETPCAP);
  if (auto kept = keep_only(kKept | shrinking, kKept); !kept)
    return kept;
  if (::setresuid(rules.own.uid, rules.own.uid, rules.own.uid) != 0)
    return system_error("take on user " + rules.own.name);
  if (auto kept = keep_only(kKept, kKept); !kept)
    return kept;
  return forbid_root();
}

struct Received {
  ParentRequest request;
  std::array<FileDescriptor, kMostParentDescriptors> descriptors;
  std::size_t count = 0;
  ssize_t octets = 0;
};

// Every descriptor that arrives is taken. With more of them than there are places for it is no
// request (a count of zero has no form), nor where nothing could be said on the first.
Received receive(int socket) {
  Received received;
  auto passed = receive_passed(socket, &received.request, sizeof received.request);
  received.octets = passed.octets;
  bool is_right = (passed.flags & (MSG_CTRUNC | MSG_TRUNC)) == 0 &&
                  passed.descriptors.size() <= kMostParentDescriptors;
  for (auto& one : passed.descriptors) {
    if (received.count == 0 && !is_local_socket(one.get()))
      is_right = false;
    if (is_right)
      received.descriptors[received.count++] = std::move(one);
    else
      close_aside(std::move(one));
  }
  if (!is_right)
    received.count = 0;
  return received;
}

// A delivery under way.
struct Child {
  pid_t pid = 0;
  FileDescriptor process;  // pidfd
  FileDescriptor asker;    // hung up: nobody waits for it any more
  Account account;
  Duration grace = kGrace;
  SteadyTime last;                     // then nobody wants it any more
  std::optional<SteadyTime> unwanted;  // since then

  bool must_end(SteadyTime now) const { return unwanted && now - *unwanted >= grace; }
  bool is_stuck(SteadyTime now) const { return unwanted && now - *unwanted >= grace + kStuckAfter; }
};

void kill_child(const Child& child) {
  if (child.process.is_open())
    (void)::syscall(SYS_pidfd_send_signal, child.process.get(), SIGKILL, nullptr, 0);
  else
    ::kill(child.pid, SIGKILL);
}

// A group whose processes have not all ended.
struct Emptied {
  std::string name;
  uid_t uid = 0;
  SteadyTime since;

  bool is_stuck(SteadyTime now) const { return now - since >= kStuckAfter; }
};

// Deliveries of this user left processes behind, since then.
struct Sweep {
  Account account;
  SteadyTime since;
};

class Parent {
 public:
  Parent(FileDescriptor socket, FileDescriptor pam, ParentRules rules, CommandGroups groups)
      : socket_(std::move(socket)),
        pam_(std::move(pam)),
        rules_(std::move(rules)),
        groups_(std::move(groups)) {}

  [[noreturn]] void run() {
    sigset_t child;
    ::sigemptyset(&child);
    ::sigaddset(&child, SIGCHLD);
    ::sigprocmask(SIG_BLOCK, &child, nullptr);
    const FileDescriptor ended(::signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK));
    std::vector<pollfd> waiting;
    ::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    serve_pam();
    TableReader::prepare();
    for (;;) {
      const bool has_room = children_.size() < kMostChildren;
      waiting = {{ended.get(), POLLIN, 0}, {has_room ? socket_.get() : -1, POLLIN, 0}};
      for (const auto& one : children_)
        waiting.push_back({one.unwanted ? -1 : one.asker.get(), 0, 0});
      if (::poll(waiting.data(), waiting.size(), patience()) < 0 && errno != EINTR)
        ::_exit(1);
      look_at_askers(waiting);
      const auto now = std::chrono::steady_clock::now();
      for (auto* keeper : {&pam_, &page_pam_})
        if (keeper->due() && *keeper->due() <= now)
          keeper->start(rules_, now);
      if (waiting[0].revents != 0 || is_more_to_reap_)
        reap(ended.get());
      if (waiting[1].revents != 0) {
        auto received = receive(socket_.get());
        serve(received);
        for (auto& one : received.descriptors)
          close_aside(std::move(one));
      }
      end_what_is_left();
    }
  }

 private:
  void serve_pam() {
    pam_.serve(rules_);
    page_pam_.serve(rules_);
  }
  // In a child, which has no business with them.
  void forget_pam() {
    pam_.forget_socket();
    page_pam_.forget_socket();
  }

  int patience() const {
    if (is_more_to_reap_)
      return 0;
    const bool is_any_unwanted = std::any_of(children_.begin(), children_.end(),
                                             [](const Child& child) { return child.unwanted; });
    const bool has_more = is_any_unwanted || pam_.due() || page_pam_.due() || !sweeps_.empty() ||
                          !emptied_.empty() || !enders_.is_empty();
    if (has_more)
      return kLookAgain;
    return children_.empty() ? -1 : kLookSometime;
  }

  // Who has an answer closes too, just before the child ends: only what stays is killed.
  void look_at_askers(const std::vector<pollfd>& waiting) {
    const auto now = std::chrono::steady_clock::now();
    for (std::size_t i = 0; i < children_.size(); ++i) {
      auto& child = children_[i];
      if (!child.unwanted && (waiting[i + 2].revents != 0 || now > child.last))
        child.unwanted = now;
    }
  }

  // The children that are none of ours: a delivery left them behind when it ended.
  std::vector<pid_t> strays() const {
    std::unordered_set<pid_t> ours = {pam_.pid(), page_pam_.pid()};
    for (const auto& child : children_)
      ours.insert(child.pid);
    auto found = delivery::children_of(::getpid());
    std::erase_if(found, [&](pid_t pid) { return ours.contains(pid) || enders_.has(pid); });
    return found;
  }

  // Again and again, until it has gone. Whose the strays are the kernel says by refusing.
  void end_what_is_left() {
    const auto now = std::chrono::steady_clock::now();
    std::erase_if(emptied_, [&](const Emptied& one) { return groups_.end(one.name); });
    std::vector<pid_t> left;
    if (!sweeps_.empty())
      left = strays();
    std::erase_if(sweeps_,
                  [&](const Sweep& one) { return left.empty() || now - one.since > kSweep; });
    std::map<uid_t, Account> wanted;
    for (const auto& one : sweeps_)
      wanted.emplace(one.account.uid, one.account);
    for (const auto& child : children_)
      if (child.must_end(now))
        wanted.emplace(child.account.uid, child.account);
    // Ours by the real user, as we are.
    for (const auto pid : enders_.overdue(now))
      ::kill(pid, SIGKILL);
    for (const auto& account : enders_.due(wanted, now))
      start_ender(account, left, now);
  }

  void start_ender(const Account& account, const std::vector<pid_t>& left, SteadyTime now) {
    const pid_t pid = ::fork();
    if (pid == 0) {
      socket_.reset();
      forget_pam();
      for (auto& child : children_)
        child.asker.reset();
      end_all_of(account, left, now);
      ::_exit(0);
    }
    if (pid > 0)
      enders_.started(account.uid, pid, now);
    else
      enders_.not_started(account.uid, now);
  }

  // In a process of its own. The children first: nothing that the user does comes between.
  void end_all_of(const Account& account, const std::vector<pid_t>& left, SteadyTime now) {
    const bool is_swept = std::any_of(sweeps_.begin(), sweeps_.end(), [&](const Sweep& one) {
      return one.account.uid == account.uid;
    });
    const auto roots = delivery::open_processes(is_swept ? left : std::vector<pid_t>());
    if (!act_against(rules_, account))
      return;
    for (const auto& child : children_)
      if (child.account.uid == account.uid && child.must_end(now))
        kill_child(child);
    if (rules_.may_become_users && !keep_only(0, 0))
      return;
    delivery::end_trees(roots, rules_.may_become_users ? account.uid : ::getuid());
  }

  void has_ended(const Child& child) {
    if (groups_.exist() && !groups_.end(std::to_string(child.pid)))
      emptied_.push_back(
          {std::to_string(child.pid), child.account.uid, std::chrono::steady_clock::now()});
    const auto same = std::find_if(sweeps_.begin(), sweeps_.end(), [&](const Sweep& one) {
      return one.account.uid == child.account.uid;
    });
    const auto now = std::chrono::steady_clock::now();
    if (same == sweeps_.end())
      sweeps_.push_back({child.account, now});
    else
      same->since = now;
  }

  void reap(int ended) {
    signalfd_siginfo ignored{};
    (void)!::read(ended, &ignored, sizeof ignored);
    is_more_to_reap_ = true;
    for (int count = 0; count < kMostReaped; ++count) {
      int status = 0;
      const pid_t pid = ::waitpid(-1, &status, WNOHANG);
      is_more_to_reap_ = pid > 0;
      if (!is_more_to_reap_)
        return;
      if (enders_.has_ended(pid, std::chrono::steady_clock::now()))
        continue;
      std::erase_if(children_, [&](Child& child) {
        if (child.pid != pid)
          return false;
        has_ended(child);
        close_aside(std::move(child.asker), kOfAskers);
        return true;
      });
      const auto now = std::chrono::steady_clock::now();
      if (pam_.has_ended(pid, now) || page_pam_.has_ended(pid, now))
        answer(socket_.get(), ParentAnswer::helper_ended, system_error(status, ""), {});
    }
  }

  void serve(Received& received) {
    if (received.octets == 0 || (received.octets < 0 && errno != EINTR && errno != EAGAIN))
      ::_exit(0);  // the daemon has ended
    if (received.octets < 0)
      return;
    const auto& request = received.request;
    const auto octets = static_cast<std::size_t>(received.octets);
    if (auto form = check_form(request, octets, received.count); !form)
      return;  // nobody who speaks this protocol is there to be answered
    const int asker = received.descriptors[0].get();
    if (request.verb == ParentVerb::reload)
      return reply(asker, reload());
    if (request.verb == ParentVerb::adopt || request.verb == ParentVerb::stay)
      return reply(asker, settle_reload(request.verb == ParentVerb::adopt));
    const bool is_own = request.verb == ParentVerb::token || request.verb == ParentVerb::bind;
    if (request.verb == ParentVerb::bind)
      if (auto allowed = check_bind(request); !allowed)
        return reply(asker, allowed);
    if (request.verb == ParentVerb::token)
      if (auto named = check_credentials_name(rules_, request.name.data()); !named)
        return reply(asker, named);
    const bool reads = request.verb == ParentVerb::read_forward;
    if (reads)
      if (auto named = check_forward_name(rules_, request.name.data()); !named)
        return reply(asker, named);
    const bool delivers = request.verb == ParentVerb::perform;
    const auto account = check_user(rules_, is_own ? "" : request.user.data(), delivers);
    // Without an account there is no file; and whom the parent never becomes, it reads nothing of.
    const bool is_nobodys =
        !account && (account.error().code() == make_error_code(Errc::not_found) ||
                     account.error().code() == make_error_code(Errc::refused));
    if (reads && is_nobodys)
      return answer(asker, ParentAnswer::nothing, Error(), {});
    if (!account)
      return reply(asker, account.error());
    if (!has_room_for(account->uid))
      return reply(asker, Error(boost::system::errc::make_error_code(
                                    boost::system::errc::resource_unavailable_try_again),
                                "start a delivery (earlier ones of its user do not end)"));
    start_child(received, *account);
  }

  bool has_room_for(uid_t uid) const {
    const auto now = std::chrono::steady_clock::now();
    ChildCount everybodys, users;
    const auto count = [&](uid_t whose, bool is_child, bool is_stuck) {
      for (auto* counted : {&everybodys, &users})
        if (counted == &everybodys || whose == uid) {
          counted->all += is_child ? 1 : 0;
          counted->stuck += is_stuck ? 1 : 0;
        }
    };
    for (const auto& child : children_)
      count(child.account.uid, true, child.is_stuck(now));
    for (const auto& one : emptied_)
      count(one.uid, false, one.is_stuck(now));
    return may_start(everybodys, users);
  }

  void start_child(Received& received, const Account& account) {
    const auto verb = received.request.verb;
    const pid_t pid = ::fork();
    if (pid == 0) {
      socket_.reset();
      forget_pam();
      for (auto& other : children_)
        other.asker.reset();
      set_process_title("postrider: delivery");
      run_child(rules_, groups_, received.request, account, std::move(received.descriptors));
    }
    if (pid < 0)
      return reply(received.descriptors[0].get(), system_error("fork"));
    Child child;
    child.pid = pid;
    child.process = FileDescriptor(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    child.account = account;
    child.last = std::chrono::steady_clock::now() + longest_life(rules_) + kLate;
    if (verb == ParentVerb::token)
      child.grace = kGraceOfToken;
    child.asker = std::move(received.descriptors[0]);
    children_.push_back(std::move(child));
  }

  // The administrator's file, not the daemon's word, says what has changed.
  Result<void> reload() {
    const auto loaded = load_config(rules_.config_file);
    if (!loaded.config)
      return malformed("the configuration has problems");
    auto fresh = parent_rules(*loaded.config, rules_.config_file);
    fresh.open_book = rules_.open_book;
    fresh.asks_servers = rules_.asks_servers;
    fresh.own = rules_.own;
    fresh.source.own_user = rules_.source.own_user;
    fresh.may_become_users = rules_.may_become_users;
    fresh_rules_ = std::move(fresh);
    return {};
  }

  Result<void> settle_reload(bool is_adopted) {
    if (is_adopted && !fresh_rules_)
      return Error(Errc::refused, "adopt what was not read");
    if (is_adopted) {
      rules_ = *std::move(fresh_rules_);
      serve_pam();
    }
    fresh_rules_.reset();
    return {};
  }

  Result<void> check_bind(const ParentRequest& request) const {
    auto allowed = check_address(rules_, request.address, request.address_size);
    if (!allowed && fresh_rules_)
      allowed = check_address(*fresh_rules_, request.address, request.address_size);
    return allowed;
  }

  static void reply(int asker, const Result<void>& result) {
    if (result)
      answer(asker, ParentAnswer::nothing, Error(), {});
    else
      answer_error(asker, result.error());
  }

  FileDescriptor socket_;
  PamKeeper pam_;
  PamKeeper page_pam_ = PamKeeper::of_page();
  ParentRules rules_;
  std::optional<ParentRules> fresh_rules_;  // read, and not adopted yet
  CommandGroups groups_;
  std::vector<Child> children_;
  Enders enders_;
  std::vector<Sweep> sweeps_;     // by user
  std::vector<Emptied> emptied_;  // groups to be removed
  bool is_more_to_reap_ = false;
};

[[noreturn]] void be_parent(FileDescriptor socket, FileDescriptor pam, ParentRules rules,
                            CommandGroups groups) {
  // The service manager may tell the whole group; we end when the daemon does.
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGPIPE})
    ::signal(number, SIG_IGN);
  if (auto settled = settle(rules, rules.may_become_users); !settled) {
    std::fprintf(stderr, "postrider: parent: %s\n", settled.error().describe().c_str());
    ::_exit(71);
  }
  answer(socket.get(), ParentAnswer::nothing, Error(), {});
  Parent(std::move(socket), std::move(pam), std::move(rules), std::move(groups)).run();
}

}  // namespace

void answer(int socket, ParentAnswer kind, const Error& error, std::string_view bytes) {
  ParentReply head;
  head.answer = kind;
  head.number = error.code().value();
  head.is_ours = error.code().category() == make_error_code(Errc::refused).category() ? 1 : 0;
  bytes = bytes.substr(0, kMostParentAnswer);
  head.size = static_cast<std::uint32_t>(bytes.size());
  std::array<iovec, 2> parts = {
      {{&head, sizeof head}, {const_cast<char*>(bytes.data()), bytes.size()}}};
  msghdr header{};
  header.msg_iov = parts.data();
  header.msg_iovlen = parts.size();
  (void)::sendmsg(socket, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void answer_error(int socket, const Error& error) {
  const bool is_refused = error.code() == make_error_code(Errc::refused);
  answer(socket, is_refused ? ParentAnswer::refused : ParentAnswer::failed, error, error.step());
}

Result<ParentLink> fork_parent(ParentRules rules, const Account* own) {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
    return system_error("make the parent's socket");
  FileDescriptor ours(ends[0]), theirs(ends[1]);
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
    return system_error("make the PAM helper's socket");
  FileDescriptor pam_ours(ends[0]), pam_theirs(ends[1]);
  rules.own = own != nullptr ? *own : Account{"", ::geteuid(), ::getegid()};
  rules.may_become_users = rules.own.uid != 0 && may_become_users();
  rules.source.own_user =
      rules.own.name.empty() ? delivery::home_of_this_user().user : rules.own.name;
  CommandGroups groups;
  if (const auto folder = CommandGroups::own_folder(rules.own.uid); !folder.empty()) {
    auto divided = CommandGroups::divide(folder, rules.own.uid, rules.own.gid);
    if (!divided)
      std::fprintf(stderr, "postrider: commands have no control groups: %s\n",
                   divided.error().describe().c_str());
    else
      groups = std::move(*divided);
  }
  ParentLink link;
  link.may_become_users = rules.may_become_users;
  link.pid = ::fork();
  if (link.pid < 0)
    return system_error("fork the parent");
  if (link.pid == 0) {
    ours.reset();
    pam_ours.reset();
    be_parent(std::move(theirs), std::move(pam_theirs), std::move(rules), std::move(groups));
  }
  theirs.reset();
  ParentReply ready{};
  if (::recv(ours.get(), &ready, sizeof ready, 0) != sizeof ready || ready.magic != kParentMagic)
    return Error(Errc::refused, "start the privileged parent");
  link.socket = std::move(ours);
  link.pam = std::move(pam_ours);
  return link;
}

}  // namespace postrider::daemon
