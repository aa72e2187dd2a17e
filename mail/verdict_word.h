// The word for a verdict in the log and in events: "sent", "deferred" or "bounced", as Postfix's
// log has them.
#pragma once

#include "mail/outcome.h"

namespace postrider::mail {

inline const char* verdict_word(Verdict verdict) {
  switch (verdict) {
    case Verdict::delivered:
      return "sent";
    case Verdict::retry:
      return "deferred";
    case Verdict::bounce:
      return "bounced";
  }
  return "deferred";
}

}  // namespace postrider::mail
