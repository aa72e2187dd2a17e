// The spool folder: its lock, its modes and its body files.
//
//   queue.db   the database, with its -wal and -shm
//   body/ID    the content of large messages, one file each
//   drop/      mail handed in while the daemon was down (not ours)
//   lock       held by the one program that writes here; has its pid
//   lost/      bodies that nothing knows any more after the log or the database was damaged, and
//              damaged logs, in which small messages may still be
//   damaged-*/ databases that were salvaged (queue/maintenance/salvage.h)
//   reserve    room that is given up when the disk is full
#pragma once

#include "base/file.h"
#include "mail/message.h"
#include "queue/body_folder.h"

#include <atomic>
#include <ctime>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace postrider::queue {

class Spool {
 public:
  // Makes what is missing, refuses a folder open to others, takes the lock.
  static Result<Spool> open(const std::string& folder);

  // What can be seen of a folder that is to be one: that it is a folder, and kept from others. One
  // that is missing is right.
  static Result<void> check(const std::string& folder);

  std::string database() const { return folder_ + "/queue.db"; }
  const std::string& bodies() const { return bodies_->path(); }
  std::string body(const std::string& name) const { return bodies() + "/" + name; }
  const std::string& folder() const { return folder_; }

  // As it stands in the folder now.
  static Result<FileIdentity> identity_of(const std::string& path);

  // Whether there is room for `needed` bytes more, by statvfs; also false without free inodes.
  bool has_room(std::uint64_t needed) const;

  // Some room on the disk that is given up when it is full, so that what became of mail can still
  // be recorded.
  void make_reserve() const;
  bool give_up_reserve() const;  // false: there was none
  // Gives the database's log blocks of its own behind its end, as far as there are: what is written
  // there takes none from a disk that is full.
  void reserve_log() const;

  // The folder of large content, wherever its name leads at the time.
  BodyFolder& body_folder() const { return *bodies_; }
  // In the folder that the name leads to, which is `in` then.
  Result<FileDescriptor> create_body(const std::string& name, BodyFolder::Handle& in) const;
  // The file of a message, checked (attacks.md I12): regular, ours, one link, the recorded size.
  // Errc::corrupt if it is anything else, unless another folder took the place of body/ just now.
  Result<FileDescriptor> open_body(const mail::Message& message) const;
  // Of what stands in the file; reads all of it. Ends early once `ending` is set.
  Result<std::uint32_t> checksum_of_body(const mail::Message& message,
                                         const std::atomic<bool>& ending) const;
  // What cannot be removed now is remembered. Thread-safe, as is remove_left.
  void remove_body(const std::string& name) const;
  // Tries those again; true: none is left, nor may be in a folder that came instead of another.
  bool remove_left() const;
  std::vector<std::string> body_names() const;  // of all that is in body/ with a name of ours
  // Removes the files in body/ for which is_known(name) is false, or moves them to lost/: then what
  // knew them may have been lost. Returns how many.
  enum class Unknown : std::uint8_t { remove, move_aside };
  Result<std::size_t> sweep(const std::function<Result<bool>(const std::string& name)>& is_known,
                            Unknown what);
  // Copies the database's log to lost/, once: the next transaction overwrites what SQLite does not
  // see in it. Gives the copy's path. Requires: no connection to the database is open.
  Result<std::string> keep_log() const;
  // What is there instead of a database.
  struct Remains {
    bool was_here = false;  // a queue was kept here, and there is none
    std::string database;   // where what stood in its place is now; empty: nothing
    std::string log;        // where its log is now; empty: there was none
  };
  // Of a database that is gone or hollow (no octets, fewer than any has, or zeros alone) what is
  // left goes to lost/, before another is begun: SQLite would write over it. A hollow one stays if
  // its log is sound: SQLite has it from there. Requires: no connection to the database is open.
  Result<Remains> keep_remains(bool is_log_sound) const;
  // A file in lost/ says so, where nothing else does.
  void note_in_lost(const std::string& sentence, std::time_t now) const;

 private:
  Result<FileDescriptor> open_checked(const BodyFolder::Opened& folder,
                                      const mail::Message& message) const;

  std::string folder_;
  unsigned owner_ = 0;  // of the folder: us
  FileDescriptor lock_;
  FileDescriptor locked_folder_;  // the same lock, which nobody can unlink
  std::unique_ptr<BodyFolder> bodies_;

  struct Left {
    std::mutex mutex;
    std::vector<std::string> names;  // at most kMostLeft
    bool are_more = false;
  };
  static constexpr std::size_t kMostLeft = 10'000;
  std::shared_ptr<Left> left_ = std::make_shared<Left>();
};

}  // namespace postrider::queue
