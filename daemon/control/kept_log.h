// What the tools did to the queue while the daemon was down, and what they found wrong there: the
// lines of the log are kept in the spool, and the daemon writes them when it starts; so the log and
// the trace know who did what, and damage that a tool met first is not unknown to the log.
//
// The file has a line for each record: its checksum in hex, a space, the record in base64. What is
// written begins with a line end, so a record that was cut short costs itself alone.
#pragma once

#include "base/file.h"
#include "base/log.h"

#include <mutex>
#include <string>
#include <string_view>

namespace postrider::daemon {

// Thread-safe. Requires: the queue of that spool is open here, whose lock keeps others out.
class KeptLog : public Log {
 public:
  // said: errors of the whole queue go to standard error as well, for whoever runs the tool.
  enum class Errors : std::uint8_t { kept, said };
  KeptLog(std::string spool, const Clock& clock, Errors errors = Errors::kept)
      : path_(path_in(spool)), clock_(clock), errors_(errors) {}
  ~KeptLog() override { flush(); }
  KeptLog(const KeptLog&) = delete;
  KeptLog& operator=(const KeptLog&) = delete;

  static std::string path_in(const std::string& spool) { return spool + "/changes"; }
  bool enabled(Level level) const override { return level >= Level::info; }
  // Lines about messages, changes and pauses, warnings and errors; what else the tools meet they
  // say themselves.
  void write(LogEvent event) override;

 private:
  void flush();
  Result<void> append(std::string_view bytes);

  const std::string path_;
  const Clock& clock_;
  const Errors errors_;
  std::mutex mutex_;
  FileDescriptor file_;
  std::string waiting_;
  std::uint64_t size_ = 0;
  bool is_full_ = false;     // lines were left out, which is said
  bool has_failed_ = false;  // so was that
};

// Writes them to `log`, with the times at which they were made, and removes them: those that a
// crash in between leaves come once more. What cannot be read is counted in a warning
// (changes_damaged), and the file is put aside as changes.damaged.
void tell_kept(const std::string& spool, Log& log);

}  // namespace postrider::daemon
