#include "daemon/privsep/capabilities.h"
#include "daemon/privsep/confinement.h"
#include "daemon/privsep/pam_keeper.h"
#include "daemon/privsep/parent_checks.h"
#include "daemon/privsep/parent_client.h"
#include "tests/unit/base/temporary_folder.h"
#include "tests/unit/daemon/apart.h"

#include <catch2/catch.hpp>

#include <arpa/inet.h>
#include <array>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <functional>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace postrider;
using namespace postrider::daemon;

namespace {

// The sanitizers look at their own process from a clone of it: there the sandbox lets it be.
#ifdef __SANITIZE_ADDRESS__
constexpr bool kIsSanitized = true;
#elif defined(__has_feature)
constexpr bool kIsSanitized = __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
constexpr bool kIsSanitized = false;
#endif

// 0, or the errno of an attempt to open.
int try_open(const std::string& path, int flags = O_RDONLY) {
  const int fd = ::open(path.c_str(), flags, 0600);
  return fd >= 0 ? 0 : errno;
}

int try_start(const char* program) {
  char* const arguments[] = {const_cast<char*>(program), nullptr};
  ::execve(program, arguments, nullptr);
  return errno;
}

sockaddr_storage address(const char* host, std::uint16_t port) {
  sockaddr_storage storage{};
  sockaddr_in in{};
  in.sin_family = AF_INET;
  in.sin_port = htons(port);
  ::inet_pton(AF_INET, host, &in.sin_addr);
  std::memcpy(&storage, &in, sizeof in);
  return storage;
}

}  // namespace

TEST_CASE("the parent takes whole requests of its protocol only", "[daemon][privilege]") {
  ParentRequest request;
  CHECK(check_form(request, sizeof request, 3).has_value());
  CHECK_FALSE(check_form(request, sizeof request - 1, 3).has_value());
  CHECK_FALSE(check_form(request, 0, 3).has_value());
  for (const std::size_t count : {0U, 1U, 2U})
    CHECK_FALSE(check_form(request, sizeof request, count).has_value());
  request.verb = static_cast<ParentVerb>(6);
  CHECK_FALSE(check_form(request, sizeof request, 0).has_value());
  request = {};
  request.user.fill('a');
  CHECK_FALSE(check_form(request, sizeof request, 3).has_value());
  request = {};
  request.source = 3;
  CHECK_FALSE(check_form(request, sizeof request, 3).has_value());
  request = {};
  request.magic = 0;
  CHECK_FALSE(check_form(request, sizeof request, 3).has_value());
}

TEST_CASE("the parent never becomes root, nor whom the configuration does not allow",
          "[daemon][privilege]") {
  ParentRules rules;
  rules.own = {"postrider", 12345, 12345};
  rules.may_become_users = true;
  CHECK(check_user(rules, "")->uid == 12345);
  CHECK_FALSE(check_user(rules, "nobody").has_value());
  rules.alias_user = "nobody";
  CHECK(check_user(rules, "nobody")->name == "nobody");
  rules.alias_user = "daemon";  // below the minimum
  CHECK_FALSE(check_user(rules, "daemon").has_value());
  rules.alias_user = "root";
  CHECK_FALSE(check_user(rules, "root").has_value());
  rules.alias_user.clear();
  for (const char* name : {"root", "daemon", "no-such-user", "../x", "a b", "root\n", "-x:"}) {
    INFO(name);
    CHECK_FALSE(check_user(rules, name).has_value());
  }
  const auto bin = find_account("bin");
  REQUIRE(bin.has_value());
  rules.minimum_uid = bin->uid;  // itself is not below it
  CHECK(check_user(rules, "bin")->uid == bin->uid);
  rules.minimum_uid = bin->uid + 1;
  CHECK_FALSE(check_user(rules, "bin").has_value());
  rules.command_users = {"bin", "root"};
  CHECK_FALSE(check_user(rules, "bin").has_value());  // to read its .forward
  CHECK(check_user(rules, "bin", true)->uid == bin->uid);
  CHECK_FALSE(check_user(rules, "root", true).has_value());
  CHECK_FALSE(check_user(rules, "daemon", true).has_value());
  rules.minimum_uid = 0;
  CHECK_FALSE(check_user(rules, "root").has_value());
  rules.users = {"somebody"};
  CHECK_FALSE(check_user(rules, "nobody").has_value());
}

