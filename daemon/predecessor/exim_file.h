// The files of a message in Exim's spool, as the chapter "Format of spool files" of its
// specification has them, and as its spool_in.c reads them: ID-H with the envelope and the header,
// ID-D with the body, and after a crash ID-J with recipients that have had it since. Pure.
#pragma once

#include "daemon/predecessor/old_message.h"

#include <string>
#include <string_view>

namespace postrider::daemon {

inline constexpr std::size_t kMostEximHeader = 64U << 20U;

struct EximHeader {
  OldMessage message;
  std::string header;  // the fields that are sent, with LF; without the empty line behind them
};
// text: of ID-H; id: its message's by the file's name; journal: of ID-J, or empty. Errc::malformed:
// it is damaged, or none of Exim's; the step is a sentence. Linear in the input.
Result<EximHeader> read_exim_header(std::string_view text, std::string_view id,
                                    std::string_view journal, std::string_view origin);

// Gives the whole content: the header, an empty line, and what stands in ID-D.
Result<void> read_exim_content(std::string_view header, const OldFile& body, std::string_view id,
                               const OnOldContent& on_content);

// "1xXyPG-0001JK-1w", or as Exim has named messages since 4.97.
bool is_exim_id(std::string_view name);

}  // namespace postrider::daemon
