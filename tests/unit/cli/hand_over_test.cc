#include "cli/hand_over.h"

#include "cli/content_store.h"
#include "daemon/pickup/drop_file.h"
#include "tests/support/sync_record.h"
#include "tests/unit/base/temporary_folder.h"

#include <catch2/catch.hpp>

#include <fcntl.h>
#include <filesystem>
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