TEST_CASE("as root: the group of the mailboxes is one that root has given them",
          "[daemon][privilege]") {
  if (::geteuid() != 0) {
    WARN("not run: needs root");
    return;
  }
  const TemporaryFolder folder;
  ParentRules rules;
  rules.mailbox_root = folder / "mail";
  CHECK(mailbox_group(rules) == 0);
  REQUIRE(::mkdir(rules.mailbox_root.c_str(), 0700) == 0);
  const auto group_of = [&](uid_t owner, mode_t mode) {
    REQUIRE(::chown(rules.mailbox_root.c_str(), owner, 4242) == 0);
    REQUIRE(::chmod(rules.mailbox_root.c_str(), mode) == 0);
    return mailbox_group(rules);
  };
  CHECK(group_of(0, 02775) == 4242);
  CHECK(group_of(0, 0755) == 0);
  CHECK(group_of(4241, 02775) == 0);
  rules.mailbox_root = folder / "file";
  std::ofstream(rules.mailbox_root) << "x";
  CHECK(group_of(0, 0664) == 0);
}

TEST_CASE("the parent reads .forward files and nothing else", "[daemon][privilege]") {
  ParentRules rules;
  CHECK_FALSE(check_forward_name(rules, ".forward").has_value());
  rules.forward = ".forward";
  rules.source.separator = "+-";
  CHECK(check_forward_name(rules, ".forward").has_value());
  CHECK(check_forward_name(rules, ".forward+tag").has_value());
  CHECK(check_forward_name(rules, ".forward-a+b").has_value());
  for (const char* name :
       {"", ".forwar", ".forward/", ".forward+a/b", "../.forward", ".forward+a b", ".forward.bak",
        ".forwarded", ".forward=x", ".forward+", ".ssh/id_rsa", ".forward/../x"}) {
    INFO(name);
    CHECK_FALSE(check_forward_name(rules, name).has_value());
  }
}

TEST_CASE("the parent runs commands of the configuration's credentials files only",
          "[daemon][privilege]") {
  Config config;
  config.routes.resize(2);
  config.routes[1].credentials = "/etc/postrider/relay";
  const auto rules = parent_rules(config, "/no/such/file");
  CHECK(check_credentials_name(rules, "/etc/postrider/relay").has_value());
  for (const char* path : {"", "/etc/postrider/relay2", "/etc/postrider/../postrider/relay", "/"}) {
    INFO(path);
    CHECK_FALSE(check_credentials_name(rules, path).has_value());
  }
}

TEST_CASE("a token command through the parent, and refusals", "[daemon][privilege]") {
  const TemporaryFolder folder;
  const auto path = folder / "relay";
  std::ofstream(path) << "user = u\ntoken_command = /bin/echo token\n";
  ::chmod(path.c_str(), 0600);
  Config config;
  config.routes.resize(1);
  config.routes[0].credentials = path;
  auto link = fork_parent(parent_rules(config, "/no/such/file"), nullptr);
  REQUIRE(link.has_value());
  ParentClient parent(std::move(*link));
  CHECK(*parent.run_token_command(path, -1) == "token\n");
  CHECK(parent.run_token_command(folder / "other", -1)
            .error()
            .step()
            .starts_with("run the command of a file that no route.credentials names"));
  CHECK_FALSE(parent.run_token_command(folder / std::string(2000, 'x'), -1).has_value());
  std::ofstream(path) << "user = u\npassword = p\n";
  CHECK(parent.run_token_command(path, -1).error().step() ==
        path + " has no token_command any more");
  std::ofstream(path) << "user = u\ntoken_command = /bin/sleep 100\n";
  int stop[2];
  REQUIRE(::pipe(stop) == 0);
  ::close(stop[1]);  // readable: the end
  CHECK(parent.run_token_command(path, stop[0]).error().code() == make_error_code(Errc::stopped));
  ::close(stop[0]);
}

