#include "cli/hand_over.h"

#include "cli/content_store.h"
#include "daemon/drop_file.h"
#include "tests/support/sync_record.h"
#include "tests/unit/base/temporary_folder.h"

#include <catch2/catch.hpp>

#include <filesystem>

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

}  // namespace
}  // namespace postrider::cli
