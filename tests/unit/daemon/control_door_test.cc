#include "apart.h"
#include "doors.h"

#include "base/net/tls/local_socket.h"
#include "daemon/control/control_server.h"
#include "daemon/control/control_service.h"
#include "daemon/protocol/control_client.h"
#include "daemon/protocol/submit_protocol.h"

#include <filesystem>
#include <fstream>
#include <grp.h>
#include <numeric>
#include <regex>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sysexits.h>
#include <unistd.h>

namespace postrider::daemon {
namespace {

// Asked why each file of the drop folder waits, it may make the questioner wait.
class HeldReasons {
 public:
  std::string why() {
    std::unique_lock lock(mutex_);
    ++asked_;
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return !is_held_; });
    --waiting_;
    return words_;
  }
  void say(std::string words) { words_ = std::move(words); }  // before it is asked
  bool wait_for(unsigned questioners) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(120),
                             [&] { return waiting_ >= questioners; });
  }
  void let_go() {
    const std::lock_guard lock(mutex_);
    is_held_ = false;
    changed_.notify_all();
  }
  unsigned asked() const {
    const std::lock_guard lock(mutex_);
    return asked_;
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool is_held_ = true;
  unsigned waiting_ = 0, asked_ = 0;
  std::string words_;
};

struct ControlDoor : Doors {
  HeldReasons reasons;
  ControlService service{
      *queue, clock, nullptr, {spool, "us.test", 1000, [this](auto) { return reasons.why(); }}};
  std::string path = folder.path() + "/run/control";
  std::unique_ptr<ControlServer> server;

