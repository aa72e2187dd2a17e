// seccomp, by libseccomp. The daemon has a list of what it may call; processes that do one thing
// have a list of what they may not.
#include "daemon/privsep/sandbox.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <initializer_list>
#include <linux/netlink.h>
#include <memory>
#include <netinet/in.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

namespace postrider::daemon {

namespace {

struct Release {
  void operator()(void* filter) const { ::seccomp_release(filter); }
};
using Filter = std::unique_ptr<void, Release>;

// By purpose. Names that a kernel or a machine does not have are left out.
constexpr const char* kMemory[] = {"brk",        "munmap", "mremap",       "madvise",
                                   "membarrier", "mlock",  "munlock",      "memfd_create",
                                   "mincore",    "msync",  "get_mempolicy"};
constexpr const char* kThreads[] = {"futex",
                                    "futex_waitv",
                                    "set_robust_list",
                                    "get_robust_list",
                                    "rseq",
                                    "set_tid_address",
                                    "sched_yield",
                                    "sched_getaffinity",
                                    "sched_getparam",
                                    "sched_getscheduler",
                                    "sched_get_priority_max",
                                    "sched_get_priority_min",
                                    "gettid",
                                    "getpid",
                                    "getppid",
                                    "exit",
                                    "exit_group",
                                    "arch_prctl",
                                    "getcpu",
                                    "restart_syscall"};
constexpr const char* kTime[] = {"clock_gettime",
                                 "clock_gettime64",
                                 "clock_getres",
                                 "clock_nanosleep",
                                 "nanosleep",
                                 "gettimeofday",
                                 "time",
                                 "timerfd_create",
                                 "timerfd_settime",
                                 "timerfd_gettime",
                                 "timer_create",
                                 "timer_settime",
                                 "timer_delete",
                                 "times"};
constexpr const char* kSignals[] = {"rt_sigaction",    "rt_sigprocmask", "rt_sigreturn",
                                    "rt_sigtimedwait", "rt_sigpending",  "sigaltstack",
                                    "signalfd4",       "rt_sigsuspend",  "pause"};
constexpr const char* kFiles[] = {"close",
                                  "close_range",
                                  "read",
                                  "write",
                                  "readv",
                                  "writev",
                                  "pread64",
                                  "pwrite64",
                                  "preadv",
                                  "pwritev",
                                  "preadv2",
                                  "pwritev2",
                                  "lseek",
                                  "fsync",
                                  "fdatasync",
                                  "sync_file_range",
                                  "ftruncate",
                                  "truncate",
                                  "fallocate",
                                  "fadvise64",
                                  "stat",
                                  "fstat",
                                  "lstat",
                                  "newfstatat",
                                  "statx",
                                  "statfs",
                                  "fstatfs",
                                  "access",
                                  "faccessat",
                                  "faccessat2",
                                  "readlink",
                                  "readlinkat",
                                  "getdents",
                                  "getdents64",
                                  "rename",
                                  "renameat",
                                  "renameat2",
                                  "link",
                                  "linkat",
                                  "unlink",
                                  "unlinkat",
                                  "rmdir",
                                  "utimensat",
                                  "umask",
                                  "getcwd",
                                  "chdir",
                                  "fchdir",
                                  "flock",
                                  "dup",
                                  "dup2",
                                  "dup3",
                                  "pipe",
                                  "pipe2",
                                  "inotify_init",
                                  "inotify_init1",
                                  "inotify_add_watch",
                                  "inotify_rm_watch",
                                  "sendfile",
                                  "splice",
                                  "copy_file_range",
                                  "getxattr",
                                  "fgetxattr",
                                  "lgetxattr"};
constexpr const char* kNetwork[] = {
    "bind",        "listen",       "accept",       "accept4",       "connect",   "getsockname",
    "getpeername", "getsockopt",   "setsockopt",   "sendto",        "recvfrom",  "sendmsg",
    "recvmsg",     "sendmmsg",     "recvmmsg",     "shutdown",      "poll",      "ppoll",
    "select",      "pselect6",     "epoll_create", "epoll_create1", "epoll_ctl", "epoll_wait",
    "epoll_pwait", "epoll_pwait2", "eventfd",      "eventfd2"};
constexpr const char* kFacts[] = {"getuid",    "geteuid",   "getgid",    "getegid",
                                  "getgroups", "getresuid", "getresgid", "uname",
                                  "sysinfo",   "getrandom", "getrlimit", "getrusage",
                                  "getpgrp",   "getsid",    "getpgid",   "capget"};
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define POSTRIDER_SANITIZED 1
#endif
#endif
#ifdef POSTRIDER_SANITIZED
// The sanitizers look at their own process from a clone of it, and personality(2).
constexpr const char* kSanitizers[] = {"ptrace",           "wait4", "personality",
                                       "process_vm_readv", "clone", "prctl"};
#endif

// For programs that PAM's modules start, and for the modules.
constexpr const char* kPrograms[] = {
    "clone",       "fork",       "vfork",     "execve",        "wait4",     "waitid",
    "alarm",       "setitimer",  "getitimer", "setsid",        "setpgid",   "setuid",
    "setgid",      "setreuid",   "setregid",  "setresuid",     "setresgid", "setgroups",
    "setfsuid",    "setfsgid",   "prctl",     "setrlimit",     "mmap",      "mmap2",
    "mprotect",    "chown",      "fchown",    "lchown",        "fchownat",  "utime",
    "utimes",      "sysinfo",    "capset",    "ioctl",         "fcntl",     "socketpair",
    "getpriority", "faccessat2", "creat",     "sched_getattr", "pidfd_open"};

// Programs, other processes, other networks: what a mailbox and a .forward never need.
constexpr const char* kNeverNeeded[] = {"execve",
                                        "execveat",
                                        "fork",
                                        "vfork",
                                        "clone",
                                        "clone3",
                                        "bind",
                                        "listen",
                                        "accept",
                                        "accept4",
                                        "ptrace",
                                        "process_vm_readv",
                                        "process_vm_writev",
                                        "pidfd_getfd",
                                        "io_uring_setup",
                                        "bpf",
                                        "perf_event_open",
                                        "keyctl",
                                        "add_key",
                                        "request_key",
                                        "unshare",
                                        "setns",
                                        "mount",
                                        "umount2",
                                        "chroot",
                                        "pivot_root",
                                        "userfaultfd",
                                        "open_by_handle_at",
                                        "setuid",
                                        "setgid",
                                        "setreuid",
                                        "setregid",
                                        "setresuid",
                                        "setresgid",
                                        "setgroups",
                                        "setfsuid",
                                        "setfsgid"};

constexpr const char* kToServers[] = {"socket", "connect"};

// Of the lower half, as the kernel reads ids, families and requests.
scmp_arg_cmp is(unsigned argument, std::uint32_t value) {
  return {argument, SCMP_CMP_MASKED_EQ, 0xffffffffU, value};
}
scmp_arg_cmp is(unsigned argument, int value) {
  return is(argument, static_cast<std::uint32_t>(value));
}

// The first failure is kept.
class Rules {
 public:
  Rules(std::uint32_t fallback, std::uint32_t action)
      : filter_(::seccomp_init(fallback)), action_(action) {
    failed_ = filter_ ? 0 : -ENOMEM;
  }
  template <std::size_t Size>
  void add(const char* const (&names)[Size]) {
    for (const char* name : names)
      add(name);
  }
  void add(const char* name) { add_if(name, {}); }
  void add_if(const char* name, std::initializer_list<scmp_arg_cmp> conditions) {
    const int number = ::seccomp_syscall_resolve_name(name);
    if (number == __NR_SCMP_ERROR || failed_ != 0)
      return;
    const int result =
        ::seccomp_rule_add_array(filter_.get(), action_, number,
                                 static_cast<unsigned>(conditions.size()), conditions.begin());
    if (result != 0 && result != -EDOM)  // -EDOM: not on this machine
      failed_ = result;
  }
  void action(std::uint32_t action) { action_ = action; }
  std::string enter(bool all_threads) {
    if (failed_ == 0)
      failed_ = ::seccomp_attr_set(filter_.get(), SCMP_FLTATR_CTL_NNP, 1);
    if (failed_ == 0)
      failed_ = ::seccomp_attr_set(filter_.get(), SCMP_FLTATR_CTL_TSYNC, all_threads ? 1 : 0);
    if (failed_ == 0)
      failed_ = ::seccomp_attr_set(filter_.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2);
    if (failed_ == 0)
      failed_ = ::seccomp_load(filter_.get());
    return failed_ == 0 ? std::string() : std::string("seccomp: ") + std::strerror(-failed_);
  }

