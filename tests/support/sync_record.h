// What a power cut would leave of a file: in programs that link this, the calls that write, name
// and sync are replaced by ones that are remembered while a record lives.
#pragma once

#include <functional>
#include <string>

namespace postrider {

class SyncRecord {
 public:
  SyncRecord();  // one at a time
  ~SyncRecord();
  SyncRecord(const SyncRecord&) = delete;
  SyncRecord& operator=(const SyncRecord&) = delete;

  // So many fsyncs of it fail from now on, or after so many others, with EIO; and syncfs until
  // then.
  static void fail(const std::string& path, unsigned times, unsigned after = 0);
  // What happens before a syncfs fails.
  static void meanwhile(std::function<void()> what);

  // Why a power cut now might cost the file, its content or its name; empty: it would stay. What
  // was there before the record began counts as synced.
  static std::string lack(const std::string& path);
  // As lack(), and the content was synced before the file got the name that it has.
  static std::string lack_of_renamed(const std::string& path);
};

}  // namespace postrider