  explicit ControlDoor(ControlServer::Limits limits = {}) {
    auto opened = ControlServer::open(path, loop, service, log, limits);
    REQUIRE(opened);
    server = std::move(*opened);
    server->start();
    run();
  }
  ~ControlDoor() {
    reasons.let_go();
    on_loop([this] { server->stop(); });
    loop.finish();
    thread.join();
  }
  LocalConnection connect() {
    auto connection = LocalConnection::connect(path);
    REQUIRE(connection);
    connection->set_timeout(Duration(120'000));
    return std::move(*connection);
  }
  void drop_files(unsigned count) const {
    const auto place = drop_folder_path(spool);
    std::filesystem::create_directories(place);
    for (unsigned i = 0; i < count; ++i)
      std::ofstream(place + "/" + std::string(kDropReady) + std::to_string(i)) << "x";
  }
  // Asks, and reads nothing yet.
  LocalConnection begin(const char* act) {
    auto connection = connect();
    ControlRequest request;
    request.act = act;
    REQUIRE(connection.write(encode(request)));
    return connection;
  }
  ControlEnd ask_for(const char* act, const std::string& target = {}) {
    auto connection = connect();
    ControlRequest request;
    request.act = act;
    request.target = target;
    auto end = ask(connection, request, [](const boost::json::object&) { return true; });
    REQUIRE(end);
    return *end;
  }
};

TEST_CASE("the control socket answers, and only its owner and group may open it",
          "[daemon][unit]") {
  ControlDoor door;
  CHECK(door.ask_for("status").exit_code == EX_OK);
  struct stat about {};
  REQUIRE(::stat(door.path.c_str(), &about) == 0);
  CHECK((about.st_mode & 0777U) == 0660U);
}

TEST_CASE("I14: who may administrate is decided by credentials", "[daemon][unit]") {
  Peer peer;
  peer.uid = ::geteuid() + 12345;
  peer.gid = ::getegid() + 12345;
  CHECK_FALSE(may_administrate(peer));
  peer.groups = {::getegid()};
  CHECK(may_administrate(peer));
  CHECK(peer.is_in(::getegid()));
  CHECK(peer.is_in(peer.gid));
  CHECK_FALSE(peer.is_in(::getegid() + 1));
  peer.groups.clear();
  peer.uid = 0;
  CHECK(may_administrate(peer));
  peer.uid = ::geteuid();
  CHECK(may_administrate(peer));
}

TEST_CASE("with readers the socket is open to all, and closed again without", "[daemon][unit]") {
  ControlDoor door;
  const auto mode = [&] {
    struct stat about {};
    REQUIRE(::stat(door.path.c_str(), &about) == 0);
    return about.st_mode & 0777U;
  };
  door.on_loop([&] { CHECK(door.server->set_readers(12345)); });
  CHECK(mode() == 0666U);
  CHECK(door.ask_for("status").exit_code == EX_OK);
  door.on_loop([&] { CHECK(door.server->set_readers(std::nullopt)); });
  CHECK(mode() == 0660U);
}

TEST_CASE("I14: an endless request is cut off with an answer", "[daemon][unit]") {
  ControlDoor door;
  auto connection = door.connect();
  Result<void> written;
  for (int i = 0; i < 64 && written; ++i)
    written = connection.write(std::string(16384, 'x'));
  const auto line = connection.read_line(65536);
  REQUIRE(line);
  CHECK(line->find("64 KiB") != std::string::npos);
  CHECK(door.ask_for("status").exit_code == EX_OK);
}

TEST_CASE("I14: half a request ends at its deadline", "[daemon][unit]") {
  ControlServer::Limits limits;
  limits.request = Duration(200);
  ControlDoor door(limits);
  auto connection = door.connect();
  REQUIRE(connection.write("{\"act\":"));
  const auto line = connection.read_line(65536);
  REQUIRE(line);
  CHECK(line->find("in time") != std::string::npos);
}

TEST_CASE("a question that takes too long is ended with an answer, but no change is",
          "[daemon][unit]") {
  ControlServer::Limits limits;
  limits.work = Duration(0);
  ControlDoor door(limits);
  for (const char* act : {"summary", "count"}) {
    const auto end = door.ask_for(act);
    CHECK(end.exit_code == EX_TEMPFAIL);
    CHECK(end.error.find("too long") != std::string::npos);
  }
  CHECK(door.ask_for("status").exit_code == EX_OK);
  CHECK(door.ask_for("list").exit_code == EX_OK);
}

TEST_CASE("who waits when the daemon stops hears that it stops", "[daemon][unit]") {
  ControlDoor door;
  auto connection = door.connect();
  REQUIRE(connection.write("{\"act\":"));
  CHECK(door.ask_for("status").exit_code == EX_OK);  // the other is being served by now
  door.on_loop([&] { door.server->stop(); });
  const auto line = connection.read_line(65536);
  REQUIRE(line);
  const auto end = find_end(parse_json_line(*line).value());
  REQUIRE(end);
  CHECK(end->exit_code == EX_TEMPFAIL);
  CHECK(end->error == "the daemon is stopping");
}

TEST_CASE("I14: a flood of silent connections gives way to who asks", "[daemon][unit]") {
  ControlServer::Limits limits;
  limits.connections = 4;
  limits.request = Duration(600'000);
  limits.silence = Duration(100);
  ControlDoor door(limits);
  std::vector<LocalConnection> idle;
  for (int i = 0; i < 8; ++i)
    idle.push_back(door.connect());
  CHECK(door.ask_for("status").exit_code == EX_OK);
  // The oldest were closed for those who came later.
  CHECK_FALSE(idle[0].read_line(65536));
}

TEST_CASE("who left without a word is not in the way of who is silent", "[daemon][unit]") {
  ControlServer::Limits limits;
  limits.connections = 4;
  limits.request = Duration(600'000);
  limits.silence = Duration(100);
  ControlDoor door(limits);
  for (int i = 0; i < 20; ++i) {
    auto gone = door.connect();
    REQUIRE(gone.write("{"));
  }
  for (int round = 0; round < 3; ++round) {
    std::vector<LocalConnection> idle;
    for (int i = 0; i < 6; ++i)
      idle.push_back(door.connect());
    CHECK(door.ask_for("status").exit_code == EX_OK);
  }
}

TEST_CASE("those beyond the most wait and are served", "[daemon][unit]") {
  ControlServer::Limits limits;
  limits.connections = 2;
  ControlDoor door(limits);
  for (int i = 0; i < 400; ++i)
    door.add("a@b", {"c@d.test"}, "x\r\n");
  ControlRequest list;
  list.act = "list";
  std::vector<LocalConnection> clients;
  for (int i = 0; i < 20; ++i) {
    clients.push_back(door.connect());
    REQUIRE(clients.back().write(encode(list)));
  }
  for (auto& client : clients) {
    std::size_t lines = 0;
    while (client.read_line(1 << 20))
      ++lines;
    CHECK(lines == 401);
  }
}

TEST_CASE("a slow reader holds up nobody", "[daemon][unit]") {
  ControlDoor door;
  for (int i = 0; i < 500; ++i)
    door.add("a@b", {"c@d.test"}, "x\r\n");
  auto slow = door.connect();
  ControlRequest list;
  list.act = "list";
  REQUIRE(slow.write(encode(list)));
  CHECK(door.ask_for("list").exit_code == EX_OK);
  std::size_t lines = 0;
  while (slow.read_line(1 << 20))
    ++lines;
  CHECK(lines == 501);
}

TEST_CASE("answers that nobody reads have a sum", "[daemon][unit]") {
  ControlServer::Limits limits;
  limits.unread = 1;
  ControlDoor door(limits);
  door.reasons.let_go();
  std::vector<std::string> recipients;
  for (int i = 0; i < 20'000; ++i)
    recipients.push_back("r" + std::to_string(i) + "@there.test");
  door.add("a@b.test", recipients, "x\r\n");
  door.drop_files(1);
  {
    auto deaf = door.begin("list");
    REQUIRE_FALSE(deaf.read_line(1000));  // it has begun, and the rest is more than a socket holds
    auto next = door.begin("count");
    next.set_timeout(Duration(300));
    CHECK_FALSE(next.read_line(1U << 20U));
  }
  CHECK(door.ask_for("count").exit_code == EX_OK);
}

TEST_CASE("what is asked of one message never waits for those who count", "[daemon][unit]") {
  ControlDoor door;
  const auto id = mail::to_string(door.add("a@b.test", {"c@d.test"}, "x\r\n"));
  door.drop_files(1000);
  std::vector<LocalConnection> clients;
  for (int i = 0; i < 8; ++i)  // more than there are threads for them
    clients.push_back(door.begin(i % 2 == 0 ? "count" : "list"));
  REQUIRE(door.reasons.wait_for(4));
  CHECK(door.ask_for("explain", id).exit_code == EX_OK);
  CHECK(door.ask_for("show", id).exit_code == EX_OK);
  CHECK(door.ask_for("status").exit_code == EX_OK);
  door.reasons.let_go();
  for (auto& client : clients) {
    std::string last;
    while (auto line = client.read_line(1 << 20))
      last = *line;
    const auto end = find_end(parse_json_line(last).value());
    REQUIRE(end);
    CHECK(end->exit_code == EX_OK);
  }
  CHECK(door.reasons.asked() == 8 * 1000);
}

TEST_CASE("a count ends when its client leaves", "[daemon][unit]") {
  ControlDoor door;
  door.drop_files(1000);
  {
    const auto client = door.begin("count");
    REQUIRE(door.reasons.wait_for(1));
  }
  door.reasons.let_go();
  CHECK(door.ask_for("count").exit_code == EX_OK);
  CHECK(door.reasons.asked() == 1000 + 200);  // it ended behind the step in which that client left
}

// Of the group of readers. Another user is met only where the tests run as root.
constexpr uid_t kAnn = 54'001, kBob = 54'002, kCarl = 54'003;
constexpr gid_t kReaders = 54'000;

bool may_become_others() {
  if (::geteuid() == 0)
    return true;
  WARN("needs root");
  return false;
}

// A member's connection. The thread alone changes its rights, and ends with them.
Result<LocalConnection> connect_as(uid_t user, gid_t group, const std::string& path) {
  std::optional<Result<LocalConnection>> connection;
  std::thread([&] {
    if (::syscall(SYS_setgroups, 0, nullptr) == 0 && ::syscall(SYS_setresgid, -1, group, -1) == 0 &&
        ::syscall(SYS_setresuid, -1, user, -1) == 0)
      connection = LocalConnection::connect(path);
    else
      connection = system_error("become another user");
  }).join();
  if (*connection)
    (*connection)->set_timeout(Duration(30'000));
  return *std::move(connection);
}

struct ReadersDoor : ControlDoor {
  explicit ReadersDoor(ControlServer::Limits limits = {}) : ControlDoor(limits) {
    std::filesystem::permissions(folder.path(), std::filesystem::perms(0755));
    on_loop([this] { REQUIRE(server->set_readers(kReaders)); });
  }
  LocalConnection connect_member(uid_t user) {
    auto connection = connect_as(user, kReaders, path);
    REQUIRE(connection);
    return *std::move(connection);
  }
  // What an answer ends with; nothing while none comes.
  static std::optional<ControlEnd> end_of(LocalConnection& connection) {
    std::optional<ControlEnd> end;
    while (auto line = connection.read_line(1 << 20))
      end = find_end(parse_json_line(*line).value());
    return end;
  }
  std::optional<ControlEnd> ask_as(uid_t user, const char* act) {
    auto connection = connect_member(user);
    ControlRequest request;
    request.act = act;
    (void)connection.write(encode(request));  // it may be refused already
    return end_of(connection);
  }
};

TEST_CASE("I14: readers have so many places each, so many in all, and no administrator's",
          "[daemon][unit]") {
  if (!may_become_others())
    return;
  ControlServer::Limits limits;
  limits.connections = 2;
  limits.readers = 3;
  limits.of_one_reader = 2;
  limits.request = Duration(600'000);
  ReadersDoor door(limits);
  const auto is_sent_away = [&](uid_t user) {
    const auto end = door.ask_as(user, "status");
    REQUIRE(end);
    CHECK((end->exit_code == EX_OK || end->exit_code == EX_TEMPFAIL));
    return end->exit_code == EX_TEMPFAIL;
  };
  std::vector<LocalConnection> silent;
  silent.push_back(door.connect_member(kAnn));
  CHECK_FALSE(is_sent_away(kAnn));
  silent.push_back(door.connect_member(kAnn));
  CHECK(is_sent_away(kAnn));
  CHECK_FALSE(is_sent_away(kBob));
  silent.push_back(door.connect_member(kBob));
  CHECK(is_sent_away(kCarl));
  CHECK(door.ask_for("status").exit_code == EX_OK);
  silent.clear();
  bool is_away = true;
  for (int i = 0; i < 3000 && is_away; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    is_away = is_sent_away(kCarl);
  }
  CHECK_FALSE(is_away);
}

TEST_CASE("I14: a reader sees no path of a file, and an administrator does", "[daemon][unit]") {
  if (!may_become_others())
    return;
  ReadersDoor door;
  door.reasons.say("waits for /etc/postrider/aliases");
  door.reasons.let_go();
  door.drop_files(1);
  const auto all_of = [](LocalConnection connection) {
    std::string all;
    while (auto line = connection.read_line(1 << 20))
      all += *line + "\n";
    return all;
  };
  CHECK(all_of(door.begin("list")).find("/etc/postrider/aliases") != std::string::npos);
  auto member = door.connect_member(kAnn);
  ControlRequest request;
  request.act = "list";
  REQUIRE(member.write(encode(request)));
  const auto shown = all_of(std::move(member));
  CHECK(shown.find("waits for (file)") != std::string::npos);
  CHECK(shown.find("/etc") == std::string::npos);
}

TEST_CASE("I14: whatever a reader asks is ended when it takes too long", "[daemon][unit]") {
  if (!may_become_others())
    return;
  ControlServer::Limits limits;
  limits.work = Duration(0);
  ReadersDoor door(limits);
  for (int i = 0; i < 60; ++i)
    door.add("a@b", {"c@d.test"}, "x\r\n");
  CHECK(door.ask_for("list").exit_code == EX_OK);  // an administrator's is not
  const auto end = door.ask_as(kAnn, "list");
  REQUIRE(end);
  CHECK(end->exit_code == EX_TEMPFAIL);
  CHECK(end->error.find("too long") != std::string::npos);
}

TEST_CASE("I14: the log has each of those who were refused once, in few lines", "[daemon][unit]") {
  if (!may_become_others())
    return;
  ReadersDoor door;
  std::size_t refused = 0, lines = 0, told = 0;
  for (const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
       lines < 3 && std::chrono::steady_clock::now() < end;) {
    auto stranger = connect_as(kCarl, kReaders + 1, door.path);
    REQUIRE(stranger);
    const auto answer = ReadersDoor::end_of(*stranger);
    REQUIRE(answer);
    CHECK(answer->exit_code == EX_NOPERM);
    ++refused;
    const auto text = door.log.text();
    lines = told = 0;
    const std::regex line("control_refused uid=54003 count=(\\d+)\n");
    for (std::sregex_iterator at(text.begin(), text.end(), line), none; at != none; ++at, ++lines)
      told += std::stoul((*at)[1]);
  }
  CHECK(lines == 3);
  CHECK(told == refused);
}

TEST_CASE("I14: who is in more groups than most is in each of them", "[daemon][unit]") {
  if (!may_become_others())
    return;
  CHECK(apart([] {
          std::vector<gid_t> groups(1000);
          std::iota(groups.begin(), groups.end(), kReaders);
          int ends[2];
          if (::setgroups(groups.size(), groups.data()) != 0 ||
              ::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0)
            return 1;
          const auto peer = peer_of(ends[0]);
          return peer && peer->is_in(groups.front()) && peer->is_in(groups.back()) ? 0 : 2;
        }) == 0);
}

TEST_CASE("a left-over socket is replaced, one in use and a file are not", "[daemon][unit]") {
  ControlDoor door;
  CHECK_FALSE(LocalListener::bind(door.path, 0600, door.loop));
  const auto file = door.folder.path() + "/file";
  REQUIRE(replace_file(file, "x", 0600));
  CHECK_FALSE(LocalListener::bind(file, 0600, door.loop));
  const auto stale = door.folder.path() + "/stale";
  door.on_loop([&] {
    auto first = LocalListener::bind(stale, 0600, door.loop);
    REQUIRE(first);
    REQUIRE(::link(stale.c_str(), (stale + "2").c_str()) == 0);
    (*first)->close();
    CHECK(LocalListener::bind(stale + "2", 0600, door.loop));
  });
}

}  // namespace
}  // namespace postrider::daemon