 private:
  Filter filter_;
  std::uint32_t action_;
  int failed_ = 0;
};

// Memory is written or executed, never both; what is written never becomes a program. Modules of
// the C library are still loaded.
void add_memory(Rules& rules) {
#ifdef POSTRIDER_SANITIZED
  for (const char* call : {"mmap", "mmap2", "mprotect"})
    rules.add(call);
#else
  constexpr std::uint64_t kWrite = PROT_WRITE, kRun = PROT_EXEC;
  constexpr std::uint64_t kBoth = kWrite | kRun;
  for (const char* call : {"mmap", "mmap2"})
    for (const std::uint64_t allowed : {std::uint64_t{0}, kWrite, kRun})
      rules.add_if(call, {scmp_arg_cmp{2, SCMP_CMP_MASKED_EQ, kBoth, allowed}});
  rules.add_if("mprotect", {scmp_arg_cmp{2, SCMP_CMP_MASKED_EQ, kRun, 0}});
#endif
}

// TCP and UDP, Unix sockets, and of the kernel's own protocols those that tell of routes and of
// sockets.
void add_sockets(Rules& rules) {
  for (const int family : {AF_INET, AF_INET6})
    for (const int protocol : {0, int{IPPROTO_TCP}, int{IPPROTO_UDP}})
      rules.add_if("socket", {is(0, family), is(2, protocol)});
  rules.add_if("socket", {is(0, AF_UNIX)});
  for (const int protocol : {NETLINK_ROUTE, NETLINK_SOCK_DIAG})
    rules.add_if("socket", {is(0, AF_NETLINK), is(2, protocol)});
}

// No file gets a set-user-id or a set-group-id bit: whoever could start such a program would have
// our user's rights outside of this. What openat2(2) is asked for lies in memory, where no filter
// sees it.
void add_files(Rules& rules) {
  rules.add(kFiles);
  constexpr std::uint64_t kSetId = S_ISUID | S_ISGID;
  constexpr std::uint64_t kMakes = O_CREAT | (O_TMPFILE & ~O_DIRECTORY);
  const auto plain = [&](unsigned argument) {
    return scmp_arg_cmp{argument, SCMP_CMP_MASKED_EQ, kSetId, 0};
  };
  struct Call {
    const char* name;
    unsigned mode;  // which argument that is
  };
  for (const auto& [name, mode] : {Call{"mkdir", 1}, Call{"mkdirat", 2}, Call{"chmod", 1},
                                   Call{"fchmod", 1}, Call{"fchmodat", 2}})
    rules.add_if(name, {plain(mode)});
  for (const auto& [name, mode] : {Call{"open", 2}, Call{"openat", 3}}) {
    rules.add_if(name, {scmp_arg_cmp{mode - 1, SCMP_CMP_MASKED_EQ, kMakes, 0}});
    rules.add_if(name, {plain(mode)});
  }
}

// How this thread is scheduled, and no other process of its user.
void add_scheduling(Rules& rules) {
  rules.add_if("setpriority", {is(0, PRIO_PROCESS), is(1, 0U)});
  for (const char* call : {"sched_setaffinity", "sched_setscheduler"})
    rules.add_if(call, {is(0, 0U)});
}

// Signals and limits of this process, of no other of its user: the parent is one. fcntl(2) without
// what makes the kernel send signals.
void add_own_process(Rules& rules) {
  const auto own = static_cast<std::uint32_t>(::getpid());
  rules.add_if("kill", {is(0, own)});
  rules.add_if("tgkill", {is(0, own)});
  rules.add_if("prlimit64", {is(0, 0U)});
  for (const int command : {F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETLK,
                            F_SETLK, F_SETLKW, F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW, F_ADD_SEALS,
                            F_GET_SEALS, F_GETPIPE_SZ, F_SETPIPE_SZ})
    rules.add_if("fcntl", {is(1, command)});
}

}  // namespace

std::string restrict_calls() {
  Rules rules(SCMP_ACT_ERRNO(EPERM), SCMP_ACT_ALLOW);
  rules.add(kMemory);
  rules.add(kThreads);
  rules.add(kTime);
  rules.add(kSignals);
  add_files(rules);
  add_scheduling(rules);
  rules.add(kNetwork);
  rules.add(kFacts);
  add_memory(rules);
  add_sockets(rules);
  rules.add_if("socketpair", {is(0, AF_UNIX)});
  add_own_process(rules);
  // A thread, never a process; the name of a thread.
  rules.add_if("clone", {scmp_arg_cmp{0, SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD}});
  rules.add_if("prctl", {is(0, PR_SET_NAME)});
  // On terminals and sockets: how much there is to read, non-blocking, is it a terminal.
  for (const std::uint32_t request : {0x541BU, 0x5421U, 0x5401U, 0x5413U})
    rules.add_if("ioctl", {is(1, request)});
#ifdef POSTRIDER_SANITIZED
  rules.add(kSanitizers);
#endif
  // Its flags lie in memory, where no filter sees them: the C library then uses clone.
  rules.action(SCMP_ACT_ERRNO(ENOSYS));
  rules.add("openat2");
  rules.add("clone3");
  return rules.enter(true);
}

std::string restrict_helper_calls() {
  Rules rules(SCMP_ACT_ERRNO(EPERM), SCMP_ACT_ALLOW);
  rules.add(kMemory);
  rules.add(kThreads);
  rules.add(kTime);
  rules.add(kSignals);
  add_files(rules);
  add_scheduling(rules);
  rules.add(kNetwork);
  rules.add(kFacts);
  rules.add(kPrograms);
  add_sockets(rules);
  rules.add_if("prlimit64", {is(0, 0U)});
  rules.add("tgkill");
  // A kernel without audit is something that PAM does with; a refusal is not.
  rules.action(SCMP_ACT_ERRNO(EPROTONOSUPPORT));
  rules.add_if("socket", {is(0, AF_NETLINK), is(2, NETLINK_AUDIT)});
  rules.action(SCMP_ACT_ALLOW);
#ifdef POSTRIDER_SANITIZED
  rules.add(kSanitizers);
#endif
  rules.action(SCMP_ACT_ERRNO(ENOSYS));
  rules.add("openat2");
  rules.add("clone3");
  return rules.enter(false);
}

void hide_memory(bool hidden) {
#ifdef POSTRIDER_SANITIZED  // the leak checker looks from a clone
  hidden = false;
#endif
  (void)::prctl(PR_SET_DUMPABLE, hidden ? 0 : 1, 0, 0, 0);
}

std::string forbid_programs(bool asks_servers) {
  Rules rules(SCMP_ACT_ALLOW, SCMP_ACT_ERRNO(EPERM));
  rules.add(kNeverNeeded);
  if (!asks_servers)
    rules.add(kToServers);
  return rules.enter(false);
}

Result<void> forbid_root() {
  Rules rules(SCMP_ACT_ALLOW, SCMP_ACT_ERRNO(EPERM));
  rules.add_if("setuid", {is(0, 0U)});
  rules.add_if("setreuid", {is(0, 0U)});
  rules.add_if("setreuid", {is(1, 0U)});
  rules.add_if("setresuid", {is(0, 0U)});
  rules.add_if("setresuid", {is(1, 0U)});
  rules.add_if("setresuid", {is(2, 0U)});
  rules.add("setfsuid");
  if (const auto why = rules.enter(false); !why.empty())
    return Error(Errc::unsupported, "forbid user 0 (" + why + ")");
  return {};
}

}  // namespace postrider::daemon
