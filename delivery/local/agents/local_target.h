// A place on this machine where mail ends, and one delivery into it, as plain data: what is
// performed in a short-lived process of the target's user travels there as bytes.
//
//   address --aliases, .forward, patterns--> Target(s) --DeliveryAgent--> mail::Outcome
//
// Kinds and what `place` means for each:
//   maildir   the folder that holds tmp, new and cur; absolute
//   mbox      the file; absolute
//   lmtp      a next hop: "unix:/run/dovecot/lmtp" or "host:port"; the dispatcher's couriers carry
//             it, no DeliveryAgent sees it
//   command   unused; `arguments` is the argument vector, and no shell is involved
#pragma once

#include "base/file.h"
#include "base/result.h"
#include "base/time.h"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::delivery {

struct TargetLimits {
  Duration time = std::chrono::minutes(15);  // of a command, or of waiting for a mailbox's locks
  std::uint64_t output = 4096;               // octets kept of what a command says
  std::uint64_t mailbox_size = 0;            // octets that an mbox may grow to; 0: no limit
  // Of a command, with all that it starts; 0: no limit. Whoever carries a delivery out takes these
  // from the configuration: they do not travel with it.
  std::uint64_t processes = 0;
  std::uint64_t memory = 0;  // octets
  friend bool operator==(const TargetLimits&, const TargetLimits&) = default;
};

struct LocalTarget {
  // Told to another process. Do not renumber.
  enum class Kind : std::uint8_t { maildir = 0, mbox = 1, lmtp = 2, command = 3 };
  Kind kind = Kind::maildir;
  // The login name whose rights are used; empty: the daemon's own. Root never is: where a name
  // stands for root or for another account below local.minimum_uid, leave it empty.
  std::string user;
  // How much of `place` exists or is made as a plain path ("/var/mail"); what follows it is entered
  // folder by folder, never through a symbolic link. Empty: all but the last component.
  std::string root;
  std::string place;
  std::vector<std::string> arguments;
  TargetLimits limits;
  // "maildir /var/mail/ann", "command /usr/bin/vacation", for logs and explanations; raw.
  std::string describe() const;
  friend bool operator==(const LocalTarget&, const LocalTarget&) = default;
};

// The parts of the envelope that are written to a mailbox or passed to a command in its
// environment. Unescaped bytes from outside.
struct LocalEnvelope {
  std::string id;                  // of the message, as in the log
  std::string sender;              // empty: the null sender
  std::string delivered_to;        // the address that led here: Delivered-To, RECIPIENT
  std::string original_recipient;  // before aliases and rewriting; ORIGINAL_RECIPIENT
  std::string local_part;          // of delivered_to, unquoted; LOCAL
  std::string extension;           // behind the delimiter; EXTENSION
  std::string domain;              // lower case, A-labels; DOMAIN
  std::string hostname;            // ours
  TimePoint now;                   // of this delivery
  friend bool operator==(const LocalEnvelope&, const LocalEnvelope&) = default;
};

// What says that mail of this address goes there: see delivery/local/addresses/alias_source.h. Told
// to another process. Do not renumber.
enum class LocalSource : std::uint8_t {
  mailbox = 0,  // local.mailbox, for `name`
  entry = 1,    // a command or a file of the user's .forward or of an alias
  place = 2     // a mailbox of a table of virtual users
};

struct LocalJob {
  LocalSource source = LocalSource::mailbox;
  std::string name;  // whose mailbox it is ({user}), or whose command; empty: a virtual user's
  LocalTarget target;
  LocalEnvelope envelope;
  std::string trace;       // our header fields above the bytes received, CRLF
  std::uint64_t size = 0;  // octets of the body, without trace
  friend bool operator==(const LocalJob&, const LocalJob&) = default;
};

// The bytes of a message, CRLF, without trace: in memory, or a file read from its beginning.
struct LocalBody {
  std::shared_ptr<const std::string> bytes;  // null: in the file
  FileDescriptor file;
};

// "/usr/bin/vacation -a 'x y' ann" as an argument vector: words, quotes and backslashes as a shell
// reads them, but nothing is expanded, and a word that asks for more ("|", ";", "&", "<", ">",
// "`", "$", "(", a line break; outside of quotes) is an error. The first is an absolute path.
Result<std::vector<std::string>> split_command(std::string_view text);

}  // namespace postrider::delivery
