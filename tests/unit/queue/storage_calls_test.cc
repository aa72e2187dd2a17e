// What the queue asks of the file system, in which order, and what becomes of it when a call fails
// or the process ends there. The calls are replaced for this whole program.
#include "queue/maintenance/salvage.h"
#include "tests/unit/queue/queue_fixture.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>

namespace {

std::atomic<int> calls_left = -1;  // until the process ends; below zero: it does not
std::atomic<int> bad_reads = 0;    // of files in body/, that many fail
std::atomic<bool> notes = false;
std::mutex noted_mutex;
std::function<void()> behind_folder;  // done once, behind the sync of the folder body/
std::vector<std::string> noted;

void note(const char* call, const std::string& path) {
  if (calls_left >= 0 && calls_left-- == 0)
    ::_exit(77);
  if (!notes)
    return;
  const std::lock_guard lock(noted_mutex);
  noted.push_back(std::string(call) + " " + path);
}

std::string path_of(int fd) {
  std::array<char, 4096> path{};
  const auto link = "/proc/self/fd/" + std::to_string(fd);
  const auto got = ::readlink(link.c_str(), path.data(), path.size());
  return {path.data(), got > 0 ? static_cast<std::size_t>(got) : 0};
}

std::string path_at(int folder, const char* name) {
  return folder == AT_FDCWD || *name == '/' ? name : path_of(folder) + "/" + name;
}

}  // namespace

extern "C" {
int fsync(int fd) {
  const auto path = path_of(fd);
  note("sync", path);
  const auto done = static_cast<int>(::syscall(SYS_fsync, fd));
  if (path.ends_with("/body"))
    if (const auto act = std::exchange(behind_folder, {}))
      act();
  return done;
}
int fdatasync(int fd) {
  note("sync", path_of(fd));
  return static_cast<int>(::syscall(SYS_fdatasync, fd));
}
int rename(const char* from, const char* to) noexcept {
  note("move", from);
  return static_cast<int>(::syscall(SYS_rename, from, to));
}
int renameat(int at, const char* from, int to_at, const char* to) noexcept {
  note("move", path_at(at, from));
  return static_cast<int>(::syscall(SYS_renameat, at, from, to_at, to));
}
int link(const char* from, const char* to) noexcept {
  note("link", from);
  return static_cast<int>(::syscall(SYS_link, from, to));
}
int unlink(const char* path) noexcept {
  note("remove", path);
  return static_cast<int>(::syscall(SYS_unlink, path));
}
int unlinkat(int at, const char* name, int flags) noexcept {
  note("remove", path_at(at, name));
  return static_cast<int>(::syscall(SYS_unlinkat, at, name, flags));
}
// Under another name: the header may define read() itself.
ssize_t read_unless_bad(int fd, void* to, size_t size) __asm__("read");
ssize_t read_unless_bad(int fd, void* to, size_t size) {
  if (bad_reads > 0 && path_of(fd).find("/body/") != std::string::npos) {
    --bad_reads;
    errno = EIO;
    return -1;
  }
  return ::syscall(SYS_read, fd, to, size);
}
}

namespace postrider::queue::test {

using mail::Verdict;

namespace {

namespace fs = std::filesystem;

struct Watched : QueueFixture {
  Watched() {
    open();
    start();
  }
  ~Watched() { notes = false; }

  static void watch() {
    const std::lock_guard lock(noted_mutex);
    noted.clear();
    notes = true;
  }

  // Whether that came behind the last of the calls that begin so.
  static bool came_behind(const std::string& call, const std::string& last) {
    const std::lock_guard lock(noted_mutex);
    bool came = false;
    for (const auto& each : noted)
      came = each == call || (came && !each.starts_with(last));
    return came;
  }

