// The reading side: one read-only connection, short transactions, any thread but the loops.
#pragma once

#include "queue/ledger/queue_time.h"
#include "queue/store/row_filter.h"

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
  Result<std::shared_ptr<const mail::Message>> load(mail::MessageId id);
  Result<std::vector<Attempt>> attempts(mail::MessageId id);
  Result<Totals> totals();
  Result<std::vector<SiteState>> sites();
  Result<std::vector<std::string>> dropped();

 private:
  Result<void> list_incoming(const PreparedFilter& filter, IdRange range, std::size_t most,
                             std::vector<ListedMessage>& listed);
  Result<void> list_waiting(const PreparedFilter& filter, IdRange range, std::size_t most,
                            std::vector<ListedMessage>& listed);
  Result<std::int64_t> end_of_chunk(std::int64_t after, std::int64_t chunk);
  Result<std::int64_t> list_all_waiting(const PreparedFilter& filter, std::int64_t after,
                                        std::size_t most, std::vector<ListedMessage>& listed);
  Result<void> begin_count(Counting& counting, const PreparedFilter& filter);
  Result<void> count_incoming(Counting& counting, const PreparedFilter& filter);
  // Of waiting mail, by status.
  struct Tally {
    std::int64_t messages[4] = {}, recipients[4] = {}, bytes = 0;
  };
  Result<Tally> tally();
  Result<void> count_by_status(Counting& counting);
  Result<void> count_of_domain(Counting& counting, const std::string& domain);
  Result<void> count_range(Counting& counting, const PreparedFilter& filter, IdRange range);
  Result<ListedMessage> read_message(Query& query);
  ListedRecipient read_recipient(Query& query, const ListedMessage& message) const;
  std::int64_t now(TimePoint wall) const { return time_.to_queue(wall).time_since_epoch().count(); }

  const Leases& leases_;
  const QueueTime& time_;
  const std::atomic<Duration::rep>& lifetime_;
  std::mutex mutex_;
  TimePoint wall_;
  Database database_;
  FilterStatement waiting_, count_messages_, count_recipients_;
  Statement incoming_, head_, of_domain_, chunk_end_, load_, load_incoming_, attempts_, sites_;
  Statement count_of_domain_, waiting_row_;
  Statement totals_, totals_incoming_, oldest_, damaged_, dropped_, site_recipients_;
};

}  // namespace postrider::queue
