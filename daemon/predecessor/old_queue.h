// The queue folder of another mail server, as root goes through it: what lies in it was put there by
// somebody else. No link is followed, nothing is opened but plain files that have one name and
// belong to whose folder it is, and a message that is in custody here is put aside, never deleted.
#pragma once

#include "base/file.h"
#include "base/result.h"
#include "daemon/predecessor/taken_over.h"

#include <functional>
#include <memory>
#include <string>
#include <sys/stat.h>
#include <utility>
#include <vector>

namespace postrider::daemon {

// Below the folder: where messages are put that were taken.
inline constexpr const char* kTakenFolder = "taken-over";

class OldQueue {
 public:
  struct Entry {
    std::shared_ptr<FileDescriptor> folder;
    uid_t owner = 0;    // of that folder
    std::string queue;  // its name below the whole: "deferred/5"
    std::string id;
    bool is_held = false, is_dropped = false;
    std::string shown() const { return queue + "/" + id; }
  };
  struct Opened {
    std::vector<FileDescriptor> files;  // as OldMailTaker wants them
    FileDescriptor lock;                // held as long as this is open
    OldMailOrder order;
  };

  // Errc::not_found: there is no such queue; Errc::refused: it may not be opened. The step is a
  // sentence.
  static Result<std::unique_ptr<OldQueue>> open(Predecessor whose, const std::string& path);
  OldQueue(std::string path, FileDescriptor folder)
      : path_(std::move(path)), folder_(std::move(folder)) {}
  virtual ~OldQueue() = default;

  // For a dry run: nothing is kept locked, so nobody is disturbed.
  void only_look() { only_looks_ = true; }
  // Why it may not be touched, with the remedy: its owner runs. Empty: it does not, and, as far as
  // it knows locks, cannot be started as long as this exists.
  virtual std::string lock() = 0;
  // Finds messages, and what lies among them that is none: its name and a sentence.
  Result<void> scan();
  const std::vector<Entry>& entries() const { return entries_; }
  const std::vector<std::pair<std::string, std::string>>& odd() const { return odd_; }

  // Errc::refused: not what it should be; Errc::not_found: gone meanwhile; Errc::stopped: a process
  // of its owner has it; Errc::unsupported: it is not complete, and was never promised to anybody.
  virtual Result<Opened> open_message(const Entry& entry) = 0;
  // Into taken-over, under its own name; no file of that name is replaced.
  Result<void> put_aside(const Entry& entry);
  // The rest of what an earlier run was putting aside when it was ended.
  Result<void> put_rest_aside();
  // Of names that were put aside: they stay where they are now.
  Result<void> sync();

 protected:
  virtual Result<void> find() = 0;
  // The endings of a message's files, in the order in which they move.
  virtual std::vector<std::string> endings() const = 0;

  struct Folder {
    std::shared_ptr<FileDescriptor> folder;
    uid_t owner = 0;
  };
  // nullptr inside: there is none of that name.
  Result<Folder> enter(const FileDescriptor& above, const std::string& name) const;
  // Gives the name of each thing in it.
  static Result<std::vector<std::string>> names_in(const FileDescriptor& folder);
  // A plain file of the folder's owner or root or, with any_owner, of anybody.
  static Result<FileDescriptor> open_plain(const Entry& entry, const std::string& name, int flags,
                                           bool any_owner, struct stat& about);
  bool has(const FileDescriptor& folder, const std::string& name) const;
  void add(Entry entry) { entries_.push_back(std::move(entry)); }
  void add_rest(Entry entry) { rest_.push_back(std::move(entry)); }
  bool is_aside(const Entry& entry, const std::string& name) const;
  void add_odd(std::string name, std::string why) {
    odd_.emplace_back(std::move(name), std::move(why));
  }
  bool only_looks() const { return only_looks_; }
  const FileDescriptor& folder() const { return folder_; }
  const std::string& path() const { return path_; }

 private:
  Result<std::shared_ptr<FileDescriptor>> aside_for(const std::string& queue);

  std::string path_;
  FileDescriptor folder_;
  bool only_looks_ = false;
  std::vector<Entry> entries_, rest_;
  std::vector<std::pair<std::string, std::string>> odd_;
  std::shared_ptr<FileDescriptor> aside_;
  // By the name of the queue: where its messages go, and where they came from.
  std::vector<std::pair<std::string, std::shared_ptr<FileDescriptor>>> asides_;
  std::vector<std::shared_ptr<FileDescriptor>> changed_;
};

Result<std::unique_ptr<OldQueue>> open_postfix_queue(std::string path, FileDescriptor folder);
Result<std::unique_ptr<OldQueue>> open_exim_queue(std::string path, FileDescriptor folder);

}  // namespace postrider::daemon
