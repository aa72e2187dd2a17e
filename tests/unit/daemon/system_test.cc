// The service manager's protocols, users, and signals.
#include "daemon/inherited.h"
#include "daemon/log/events.h"
#include "daemon/notify.h"
#include "daemon/privsep/privileges.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <grp.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace fs = std::filesystem;
using namespace postrider;
using namespace postrider::daemon;

namespace {

struct Folder {
  Folder() {
    char name[] = "/tmp/postrider-system-XXXXXX";
    path = mkdtemp(name);
  }
  ~Folder() { fs::remove_all(path); }
  fs::path path;
};

// The service manager's end. name: as in NOTIFY_SOCKET.
class FakeManager {
 public:
  explicit FakeManager(const std::string& name) : socket_(socket(AF_UNIX, SOCK_DGRAM, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, name.data(), name.size());
    if (name.front() == '@')
      address.sun_path[0] = '\0';
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
    REQUIRE(bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), size) == 0);
  }
  std::string next() {
    char room[1024];
    const auto got = recv(socket_.get(), room, sizeof room, MSG_DONTWAIT);
    return got < 0 ? "" : std::string(room, static_cast<std::size_t>(got));
  }

 private:
  FileDescriptor socket_;
};

FileDescriptor listening_socket() {
  FileDescriptor fd(socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  REQUIRE(bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  REQUIRE(listen(fd.get(), 1) == 0);
  return fd;
}

// Runs in a child, where ids may be changed for good; true if it says so.
bool in_child(bool (*work)()) {
  const auto pid = fork();
  if (pid == 0)
    std::_Exit(work() ? 0 : 1);
  int status = 0;
  REQUIRE(waitpid(pid, &status, 0) == pid);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// Groups of root's that nobody else must keep, group 0 among them.
bool take_roots_groups() {
  constexpr std::array<gid_t, 2> kGroups{0, 4242};
  return setgroups(kGroups.size(), kGroups.data()) == 0;
}

bool has_roots_groups() {
  std::array<gid_t, 64> groups{};
  const int count = getgroups(groups.size(), groups.data());
  return count < 0 || std::any_of(groups.begin(), groups.begin() + count,
                                  [](gid_t group) { return group == 0 || group == 4242; });
}

Account nobody() {
  auto account = find_account("nobody");
  return account ? *account : Account{};
}

}  // namespace

TEST_CASE("the service manager hears of every change", "[daemon][notify]") {
  const Folder folder;
  for (const std::string& name :
       {(folder.path / "notify").string(), "@postrider-test-" + std::to_string(getpid())}) {
    FakeManager manager(name);
    Notifier notifier(name);
    notifier.ready("listening on 127.0.0.1:25");
    CHECK(manager.next() == "READY=1\nSTATUS=listening on 127.0.0.1:25");
    notifier.reloading(SteadyTime(std::chrono::microseconds(1234567)));
    CHECK(manager.next() == "RELOADING=1\nMONOTONIC_USEC=1234567\nSTATUS=reloading");
    notifier.stopping("a\nREADY=1");
    CHECK(manager.next() == "STOPPING=1\nSTATUS=a\\x0aREADY=1");
    notifier.alive();
    CHECK(manager.next() == "WATCHDOG=1");
  }
}

TEST_CASE("what the manager shows is whole as far as it fits in a line", "[daemon][notify]") {
  const Folder folder;
  const auto name = (folder.path / "notify").string();
  FakeManager manager(name);
  Notifier notifier(name);
  const std::string refused =
      "configuration refused: /etc/postrider/postrider.toml:31: acept: unknown key; did you mean "
      "accept? (one of several problems that stand in this file)";
  for (const auto size : {refused.size(), std::size_t{200}}) {
    const auto text = refused + std::string(size - refused.size(), 'x');
    notifier.ready(text);
    CHECK(manager.next() == "READY=1\nSTATUS=" + text);
  }
  notifier.ready(std::string(5000, 'x'));
  CHECK(manager.next() == "READY=1\nSTATUS=" + std::string(200, 'x') + "...");
}

TEST_CASE("the manager's variables are taken once and not passed on", "[daemon][notify]") {
  setenv("NOTIFY_SOCKET", "/nowhere", 1);
  setenv("WATCHDOG_USEC", "3000000", 1);
  setenv("WATCHDOG_PID", std::to_string(getpid()).c_str(), 1);
  auto notifier = Notifier::from_environment();
  CHECK(notifier.watchdog() == std::optional(Duration(3000)));
  CHECK(std::getenv("NOTIFY_SOCKET") == nullptr);
  CHECK(std::getenv("WATCHDOG_USEC") == nullptr);
  notifier.ready("nobody listens, and nothing happens");
  setenv("WATCHDOG_USEC", "3000000", 1);
  setenv("WATCHDOG_PID", "1", 1);
  CHECK_FALSE(Notifier::from_environment().watchdog());
}

TEST_CASE("sockets of the service manager come with their names", "[daemon][inherited]") {
  const auto made = listening_socket();
  const int first = 200;
  REQUIRE(dup2(made.get(), first) == first);
  REQUIRE(dup2(made.get(), first + 1) == first + 1);
  FileDescriptor no_listener(socket(AF_INET, SOCK_DGRAM, 0));
  REQUIRE(dup2(no_listener.get(), first + 2) == first + 2);
  setenv("LISTEN_FDS", "4", 1);  // the fourth was never opened
  setenv("LISTEN_FDNAMES", "smtp::other:none", 1);

  SECTION("for another process") {
    setenv("LISTEN_PID", "1", 1);
    CHECK(take_inherited_sockets(first).empty());
    for (int fd = first; fd < first + 3; ++fd)
      close(fd);
  }
  SECTION("for this process") {
    setenv("LISTEN_PID", std::to_string(getpid()).c_str(), 1);
    const auto sockets = take_inherited_sockets(first);
    REQUIRE(sockets.size() == 2);
    CHECK(sockets[0].name == "smtp");
    CHECK(sockets[1].name == "unknown");
    CHECK(sockets[0].address.starts_with("127.0.0.1:"));
    CHECK(fcntl(first, F_GETFD) == FD_CLOEXEC);
    CHECK(fcntl(first + 2, F_GETFD) == -1);
  }
  CHECK(std::getenv("LISTEN_FDS") == nullptr);
  CHECK(std::getenv("LISTEN_FDNAMES") == nullptr);
}

TEST_CASE("a user that does not exist is not found", "[daemon][privileges]") {
  const auto account = find_account("no-such-user-here");
  REQUIRE(account.has_error());
  CHECK(account.error().code() == make_error_code(Errc::not_found));
}

TEST_CASE("the file limit is raised as far as it goes", "[daemon][privileges]") {
  rlimit limit{};
  REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  CHECK(raise_file_limit() == limit.rlim_max);
}

TEST_CASE("root acts as the user for its files and then becomes it for good",
          "[daemon][privileges]") {
  if (geteuid() != 0)
    return;  // nothing to give up
  CHECK(in_child([] {
    const auto account = nobody();
    if (!take_roots_groups() || !has_roots_groups())
      return false;
    {
      const auto acting = ActingAs::become(account);
      if (!acting || geteuid() != account.uid || getegid() != account.gid || has_roots_groups())
        return false;
    }
    return geteuid() == 0 && getegid() == 0;
  }));
  CHECK(in_child([] {
    const auto account = nobody();
    uid_t real = 0, effective = 0, saved = 0;
    return take_roots_groups() && become_for_good(account) &&
           getresuid(&real, &effective, &saved) == 0 && real == account.uid &&
           effective == account.uid && saved == account.uid && getgid() == account.gid &&
           seteuid(0) != 0 && setgid(0) != 0 && !has_roots_groups();
  }));
}

TEST_CASE("a missing folder is made for the user, an existing one stays", "[daemon][privileges]") {
  const Folder folder;
  const Account account = geteuid() == 0 ? nobody() : Account{"self", geteuid(), getegid()};
  const auto mask = umask(077);
  const auto made = folder.path / "a" / "spool";
  REQUIRE(provide_folder(made, account, 0700));
  struct stat status {};
  REQUIRE(stat(made.c_str(), &status) == 0);
  CHECK((status.st_mode & 07777U) == 0700);
  CHECK(status.st_uid == account.uid);
  REQUIRE(stat((folder.path / "a").c_str(), &status) == 0);
  CHECK((status.st_mode & 07777U) == 0755);
  REQUIRE(provide_folder(made, account, 0755));
  REQUIRE(stat(made.c_str(), &status) == 0);
  CHECK((status.st_mode & 07777U) == 0700);
  umask(mask);
}

TEST_CASE("as root: nobody's link leads a folder elsewhere", "[daemon][privileges]") {
  if (geteuid() != 0) {
    WARN("not run: needs root");
    return;
  }
  const Folder folder;
  const auto theirs = folder.path / "spool";
  const auto victim = folder.path / "victim";
  const auto account = nobody();
  for (const auto& path : {theirs, victim})
    REQUIRE(mkdir(path.c_str(), 0755) == 0);
  REQUIRE(chown(theirs.c_str(), account.uid, account.gid) == 0);
  REQUIRE(symlink(victim.c_str(), (theirs / "link").c_str()) == 0);
  REQUIRE(symlink((victim / "new").c_str(), (theirs / "dangling").c_str()) == 0);
  // Root's own link, but in a folder where its owner may put another in its place.
  CHECK_FALSE(provide_folder(theirs / "link" / "made", account, 0777));
  CHECK_FALSE(provide_folder(theirs / "dangling", account, 0777));
  CHECK_FALSE(provide_folder(theirs / "link", account, 0777));
  CHECK_FALSE(open_folder_as_root(theirs / "link").has_value());
  CHECK(access((victim / "made").c_str(), F_OK) != 0);
  CHECK(access((victim / "new").c_str(), F_OK) != 0);
  struct stat status {};
  REQUIRE(stat(victim.c_str(), &status) == 0);
  CHECK((status.st_uid == 0 && (status.st_mode & 07777U) == 0755));
  // In a folder where everybody may make one, a link is whose it is.
  const auto shared = folder.path / "shared";
  REQUIRE(mkdir(shared.c_str(), 0700) == 0);
  REQUIRE(chmod(shared.c_str(), 01777) == 0);
  REQUIRE(symlink(victim.c_str(), (shared / "theirs").c_str()) == 0);
  REQUIRE(lchown((shared / "theirs").c_str(), account.uid, account.gid) == 0);
  CHECK_FALSE(provide_folder(shared / "theirs" / "made", account, 0777));
  CHECK_FALSE(open_folder_as_root(shared / "theirs").has_value());
  CHECK(access((victim / "made").c_str(), F_OK) != 0);
  REQUIRE(symlink(victim.c_str(), (shared / "ours").c_str()) == 0);
  CHECK(open_folder_as_root(shared / "ours").has_value());
  REQUIRE(chmod(shared.c_str(), 0777) == 0);  // now another can put his in its place
  CHECK_FALSE(open_folder_as_root(shared / "ours").has_value());
  // Root's link in root's folder is the administrator's word.
  REQUIRE(symlink("victim", (folder.path / "moved").c_str()) == 0);
  CHECK(provide_folder(folder.path / "moved" / "made", account, 0700));
  REQUIRE(stat((victim / "made").c_str(), &status) == 0);
  CHECK(status.st_uid == account.uid);
}

TEST_CASE("reloads that wait are one, and a stop goes before them", "[daemon][events]") {
  Events events;
  Event event{};
  for (int i = 0; i < 300; ++i)
    events.post(Event::reload);
  events.post(Event::stage_done);
  events.post(Event::reload);
  events.post(Event::stop);
  for (const auto want : {Event::stop, Event::reload, Event::stage_done}) {
    REQUIRE(events.wait(Duration(60000), event));
    CHECK(event == want);
  }
  CHECK_FALSE(events.wait(Duration(1), event));
  events.post(Event::reload);  // the one before has begun
  CHECK(events.wait(Duration(60000), event));
}

TEST_CASE("who waits for events hears at once that a process is gone", "[daemon][events]") {
  Events events;
  Event event{};
  int ends[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
  const FileDescriptor ours(ends[0]);
  FileDescriptor theirs(ends[1]);
  CHECK_FALSE(events.wait(Duration(1), event, ours.get()));
  events.post(Event::reload);
  CHECK(events.wait(Duration(60000), event, ours.get()));
  const auto begun = std::chrono::steady_clock::now();
  std::thread dies([&] { theirs = FileDescriptor(); });
  CHECK_FALSE(events.wait(Duration(600'000), event, ours.get()));
  CHECK(std::chrono::steady_clock::now() - begun < std::chrono::minutes(5));
  dies.join();
  events.post(Event::stop);
  CHECK(events.wait(Duration(60000), event, ours.get()));
  CHECK(event == Event::stop);
}

TEST_CASE("signals become events in order", "[daemon][events]") {
  Events events;
  Event event{};
  const auto next_is = [&](Event want) {
    return events.wait(Duration(60000), event) && event == want;
  };
  kill(getpid(), SIGHUP);
  CHECK(next_is(Event::reload));
  kill(getpid(), SIGUSR2);  // means nothing
  kill(getpid(), SIGTERM);
  CHECK(next_is(Event::stop));
  kill(getpid(), SIGINT);
  CHECK(next_is(Event::stop));
  kill(getpid(), SIGPIPE);  // ignored
  events.post(Event::stage_done);
  CHECK(next_is(Event::stage_done));
  CHECK_FALSE(events.wait(Duration(1), event));
}