  // The spool as it would be found had the process been killed now.
  void cut() {
    const auto copy = folder.path() + "/copy";
    fs::copy(settings.spool, copy, fs::copy_options::recursive);
    fs::remove(copy + "/queue.db-shm");
    queue.reset();
    settings.spool = copy;
  }
};

}  // namespace

TEST_CASE_METHOD(Watched, "content that cannot be read at the moment holds no message",
                 "[queue][checksum]") {
  auto submission = large(200'000);
  const auto id = submission.message->id;
  REQUIRE(accept(std::move(submission)).has_value());
  record(answer(hand.next(id), Verdict::retry, clock.now() + std::chrono::minutes(1)));
  bad_reads = 1;
  clock.pass(std::chrono::minutes(2));
  queue->wake();
  for (int i = 0; i < 60'000 && log.count("content_unreadable") == 0; ++i)
    ::usleep(1000);
  REQUIRE(log.count("content_unreadable") == 1);
  settle();
  CHECK(queue->totals()->quarantined == 0);
  clock.pass(std::chrono::minutes(2));
  queue->wake();
  CHECK(hand.next(id).message->content.size == 200'000);
}

TEST_CASE_METHOD(Watched, "content in a folder that was replaced before the commit is not promised",
                 "[queue][body]") {
  const auto body = settings.spool + "/body", aside = settings.spool + "/body.old";
  auto submission = large(200'000);
  const auto id = submission.message->id;
  behind_folder = [&] {
    fs::rename(body, aside);
    fs::create_directory(body);
    fs::permissions(body, fs::perms::owner_all);
  };
  CHECK_FALSE(accept(std::move(submission)).has_value());
  CHECK(list().empty());
  CHECK_FALSE(fs::exists(aside + "/" + to_string(id)));
  CHECK(queue->admission() == Admission::open);
  CHECK(accept(large(200'000)).has_value());
}

TEST_CASE_METHOD(Watched, "a large message is synced in the folder that its name leads to",
                 "[queue][body]") {
  const auto body = settings.spool + "/body", aside = settings.spool + "/body.old";
  auto submission = large(200'000);
  const auto name = to_string(submission.message->id);
  fs::rename(body, aside);
  fs::create_directory(body);
  fs::permissions(body, fs::perms::owner_all);
  watch();
  REQUIRE(accept(std::move(submission)).has_value());
  notes = false;
  CHECK(came_behind("sync " + settings.spool, "sync " + aside));  // the name of the new folder
  CHECK(came_behind("sync " + body + "/" + name, "sync " + aside));
  CHECK(came_behind("sync " + body, "sync " + body + "/"));
}

TEST_CASE_METHOD(Watched, "bodies that are moved aside are aside for good", "[queue][failure]") {
  cut();
  std::ofstream(settings.spool + "/body/STRAY") << "x";
  // A log whose later transactions cannot be read.
  {
    std::fstream file(settings.spool + "/queue.db-wal",
                      std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(32 + 24 + 100);
    file.put('!');
  }
  watch();
  open();
  notes = false;
  REQUIRE(fs::exists(settings.spool + "/lost/STRAY"));
  const std::string move = "move " + settings.spool + "/body/";
  CHECK(came_behind("sync " + settings.spool + "/lost", move));
  CHECK(came_behind("sync " + settings.spool + "/body", move));
}

// A power cut between the two would bring the old log back beside the new database.
TEST_CASE_METHOD(Watched, "a salvaged database takes its place when the old log is gone for good",
                 "[queue][salvage]") {
  must_accept("a@b.test", {"c@d.test"});
  settle();
  cut();
  watch();
  REQUIRE(salvage(settings.spool, clock.now()).has_value());
  notes = false;
  const std::lock_guard lock(noted_mutex);
  const auto at = [](auto from, const std::string& call) {
    return std::find(from, noted.end(), call);
  };
  const auto removed = at(noted.begin(), "remove " + settings.spool + "/queue.db-wal");
  REQUIRE(removed != noted.end());
  const auto moved = at(removed, "move " + settings.spool + "/queue.db.salvage");
  REQUIRE(moved != noted.end());
  CHECK(std::find(removed, moved, "sync " + settings.spool) != moved);
  CHECK(at(moved, "sync " + settings.spool) != noted.end());
}

TEST_CASE_METHOD(Watched, "a salvage that is killed at any step loses nothing",
                 "[queue][salvage]") {
  for (int i = 0; i < 5; ++i)
    must_accept("a@b.test", {"c" + std::to_string(i) + "@d.test"});
  settle();
  cut();  // so that mail stands in the log only
  const auto found = settings.spool;
  bool has_ended = false;
  int step = 0;
  for (; !has_ended; ++step) {
    INFO("step " << step);
    settings.spool = folder.path() + "/" + std::to_string(step);
    fs::copy(found, settings.spool, fs::copy_options::recursive);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      calls_left = step;
      ::_exit(salvage(settings.spool, clock.now()) ? 0 : 1);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFEXITED(status));
    has_ended = WEXITSTATUS(status) == 0;
    REQUIRE((has_ended || WEXITSTATUS(status) == 77));
    // The mail is all there, or nobody opens the queue until the salvage is done.
    auto opened = Queue::open(settings, clock, log);
    if (!opened) {
      CHECK(opened.error().describe().find("postrider queue salvage") != std::string::npos);
      REQUIRE(salvage(settings.spool, clock.now()).has_value());
      opened = Queue::open(settings, clock, log);
    }
    REQUIRE(opened.has_value());
    CHECK(opened.value()->list({}, {}, 100)->size() == 5);
    opened = Error(Errc::stopped, "");
    fs::remove_all(settings.spool);
  }
  CHECK(step > 10);
}

}  // namespace postrider::queue::test
