// A line of the log as each target takes it, as spdlog's formatters: into a file or a terminal with
// a stamp, to syslog and to the journal as a datagram of their protocols.
#pragma once

#include "daemon/log/log_format.h"

#include <spdlog/details/log_msg.h>
#include <spdlog/formatter.h>

#include <memory>
#include <string_view>

namespace postrider::daemon {

// What the formatters below need beside the text. All messages of this log are of this kind.
struct LineMessage : spdlog::details::log_msg {
  LineMessage(const LogEvent& event, const LogLines::Line& line);
  const LogEvent& event;
  const int priority;
};

// The priorities of syslog(3): 3 error, 4 warning, 6 info, 7 debug.
int priority_of(Level level);

// "Nov 23 14:01:02 mx postfix/qmgr[812]: ..." or whatever the format's stamp is; with its end.
class StampedFormatter : public spdlog::formatter {
 public:
  explicit StampedFormatter(std::shared_ptr<const LogFormat> format);
  void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& out) override;
  std::unique_ptr<spdlog::formatter> clone() const override;

 private:
  std::shared_ptr<const LogFormat> format_;
};

// "<22>Nov 23 14:01:02 postrider[812]: ...", as syslog(3) sends it; facility mail.
class SyslogFormatter : public spdlog::formatter {
 public:
  void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& out) override;
  std::unique_ptr<spdlog::formatter> clone() const override;
};

// The native protocol of systemd's journal: MESSAGE, PRIORITY, SYSLOG_FACILITY, SYSLOG_IDENTIFIER,
// SYSLOG_PID, POSTRIDER_EVENT, POSTRIDER_ID, and POSTRIDER_KEY for each field. The notice that an
// event speaks of is a second POSTRIDER_ID, so that who follows a message comes to it.
class JournalFormatter : public spdlog::formatter {
 public:
  void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& out) override;
  std::unique_ptr<spdlog::formatter> clone() const override;
};

}  // namespace postrider::daemon
