// Every system call of a delivery into a mailbox fails once: the mail is deferred, and delivered
// again it stands there once. The calls are replaced for this whole program.
#include "delivery/local/agents/delivery_agent.h"
#include "delivery/local/agents/maildir_quota.h"
#include "tests/unit/base/temporary_folder.h"

#include <catch2/catch.hpp>

#include <cerrno>
#include <cstdarg>
#include <fcntl.h>
#include <fstream>
#include <functional>
#include <sstream>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <utility>

using namespace postrider;
using namespace postrider::delivery;

namespace {

int calls_left = -1;  // until one fails; below zero: none does
int failure = EIO;
bool only_syncs = false;

// Done once, just before the next call of that kind: what another process does there.
std::function<void()> before_lock, before_rename;

void meanwhile(std::function<void()>& what) {
  if (const auto work = std::exchange(what, nullptr))
    work();
}

bool fails(bool is_sync = false) {
  if (calls_left < 0 || (only_syncs && !is_sync) || calls_left-- > 0)
    return false;
  errno = failure;
  return true;
}

}  // namespace

extern "C" {
int fsync(int fd) {
  return fails(true) ? -1 : static_cast<int>(::syscall(SYS_fsync, fd));
}
ssize_t write(int fd, const void* from, size_t size) {
  return fails() ? -1 : ::syscall(SYS_write, fd, from, size);
}
int fcntl(int fd, int command, ...) {
  va_list list;
  va_start(list, command);
  void* const argument = va_arg(list, void*);
  va_end(list);
  if (command == F_OFD_SETLK)
    meanwhile(before_lock);
  return static_cast<int>(::syscall(SYS_fcntl, fd, command, argument));
}
int renameat(int from, const char* old_name, int to, const char* name) noexcept {
  meanwhile(before_rename);
  return fails() ? -1 : static_cast<int>(::syscall(SYS_renameat2, from, old_name, to, name, 0));
}
int mkdirat(int at, const char* name, mode_t mode) noexcept {
  return fails() ? -1 : static_cast<int>(::syscall(SYS_mkdirat, at, name, mode));
}
int openat(int at, const char* name, int flags, ...) {
  va_list list;
  va_start(list, flags);
  const auto mode = (flags & O_CREAT) != 0 ? va_arg(list, mode_t) : 0;
  va_end(list);
  return fails() ? -1 : static_cast<int>(::syscall(SYS_openat, at, name, flags, mode));
}
}

namespace {

const std::string kBody = "Subject: s\r\n\r\n" + std::string(300000, 'x') + "\r\n";

mail::Outcome deliver(LocalTarget::Kind kind, const std::filesystem::path& place) {
  LocalJob job;
  job.target.kind = kind;
  job.target.place = place.string();
  job.envelope.id = "1";
  job.envelope.sender = "a@ext.test";
  job.envelope.hostname = "mx.us.test";
  job.size = kBody.size();
  return perform_here(job, {std::make_shared<const std::string>(kBody), {}});
}

std::string contents(const std::filesystem::path& file) {
  std::ostringstream out;
  out << std::ifstream(file, std::ios::binary).rdbuf();
  return out.str();
}

// Whole messages, and that there is nothing else.
std::size_t in_mbox(const std::filesystem::path& file) {
  const auto text = contents(file);
  std::size_t count = 0;
  for (auto at = text.find("From a@ext"); at != text.npos; at = text.find("From a@ext", at + 1))
    ++count;
  const auto one = count == 0 ? 0 : text.size() / count;
  CHECK(one * count == text.size());
  CHECK((count == 0 || one > 300000));
  return count;
}

std::size_t in_maildir(const std::filesystem::path& folder) {
  std::size_t count = 0;
  if (!std::filesystem::exists(folder / "new"))
    return 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder / "new")) {
    ++count;
    CHECK(entry.file_size() > 300000);
  }
  return count;
}

}  // namespace

TEST_CASE("whatever call fails, a mailbox holds the message once in the end", "[delivery][local]") {
  failure = GENERATE(EIO, ENOSPC);
  const auto kind = GENERATE(LocalTarget::Kind::maildir, LocalTarget::Kind::mbox);
  const bool exists = GENERATE(true, false);
  bool came_through = false;
  int nth = 0;
  for (; !came_through; ++nth) {
    const TemporaryFolder folder;
    const std::filesystem::path place = folder / "box";
    const auto count = [&] {
      return kind == LocalTarget::Kind::mbox ? in_mbox(place) : in_maildir(place);
    };
    std::size_t expected = 0;
    if (exists) {
      REQUIRE(deliver(kind, place).verdict == mail::Verdict::delivered);
      ++expected;
    }
    calls_left = nth;
    const auto outcome = deliver(kind, place);
    came_through = calls_left >= 0;
    calls_left = -1;
    INFO("call " << nth << ": " << outcome.text);
    CHECK(outcome.verdict != mail::Verdict::bounce);
    const bool is_done = outcome.verdict == mail::Verdict::delivered;
    expected += is_done ? 1 : 0;
    CHECK(count() == expected);
    if (!is_done) {
      CHECK(deliver(kind, place).verdict == mail::Verdict::delivered);
      CHECK(count() == expected + 1);
    }
    if (kind == LocalTarget::Kind::maildir && std::filesystem::exists(place / "tmp"))
      CHECK(std::filesystem::is_empty(place / "tmp"));
  }
  CHECK(nth > 5);
}

