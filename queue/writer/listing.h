// The reading side: one read-only connection, short transactions, any thread but the loops.
#pragma once

#include "queue/ledger/queue_time.h"
#include "queue/store/pause_set.h"
#include "queue/store/reader.h"

#include <mutex>

namespace postrider::queue {

class Listing {
 public:
  // lifetime: of messages, in milliseconds; may change.
  Listing(const Leases& leases, const QueueTime& time, const std::atomic<Duration::rep>& lifetime)
      : leases_(leases), time_(time), lifetime_(lifetime) {}
  Result<void> open(const std::string& path, const char* vfs);
  // Until it is opened again all questions fail. Lets go of what SQLite knows of the file.
  void close();

  Result<ListedPage> list(const Filter& filter, mail::MessageId after, std::size_t most,
                          TimePoint wall);
  Result<void> count_on(Counting& counting, TimePoint wall);
  Result<void> summarize_on(Summarizing& summarizing, TimePoint wall);
  Result<std::shared_ptr<const mail::Message>> load(mail::MessageId id);
  Result<std::vector<Attempt>> attempts(mail::MessageId id);
  Result<Totals> totals(TimePoint wall);
  Result<std::vector<SiteState>> sites();
  Result<std::vector<std::string>> dropped();
  Result<std::vector<Pause>> pauses(TimePoint wall);

 private:
  // ask(reader), one at a time.
  template <class Ask>
  auto with_reader(const char* step, Ask ask) -> decltype(ask(std::declval<Reader&>()));
  Result<ListedPage> list_page(Reader& reader, const PreparedFilter& filter, mail::MessageId after,
                               std::size_t most, std::int64_t now) const;
  Result<void> list_incoming(Reader& reader, const PreparedFilter& filter, std::int64_t after,
                             std::size_t most, std::vector<ListedMessage>& listed) const;
  Result<std::int64_t> list_all_waiting(Reader& reader, const PreparedFilter& filter,
                                        std::int64_t after, std::size_t most, std::int64_t now,
                                        std::vector<ListedMessage>& listed) const;
  Result<void> list_waiting(Reader& reader, const PreparedFilter& filter, IdRange range,
                            std::size_t most, std::int64_t now,
                            std::vector<ListedMessage>& listed) const;
  std::optional<ListedMessage> incoming_message(const PreparedFilter& filter,
                                                const IncomingEntry& stored) const;
  Result<ListedMessage> waiting_message(Reader& reader, const WaitingEntry& stored) const;
  ListedRecipient recipient_of(const WaitingEntry& stored, bool is_active, std::int64_t now) const;
  void add_pause(const PauseRow& pause, ListedRecipient& recipient) const;
  std::int64_t queue_now(TimePoint wall) const {
    return time_.to_queue(wall).time_since_epoch().count();
  }

  const Leases& leases_;
  const QueueTime& time_;
  const std::atomic<Duration::rep>& lifetime_;
  std::mutex mutex_;
  std::unique_ptr<Reader> reader_;  // null while it is closed
  PauseSet pauses_;                 // as of the page that is being read
};

}  // namespace postrider::queue
