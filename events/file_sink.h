// A file of JSON lines. It is opened again when somebody has moved it away or cut it off, so a log
// rotation needs no signal. Blocking; of one thread.
#pragma once

#include "events/pump.h"

#include "base/file.h"
#include "base/result.h"

#include <string>
#include <vector>

namespace postrider::events {

class FileSink : public Sink {
 public:
  explicit FileSink(std::string path) : path_(std::move(path)) {}
  Result<void> deliver(const std::string&, const std::vector<std::string>& events) override {
    return write(events);
  }
  // All of them. After an error none of them counts as written, though some may stand there: they
  // come again. A line that was cut in the middle is ended first.
  Result<void> write(const std::vector<std::string>& events);
  // An error too where a file that was left since could not be synced.
  Result<void> sync() override;

 private:
  void close();
  Result<void> open_if_needed();
  Result<bool> is_in_place() const;
  Result<void> end_cut_line();

  std::string path_;
  FileDescriptor file_;
  bool is_readable_ = true;
  bool is_unsynced_ = false;
  Result<void> left_;  // the sync of a file that is closed
};

}  // namespace postrider::events