TEST_CASE("the parent binds to the addresses of the configuration", "[daemon][privilege]") {
  ParentRules rules;
  rules.listeners = {"127.0.0.1:25", "[::1]:25", "systemd:smtp", "unix:/run/x"};
  constexpr auto kSize = sizeof(sockaddr_in);
  CHECK(check_address(rules, address("127.0.0.1", 25), kSize).has_value());
  CHECK_FALSE(check_address(rules, address("127.0.0.1", 26), kSize).has_value());
  CHECK_FALSE(check_address(rules, address("127.0.0.2", 25), kSize).has_value());
  CHECK_FALSE(check_address(rules, address("127.0.0.1", 25), kSize + 1).has_value());
  CHECK_FALSE(check_address(rules, sockaddr_storage{}, kSize).has_value());
}

// Whatever it finds to run, it ends at once: nobody speaks to it on that socket.
TEST_CASE("the PAM helper is started again after a while, a longer one each time",
          "[daemon][privilege]") {
  Config config;
  config.auth.pam = "no-such-service";
  const auto rules = parent_rules(config, "/no/such/file");
  std::array<int, 2> ends{};
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
  const FileDescriptor other(ends[1]);
  PamKeeper keeper{FileDescriptor(ends[0])};
  auto now = std::chrono::steady_clock::now();
  keeper.serve(rules);
  // Processes of other tests may end meanwhile.
  const auto wait_for_it = [&](SteadyTime then) {
    pid_t ended = 0;
    while ((ended = ::waitpid(-1, nullptr, 0)) > 0 && !keeper.has_ended(ended, then)) {
    }
    REQUIRE(ended > 0);
    CHECK_FALSE(keeper.has_ended(ended, then));
  };
  const auto pause_after = [&](Duration lived) {
    CHECK_FALSE(keeper.due());
    wait_for_it(now + lived);
    REQUIRE(keeper.due());
    const auto pause = *keeper.due() - (now + lived);
    now = *keeper.due();
    keeper.start(rules, now);
    return std::chrono::duration_cast<std::chrono::seconds>(pause).count();
  };
  for (const int seconds : {1, 2, 4, 8, 16, 32, 60, 60})
    CHECK(pause_after(std::chrono::seconds(1)) == seconds);
  CHECK(pause_after(std::chrono::minutes(2)) == 1);  // it was well
  CHECK(pause_after(std::chrono::seconds(1)) == 2);
  wait_for_it(now);
}

TEST_CASE("what the configuration names is what the daemon may reach", "[daemon][privilege]") {
  Config config;
  config.spool = "/srv/spool";
  config.tls.certificate = {"/srv/tls/chain.pem"};
  config.local.aliases = {"/home/lists"};
  config.sandbox.read = {"/srv/lists"};
  const auto paths = sandbox_paths(config, "/etc/postrider/postrider.toml");
  const auto reads = [&](const std::string& path) {
    return std::find(paths.read.begin(), paths.read.end(), path) != paths.read.end();
  };
  CHECK(reads("/srv/tls"));
  CHECK(reads("/home/lists"));
  CHECK(reads("/srv/lists"));
  CHECK_FALSE(reads("/home"));
  CHECK_FALSE(reads("/var/mail"));
  Config other = config;
  other.tls.certificate = {"/opt/keys/chain.pem"};
  CHECK(out_of_reach(paths, sandbox_paths(config, "/etc/postrider/postrider.toml")).empty());
  CHECK(out_of_reach(paths, sandbox_paths(other, "/etc/postrider/postrider.toml")) ==
        std::vector<std::string>{"/opt/keys"});
}

TEST_CASE("a sandboxed process opens what it may, and nothing else", "[daemon][privilege]") {
  const TemporaryFolder folder;
  ::mkdir((folder / "in").c_str(), 0700);
  std::ofstream(folder / "outside") << "x";
  const auto result = apart([&] {
    if (!restrict_files({{"/etc", "/usr"}, {folder / "in"}}).empty())
      return 1;
    if (try_open("/etc/passwd") != 0 || try_open(folder / "in/file", O_CREAT | O_RDWR) != 0)
      return 2;
    if (try_open(folder / "outside") != EACCES || try_open(folder / "new", O_CREAT) != EACCES)
      return 3;
    if (try_open("/etc/new-file", O_CREAT | O_WRONLY) != EACCES)
      return 4;
    return try_start("/bin/false") == EACCES ? 0 : 5;
  });
  if (landlock_version() == 0)
    WARN("this kernel has no Landlock: files are not restricted");
  CHECK(result == (landlock_version() == 0 ? 1 : 0));
}

