// Where the lines of the log go, as sinks of spdlog that take LineMessages.
#pragma once

#include "base/file.h"

#include <spdlog/formatter.h>
#include <spdlog/sinks/base_sink.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

namespace postrider::daemon {

struct LogTarget {
  enum class Kind { standard_error, file, syslog, journal } kind = Kind::standard_error;
  std::string path;  // of the file or of the socket
};

// The journal, when standard error is a stream of it and its socket is there: it then takes
// priorities and fields.
LogTarget standard_error_target(const std::string& journal = "/run/systemd/journal/socket");
LogTarget syslog_target();

class LineSink : public spdlog::sinks::base_sink<std::mutex> {
 public:
  // Lines that the target did not take since the last call.
  std::uint64_t take_lost();

 protected:
  std::uint64_t lost_ = 0;
};

// A file or standard error. Lines go out in blocks, and at flush().
class StreamSink : public LineSink {
 public:
  // Throws std::system_error for a file that cannot be opened. A new one has the mode 0640 and the
  // folder's group where that is setgid: who may read logs may read this one.
  explicit StreamSink(const LogTarget& target);

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override;
  void flush_() override;

 private:
  FileDescriptor file_;  // standard error if it is not open
  spdlog::memory_buf_t block_;
  std::uint64_t lines_ = 0;  // of the block
  bool torn_ = false;        // a full disk has cut off the last line
};

// syslog or the journal, one datagram for each line. Their service may be restarted at any time:
// each datagram carries its address.
class DatagramSink : public LineSink {
 public:
  explicit DatagramSink(const LogTarget& target);

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override;
  void flush_() override;

 private:
  std::string path_;
  FileDescriptor socket_;
  bool is_slow_ = false;  // has not taken a datagram for all the time that it may have
};

// Throws std::system_error.
std::shared_ptr<LineSink> make_sink(const LogTarget& target);

}  // namespace postrider::daemon
