#include "base/text.h"
#include "daemon/predecessor/exim_file.h"
#include "daemon/predecessor/old_queue.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace postrider::daemon {

namespace {

constexpr const char* kInput = "input";
constexpr std::string_view kHeader = "-H", kData = "-D", kJournal = "-J";

constexpr const char* kRemedy =
    "stop it, keep it from being started again (systemctl disable --now exim4), and wait for the "
    "end of its processes";

// The socket on which its daemon (since 4.95) hears of messages: with an abstract name on Linux.
bool daemon_hears(std::string path) {
  while (path.size() > 1 && path.ends_with('/'))
    path.pop_back();
  path += "/exim_daemon_notify";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() + 2 > sizeof address.sun_path)
    return false;
  const FileDescriptor socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  for (const std::size_t from : {std::size_t{1}, std::size_t{0}}) {  // abstract, or a file
    std::memset(address.sun_path, 0, sizeof address.sun_path);
    std::memcpy(address.sun_path + from, path.data(), path.size());
    for (const std::size_t more : {std::size_t{0}, std::size_t{1}}) {  // with its NUL, or without
      const auto size = offsetof(sockaddr_un, sun_path) + from + path.size() + more;
      if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address),
                    static_cast<socklen_t>(size)) == 0)
        return true;
    }
  }
  return false;
}

class EximQueue final : public OldQueue {
 public:
  using OldQueue::OldQueue;

  // Exim has no lock of its own but those of messages: nothing is taken if one is locked, or if its
  // daemon hears us.
  std::string lock() override {
    if (daemon_hears(path()))
      return "Exim runs; " + std::string(kRemedy);
    auto all = entries();
    all.insert(all.end(), lone_.begin(), lone_.end());
    for (const auto& entry : all) {
      struct stat about {};
      auto data = open_plain(entry, entry.id + std::string(kData), O_RDWR, false, about);
      if (data && !lock_data(*data))
        return "Exim runs: one of its processes has message " + entry.id + "; " + kRemedy;
    }
    return {};
  }

  Result<Opened> open_message(const Entry& entry) override {
    Opened opened;
    struct stat about {};
    auto header = open_plain(entry, entry.id + std::string(kHeader), O_RDONLY, false, about);
    if (!header)
      return header.error();
    opened.order.id = entry.id;
    opened.order.modified = about.st_mtim.tv_sec;
    opened.order.uid = about.st_uid;
    const auto data_name = entry.id + std::string(kData);
    auto data = open_plain(entry, data_name, O_RDONLY, false, about);
    if (!data)
      return data.error().code() == Errc::not_found
                 ? Error(Errc::refused, "the file with its body (" + data_name + ") is missing")
                 : data.error().during("the file with its body");
    auto lock = open_plain(entry, data_name, O_RDWR, false, about);
    if (!lock)
      return lock.error();
    if (!only_looks() && !lock_data(*lock))
      return Error(Errc::stopped, "a process of Exim still works on it; wait for its end");
    auto journal = open_plain(entry, entry.id + std::string(kJournal), O_RDONLY, false, about);
    if (!journal && journal.error().code() != Errc::not_found)
      return journal.error().during("its journal");
    opened.lock = *std::move(lock);
    opened.files.push_back(*std::move(header));
    opened.files.push_back(*std::move(data));
    opened.order.has_more = journal.has_value();
    if (journal)
      opened.files.push_back(*std::move(journal));
    return opened;
  }

 protected:
  Result<void> find() override {
    auto input = enter(folder(), kInput);
    if (!input)
      return input.error().during("open " + path() + "/" + kInput);
    lone_.clear();
    if (!input->folder)
      return {};
    return find_in(*input, kInput, true);
  }
  // The header goes first: without one there is no message.
  std::vector<std::string> endings() const override { return {"-H", "-J", "-D"}; }

 private:
  // As Exim locks it: the first line. The lock belongs to this opening of the file.
  static bool lock_data(const FileDescriptor& data) {
    struct flock lock {};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    lock.l_len = 0;  // all of it: the line's length depends on the version
    return ::fcntl(data.get(), F_OFD_SETLK, &lock) == 0;
  }

  Result<void> find_in(const Folder& place, const std::string& shown, bool is_top) {
    auto names = names_in(*place.folder);
    if (!names)
      return names.error().during("list " + path() + "/" + shown);
    for (const auto& name : *names) {
      struct stat about {};
      if (::fstatat(place.folder->get(), name.c_str(), &about, AT_SYMLINK_NOFOLLOW) != 0)
        continue;
      if (S_ISDIR(about.st_mode) && is_top && name.size() == 1) {  // split_spool_directory
        auto below = enter(*place.folder, name);
        if (!below)
          return below.error().during("open " + path() + "/" + shown + "/" + name);
        if (below->folder && below->owner == place.owner) {
          if (auto found = find_in(*below, shown + "/" + name, false); !found)
            return found;
          continue;
        }
      }
      take_name(place, shown, name);
    }
    return {};
  }

  void take_name(const Folder& place, const std::string& shown, const std::string& name) {
    const auto id = name.substr(0, name.size() - std::min<std::size_t>(name.size(), 2));
    const std::string_view ending = std::string_view(name).substr(id.size());
    if (!is_exim_id(id) || (ending != kHeader && ending != kData && ending != kJournal))
      add_odd(shown + "/" + escaped(name, 100), "it has not the name of a spool file");
    else if (const Entry entry{place.folder, place.owner, shown, id}; ending == kHeader)
      add(entry);
    else if (!has(*place.folder, id + std::string(kHeader)))
      take_lone(entry, name);
  }

  void take_lone(const Entry& entry, const std::string& name) {
    if (is_aside(entry, entry.id + std::string(kHeader)))
      return add_rest(entry);
    lone_.push_back(entry);
    add_odd(entry.queue + "/" + name,
            "the file with its header (" + entry.id + std::string(kHeader) + ") is missing");
  }

  std::vector<Entry> lone_;  // data without a header: Exim may just be receiving it
};

}  // namespace

Result<std::unique_ptr<OldQueue>> open_exim_queue(std::string path, FileDescriptor folder) {
  struct stat about {};
  if (::fstatat(folder.get(), kInput, &about, AT_SYMLINK_NOFOLLOW) != 0)
    return Error(Errc::not_found, "there is no queue of Exim in " + path +
                                      " (`exim -bP spool_directory` says where it is)");
  return std::unique_ptr<OldQueue>(std::make_unique<EximQueue>(std::move(path), std::move(folder)));
}

}  // namespace postrider::daemon