TEST_CASE("a sandboxed process makes no calls that it does not need", "[daemon][privilege]") {
  CHECK(apart([] {
          if (!restrict_calls().empty())
            return 1;
          if (try_start("/bin/false") != EPERM || ::setuid(0) != -1)
            return 2;
          const pid_t forked = kIsSanitized ? -1 : ::fork();
          if (forked == 0)
            ::_exit(0);
          if (forked != -1)
            return 5;
          if (::socket(AF_PACKET, SOCK_RAW, 0) != -1 || ::chroot("/") != -1)
            return 3;
          return ::socket(AF_INET, SOCK_STREAM, 0) >= 0 ? 0 : 4;
        }) == 0);
  CHECK(apart([] {
          if (!forbid_programs().empty())
            return 1;
          return try_start("/bin/false") == EPERM && ::socket(AF_UNIX, SOCK_STREAM, 0) == -1 ? 0
                                                                                             : 2;
        }) == 0);
}

TEST_CASE("a log folder that is everybody's takes new lines and files, and no more",
          "[daemon][privilege]") {
  const TemporaryFolder folder;
  std::ofstream(folder / "others") << "x";
  const auto result = apart([&] {
    if (!restrict_files({{}, {}, {folder.path()}}).empty())
      return 1;
    if (try_open(folder / "mail.log", O_CREAT | O_WRONLY | O_APPEND) != 0)
      return 2;
    if (try_open(folder / "others") != EACCES || ::unlink((folder / "others").c_str()) != -1 ||
        ::rename((folder / "mail.log").c_str(), (folder / "others").c_str()) != -1)
      return 3;
    if (::mkdir((folder / "made").c_str(), 0700) != -1 || try_open(folder.path()) != EACCES)
      return 4;
    return ::symlink("/etc", (folder / "link").c_str()) == -1 ? 0 : 5;
  });
  CHECK(result == (landlock_version() == 0 ? 1 : 0));
}

// Each of them, as it fails where nothing forbids it: with another error, or not at all.
TEST_CASE("a delivery has no way to a program, a network or another user", "[daemon][privilege]") {
  const std::initializer_list<std::pair<const char*, std::array<long, 6>>> calls = {
      {"execve", {SYS_execve, 0, 0, 0}},
      {"execveat", {SYS_execveat, -1, 0, 0, 0, 0}},
      {"clone", {SYS_clone, CLONE_THREAD, 0, 0, 0, 0}},
      {"clone3", {SYS_clone3, 0, 0}},
      {"socket", {SYS_socket, -1, 0, 0}},
      {"connect", {SYS_connect, -1, 0, 0}},
      {"bind", {SYS_bind, -1, 0, 0}},
      {"listen", {SYS_listen, -1, 0}},
      {"accept", {SYS_accept, -1, 0, 0}},
      {"accept4", {SYS_accept4, -1, 0, 0, 0}},
      {"ptrace", {SYS_ptrace, PTRACE_CONT, -1, 0, 0}},
      {"process_vm_readv", {SYS_process_vm_readv, -1, 0, 0, 0, 0}},
      {"process_vm_writev", {SYS_process_vm_writev, -1, 0, 0, 0, 0}},
      {"pidfd_getfd", {SYS_pidfd_getfd, -1, 0, 0}},
      {"unshare", {SYS_unshare, 0}},
      {"setns", {SYS_setns, -1, 0}},
      {"setuid", {SYS_setuid, -1}},
      {"setgid", {SYS_setgid, -1}},
      {"setreuid", {SYS_setreuid, -1, -1}},
      {"setregid", {SYS_setregid, -1, -1}},
      {"setresuid", {SYS_setresuid, -1, -1, -1}},
      {"setresgid", {SYS_setresgid, -1, -1, -1}},
      {"setfsuid", {SYS_setfsuid, -1}},
      {"setfsgid", {SYS_setfsgid, -1}},
      {"keyctl", {SYS_keyctl, -1, 0, 0, 0, 0}}};
  for (const auto& [name, call] : calls) {
    INFO(name);
    CHECK(apart([&one = call] {
            if (!forbid_programs().empty())
              return 1;
            const auto result = ::syscall(one[0], one[1], one[2], one[3], one[4], one[5]);
            return result == -1 && errno == EPERM ? 0 : 2;
          }) == 0);
  }
}

