#include "doors.h"

#include "daemon/drop_file.h"
#include "daemon/drop_folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace postrider::daemon {
namespace {

namespace fs = std::filesystem;

SubmitSettings settings() {
  SubmitSettings settings;
  settings.hostname = "mx.test";
  settings.origin = "mx.test";
  settings.message_size = 1U << 20U;
  return settings;
}

std::string file_text(const std::string& content) {
  SubmitHeader header;
  header.sender = "me";
  header.recipients = {"you@there.test"};
  header.author = "me@mx.test";
  header.size = content.size();
  return encode(header) + content;
}

struct DropDoor : Doors {
  std::string drop = spool + "/drop";
  std::unique_ptr<DropFolder> watcher;

  DropDoor() {
    auto opened = DropFolder::open(spool, loop, *pool, *queue, clock, log, settings());
    REQUIRE(opened);
    watcher = std::move(*opened);
  }
  void start() {
    watcher->start();
    run();
  }
  ~DropDoor() {
    if (thread.joinable()) {
      on_loop([this] { watcher->stop(); });
      loop.finish();
      thread.join();
    }
  }
  // As `sendmail` does it.
  void put(const std::string& name, const std::string& text) {
    REQUIRE(replace_file(drop + "/tmp." + name, text, 0640));
    fs::rename(drop + "/tmp." + name, drop + "/" + name);
  }
  bool wait_for_file(const std::string& name) {
    for (int i = 0; i < 1000; ++i) {
      if (fs::exists(fs::symlink_status(drop + "/" + name)))
        return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }
  bool wait_until_empty() {
    for (int i = 0; i < 1000; ++i) {
      if (fs::is_empty(drop))
        return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }
};

TEST_CASE("mail left while the daemon was down is taken at start, oldest first", "[daemon][unit]") {
  DropDoor door;
  door.put("msg.b", file_text("Subject: first\n\nx\n"));
  const auto written = fs::last_write_time(door.drop + "/msg.b");
  fs::last_write_time(door.drop + "/msg.b", written - std::chrono::seconds(1));
  door.put("msg.a", file_text("Subject: second\n\nx\n"));
  door.start();
  REQUIRE(door.wait_for(2));
  CHECK(door.wait_until_empty());
  const auto message = door.queue->load(door.listed()[0].id);
  REQUIRE(message);
  CHECK((*message)->content.bytes->find("first") != std::string::npos);
}

TEST_CASE("mail left while the daemon runs is taken at once", "[daemon][unit]") {
  DropDoor door;
  door.start();
  door.put("msg.a", file_text("x\n"));
  CHECK(door.wait_for(1));
  CHECK(door.wait_until_empty());
}

TEST_CASE("others may leave mail but not look at what lies there", "[daemon][unit]") {
  DropDoor door;
  struct stat about {};
  REQUIRE(::stat(door.drop.c_str(), &about) == 0);
  CHECK((about.st_mode & 07777U) == 03733U);
  REQUIRE(::stat(door.spool.c_str(), &about) == 0);
  CHECK((about.st_mode & 0077U) == 0011U);
  for (const char* closed : {"/queue.db", "/body"}) {
    REQUIRE(::stat((door.spool + closed).c_str(), &about) == 0);
    CHECK((about.st_mode & 0007U) == 0U);
  }
}

TEST_CASE("a file that was taken before a crash is not sent twice", "[daemon][unit]") {
  DropDoor door;
  door.run();
  const auto id = door.add("me@mx.test", {"you@there.test"}, "x\r\n");
  door.put("taken." + to_string(id) + ".abc", file_text("x\n"));
  door.put("taken.00000000001.abd", file_text("y\n"));
  door.on_loop([&] { door.watcher->start(); });
  REQUIRE(door.wait_for(2));
  CHECK(door.wait_until_empty());
}

TEST_CASE("I12: what is no message is put aside, never followed, never waited for",
          "[daemon][unit]") {
  DropDoor door;
  const auto secret = door.folder.path() + "/secret";
  REQUIRE(replace_file(secret, file_text("secret\n"), 0600));
  fs::create_symlink(secret, door.drop + "/msg.symlink");
  fs::create_hard_link(secret, door.drop + "/msg.hardlink");
  REQUIRE(::mkfifo((door.drop + "/msg.fifo").c_str(), 0666) == 0);
  fs::create_directory(door.drop + "/msg.folder");
  door.put("msg.empty", "");
  door.put("msg.truncated", file_text("0123456789\n").substr(0, 100));
  door.put("msg.extended", file_text("x\n") + "more");
  door.put("msg.noheader", "Subject: x\n\ny\n");
  door.put("msg.large", file_text(std::string((1U << 20U) + 1, 'x')));
  door.put("msg.badrcpt", [] {
    SubmitHeader header;
    header.recipients = {"a@b\r\nX"};
    return encode(header);
  }());
  door.put("msg.good", file_text("Subject: good\n\nx\n"));
  door.start();
  CHECK(door.wait_for(1));
  for (const char* name : {"symlink", "hardlink", "fifo", "folder", "empty", "truncated",
                           "extended", "noheader", "large"}) {
    INFO(name);
    CHECK(door.wait_for_file(std::string("msg.") + name + ".bad"));
  }
  CHECK(door.listed().size() == 1);
  CHECK(door.log.text().find("drop-refused") != std::string::npos);
  CHECK(read_file(secret)->find("secret") != std::string::npos);
}

TEST_CASE("files that nobody finished go after a day, strangers' names stay", "[daemon][unit]") {
  DropDoor door;
  REQUIRE(replace_file(door.drop + "/tmp.old", "x", 0600));
  REQUIRE(replace_file(door.drop + "/other", "x", 0600));
  auto folder = open_file(door.drop, O_RDONLY | O_DIRECTORY);
  REQUIRE(folder);
  const std::int64_t now = static_cast<std::int64_t>(::time(nullptr)) * 1'000'000'000;
  const std::int64_t day = 24LL * 3600 * 1'000'000'000;
  REQUIRE(scan_drop_folder(*folder, now, 10));
  CHECK(fs::exists(door.drop + "/tmp.old"));
  REQUIRE(scan_drop_folder(*folder, now + day + 10'000'000'000, 10));
  CHECK_FALSE(fs::exists(door.drop + "/tmp.old"));
  CHECK(fs::exists(door.drop + "/other"));
}

TEST_CASE("a drop folder that belongs to another user is refused", "[daemon][unit]") {
  if (::geteuid() != 0)
    return;  // only root can make one
  Doors doors;
  fs::create_directories(doors.spool + "/drop");
  REQUIRE(::chown((doors.spool + "/drop").c_str(), 12345, 12345) == 0);
  CHECK_FALSE(DropFolder::open(doors.spool, doors.loop, *doors.pool, *doors.queue, doors.clock,
                               doors.log, settings()));
}

}  // namespace
}  // namespace postrider::daemon
