// What is inside a BodyFile; shared by the facade that makes them and the thread that stores them.
#pragma once

#include "queue/checksum.h"
#include "queue/queue.h"
#include "queue/spool.h"

namespace postrider::queue {

struct BodyFile::State {
  const Spool* spool = nullptr;
  FileDescriptor file;
  std::string name;
  std::uint64_t size = 0;
  Checksum checksum;
  bool has_name = true;

  State(const Spool& spool_, FileDescriptor file_, std::string name_)
      : spool(&spool_), file(std::move(file_)), name(std::move(name_)) {}
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State();  // removes the file unless kept

  Result<void> sync();  // file and folder; blocks
  void keep();
  void give_name_away();
  // Whether all octets of `content` are where it says they are: nobody takes custody of less.
  // body: null if there is no file.
  static Result<void> check_whole(const mail::Content& content, const State* body);
};

// Of the content, in memory or in the file. nullopt: there is none.
std::optional<std::uint32_t> content_checksum(const Submission& submission);

}  // namespace postrider::queue
