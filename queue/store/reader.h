// The rows as those read them who change nothing: people's tools, status, delivery at its start.
// One connection; one question at a time. No SQL for the caller.
#pragma once

#include "queue/leases.h"
#include "queue/store/prepared_filter.h"
#include "queue/store/rows.h"
#include "queue/store/store_error.h"
#include "queue/store/transaction.h"

#include <functional>

namespace postrider::queue {

// Bytes of an entry are valid while it is visited.
struct IncomingEntry {
  mail::MessageId id;
  std::int64_t size = 0;
  std::string_view head;
};

// A living recipient with its message, its domain and its site.
struct WaitingEntry {
  mail::MessageId id;
  std::int64_t received = 0;  // wall clock
  std::int64_t expires = 0;
  std::int64_t size = 0;
  std::int64_t waiting = 0;  // recipients of the message that are not held
  bool tried = false;
  std::string_view sender;
  std::uint32_t index = 0;
  std::string_view address;
  RecipientState state = RecipientState::queued;
  std::uint32_t attempts = 0;
  std::int64_t next_attempt = 0;
  std::string_view last;
  std::string_view domain, site;
  std::int64_t blocked_until = 0;
  std::string_view site_last;
  std::int64_t site_failures = 0;
};

struct WaitingCounts {
  std::int64_t waiting = 0, held = 0;
  bool tried = false;
};

// Of waiting mail, kept by the store.
struct TallyEntry {
  std::int64_t status = 0;  // 0 queued, 1 deferred, 2 held
  std::int64_t messages = 0, recipients = 0, bytes = 0;
};

struct ArrivedEntry {
  std::int64_t minute = 0;  // wall clock, since 1970
  std::int64_t messages = 0;
};

struct AttemptEntry {
  std::int64_t when = 0;  // wall clock
  std::uint32_t recipient = 0;
  std::string outcome;
};

struct SiteEntry {
  std::string name;
  std::int64_t blocked_until = 0;
  std::int64_t failures = 0;
  std::int64_t since = 0;  // wall clock
  std::string last;
  std::int64_t recipients = 0;
};

struct StoredBytes {
  std::string head;
  std::string content;  // empty if that is in a file
};

class Reader {
 public:
  virtual ~Reader() = default;
  // One state of the store for several questions.
  virtual Result<Transaction> begin() = 0;

  // In the order of ids; visit: false ends it.
  virtual Result<void> each_incoming(IdRange range,
                                     const std::function<bool(const IncomingEntry&)>& visit) = 0;
  // Those that match, in the order of messages and recipients. now: queue time.
  virtual Result<void> each_waiting(const PreparedFilter& filter, IdRange range, std::int64_t now,
                                    const std::function<bool(const WaitingEntry&)>& visit) = 0;
  // Of the same, messages with so many of their recipients: a message may come several times.
  using Count = std::function<void(mail::MessageId id, std::int64_t recipients)>;
  virtual Result<void> count_waiting(const PreparedFilter& filter, IdRange range, std::int64_t now,
                                     const Count& count) = 0;
  virtual Result<std::optional<std::vector<mail::MessageId>>> candidates(
      const PreparedFilter& filter) = 0;
  // The id of the message that is `messages` behind `after`, or kNever.
  virtual Result<std::int64_t> end_of_chunk(std::int64_t after, std::int64_t messages) = 0;
  // For each living recipient of the domain its message.
  virtual Result<std::vector<std::int64_t>> messages_of_domain(const std::string& domain) = 0;

  virtual Result<std::string> head(mail::MessageId id) = 0;  // of a waiting one; or empty
  virtual Result<std::optional<StoredBytes>> load(mail::MessageId id) = 0;
  virtual Result<std::optional<WaitingCounts>> counts_of(mail::MessageId id) = 0;
  virtual Result<std::vector<AttemptEntry>> attempts(mail::MessageId id) = 0;  // oldest first

  virtual Result<std::vector<TallyEntry>> tally() = 0;
  virtual Result<std::vector<ArrivedEntry>> arrived() = 0;
  virtual Result<std::int64_t> damaged() = 0;          // messages that are held as such
  virtual Result<std::int64_t> oldest() = 0;           // id; 0: there is none
  virtual Result<std::vector<SiteEntry>> sites() = 0;  // those in trouble
  virtual Result<std::vector<std::string>> dropped() = 0;
  virtual Result<std::vector<PauseRow>> pauses() = 0;
};

// Of SQLite. vfs as in Database::open.
Result<std::unique_ptr<Reader>> open_reader(const std::string& path, const char* vfs,
                                            const Leases& leases);

}  // namespace postrider::queue
