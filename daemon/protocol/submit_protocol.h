// How `sendmail` hands a message over, on the submit socket and in files of the drop folder alike:
// one line of JSON (envelope and the content's size), then exactly that many octets of content as
// the user wrote them. On the socket one line of JSON answers. All of it is outside bytes.
#pragma once

#include "base/file.h"
#include "base/json.h"
#include "base/result.h"
#include "base/time.h"
#include "mail/envelope.h"

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::daemon {

inline constexpr std::size_t kMostSubmitHeader = 4U << 20U;
inline constexpr std::size_t kMostSubmitRecipients = 50'000;

// What was asked for one recipient by RCPT (RFC 3461 §4.1, §4.2).
struct SubmitDsn {
  mail::Notify notify;
  std::string original_recipient;  // ORCPT as given; empty if not given
  friend bool operator==(const SubmitDsn&, const SubmitDsn&) = default;
};

struct SubmitHeader {
  std::string sender;                   // empty: the null sender; without "@": of this host
  std::vector<std::string> recipients;  // the same
  std::string author;                   // for a missing From: user@host, and
  std::string full_name;                // the name to go with it; may be empty
  std::uint64_t size = 0;
  mail::BodyType body = mail::BodyType::seven_bit;  // what -B said; 8 bits are noticed anyway
  mail::Notify notify;                              // -N, for recipients that dsn does not name
  mail::Return ret = mail::Return::unspecified;     // -R
  std::string envelope_id;                          // -V, in xtext
  std::map<std::string, SubmitDsn> dsn;             // by the recipient as given above
  // Of this hand-over, the same on the socket and in a file, so that it counts once. May be empty.
  std::string hand_over;
  // From postrider-web and the programs for brokers alone: whose token or which source it was, who
  // has limits of its own; submit_key(), or empty; and how the request came, "http" or a broker's
  // protocol.
  std::string token, key, way;
  // W3C Trace Context, where it is known otherwise than by a field of the content; or empty.
  std::string trace_parent;
};

// What was asked for the recipient that `header` names so.
SubmitDsn dsn_of(const SubmitHeader& header, const std::string& recipient);
// "TIME-RANDOM" in hexadecimal digits, for SubmitHeader::hand_over.
std::string new_hand_over();
// The name by which the queue knows it; empty if it has none.
std::string hand_over_id(const SubmitHeader& header, std::uint64_t uid);
// Whether the queue may forget it, since the sender has long given up: a week after it was made.
bool is_forgettable_hand_over(std::string_view id, TimePoint now);
bool is_hand_over(std::string_view id);  // rather than the id of a file

std::string encode(const SubmitHeader& header);  // one line with its end
// What two submissions have in common if they are the same request: digests of the token with what
// its owner calls the request, and of the request itself.
std::string submit_key(std::string_view token, std::string_view name, std::string_view request);
bool is_submit_key(std::string_view key);
// A member that is not ours refuses the line: nobody may make us build what we do not read.
Result<SubmitHeader> decode_submit_header(std::string_view line, JsonWork* work = nullptr);

// "user" is user@origin (RFC 6409 §6.1). The error's step is a sentence for the user.
Result<std::string> complete_address(const std::string& address, std::string_view origin);
// Every address checked and completed with a domain; twice the same recipient counts once.
// The error's step is a sentence for the user.
Result<mail::Envelope> to_envelope(const SubmitHeader& header, std::string_view origin,
                                   std::size_t most_recipients);

// What the sender of a message over the limit is answered, by the daemon or by sendmail itself.
std::string too_large(std::uint64_t most);

struct SubmitAnswer {
  std::string id;     // of the queued message
  int exit_code = 0;  // sysexits.h
  std::string error;  // a sentence; empty if and only if exit_code is 0
  bool busy = false;  // with an error: nothing is wrong with the message, there is no room for it
  // kCauseLimit: the sender's own. kCauseKey: with an error, the key names another request; without
  // one, the message is in custody since an earlier submission.
  std::string cause;
};
inline constexpr std::string_view kCauseLimit = "limit", kCauseKey = "key";
std::string encode(const SubmitAnswer& answer);  // one line with its end
Result<SubmitAnswer> decode_submit_answer(std::string_view line);

// Files of the drop folder: complete ones, ones being written, ones that the daemon takes.
inline constexpr std::string_view kDropReady = "msg.";
inline constexpr std::string_view kDropUnfinished = "tmp.";
inline constexpr std::string_view kDropTaken = "taken.";
inline constexpr std::string_view kDropRefused = ".bad";  // at the end of the name
std::string drop_folder_path(const std::string& spool);
// Never through a link in its place. For root, who leaves files in a folder of somebody else's:
// through no link but root's own, and only if it belongs to root or this user, the daemon's (empty:
// the daemon is root).
Result<FileDescriptor> open_drop_folder(const std::string& spool, const std::string& user);

}  // namespace postrider::daemon
