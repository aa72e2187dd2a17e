#include "cli/hand_over.h"

#include "base/file.h"
#include "cli/content_store.h"
#include "daemon/pickup/drop_file.h"
#include "daemon/protocol/control_client.h"
#include "tests/support/sync_record.h"
#include "tests/unit/base/temporary_folder.h"

#include <catch2/catch.hpp>

#include <fcntl.h>
#include <filesystem>
#include <functional>
#include <set>
#include <sys/socket.h>
#include <sys/un.h>
#include <sysexits.h>
#include <thread>
#include <unistd.h>

namespace postrider::cli {
namespace {

namespace fs = std::filesystem;

std::size_t count_in(const std::string& folder) {
  return static_cast<std::size_t>(
      std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

// The sender may be root, and whoever the daemon's user is may put anything into the spool.
TEST_CASE("a message is left in the drop folder itself, and nowhere else", "[cli]") {
  const TemporaryFolder folder;
  const auto spool = folder / "spool";
  const auto elsewhere = folder / "elsewhere";
  fs::create_directory(spool);
  fs::create_directory(elsewhere);
  daemon::SubmitHeader header;
  header.sender = "me";
  header.recipients = {"you@there.test"};
  ContentStore content;
  REQUIRE(content.append("x\n"));
  header.size = content.size();
  CHECK_FALSE(drop_message(spool, header, content));
  fs::create_directory_symlink(elsewhere, daemon::drop_folder_path(spool));
  CHECK_FALSE(drop_message(spool, header, content));
  CHECK(count_in(elsewhere) == 0);
  fs::remove(daemon::drop_folder_path(spool));
  REQUIRE(replace_file(daemon::drop_folder_path(spool), "a file", 0600));
  CHECK_FALSE(drop_message(spool, header, content));
  fs::remove(daemon::drop_folder_path(spool));
  fs::create_directory(daemon::drop_folder_path(spool));
  REQUIRE(drop_message(spool, header, content));
  REQUIRE(count_in(daemon::drop_folder_path(spool)) == 1);
  const auto name =
      fs::directory_iterator(daemon::drop_folder_path(spool))->path().filename().string();
  CHECK(name.starts_with(daemon::kDropReady));
}

// In place of the daemon's door: what it does with one connection, and then it is gone.
class OneVisit {
 public:
  OneVisit(const std::string& path, std::function<void(int socket)> serve) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    listener_ = FileDescriptor(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) ==
            0);
    REQUIRE(::listen(listener_.get(), 0) == 0);
    if (serve)
      thread_ = std::thread([this, serve = std::move(serve)] {
        const FileDescriptor one(::accept(listener_.get(), nullptr, nullptr));
        serve(one.get());
      });
  }
  ~OneVisit() {
    if (thread_.joinable())
      thread_.join();
  }
  OneVisit(const OneVisit&) = delete;
  OneVisit& operator=(const OneVisit&) = delete;

 private:
  FileDescriptor listener_;
  std::thread thread_;
};

std::size_t read_some(int socket, std::size_t most) {
  char room[4096];
  std::size_t all = 0;
  while (all < most) {
    const auto got = ::recv(socket, room, std::min(sizeof room, most - all), 0);
    if (got <= 0)
      break;
    all += static_cast<std::size_t>(got);
  }
  return all;
}

void say(int socket, const std::string& line) {
  (void)::send(socket, line.data(), line.size(), MSG_NOSIGNAL);
}

TEST_CASE("wherever the daemon breaks off, a message is handed over once", "[cli]") {
  const TemporaryFolder folder;
  fs::create_directory(daemon::drop_folder_path(folder.path()));
  daemon::ToolPaths places;
  places.submit_socket = folder / "submit";
  places.spool = folder.path();
  places.origin = "us.test";
  places.message_size = 64U << 20U;
  places.recipients = 100;
  daemon::SubmitHeader header;
  header.sender = "me";
  header.recipients = {"you@there.test"};
  ContentStore content;
  REQUIRE(content.append(std::string(4U << 20U, 'x') + "\n"));
  header.size = content.size();
  const auto whole = encode(header).size() + content.size();
  const auto give = [&](Duration patience = std::chrono::minutes(2)) {
    return hand_over(places, header, content, patience);
  };
  const auto is_left = [&](const daemon::SubmitAnswer& answer) {
    return answer.exit_code == EX_OK && answer.id == "dropped" &&
           count_in(daemon::drop_folder_path(folder.path())) == 1;
  };
  const auto closes_after = [&](std::size_t octets) {
    return [=](int socket) { read_some(socket, octets); };
  };
  SECTION("there is none") {
    CHECK(is_left(give()));
  }
  SECTION("it closes at once") {
    const OneVisit visit(places.submit_socket, closes_after(0));
    CHECK(is_left(give()));
  }
  SECTION("it closes within the header") {
    const OneVisit visit(places.submit_socket, closes_after(5));
    CHECK(is_left(give()));
  }
  SECTION("it closes within the content") {
    const OneVisit visit(places.submit_socket, closes_after(whole / 2));
    CHECK(is_left(give()));
  }
  SECTION("it closes when it has all of it") {
    const OneVisit visit(places.submit_socket, closes_after(whole));
    CHECK(is_left(give()));
  }
  SECTION("it closes within its answer") {
    const OneVisit visit(places.submit_socket, [&](int socket) {
      read_some(socket, whole);
      say(socket, "{\"id\":\"1ABC");
    });
    CHECK(is_left(give()));
  }
  SECTION("it stands still, and accepts nothing") {
    const OneVisit visit(places.submit_socket, nullptr);
    // Its line of waiting connections is full.
    const auto first = daemon::LocalConnection::connect(places.submit_socket, Duration(50));
    REQUIRE(first.has_value());
    auto next = daemon::LocalConnection::connect(places.submit_socket, Duration(50));
    while (next.has_value())
      next = daemon::LocalConnection::connect(places.submit_socket, Duration(50));
    CHECK(is_left(give(Duration(50))));
  }
  SECTION("it stands still, and reads nothing") {
    const OneVisit visit(places.submit_socket, nullptr);
    CHECK(is_left(give(Duration(50))));
  }
  SECTION("it stands still with all of it") {
    const OneVisit visit(places.submit_socket, [&](int socket) {
      read_some(socket, whole);
      read_some(socket, 1);  // until the sender has left
    });
    CHECK(is_left(give(std::chrono::seconds(1))));
  }
  SECTION("it has no room, and reads nothing") {
    daemon::SubmitAnswer busy;
    busy.exit_code = EX_TEMPFAIL;
    busy.error = "no room";
    busy.busy = true;
    const OneVisit visit(places.submit_socket, [&](int socket) { say(socket, encode(busy)); });
    CHECK(is_left(give()));
  }
  SECTION("it refuses, and reads nothing") {
    daemon::SubmitAnswer refused;
    refused.exit_code = EX_DATAERR;
    refused.error = "no";
    const OneVisit visit(places.submit_socket, [&](int socket) { say(socket, encode(refused)); });
    const auto answer = give();
    CHECK(answer.exit_code == EX_DATAERR);
    CHECK(count_in(daemon::drop_folder_path(folder.path())) == 0);
  }
  SECTION("it takes it") {
    daemon::SubmitAnswer taken;
    taken.id = "1ABC";
    const OneVisit visit(places.submit_socket, [&](int socket) {
      read_some(socket, whole);
      say(socket, encode(taken));
    });
    const auto answer = give();
    CHECK(answer.exit_code == EX_OK);
    CHECK(answer.id == "1ABC");
    CHECK(count_in(daemon::drop_folder_path(folder.path())) == 0);
  }
}

TEST_CASE("each part of a large submission is a hand-over of its own", "[cli]") {
  const TemporaryFolder folder;
  const auto drop = daemon::drop_folder_path(folder.path());
  fs::create_directory(drop);
  daemon::ToolPaths places;
  places.submit_socket = folder / "submit";
  places.spool = folder.path();
  places.origin = "us.test";
  places.message_size = 1U << 20U;
  places.recipients = 2;
  daemon::SubmitHeader header;
  header.sender = "me";
  header.recipients = {"a@there.test", "b@there.test", "c@there.test", "d@there.test",
                       "e@there.test"};
  header.notify.bits = mail::Notify::kDelay;
  header.dsn["d@there.test"] = {{mail::Notify::kNever}, "rfc822;x@y"};
  ContentStore content;
  REQUIRE(content.append("x\n"));
  header.size = content.size();
  CHECK(hand_over(places, header, content, std::chrono::seconds(1)).exit_code == EX_OK);
  std::set<std::string> names;
  std::size_t files = 0;
  for (const auto& entry : fs::directory_iterator(drop)) {
    const auto text = read_file(entry.path(), 4096).value();
    const auto part = daemon::decode_submit_header(text.substr(0, text.find('\n')));
    REQUIRE(part.has_value());
    names.insert(part->hand_over);
    for (const auto& recipient : part->recipients)
      CHECK(daemon::dsn_of(*part, recipient) == (recipient == "d@there.test"
                                                     ? header.dsn["d@there.test"]
                                                     : daemon::SubmitDsn{header.notify, {}}));
    ++files;
  }
  CHECK(files == 3);
  CHECK(names.size() == files);
  CHECK_FALSE(names.contains(""));
}

// `sendmail` says that it was taken.
TEST_CASE("a message in the drop folder outlives a power cut", "[cli]") {
  const TemporaryFolder folder;
  const auto drop = daemon::drop_folder_path(folder.path());
  fs::create_directory(drop);
  daemon::SubmitHeader header;
  header.sender = "me";
  header.recipients = {"you@there.test"};
  ContentStore content;
  REQUIRE(content.append(std::string(100000, 'x')));
  header.size = content.size();
  const SyncRecord record;
  REQUIRE(drop_message(folder.path(), header, content));
  REQUIRE(count_in(drop) == 1);
  CHECK(SyncRecord::lack_of_renamed(fs::directory_iterator(drop)->path()).empty());
}

// Its sender hears that it was not taken, and sends it again.
TEST_CASE("a message whose name cannot be synced is not left", "[cli]") {
  const TemporaryFolder folder;
  const auto drop = daemon::drop_folder_path(folder.path());
  fs::create_directory(drop);
  daemon::SubmitHeader header;
  header.sender = "me";
  header.recipients = {"you@there.test"};
  ContentStore content;
  REQUIRE(content.append("x\n"));
  header.size = content.size();
  const SyncRecord record;
  SyncRecord::fail(drop, 1000);
  CHECK_FALSE(drop_message(folder.path(), header, content));
  CHECK(count_in(drop) == 0);
}

// Else its sender would hear that it was not taken, and send it again.
TEST_CASE("a message that the daemon took before its name could be synced was handed over",
          "[cli]") {
  const TemporaryFolder folder;
  const auto drop = daemon::drop_folder_path(folder.path());
  fs::create_directory(drop);
  daemon::SubmitHeader header;
  header.sender = "me";
  header.recipients = {"you@there.test"};
  ContentStore content;
  REQUIRE(content.append("x\n"));
  header.size = content.size();
  const SyncRecord record;
  SyncRecord::fail(drop, 1000);
  SyncRecord::meanwhile([&] {
    for (const auto& entry : fs::directory_iterator(drop))
      fs::remove(entry.path());
  });
  CHECK(drop_message(folder.path(), header, content));
}

namespace {

// As another user, if we are root, and where a relative path leads.
class Elsewhere {
 public:
  explicit Elsewhere(const std::string& folder) {
    REQUIRE(::chdir(folder.c_str()) == 0);
    if (::geteuid() == 0)
      REQUIRE(::seteuid(65534) == 0);
  }
  ~Elsewhere() {
    if (::getuid() == 0)
      (void)!::seteuid(0);
    fs::current_path(before_);
  }
  Elsewhere(const Elsewhere&) = delete;
  Elsewhere& operator=(const Elsewhere&) = delete;

 private:
  const fs::path before_ = fs::current_path();
};

}  // namespace

// Users may write there and not read, so they cannot sync the folder by itself.
TEST_CASE("a message in a drop folder that its sender cannot read outlives a power cut", "[cli]") {
  const TemporaryFolder folder;
  const auto drop = daemon::drop_folder_path(folder.path());
  fs::permissions(folder.path(), fs::perms(0711));
  fs::create_directory(drop);
  fs::permissions(drop, fs::perms(03733));
  if (::geteuid() != 0)
    fs::permissions(drop, fs::perms(0333));
  daemon::SubmitHeader header;
  header.sender = "me";
  header.recipients = {"you@there.test"};
  ContentStore content;
  REQUIRE(content.append("x\n"));
  header.size = content.size();
  const SyncRecord record;
  {
    const Elsewhere there(folder.path());
    CHECK(::open("drop", O_RDONLY | O_DIRECTORY) < 0);
    REQUIRE(drop_message(".", header, content));
  }
  fs::permissions(drop, fs::perms(0700));
  REQUIRE(count_in(drop) == 1);
  CHECK(SyncRecord::lack_of_renamed(fs::directory_iterator(drop)->path()).empty());
}

}  // namespace
}  // namespace postrider::cli
