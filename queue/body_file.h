// What is inside a BodyFile; shared by the facade that makes them and the thread that stores them.
#pragma once

#include "queue/checksum.h"
#include "queue/queue.h"
#include "queue/spool.h"

namespace postrider::queue {

struct BodyFile::State {
  const Spool* spool = nullptr;
  BodyFolder::Handle folder;  // in which it is
  FileDescriptor file;
  std::string name;
  std::uint64_t size = 0;
  Checksum checksum;
  bool has_name = true;

  State(const Spool& spool_, BodyFolder::Handle folder_, FileDescriptor file_, std::string name_)
      : spool(&spool_),
        folder(std::move(folder_)),
        file(std::move(file_)),
        name(std::move(name_)) {}
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State();  // removes the file unless kept

  // File and folder; blocks. Where another folder has taken the place of the file's, it goes there.
  Result<void> sync();
  // Whether the file is in the folder that the name leads to: it is promised nowhere else.
  Result<void> check_place() const;
  void keep();
  void give_name_away();
  // Whether all octets of `content` are where it says they are: nobody takes custody of less.
  // body: null if there is no file.
  static Result<void> check_whole(const mail::Content& content, const State* body);

 private:
  Result<void> move_to(BodyFolder::Handle other);
  void remove_name() const;
};

// Of the content, in memory or in the file. nullopt: there is none.
std::optional<std::uint32_t> content_checksum(const Submission& submission);

}  // namespace postrider::queue
