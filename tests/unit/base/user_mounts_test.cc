// Paths that are walked place by place lead where open(2) leads. File systems that never answer are
// in tests/integration/user_mounts.py.
#include "base/user_mounts.h"

#include "tests/unit/base/temporary_folder.h"

#include <catch2/catch.hpp>

#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <unistd.h>

using namespace postrider;

TEST_CASE("a place is where its path leads", "[base][file]") {
  const TemporaryFolder folder;
  std::filesystem::create_directories(folder / "a/b");
  std::ofstream(folder / "a/b/file") << "text\n";
  std::filesystem::create_symlink("b/file", folder / "a/relative");
  std::filesystem::create_symlink(folder / "a", folder / "absolute");
  std::filesystem::create_symlink("../a/relative", folder / "a/twice");
  std::filesystem::create_symlink("loop", folder / "loop");
  std::filesystem::create_symlink("a/b/", folder / "slash");
  for (const char* name : {"a/b/file", "a/relative", "absolute/relative", "absolute/twice",
                           "a/../a//b/./file", "a/b", "absolute", "slash", "slash/file", "loop",
                           "a/b/file/below", "missing", "a/missing/file", ""}) {
    INFO(name);
    const auto path = folder / name;
    struct stat found {};
    struct stat wanted {};
    const bool is_there = ::stat(path.c_str(), &wanted) == 0;
    const int number = errno;
    const auto place = find_place(path);
    CHECK(place.has_value() == is_there);
    CHECK(look_at(path, found) == is_there);
    CHECK(found.st_ino == wanted.st_ino);
    if (!is_there)
      CHECK(place.error().code().value() == number);
  }
  CHECK(read_file(folder / "absolute/twice").value() == "text\n");
  CHECK_FALSE(find_place("").has_value());
  // What a process has open, by a link that is not a path.
  const auto open = open_file(folder / "a/b/file", O_RDONLY);
  REQUIRE(open.has_value());
  const auto name = "/dev/fd/" + std::to_string(open->get());
  CHECK(read_file(name).value() == "text\n");
  struct stat here {};
  CHECK(look_at(".", here));
  CHECK(look_at("/", here));
}

TEST_CASE("what would make a reader wait is opened without waiting", "[base][file]") {
  const TemporaryFolder folder;
  const auto pipe = folder / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0644) == 0);
  CHECK(open_to_read(pipe).has_value());
  CHECK_FALSE(read_file(pipe).has_value());
}

TEST_CASE("within a folder links and other mounts are left alone", "[base][file]") {
  const auto root = open_file("/", O_RDONLY | O_DIRECTORY);
  REQUIRE(root.has_value());
  const auto mount = mount_of(*root);
  struct stat about {};
  CHECK(mount != 0);
  CHECK_FALSE(is_users_mount(mount));
  CHECK_FALSE(look_within(*root, mount, "proc", about));
  CHECK_FALSE(open_within(*root, "proc", O_RDONLY).has_value());
  const TemporaryFolder own;
  const auto folder = open_file(own.path(), O_RDONLY | O_DIRECTORY);
  REQUIRE(folder.has_value());
  std::ofstream(own / "file") << "text\n";
  std::filesystem::create_symlink("file", own / "link");
  struct stat wanted {};
  REQUIRE(::stat((own / "file").c_str(), &wanted) == 0);
  REQUIRE(look_within(*folder, mount_of(*folder), "file", about));
  CHECK(about.st_ino == wanted.st_ino);
  CHECK(about.st_dev == wanted.st_dev);
  CHECK(about.st_uid == wanted.st_uid);
  CHECK(about.st_mode == wanted.st_mode);
  CHECK(about.st_nlink == 1);
  CHECK(about.st_size == 5);
  CHECK(about.st_mtim.tv_nsec == wanted.st_mtim.tv_nsec);
  CHECK(open_within(*folder, "file", O_RDONLY).has_value());
  REQUIRE(look_within(*folder, mount_of(*folder), "link", about));
  CHECK(S_ISLNK(about.st_mode));
  CHECK(open_within(*folder, "link", O_RDONLY).error().code() ==
        boost::system::errc::too_many_symbolic_link_levels);
  CHECK_FALSE(look_within(*folder, mount_of(*folder), "missing", about));
}
