#include "base/file.h"

#include "base/regular_file.h"
#include "base/secret_file.h"
#include "tests/support/sync_record.h"
#include "tests/unit/base/temporary_folder.h"

#include <catch2/catch.hpp>

#include <cstdio>
#include <fcntl.h>
#include <functional>
#include <sys/stat.h>
#include <unistd.h>

namespace postrider {
namespace {

TEST_CASE("a file is replaced whole", "[base][file]") {
  const TemporaryFolder folder;
  const auto path = folder / "file";
  REQUIRE(replace_file(path, "old", 0640).has_value());
  REQUIRE(replace_file(path, std::string(100000, 'n'), 0640).has_value());
  CHECK(read_file(path)->size() == 100000);
  struct stat about {};
  REQUIRE(::stat(path.c_str(), &about) == 0);
  CHECK((about.st_mode & 0777U) == 0640);
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
}

TEST_CASE("a file that was replaced outlives a power cut, as the old one or the new one",
          "[base][file]") {
  const TemporaryFolder folder;
  const SyncRecord record;
  const auto path = folder / "file";
  REQUIRE(replace_file(path, "old", 0600).has_value());
  CHECK(SyncRecord::lack_of_renamed(path).empty());
  REQUIRE(replace_file(path, "new", 0600).has_value());
  CHECK(SyncRecord::lack_of_renamed(path).empty());
}

TEST_CASE("folders that were made outlive a power cut", "[base][file]") {
  const TemporaryFolder folder;
  const SyncRecord record;
  REQUIRE(make_folder(folder / "a/b/c", 0700).has_value());
  CHECK(SyncRecord::lack(folder / "a/b/c").empty());
}

TEST_CASE("what is not synced is seen", "[base][file]") {
  const TemporaryFolder folder;
  const SyncRecord record;
  const auto file = open_file(folder / "file", O_WRONLY | O_CREAT);
  REQUIRE(file.has_value());
  CHECK(SyncRecord::lack(folder / "file").find("the name") == 0);
  REQUIRE(write_all(*file, "x").has_value());
  REQUIRE(sync_folder(folder.path()).has_value());
  CHECK(SyncRecord::lack(folder / "file").find("the content") == 0);
  REQUIRE(sync_file(*file).has_value());
  CHECK(SyncRecord::lack(folder / "file").empty());
  REQUIRE(::rename((folder / "file").c_str(), (folder / "other").c_str()) == 0);
  CHECK(SyncRecord::lack(folder / "other").find("the name") == 0);
  REQUIRE(sync_folder(folder.path()).has_value());
  CHECK(SyncRecord::lack_of_renamed(folder / "other").empty());
}

TEST_CASE("a replacement that fails leaves the old file and nothing else", "[base][file]") {
  const TemporaryFolder folder;
  CHECK_FALSE(replace_file(folder / "missing/file", "x", 0600).has_value());
  // The target is a folder: the rename fails after the write.
  REQUIRE(make_folder(folder / "taken/inside", 0700).has_value());
  const auto replaced = replace_file(folder / "taken", "x", 0600);
  REQUIRE_FALSE(replaced.has_value());
  CHECK(replaced.error().describe().find("replace ") == 0);
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
}

TEST_CASE("a replacement does not write through a link", "[base][file]") {
  const TemporaryFolder folder;
  REQUIRE(replace_file(folder / "victim", "safe", 0600).has_value());
  const auto link = folder / ("file.new." + std::to_string(::getpid()));
  REQUIRE(::symlink((folder / "victim").c_str(), link.c_str()) == 0);
  CHECK_FALSE(replace_file(folder / "file", "x", 0600).has_value());
  CHECK(*read_file(folder / "victim") == "safe");
}

TEST_CASE("only regular files of a bounded size are read (I12)", "[base][file]") {
  const TemporaryFolder folder;
  REQUIRE(replace_file(folder / "file", "12345", 0600).has_value());
  CHECK(*read_file(folder / "file", 5) == "12345");
  CHECK(read_file(folder / "file", 4).error().code() == make_error_code(Errc::too_long));
  CHECK(read_file(folder.path()).error().code() == make_error_code(Errc::unsupported));
  CHECK(read_file(folder / "none").error().code().value() == ENOENT);
  REQUIRE(::mkfifo((folder / "fifo").c_str(), 0600) == 0);
  CHECK(read_file(folder / "fifo").error().code() == make_error_code(Errc::unsupported));
}

TEST_CASE("folders are made with their parents", "[base][file]") {
  const TemporaryFolder folder;
  REQUIRE(make_folder(folder / "a/b/c", 0700).has_value());
  CHECK(make_folder(folder / "a/b/c", 0700).has_value());
  CHECK(make_folder(folder / "a/b/c/", 0700).has_value());
  CHECK(sync_folder(folder / "a/b/c").has_value());
  REQUIRE(replace_file(folder / "file", "", 0600).has_value());
  CHECK_FALSE(make_folder(folder / "file", 0700).has_value());
  CHECK_FALSE(make_folder(folder / "file/below", 0700).has_value());
  CHECK_FALSE(sync_folder(folder / "file").has_value());
}

TEST_CASE("a descriptor is closed once", "[base][file]") {
  const TemporaryFolder folder;
  auto file = open_file(folder / "file", O_WRONLY | O_CREAT);
  REQUIRE(file.has_value());
  CHECK((::fcntl(file->get(), F_GETFD) & FD_CLOEXEC) != 0);
  const int number = file->get();
  FileDescriptor other(std::move(*file));
  CHECK_FALSE(file->is_open());
  CHECK(other.get() == number);
  REQUIRE(write_all(other, "bytes").has_value());
  other = FileDescriptor();
  CHECK(::fcntl(number, F_GETFD) == -1);
  CHECK_FALSE(write_all(other, "bytes").has_value());
  CHECK(*read_file(folder / "file") == "bytes");
}

TEST_CASE("files are opened below a folder", "[base][file]") {
  const TemporaryFolder folder;
  const auto base = open_file(folder.path(), O_RDONLY | O_DIRECTORY);
  REQUIRE(base.has_value());
  CHECK(open_file_at(*base, "inside", O_WRONLY | O_CREAT).has_value());
  CHECK(open_file_at(*base, "none", O_RDONLY).error().describe() ==
        "open none: No such file or directory");
}

TEST_CASE("errors tell the story from the outside in", "[base][result]") {
  const Error error = system_error(ENOSPC, "fsync");
  CHECK(error.during("store body").during("accept message").describe() ==
        "accept message: store body: fsync: No space left on device");
  CHECK(Error(Errc::corrupt, "").describe() == "stored data is damaged");
}

TEST_CASE("a file with secrets is read unless others have rights to it", "[base][file]") {
  const TemporaryFolder folder;
  const auto path = folder / "secret";
  REQUIRE(replace_file(path, "key\n", 0600).has_value());
  for (const unsigned mode : {0600U, 0640U, 0400U, 0660U}) {
    REQUIRE(::chmod(path.c_str(), mode) == 0);
    const auto read = read_secret_file(path, 4);
    REQUIRE(read.has_value());
    CHECK(*read == "key\n");
  }
  for (const unsigned mode : {0604U, 0602U, 0601U, 0644U}) {
    REQUIRE(::chmod(path.c_str(), mode) == 0);
    CHECK(read_secret_file(path, 4).error().code() == make_error_code(Errc::refused));
  }
  REQUIRE(::chmod(path.c_str(), 0600) == 0);
  CHECK(read_secret_file(path, 3).error().code() == make_error_code(Errc::too_long));
  const auto pipe = folder / "pipe";  // nobody writes to it, and nobody waits for that
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  CHECK_FALSE(read_secret_file(pipe, 4).has_value());
  CHECK_FALSE(read_secret_file(folder / "missing", 4).has_value());
}

TEST_CASE("what stands in the place of a regular file is named, and nobody waits there",
          "[base][file]") {
  TemporaryFolder folder;
  const auto path = folder / "kept";
  struct Case {
    const char* kind;
    std::function<void()> make;
  };
  const Case cases[] = {
      {"a folder", [&] { REQUIRE(::mkdir(path.c_str(), 0700) == 0); }},
      {"a symbolic link", [&] { REQUIRE(::symlink("/dev/null", path.c_str()) == 0); }},
      {"a symbolic link", [&] { REQUIRE(::symlink("nowhere", path.c_str()) == 0); }},
      {"a pipe", [&] { REQUIRE(::mkfifo(path.c_str(), 0600) == 0); }},
      {"a socket", [&] { REQUIRE(::mknod(path.c_str(), S_IFSOCK | 0600, 0) == 0); }},
  };
  for (const auto& c : cases) {
    INFO(c.kind);
    c.make();
    for (const int flags : {O_RDONLY, O_WRONLY, O_RDWR, O_WRONLY | O_CREAT | O_APPEND}) {
      const auto file = open_regular_file(path, flags);
      REQUIRE_FALSE(file.has_value());
      CHECK(file.error().code() == make_error_code(Errc::unsupported));
      CHECK(file.error().step() == path + " is " + c.kind + " and not a regular file");
    }
    CHECK_FALSE(require_regular_or_none(path).has_value());
    REQUIRE(::remove(path.c_str()) == 0);
  }
  CHECK(require_regular_or_none(path).has_value());
  CHECK(open_regular_file(path, O_RDONLY).error().code() ==
        boost::system::errc::no_such_file_or_directory);
  CHECK(open_regular_file(path, O_RDWR | O_CREAT).has_value());
  CHECK(open_regular_file(path, O_RDONLY).has_value());
}

}  // namespace
}  // namespace postrider
