// The command line of sendmail, as cron, git, PHP, mutt and mdadm use it: letters may be grouped,
// values glued or apart, and much is accepted that has no meaning here. Pure.
#pragma once

#include "base/result.h"
#include "mail/envelope.h"

#include <optional>
#include <string>
#include <vector>

namespace postrider::cli {

struct SendmailOptions {
  enum class Mode : std::uint8_t {
    deliver,  // -bm
    smtp,     // -bs
    list,     // -bp
    aliases,  // -bi
    verify,   // -bv
    flush,    // -q
    version,
    help,
  };
  Mode mode = Mode::deliver;
  std::string config;                               // -C
  bool header_recipients = false;                   // -t
  bool dots_are_content = false;                    // -i, -oi
  bool verbose = false;                             // -v
  std::optional<std::string> sender;                // -f, -r; empty or "<>": the null sender
  std::string full_name;                            // -F
  mail::BodyType body = mail::BodyType::seven_bit;  // -B
  mail::Notify notify;                              // -N
  mail::Return ret = mail::Return::unspecified;     // -R
  std::string envelope_id;                          // -V, in xtext
  // -q: id, recipient or sender as -qI, -qR and -qS gave them
  std::string flush_id, flush_recipient, flush_sender;
  std::vector<std::string> recipients;
};

// `arguments` without argv[0]. The error's step is a sentence; it means exit code 64.
Result<SendmailOptions> parse_sendmail_options(const std::vector<std::string>& arguments);

}  // namespace postrider::cli
