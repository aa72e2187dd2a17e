// The facts of the transactions of the queue thread, and the table in which they wait for their
// witness. They must never hold mail up: on a full disk, beyond a number, and once the table is
// damaged they are told without being stored, and only a crash can then lose them.
#pragma once

#include "mail/message_id.h"
#include "queue/fact.h"
#include "queue/store/store.h"

#include <atomic>
#include <optional>

namespace postrider::queue {

class Facts {
 public:
  // store: the one that is open at the time; outlives this, as the others do.
  Facts(Store* const& store, mail::MessageIds& ids, Log& log)
      : store_(store), ids_(ids), log_(log) {}

  bool are_wanted() const { return are_wanted_.load(std::memory_order_relaxed); }
  void want(bool are_wanted) { are_wanted_ = are_wanted; }

  // In a transaction. Only a failure of the whole transaction is an error; after one of the table
  // alone has_failed() says once that it must be run again.
  Result<void> add(std::string_view line, TimePoint when, std::vector<Fact>& facts);
  bool has_failed() { return std::exchange(has_failed_, false); }
  void set_disk_full(bool is_full) { is_disk_full_ = is_full; }

  // What waits since before the start, for the witness; and none of it is wanted.
  Result<std::vector<Fact>> left();
  // Any thread: the witness has all up to this one.
  void settle(std::int64_t number);
  // In a transaction: those go.
  Result<void> forget_settled();
  // The transaction is on the disk, or is not.
  void committed(const std::vector<Fact>& facts);
  void undone();
  // After a commit that may or may not have been: of what it stored, the acts of administrators are
  // facts and come back; the rest is run again, and is deleted.
  Result<std::vector<Fact>> resolve_doubt();
  std::uint64_t waiting() const { return waiting_.load(std::memory_order_relaxed); }

 private:
  bool are_stored() const;
  Error failed(const Error& error);

  Store* const& store_;
  mail::MessageIds& ids_;
  Log& log_;
  std::atomic<bool> are_wanted_{false};
  std::atomic<std::int64_t> settled_{0};
  std::atomic<std::uint64_t> waiting_{0};  // rows
  std::int64_t forgotten_ = 0;             // up to which the rows are gone
  std::int64_t last_ = 0;                  // of those committed
  std::uint64_t added_ = 0;                // in this transaction
  std::optional<std::pair<std::int64_t, std::uint64_t>> forgetting_;
  bool is_disk_full_ = false;
  bool is_damaged_ = false;
  bool has_failed_ = false;
};

}  // namespace postrider::queue
