#include "base/named_file.h"

#include "base/text.h"
#include "base/user_mounts.h"

#include <climits>

#include <algorithm>
#include <array>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace postrider {

namespace {

constexpr int kMostLinks = 40;
constexpr int kPlace = O_PATH | O_NOFOLLOW;

// Goes from folder to folder, so that every link on the way is seen.
class Finder {
 public:
  Finder(const std::string& path, uid_t author)
      : shown_(escaped(path)), rest_(path), authors_{author} {}

  Result<NamedFile> find() {
    if (auto began = begin(); !began)
      return began.error();
    for (;;) {
      const auto name = next_name();
      if (name.empty())
        return refused("is not a regular file");
      if (name == ".")
        continue;
      auto place = open_file_at(folder_, name, kPlace);
      struct stat about {};
      if (!place)
        return unopened(place.error());
      const auto mount = mount_of(*place);
      if (mount != mount_ && is_users_mount(mount))
        return refused("lies on a file system of a user's");
      if (::fstat(place->get(), &about) != 0)
        return system_error(shown_ + ": stat");
      if (S_ISLNK(about.st_mode)) {
        if (auto followed = follow(*place, about.st_uid); !followed)
          return followed.error();
      } else if (S_ISDIR(about.st_mode)) {
        enter(*std::move(place), about);
        mount_ = mount;
      } else if (!S_ISREG(about.st_mode) || rest_.find_first_not_of('/') != rest_.npos) {
        return refused("is not a regular file");
      } else {
        return open(*place);
      }
    }
  }

 private:
  Error refused(const char* why) const { return Error(Errc::refused, shown_ + ": " + why); }

  Error unopened(const Error& error) const {
    const bool is_denied = error.code() == boost::system::errc::permission_denied;
    return Error(
        error.code(),
        shown_ + (is_denied ? ": cannot be opened (by its mode, or since sandbox.read does "
                              "not name its folder)"
                            : ": cannot be opened"));
  }

  Result<void> begin() {
    auto root = open_file("/", kPlace);
    if (!root)
      return root.error();
    folder_ = *std::move(root);
    mount_ = mount_of(folder_);
    return {};
  }

  std::string next_name() {
    const auto start = std::min(rest_.find_first_not_of('/'), rest_.size());
    const auto end = std::min(rest_.find('/', start), rest_.size());
    auto name = rest_.substr(start, end - start);
    rest_.erase(0, end);
    return name;
  }

  void enter(FileDescriptor folder, const struct stat& about) {
    folder_ = std::move(folder);
    authors_.push_back(about.st_uid);
  }

  Result<void> follow(const FileDescriptor& link, uid_t owner) {
    if (owner != 0 && owner != ::geteuid() && owner != authors_.front())
      return refused("there is a symbolic link of another user's on the way");
    if (++links_ > kMostLinks)
      return refused("there are too many symbolic links on the way");
    std::array<char, PATH_MAX> target{};
    const auto size = ::readlinkat(link.get(), "", target.data(), target.size());
    if (size < 0)
      return system_error(shown_ + ": readlink");
    rest_ = std::string(target.data(), static_cast<std::size_t>(size)) + "/" + rest_;
    rest_.erase(rest_.find_last_not_of('/') + 1);
    return rest_.starts_with('/') || target[0] == '/' ? begin() : Result<void>();
  }

  bool may_read(uid_t author, const struct stat& about) const {
    return author == 0 || author == about.st_uid || (about.st_mode & S_IROTH) != 0;
  }

  Result<NamedFile> open(const FileDescriptor& place) const {
    auto file = reopen(place, O_RDONLY | O_NONBLOCK);
    if (!file)
      return unopened(file.error());
    struct stat about {};
    if (::fstat(file->get(), &about) != 0)
      return system_error(shown_ + ": stat");
    if (!S_ISREG(about.st_mode))
      return refused("is not a regular file");
    if ((about.st_mode & S_IWOTH) != 0)
      return refused("everybody may write this file");
    if (!std::all_of(authors_.begin(), authors_.end(),
                     [&](uid_t author) { return may_read(author, about); }))
      return refused("whoever names this file, or owns a folder on the way, may not read it");
    return NamedFile{*std::move(file), about.st_uid};
  }

  const std::string shown_;
  std::string rest_;
  std::vector<uid_t> authors_;  // the first wrote the path; the others own folders
  FileDescriptor folder_;
  std::uint64_t mount_ = 0;
  int links_ = 0;
};

}  // namespace

Result<NamedFile> open_named_file(const std::string& path, uid_t author) {
  return Finder(path, author).find();
}

}  // namespace postrider