TEST_CASE("as root: once forbidden, nobody is root again", "[daemon][privilege]") {
  if (::geteuid() != 0) {
    WARN("not run: needs root");
    return;
  }
  CHECK(apart([] {
          if (!forbid_root().has_value())
            return 1;
          if (::setresuid(0, 0, 0) != -1 || ::setuid(0) != -1 || ::setreuid(0, 0) != -1)
            return 2;
          // The kernel looks at the lower half of what it is given.
          constexpr long kRoot = 1L << 32U;
          for (const auto& ids :
               {std::array<long, 3>{kRoot, -1, -1}, {-1, kRoot, -1}, {-1, -1, kRoot}})
            if (::syscall(SYS_setresuid, ids[0], ids[1], ids[2]) != -1)
              return 5;
          if (::syscall(SYS_setuid, kRoot) != -1 || ::syscall(SYS_setreuid, kRoot, -1) != -1 ||
              ::syscall(SYS_setreuid, -1, kRoot) != -1 || ::syscall(SYS_setfsuid, kRoot) != -1)
            return 6;
          if (::setresuid(65534, 65534, 65534) != 0 || !keep_only(0, 0).has_value())
            return 3;
          return effective_capabilities() == 0 && try_open("/etc/shadow") == EACCES ? 0 : 4;
        }) == 0);
}

TEST_CASE("a delivery through the parent, and a refusal", "[daemon][privilege]") {
  const TemporaryFolder folder;
  Config config;
  config.local.mailbox = "maildir:" + folder.path() + "/{user}/";
  auto link = fork_parent(parent_rules(config, "/no/such/file"), nullptr);
  REQUIRE(link.has_value());
  ParentClient parent(std::move(*link));
  delivery::LocalJob job;
  job.name = "no-such-account";
  job.target.root = folder.path();
  job.target.place = folder / "no-such-account";
  job.envelope.id = "1";
  job.envelope.delivered_to = "no-such-account@us.test";
  job.size = 3;
  const auto deliver = [&] {
    return parent.perform(job, {std::make_shared<const std::string>("x\r\n"), {}});
  };
  CHECK(deliver().verdict == mail::Verdict::delivered);
  CHECK(::access((folder / "no-such-account/new").c_str(), F_OK) == 0);
  const auto refused = [&] {
    const auto outcome = deliver();
    return outcome.verdict == mail::Verdict::retry &&
           outcome.text.find("does not say that") != std::string::npos;
  };
  job.target.place = folder / "other";
  CHECK(refused());
  job.target.place = folder / "no-such-account";
  job.target.kind = delivery::LocalTarget::Kind::mbox;
  CHECK(refused());
  job.target.kind = delivery::LocalTarget::Kind::command;
  job.target.arguments = {"/bin/true"};
  CHECK(refused());
  job.target = {};
  job.source = delivery::LocalSource::place;
  job.target.kind = delivery::LocalTarget::Kind::maildir;
  job.target.place = folder / "free";
  CHECK(deliver().text.find("there is none") != std::string::npos);
  CHECK(::access((folder / "free").c_str(), F_OK) != 0);
  CHECK_FALSE(parent.read_forward("root", ".ssh/id_rsa").has_value());
  CHECK(parent.read_forward("root", ".forward").value() == std::nullopt);
  CHECK_FALSE(parent.reload().has_value());
  const auto forbidden = address("127.0.0.1", 1);
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const auto bound =
      parent.bind(socket, reinterpret_cast<const sockaddr*>(&forbidden), sizeof(sockaddr_in));
  CHECK(bound.error().code() == make_error_code(Errc::refused));
  ::close(socket);
}
