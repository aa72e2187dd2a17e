// The tools while the daemon is down: the spool, and all in it, is its owner's, who may be hostile.
#include "daemon/control/offline.h"

#include "daemon/privsep/privileges.h"
#include "daemon/protocol/control_client.h"
#include "daemon/protocol/submit_protocol.h"
#include "queue/spool.h"
#include "tests/unit/base/temporary_folder.h"
#include "tests/unit/daemon/apart.h"

#include <catch2/catch.hpp>

#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <functional>
#include <grp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>
#include <vector>

namespace postrider::daemon {
namespace {

constexpr const char* kUser = "nobody";  // the daemon's
constexpr uid_t kOther = 12346;

bool is_root() {
  if (::geteuid() != 0)
    WARN("not run: needs root");
  return ::geteuid() == 0;
}

// A spool of the daemon's user, with something that has the name of a queue.
struct Spool {
  Spool() {
    account = *find_account(kUser);
    REQUIRE(::chmod(folder.path().c_str(), 0755) == 0);
    places.user = kUser;
    places.spool = make("spool", account.uid);
  }
  std::string make(const std::string& name, uid_t owner) const {
    const auto path = folder / name;
    REQUIRE(::mkdir(path.c_str(), 0711) == 0);
    const int queue = ::open((path + "/queue.db").c_str(), O_WRONLY | O_CREAT | O_EXCL, 0600);
    REQUIRE(queue >= 0);
    REQUIRE(::fchown(queue, owner, owner) == 0);
    ::close(queue);
    REQUIRE(::chown(path.c_str(), owner, owner) == 0);
    return path;
  }
  // 0: entered, as the user that is named, with nothing left of root; else the exit code.
  int enter(const std::function<void()>& opened = {}) const {
    return apart([&] {
      if (const auto refused = enter_spool(places, opened))
        return ::getuid() == 0 ? refused->exit_code : 200;  // too late to be refused as another
      return who_we_are();
    });
  }
  int who_we_are() const {
    uid_t real = 1;
    uid_t effective = 1;
    uid_t saved = 1;
    if (::getresuid(&real, &effective, &saved) != 0 || real != effective || real != saved)
      return 201;
    if (real == 0)
      return places.user.empty() ? 0 : 202;
    std::vector<gid_t> groups(64);
    const int count = ::getgroups(64, groups.data());
    for (int i = 0; i < count; ++i)
      if (groups[static_cast<std::size_t>(i)] == 0)
        return 203;
    return real == account.uid && ::getgid() == account.gid && ::setuid(0) != 0 ? 0 : 204;
  }

