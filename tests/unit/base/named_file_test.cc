// Files that others have named: links, modes, and what would make the reader wait.
#include "base/named_file.h"

#include "tests/unit/base/temporary_folder.h"

#include <catch2/catch.hpp>

#include <atomic>
#include <csignal>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace postrider;

namespace {

struct Folder {
  TemporaryFolder folder;
  Folder() { std::filesystem::permissions(folder.path(), std::filesystem::perms(0755)); }
  std::string put(const std::string& name, mode_t mode = 0644) const {
    const auto path = folder / name;
    std::ofstream(path) << "text\n";
    REQUIRE(::chmod(path.c_str(), mode) == 0);
    return path;
  }
};

// Another process that has a write lease on a file: whoever opens it waits for that to be given
// up, up to /proc/sys/fs/lease-break-time.
class LeaseHolder {
 public:
  explicit LeaseHolder(const std::string& path) {
    int ready[2];
    REQUIRE(::pipe(ready) == 0);
    child_ = ::fork();
    REQUIRE(child_ >= 0);
    if (child_ == 0) {
      ::signal(SIGIO, SIG_IGN);
      const int file = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
      const char has_it = file >= 0 && ::fcntl(file, F_SETLEASE, F_WRLCK) == 0 ? 'y' : 'n';
      (void)!::write(ready[1], &has_it, 1);
      for (;;)
        ::pause();
    }
    char has_it = 'n';
    (void)!::read(ready[0], &has_it, 1);
    has_it_ = has_it == 'y';
    ::close(ready[0]);
    ::close(ready[1]);
  }
  ~LeaseHolder() {
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
  }
  LeaseHolder(const LeaseHolder&) = delete;
  LeaseHolder& operator=(const LeaseHolder&) = delete;
  bool has_it() const { return has_it_; }

 private:
  pid_t child_ = -1;
  bool has_it_ = false;
};

}  // namespace

TEST_CASE("a lease on a file that somebody names holds up nobody", "[base][file]") {
  const Folder folder;
  const auto path = folder.put("list");
  {
    const LeaseHolder holder(path);
    if (!holder.has_it()) {
      WARN("this file system has no leases");
      return;
    }
    // Not "later, with what it holds": at once, with an error that passes.
    const auto opened = open_named_file(path, ::geteuid());
    REQUIRE_FALSE(opened.has_value());
    CHECK(opened.error().code() == boost::system::errc::resource_unavailable_try_again);
  }
  CHECK(open_named_file(path, ::geteuid()).has_value());
}

TEST_CASE("what is not a regular file is refused, and not waited for", "[base][file]") {
  const Folder folder;
  const auto fifo = folder.folder / "fifo";
  REQUIRE(::mkfifo(fifo.c_str(), 0644) == 0);
  std::filesystem::create_directory(folder.folder / "folder");
  const auto file = folder.put("file");
  for (const std::string& path :
       {fifo, folder.folder / "folder", file + "/x", std::string("/"), std::string("/dev/null")}) {
    INFO(path);
    const auto opened = open_named_file(path, 0);
    REQUIRE_FALSE(opened.has_value());
    CHECK(opened.error().code() == Errc::refused);
  }
  CHECK(open_named_file(file, 0).has_value());
  CHECK_FALSE(open_named_file(folder.folder / "none", 0).has_value());
}

TEST_CASE("a file is for its author to name by his own rights", "[base][file]") {
  if (::geteuid() != 0)
    return;  // files of several owners
  constexpr uid_t kAnn = 3001, kBob = 3002;
  const Folder folder;
  const auto open_to_all = folder.put("open"), closed = folder.put("closed", 0640);
  const auto loose = folder.put("loose", 0666);
  CHECK(open_named_file(open_to_all, kAnn).has_value());
  CHECK_FALSE(open_named_file(closed, kAnn).has_value());
  CHECK(open_named_file(closed, 0).has_value());
  CHECK_FALSE(open_named_file(loose, 0).has_value());
  const auto anns = folder.put("anns", 0600);
  REQUIRE(::chown(anns.c_str(), kAnn, kAnn) == 0);
  CHECK(open_named_file(anns, kAnn).value().owner == kAnn);
  CHECK_FALSE(open_named_file(anns, kBob).has_value());
  // Who owns a folder on the way could put anything there.
  std::filesystem::create_directory(folder.folder / "bobs");
  REQUIRE(::chown((folder.folder / "bobs").c_str(), kBob, kBob) == 0);
  const auto inside = folder.put("bobs/closed", 0640);
  CHECK_FALSE(open_named_file(inside, 0).has_value());
  CHECK(open_named_file(folder.put("bobs/open"), 0).has_value());
  // And whoever made a link.
  for (const uid_t owner : {uid_t(0), kAnn, kBob}) {
    const auto link = folder.folder / ("link" + std::to_string(owner));
    std::filesystem::create_symlink(open_to_all, link);
    REQUIRE(::lchown(link.c_str(), owner, owner) == 0);
    CHECK(open_named_file(link, kAnn).has_value() == (owner != kBob));
  }
  // What is not ours to open may be so by its mode, or by the sandbox: the remedy is said.
  const auto roots = folder.put("roots", 0600);
  REQUIRE(::seteuid(kBob) == 0);
  const auto denied = open_named_file(roots, 0);
  REQUIRE(::seteuid(0) == 0);
  REQUIRE_FALSE(denied.has_value());
  CHECK(denied.error().describe().find("sandbox.read does not name its folder") !=
        std::string::npos);
  std::filesystem::create_symlink("loop", folder.folder / "loop");
  CHECK_FALSE(open_named_file(folder.folder / "loop", 0).has_value());
}
