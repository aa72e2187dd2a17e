// `postrider queue salvage`: what can be read of a damaged queue goes into a new database, in the
// same spool. The old database with its log stays in a folder of its own, content whose message is
// unknown goes to lost/, and nothing is deleted.
#pragma once

#include "base/result.h"
#include "base/time.h"
#include "mail/message_id.h"
#include "queue/spool.h"

#include <functional>
#include <string>
#include <vector>

namespace postrider::queue {

// What is left of a message that could not be saved.
struct LostMessage {
  mail::MessageId id;
  std::string sender;  // if `knows_sender`
  bool knows_sender = false;
  std::vector<std::string> recipients;  // the known ones
  std::string content;                  // the path of what is left of its content; may be empty
  std::uint64_t size = 0;               // octets in there
};

struct Salvaged {
  std::size_t messages = 0, recipients = 0;  // saved
  std::size_t held = 0;                      // of these messages, for one of the reasons:
  std::vector<mail::MessageId> damaged;      // the content is not what was stored
  std::vector<mail::MessageId> doubtful;     // which recipients had it already is not known
  std::vector<LostMessage> lost;
  std::uint32_t pages = 0, unreadable = 0;  // of the old database
  std::string old_files;                    // the folder where they are now
};

// Refuses while the spool is in use. After a failure the spool is what it was; after a kill the
// queue does not open until this was called again.
Result<Salvaged> salvage(const std::string& spool, TimePoint now);

// Under `strangers` in the table meta: files in body/ that no message names may be what is left of
// one, so the next that looks for them moves them aside.
inline constexpr const char* kStrangersMark = "strangers";

// The same by the daemon, which has the spool, and may be writing bodies whose messages are yet to
// come: so what is in body/ stays there. Requires: no connection to the database is open.
Result<Salvaged> salvage_database(Spool& spool, TimePoint now);

// Whether a salvage of this spool was cut off after it had begun to move files.
bool is_salvage_unfinished(const std::string& spool);

}  // namespace postrider::queue
