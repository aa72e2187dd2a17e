// Who exists here. Asked at RCPT (unknown local recipients are refused there, never bounced later)
// and at delivery. The answer comes from composition, so receiving and sending share it.
#pragma once

#include <string>
#include <string_view>

namespace postrider::mail {

class Directory {
 public:
  virtual ~Directory() = default;
  // True if mail for this domain (lower case, A-labels) is delivered on this machine. May ask a
  // table.
  virtual bool is_local_domain(std::string_view domain) const = 0;
  // circle: aliases that lead back to themselves, and to nobody else.
  enum class Answer { known, unknown, cannot_tell, circle };
  // local_part without quotes. Thread-safe; may look at the file system or ask a service, answers
  // from a short cache: on a network loop, under MemoryOnly. "postmaster" in any case is always
  // known.
  virtual Answer lookup(std::string_view local_part, std::string_view domain) const = 0;
};

}  // namespace postrider::mail
