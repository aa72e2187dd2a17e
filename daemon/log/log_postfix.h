// The log as Postfix writes it, for the tools that read it: pflogsumm, fail2ban's filters,
// collate, exporters. Each of our events becomes one or more of Postfix's lines, with the program
// names that they expect:
//
//   Nov 23 14:01:02 mx postfix/smtpd[812]: connect from unknown[192.0.2.1]
//   Nov 23 14:01:02 mx postfix/smtpd[812]: 0E3K...: client=unknown[192.0.2.1]
//   Nov 23 14:01:02 mx postfix/cleanup[812]: 0E3K...: message-id=<...>
//   Nov 23 14:01:02 mx postfix/qmgr[812]: 0E3K...: from=<a@b>, size=812, nrcpt=1 (queue active)
//   Nov 23 14:01:03 mx postfix/smtp[812]: 0E3K...: to=<c@d>, relay=..., status=sent (250 ok)
//   Nov 23 14:01:03 mx postfix/qmgr[812]: 0E3K...: removed
#pragma once

#include "daemon/log/log_format.h"

#include <string>
#include <string_view>

namespace postrider::daemon {

// Local time, as Postfix. Syslog and the journal add time and host themselves.
class PostfixFormat : public LogFormat {
 public:
  explicit PostfixFormat(std::string_view hostname);
  void write(const LogEvent& event, LogLines& lines) const override;
  void write_stamp(const LogEvent& event, std::string_view program,
                   std::string& line) const override;

 private:
  std::string hostname_;  // up to the first dot
  std::string pid_;
};

}  // namespace postrider::daemon
