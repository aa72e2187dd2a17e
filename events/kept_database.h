// A database of its own beside the queue's, in which what happened is kept: one thread writes it,
// others read. Nothing in it is needed for mail. What the outbox and the trace have in common.
#pragma once

#include "base/result.h"
#include "queue/store/sqlite.h"

#include <cstdint>
#include <initializer_list>
#include <string>

namespace postrider::events {

struct KeptFormat {
  std::int64_t application_id = 0, version = 0;  // what makes the tables sets both, too
  const char* tables = nullptr;                  // SQL
};

struct StatementText {
  queue::Statement& statement;
  const char* sql;
};
Result<void> prepare_all(queue::Database& database, std::initializer_list<StatementText> all);

// Errc::not_found: nobody has made it yet; Errc::corrupt: it is another's, or of another version.
Result<void> check_format(queue::Database& database, const KeptFormat& format);

// Of a reader or the writer: the file is not what it was.
bool is_damaged(const Error& error);
// For a sentence about numbers or texts in it that are none of ours.
Error damaged_file(const char* what);
// Errc::corrupt: it, its log or its index of that is there and is not a regular file: to open a
// pipe would wait for ever.
Result<void> look_at_files(const std::string& path);
std::uint64_t inode_of(const std::string& path);  // 0: there is none

class KeptDatabase {
 public:
  // all: every page is looked at, however many there are.
  enum class Check : std::uint8_t { some, all };

  KeptDatabase() = default;
  // The writer's. vfs: tests give one that fails. An unusable file is an error; see set_aside().
  // What is no regular file is refused as damaged.
  static Result<KeptDatabase> open(const std::string& path, const KeptFormat& format,
                                   const char* vfs, Check check);
  // Moves a damaged database out of the way; a pipe or a link in its place is removed.
  static Result<void> set_aside(const std::string& path);

  queue::Database& database() { return database_; }
  // Another file has the name of the database or of its log, or none: what is written here is lost
  // with us.
  bool is_replaced() const;
  // The file system has less free than so many octets.
  bool is_room_short(std::uint64_t room) const;
  // Brings the log into the database as far as readers allow, and gives some free pages back.
  Result<void> checkpoint();
  // A little at a time, for the log takes room meanwhile.
  Result<void> give_back_room();

 private:
  // Which files those are; 0: none.
  struct Files {
    std::uint64_t database = 0, log = 0;
  };
  Files files_by_name() const;

  std::string path_;
  Files files_;
  queue::Database database_;
};

}  // namespace postrider::events
