#include "base/text.h"
#include "daemon/predecessor/old_queue.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

namespace postrider::daemon {

namespace {

// In the order in which mail passes them. What lies in `corrupt` and `saved` is for people.
constexpr const char* kQueues[] = {"maildrop", "incoming", "active", "deferred", "hold"};
constexpr std::size_t kDeepest = 16;  // hash_queue_depth
constexpr std::size_t kShortestId = 5, kLongestId = 40;

bool is_id(std::string_view name) {
  return name.size() >= kShortestId && name.size() <= kLongestId &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= '0' && c <= '9') || (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z');
         });
}

class PostfixQueue final : public OldQueue {
 public:
  using OldQueue::OldQueue;

  std::string lock() override {
    const auto folder_of_it = enter(folder(), "pid");
    if (!folder_of_it || !folder_of_it->folder)
      return {};
    auto file = open_file_at(*folder_of_it->folder, "master.pid",
                             O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (!file)
      return file.error().code() == boost::system::errc::no_such_file_or_directory
                 ? std::string()
                 : "whether Postfix runs is not known: " + file.error().describe();
    // As its master(8) does, which then cannot start; and the other kind that it can be built for.
    struct flock other {};
    other.l_type = F_WRLCK;
    if (::flock(file->get(), LOCK_EX | LOCK_NB) == 0 &&
        ::fcntl(file->get(), F_OFD_SETLK, &other) == 0) {
      if (!only_looks())
        lock_ = *std::move(file);
      return {};
    }
    std::array<char, 64> text{};
    const auto got = ::pread(file->get(), text.data(), text.size(), 0);
    const auto process =
        trim(std::string_view(text.data(), static_cast<std::size_t>(std::max<ssize_t>(got, 0))));
    const auto number = parse_unsigned(process.substr(0, process.find('\n')));
    return "Postfix runs" +
           (number ? " (process " + std::to_string(*number) + ")" : std::string()) +
           "; stop it, and keep it from being started again: systemctl disable --now postfix";
  }

  Result<Opened> open_message(const Entry& entry) override {
    Opened opened;
    struct stat about {};
    auto file = open_plain(entry, entry.id, O_RDONLY, entry.is_dropped, about);
    if (!file)
      return file.error();
    if ((about.st_mode & S_IXUSR) == 0)  // so Postfix marks what is complete
      return Error(Errc::unsupported,
                   "it is not complete: its sender was not told that it would be delivered");
    if (!only_looks() && ::flock(file->get(), LOCK_EX | LOCK_NB) != 0)
      return Error(Errc::stopped, "a process of Postfix still works on it; wait for its end");
    opened.order.id = entry.id;
    opened.order.is_held = entry.is_held;
    opened.order.is_dropped = entry.is_dropped;
    opened.order.uid = about.st_uid;
    opened.order.modified = about.st_mtim.tv_sec;
    opened.lock = FileDescriptor(::fcntl(file->get(), F_DUPFD_CLOEXEC, 0));
    opened.files.push_back(*std::move(file));
    return add_failures(std::move(opened), entry);
  }

 protected:
  Result<void> find() override {
    for (const std::string name : kQueues) {
      auto queue = enter(folder(), name);
      if (!queue)
        return queue.error().during("open " + path() + "/" + name);
      if (queue->folder)
        if (auto found = find_in(*queue, name, name, 0); !found)
          return found.error().during("list " + path() + "/" + name);
    }
    return {};
  }
  std::vector<std::string> endings() const override { return {""}; }

 private:
  // Who failed is done with in the queue file; but while there is a list, the sender does not know.
  Result<Opened> add_failures(Opened opened, const Entry& entry) const {
    auto lists = enter(folder(), "bounce");
    if (!lists)
      return lists.error().during("open " + path() + "/bounce");
    // hash_queue_names may have folders below it, each for one letter of the id.
    for (std::size_t depth = 0; lists->folder && depth < std::min(kDeepest, entry.id.size());
         ++depth) {
      struct stat about {};
      const Entry list{lists->folder, lists->owner, "bounce", entry.id};
      auto file = open_plain(list, entry.id, O_RDONLY, false, about);
      if (file) {
        opened.order.has_more = true;
        opened.files.push_back(*std::move(file));
        return opened;
      }
      if (file.error().code() != Errc::not_found)
        return file.error().during("its list of failures");
      lists = enter(*lists->folder, entry.id.substr(depth, 1));
      if (!lists)
        return lists.error();
    }
    return opened;
  }

  Result<void> find_in(const Folder& place, const std::string& queue, const std::string& shown,
                       std::size_t depth) {
    auto names = names_in(*place.folder);
    if (!names)
      return names.error();
    for (const auto& name : *names) {
      struct stat about {};
      if (::fstatat(place.folder->get(), name.c_str(), &about, AT_SYMLINK_NOFOLLOW) != 0)
        continue;
      if (S_ISDIR(about.st_mode) && name.size() == 1 && depth < kDeepest) {
        auto below = enter(*place.folder, name);
        if (!below)
          return below.error();
        if (below->folder && below->owner == place.owner) {
          if (auto found = find_in(*below, queue, shown + "/" + name, depth + 1); !found)
            return found;
          continue;
        }
      }
      if (!is_id(name)) {
        add_odd(shown + "/" + escaped(name, 100), "it has not the name of a queue file");
        continue;
      }
      add({place.folder, place.owner, shown, name, queue == "hold", queue == "maildrop"});
    }
    return {};
  }

  FileDescriptor lock_;
};

}  // namespace

Result<std::unique_ptr<OldQueue>> open_postfix_queue(std::string path, FileDescriptor folder) {
  struct stat about {};
  if (::fstatat(folder.get(), "deferred", &about, AT_SYMLINK_NOFOLLOW) != 0)
    return Error(Errc::not_found, "there is no queue of Postfix in " + path +
                                      " (`postconf -h queue_directory` says where it is)");
  return std::unique_ptr<OldQueue>(
      std::make_unique<PostfixQueue>(std::move(path), std::move(folder)));
}

}  // namespace postrider::daemon