  TemporaryFolder folder;
  Account account;
  ToolPaths places;
};

TEST_CASE("as root: a tool becomes the daemon's user before it opens the spool",
          "[daemon][offline]") {
  if (!is_root())
    return;
  Spool spool;
  CHECK(spool.enter() == 0);
  spool.places.user.clear();  // the daemon is root, and this is not its spool
  CHECK(spool.enter() == EX_NOPERM);
  REQUIRE(::chown(spool.places.spool.c_str(), 0, 0) == 0);
  CHECK(spool.enter() == 0);
  spool.places.user = kUser;
  CHECK(spool.enter() == EX_NOPERM);
  spool.places.user = "no-such-user";
  CHECK(spool.enter() == EX_NOUSER);
  spool.places.user = kUser;
  spool.places.spool += "/missing";
  CHECK(spool.enter() == EX_UNAVAILABLE);
}

TEST_CASE("as root: a spool of anybody else is not entered", "[daemon][offline]") {
  if (!is_root())
    return;
  Spool spool;
  spool.places.spool = spool.make("theirs", kOther);
  CHECK(spool.enter() == EX_NOPERM);
  spool.places.user.clear();
  CHECK(spool.enter() == EX_NOPERM);
}

TEST_CASE("as root: no link of a user's leads to the spool", "[daemon][offline]") {
  if (!is_root())
    return;
  Spool spool;
  const auto real = spool.places.spool;
  const auto inner = real + "/inner";
  REQUIRE(::mkdir(inner.c_str(), 0711) == 0);
  REQUIRE(::chown(inner.c_str(), spool.account.uid, spool.account.gid) == 0);
  REQUIRE(::link((real + "/queue.db").c_str(), (inner + "/queue.db").c_str()) == 0);
  const auto link = spool.folder / "link";
  REQUIRE(::symlink("spool", link.c_str()) == 0);
  for (const auto& path : {link, link + "/inner"}) {
    INFO(path);
    spool.places.spool = path;
    REQUIRE(::lchown(link.c_str(), 0, 0) == 0);
    CHECK(spool.enter() == 0);  // the administrator's
    for (const uid_t owner : {spool.account.uid, kOther}) {
      REQUIRE(::lchown(link.c_str(), owner, owner) == 0);
      CHECK(spool.enter() == EX_NOPERM);
    }
  }
}

TEST_CASE("as root: a spool that is exchanged while it is opened is left alone",
          "[daemon][offline]") {
  if (!is_root())
    return;
  Spool spool;
  const auto way = spool.folder / "way";
  const auto aside = spool.folder / "aside";
  const auto victim = spool.make("victim", 0);
  REQUIRE(::mkdir(way.c_str(), 0755) == 0);
  REQUIRE(::rename(spool.places.spool.c_str(), (way + "/spool").c_str()) == 0);
  REQUIRE(::chown(way.c_str(), spool.account.uid, spool.account.gid) == 0);
  spool.places.spool = way + "/spool";
  CHECK(spool.enter() == 0);
  CHECK(spool.enter([&] {
    ::rename((way + "/spool").c_str(), aside.c_str());
    (void)!::symlink(victim.c_str(), (way + "/spool").c_str());
  }) == 200);  // refused, and it was root no longer
  struct stat about {};
  REQUIRE(::stat((victim + "/queue.db").c_str(), &about) == 0);
  CHECK(::access((victim + "/lock").c_str(), F_OK) != 0);
}

TEST_CASE("as root: one that stays root enters no folder that another could exchange",
          "[daemon][offline]") {
  if (!is_root())
    return;
  Spool spool;
  spool.places.user.clear();
  const auto way = spool.folder / "way";
  REQUIRE(::mkdir(way.c_str(), 0755) == 0);
  REQUIRE(::chown(spool.places.spool.c_str(), 0, 0) == 0);
  REQUIRE(::rename(spool.places.spool.c_str(), (way + "/spool").c_str()) == 0);
  spool.places.spool = way + "/spool";
  CHECK(spool.enter() == 0);
  REQUIRE(::chown(way.c_str(), kOther, kOther) == 0);
  CHECK(spool.enter() == EX_NOPERM);
  REQUIRE(::chown(way.c_str(), 0, 0) == 0);
  REQUIRE(::chmod(way.c_str(), 0777) == 0);
  CHECK(spool.enter() == EX_NOPERM);
}

TEST_CASE("as root: the queue is not opened in a folder of another", "[daemon][offline]") {
  if (!is_root())
    return;
  const Spool spool;
  CHECK_FALSE(queue::Spool::open(spool.places.spool).has_value());
  CHECK(::access((spool.places.spool + "/lock").c_str(), F_OK) != 0);
}

TEST_CASE("as root: mail is left only in a drop folder of root's or the daemon's user",
          "[daemon][offline]") {
  if (!is_root())
    return;
  const Spool spool;
  const auto drop = drop_folder_path(spool.places.spool);
  const auto opens = [&](const char* user = kUser) {
    return open_drop_folder(spool.places.spool, user).has_value();
  };
  REQUIRE(::mkdir(drop.c_str(), 0700) == 0);
  CHECK(opens());
  CHECK(opens(""));
  REQUIRE(::chown(drop.c_str(), spool.account.uid, spool.account.gid) == 0);
  CHECK(opens());
  CHECK_FALSE(opens(""));
  CHECK_FALSE(opens("no-such-user"));
  REQUIRE(::chown(drop.c_str(), kOther, kOther) == 0);
  CHECK_FALSE(opens());
  const auto victim = spool.folder / "victim";
  REQUIRE(::mkdir(victim.c_str(), 0755) == 0);
  REQUIRE(::rmdir(drop.c_str()) == 0);
  REQUIRE(::symlink(victim.c_str(), drop.c_str()) == 0);
  CHECK_FALSE(opens());
  REQUIRE(::unlink(drop.c_str()) == 0);
  REQUIRE(::mkdir((victim + "/drop").c_str(), 0755) == 0);  // and of a folder above it
  const auto here = std::filesystem::current_path();
  std::filesystem::current_path(victim);
  CHECK(open_drop_folder(".", "").has_value());
  std::filesystem::current_path(here);
  CHECK(open_folder_as_root("/").has_value());
  const auto link = spool.places.spool + "/away";
  REQUIRE(::symlink(victim.c_str(), link.c_str()) == 0);
  CHECK_FALSE(open_drop_folder(link, kUser).has_value());
}

TEST_CASE("as root: no link leads to a socket of somebody else's", "[daemon][offline]") {
  if (!is_root())
    return;
  const Spool spool;
  const auto path = spool.folder / "socket";
  const auto socket = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  REQUIRE(::bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  REQUIRE(::listen(socket, 8) == 0);
  CHECK(LocalConnection::connect(path).has_value());
  const auto link = spool.places.spool + "/control";
  REQUIRE(::symlink(path.c_str(), link.c_str()) == 0);
  CHECK_FALSE(LocalConnection::connect(link).has_value());
  const auto above = spool.places.spool + "/above";
  REQUIRE(::symlink(spool.folder.path().c_str(), above.c_str()) == 0);
  CHECK_FALSE(LocalConnection::connect(above + "/socket").has_value());
  // What is not there, and where nobody listens, is told as ever.
  const auto code = [](const std::string& name) {
    return LocalConnection::connect(name).error().code();
  };
  CHECK(code(spool.folder / "none") == boost::system::errc::no_such_file_or_directory);
  CHECK(code(spool.folder / "none/none") == boost::system::errc::no_such_file_or_directory);
  CHECK(code(spool.places.spool + "/queue.db") == boost::system::errc::connection_refused);
  ::close(socket);
  CHECK(code(path) == boost::system::errc::connection_refused);
}

}  // namespace
}  // namespace postrider::daemon
