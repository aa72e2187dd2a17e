// A queue file of Postfix, whatever its version, as postcat(1) reads it: typed records, one after
// the other, with pointers to others that a filter put at the end of the file. Pure.
//
//   type (1 octet)  length (7 bits an octet, the lowest first)  data
//
//   C T A S ... R D R ... M | N L N N ... X | R ... E
//   envelope                 content          what else was found in the header
#pragma once

#include "daemon/predecessor/old_message.h"

#include <set>
#include <string>
#include <string_view>

namespace postrider::daemon {

struct PostfixRules {
  // Of the folder maildrop: what sendmail left there, before Postfix completed it.
  bool is_dropped = false;
  std::string_view origin;  // the domain of addresses without one
  // Recipients that failed, and of which the sender has not been told yet: they wait again, to fail
  // here. read_bounce_log() gives them.
  const std::set<std::string>* failed = nullptr;
};

// Reads all of it, and gives the content to on_content as it passes; empty: it is read past.
// Errc::malformed: it is damaged, or none of Postfix's; the step is a sentence. Each record is read
// once at most, so the work is bounded by the file's size.
Result<OldMessage> read_postfix_file(const OldFile& file, const PostfixRules& rules,
                                     const OnOldContent& on_content = {});

// Of the file bounce/ID, which is there while its sender has not been told: who is named in it. Of
// those only who is in the queue file too counts, so what else it may hold does no harm.
inline constexpr std::size_t kMostBounceLog = 64U << 20U;
std::set<std::string> read_bounce_log(std::string_view text);

}  // namespace postrider::daemon
