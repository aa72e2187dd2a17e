// What the daemon says of itself leads root's tools: who is believed.
#include "daemon/protocol/effective.h"

#include "tests/unit/base/temporary_folder.h"

#include <catch2/catch.hpp>

#include <fcntl.h>
#include <fstream>
#include <sys/stat.h>
#include <unistd.h>

using namespace postrider;
using namespace postrider::daemon;

namespace {

constexpr uid_t kDaemon = 12345;
constexpr uid_t kOther = 12346;

class Published {
 public:
  Published() : path_(folder_ / "run") {
    REQUIRE(::mkdir(path_.c_str(), 0755) == 0);
    places_.submit_socket = path_ + "/submit";
    places_.user = "mail";
    REQUIRE(file_.publish(places_, folder_ / "postrider.toml").has_value());
  }
  void give(uid_t file, uid_t folder) const {
    REQUIRE(::chown(effective_path(places_).c_str(), file, file) == 0);
    REQUIRE(::chown(path_.c_str(), folder, folder) == 0);
  }
  std::string file() const { return effective_path(places_); }
  const std::string& path() const { return path_; }
  const TemporaryFolder& folder() const { return folder_; }

 private:
  TemporaryFolder folder_;
  std::string path_;
  ToolPaths places_;
  EffectiveFile file_;
};

bool is_root() {
  if (::geteuid() != 0)
    WARN("not run: needs root");
  return ::geteuid() == 0;
}

}  // namespace

TEST_CASE("our own word on a daemon is believed", "[daemon][effective]") {
  const Published published;
  const auto effective = read_effective(published.path(), {::geteuid()});
  REQUIRE(effective.has_value());
  CHECK(effective->folder == published.path());
  CHECK(effective->is_roots == (::geteuid() == 0));
}

TEST_CASE("as root: only root and the daemon's user are believed", "[daemon][effective]") {
  if (!is_root())
    return;
  const Published published;
  const auto believed = [&] { return read_effective(published.path(), {0, kDaemon}); };
  published.give(kDaemon, kDaemon);
  REQUIRE(believed().has_value());
  CHECK_FALSE(believed()->is_roots);  // so who its daemon's user is, it cannot say
  CHECK_FALSE(read_effective(published.path(), {0}).has_value());
  CHECK_FALSE(read_effective(published.path(), {0, kOther}).has_value());
  published.give(0, kDaemon);  // it may have been moved there
  REQUIRE(believed().has_value());
  CHECK_FALSE(believed()->is_roots);
  for (const auto& [file, folder] :
       {std::pair{kOther, kOther}, std::pair{kOther, kDaemon}, std::pair{kDaemon, kOther},
        std::pair{uid_t{0}, kOther}, std::pair{kOther, uid_t{0}}}) {
    INFO(file << " in a folder of " << folder);
    published.give(file, folder);
    CHECK_FALSE(believed().has_value());
  }
}

TEST_CASE("as root: a folder that another could have made is not looked into",
          "[daemon][effective]") {
  if (!is_root())
    return;
  const Published published;
  const auto above = published.folder().path();
  const auto believed = [&](const std::string& folder) {
    return read_effective(folder, {0, kDaemon}).has_value();
  };
  published.give(kDaemon, kDaemon);
  CHECK(believed(published.path()));
  REQUIRE(::chmod(above.c_str(), 0777) == 0);  // anybody's own may take its place
  CHECK_FALSE(believed(published.path()));
  REQUIRE(::chmod(above.c_str(), 0775) == 0);
  CHECK_FALSE(believed(published.path()));
  REQUIRE(::chmod(above.c_str(), 01777) == 0);  // as /tmp, where nobody exchanges another's
  CHECK(believed(published.path()));
  REQUIRE(::chown(above.c_str(), kOther, kOther) == 0);
  CHECK_FALSE(believed(published.path()));
  REQUIRE(::chmod(above.c_str(), 0755) == 0);
  CHECK_FALSE(believed(published.path()));
  REQUIRE(::chown(above.c_str(), 0, 0) == 0);
  const auto link = above + "/link";
  REQUIRE(::symlink(published.path().c_str(), link.c_str()) == 0);
  CHECK(believed(link));
  REQUIRE(::lchown(link.c_str(), kOther, kOther) == 0);
  CHECK_FALSE(believed(link));
}

TEST_CASE("a published file with another name, or open to others, counts for nothing",
          "[daemon][effective]") {
  const Published published;
  const auto believed = [&] { return read_effective(published.path(), {::geteuid()}).has_value(); };
  const auto second = published.folder() / "second";
  REQUIRE(::link(published.file().c_str(), second.c_str()) == 0);
  CHECK_FALSE(believed());
  REQUIRE(::unlink(second.c_str()) == 0);
  CHECK(believed());
  REQUIRE(::chmod(published.file().c_str(), 0666) == 0);
  CHECK_FALSE(believed());
  REQUIRE(::rename(published.file().c_str(), second.c_str()) == 0);
  REQUIRE(::symlink(second.c_str(), published.file().c_str()) == 0);
  CHECK_FALSE(believed());
}
