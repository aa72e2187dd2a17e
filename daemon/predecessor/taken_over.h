// What is asked and answered of one message of the old queue, between the process that may read it
// and the one that may write ours: a line of JSON a packet.
#pragma once

#include "base/result.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::daemon {

// Whose queue it was.
enum class Predecessor : std::uint8_t { postfix, exim };
const char* name_of(Predecessor whose);  // "Postfix"

struct OldMailOrder {
  enum class Act : std::uint8_t { take, forget, end };
  Act act = Act::take;
  std::string id;             // the old one; only letters, digits and hyphens
  bool is_held = false;       // it lay among what an administrator holds
  bool is_dropped = false;    // sendmail left it; Postfix has not completed it
  bool has_more = false;      // of Exim a journal, of Postfix a list of failures not yet reported
  std::uint64_t uid = 0;      // whose the file is
  std::int64_t modified = 0;  // its time, in seconds
  std::vector<std::string> drop_ids;  // of forget
};
std::string encode(const OldMailOrder& order);
Result<OldMailOrder> decode_old_mail_order(std::string_view text);

// What became of a message, or, in a dry run, would.
struct TakenOver {
  enum class End : std::uint8_t {
    taken,    // it is in custody here
    known,    // since an earlier run
    empty,    // nobody waits for it any more
    left,     // it is none to be sent, as `reason` says
    refused,  // damaged, or not what it should be
    busy,     // a process of the old one still has it
    failed,   // it could not be read or stored
  };
  End end = End::failed;
  std::string file;  // below the folder that was given
  std::vector<std::string> ids;
  std::vector<std::string> drop_ids;  // by which the queue knows that it has it
  std::string reason;                 // of left, refused, busy, failed
  std::string hold;                   // why it is held now; empty: it is not
  std::string sender;                 // escaped
  std::vector<std::string> to;        // escaped; some of them
  std::vector<std::string> behind;    // escaped: who may get it twice
  std::uint64_t recipients = 0, done = 0, size = 0;
  std::int64_t received = 0;  // seconds
};
const char* name_of(TakenOver::End end);
std::string encode(const TakenOver& taken);
Result<TakenOver> decode_taken_over(std::string_view text);

// The first packet of all: why nothing can be done; exit_code 0: go on.
struct TakerReady {
  int exit_code = 0;
  std::string error;
};
std::string encode(const TakerReady& ready);
Result<TakerReady> decode_taker_ready(std::string_view text);

}  // namespace postrider::daemon
