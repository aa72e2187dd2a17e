// A message in the queue of the mail server that was here before, in our terms. Pure.
#pragma once

#include "base/result.h"
#include "base/time.h"
#include "mail/message.h"

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::daemon {

// The octets of one of its files, hostile ones. read: at most `most` from `at` on; none at the end.
struct OldFile {
  std::uint64_t size = 0;
  std::function<Result<std::size_t>(std::uint64_t at, char* room, std::size_t most)> read;
};
// What is in memory as a file; the text must outlive it.
OldFile file_of(std::string_view text);
// All of it. Errc::too_long: it has more than `most`.
Result<std::string> read_whole(const OldFile& file, std::size_t most);

// Takes content in pieces of any size; its lines end in LF or CRLF.
using OnOldContent = std::function<Result<void>(std::string_view piece)>;

struct OldMessage {
  // Of the recipients that have not had it: one for each sender, usually one in all.
  std::vector<mail::Envelope> envelopes;
  std::size_t done = 0;  // recipients that have had it, or got a notice instead
  std::optional<TimePoint> received;
  mail::Origin origin;
  std::string full_name;  // of a local user, for a From field that is missing
  std::string hold;       // why it must not just be sent; empty: it may
  std::string never;      // why it is no mail to be sent at all; empty: it is
  // Addresses behind its recipients (of a list, of a forwarding) that have had it.
  std::vector<std::string> behind;

  std::size_t waiting() const;  // recipients, of all envelopes
};

// Collects what is asked for one recipient of a message after the other.
class OldRecipients {
 public:
  explicit OldRecipients(std::string_view origin) : origin_(origin) {}
  // address: quoted as in commands; without a domain it gets the origin. sender: empty: the null
  // sender. The error's step is a sentence.
  Result<void> add(OldMessage& message, const mail::Envelope& form, std::string_view address,
                   std::string_view sender, mail::Notify notify, std::string original);

 private:
  static constexpr std::size_t kMost = 500'000;
  std::string origin_;
  std::size_t count_ = 0;
  std::map<std::string, std::size_t> of_sender_;  // which of the envelopes is its
};

// Which bits of its flags the old server has for what is wanted (RFC 3461 §4.1).
struct NotifyBits {
  std::uint64_t never, success, failure, delay;
};
mail::Notify notify_of(std::uint64_t flags, const NotifyBits& bits);
// A meaning as Postfix stores it: the last at sign parts it, and nothing is quoted.
std::string quoted_address(std::string_view meaning);
// ENVID in xtext from what it means; empty if it is of no use.
std::string envelope_id_of(std::string_view meaning);
// What came from outside for Origin::client, short and printable.
std::string client_of(std::string_view helo, std::string_view address);
std::string protocol_name(std::string_view name, bool logged_in);

}  // namespace postrider::daemon