TEST_CASE("a command that was not given the whole message has not delivered it",
          "[delivery][local]") {
  failure = GENERATE(EIO, ENOMEM, ENOSPC);
  for (int nth = 0; nth < 6; ++nth) {
    const TemporaryFolder folder;
    const std::filesystem::path out = folder / "out";
    LocalJob job;
    job.target.kind = LocalTarget::Kind::command;
    job.target.arguments = {"/bin/dd", "status=none", "of=" + out.string()};
    job.envelope.id = "1";
    job.envelope.sender = "a@ext.test";
    job.envelope.hostname = "mx.us.test";
    job.size = kBody.size();
    calls_left = nth;
    const auto outcome = perform_here(job, {std::make_shared<const std::string>(kBody), {}});
    calls_left = -1;
    INFO("call " << nth << ": " << outcome.text);
    CHECK(outcome.verdict != mail::Verdict::bounce);
    if (outcome.verdict == mail::Verdict::delivered)
      CHECK(contents(out).size() > 300000);
  }
}

TEST_CASE("what is taken back from a maildir does not count in its quota", "[delivery][local]") {
  failure = EIO;
  bool came_through = false;
  int nth = 0;
  for (; !came_through; ++nth) {
    INFO("sync " << nth);
    const TemporaryFolder folder;
    const std::filesystem::path place = folder / "box";
    REQUIRE(deliver(LocalTarget::Kind::maildir, place).verdict == mail::Verdict::delivered);
    std::ofstream(place / "maildirsize") << "10000000S,1000C\n";
    only_syncs = true;
    calls_left = nth;
    const auto outcome = deliver(LocalTarget::Kind::maildir, place);
    came_through = calls_left >= 0;
    calls_left = -1;
    only_syncs = false;
    CHECK((outcome.verdict == mail::Verdict::delivered) == came_through);
    const auto size = parse_maildirsize(contents(place / "maildirsize"));
    REQUIRE(size.has_value());
    CHECK(size->messages == (came_through ? 1 : 0));
    CHECK((size->octets > 0) == came_through);
  }
  CHECK(nth > 2);  // at least the file and the folder
}

TEST_CASE("room that was never written at the end of an mbox is cut off", "[delivery][local]") {
  const TemporaryFolder folder;
  const std::filesystem::path place = folder / "box";
  REQUIRE(deliver(LocalTarget::Kind::mbox, place).verdict == mail::Verdict::delivered);
  const auto whole = contents(place);
  const auto torn = GENERATE(std::size_t{1}, std::size_t{5000}, std::size_t{200000});
  SECTION("behind a whole message") {
    std::ofstream(place, std::ios::app) << std::string(torn, '\0');
    REQUIRE(deliver(LocalTarget::Kind::mbox, place).verdict == mail::Verdict::delivered);
    CHECK(contents(place) == whole + whole);
  }
  SECTION("behind a piece of one") {
    std::ofstream(place, std::ios::app) << "From b\nSubj" << std::string(torn, '\0');
    REQUIRE(deliver(LocalTarget::Kind::mbox, place).verdict == mail::Verdict::delivered);
    CHECK(contents(place) == whole + "From b\nSubj\n\n" + whole);
  }
  SECTION("of nothing else") {
    std::ofstream(place, std::ios::trunc) << std::string(torn, '\0');
    REQUIRE(deliver(LocalTarget::Kind::mbox, place).verdict == mail::Verdict::delivered);
    CHECK(contents(place) == whole);
  }
}

// A reader that rewrites a mailbox makes a new file and renames it, under its lock.
TEST_CASE("an mbox that is replaced while its lock is awaited gets the mail in its new form",
          "[delivery][local]") {
  const TemporaryFolder folder;
  const std::filesystem::path place = folder / "box";
  std::ofstream(place) << "";
  before_lock = [&] {
    std::ofstream(folder / "rewritten") << "";
    std::filesystem::create_hard_link(place, folder / "old");
    std::filesystem::rename(folder / "rewritten", place);
  };
  REQUIRE(deliver(LocalTarget::Kind::mbox, place).verdict == mail::Verdict::delivered);
  REQUIRE_FALSE(before_lock);
  CHECK(in_mbox(place) == 1);
  CHECK(contents(folder / "old").empty());
}

TEST_CASE("a fresh lock that took a stale one's place is given back", "[delivery][local]") {
  const TemporaryFolder folder;
  const std::filesystem::path place = folder / "box";
  const auto lock = folder / "box.lock";
  std::ofstream(place) << "";
  std::ofstream(lock) << "1 elsewhere.test\n";
  const timespec long_ago{::time(nullptr) - 1000, 0};
  const timespec times[] = {long_ago, long_ago};
  REQUIRE(::utimensat(AT_FDCWD, lock.c_str(), times, 0) == 0);
  before_rename = [&] {
    std::ofstream(folder / "fresh") << "1 mx.us.test\n";  // the first to break it is at work
    ::rename((folder / "fresh").c_str(), lock.c_str());
  };
  const auto outcome = deliver(LocalTarget::Kind::mbox, place);
  INFO(outcome.text);
  REQUIRE_FALSE(before_rename);
  CHECK(outcome.verdict == mail::Verdict::retry);
  CHECK(contents(lock) == "1 mx.us.test\n");
  CHECK(contents(place).empty());
  std::filesystem::remove(lock);
  CHECK(deliver(LocalTarget::Kind::mbox, place).verdict == mail::Verdict::delivered);
  CHECK_FALSE(std::filesystem::exists(lock));
}
