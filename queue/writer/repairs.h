// What is done about a damaged database: indexes are rebuilt; where no index is to blame, what can
// be read goes into a new one.
#pragma once

#include "queue/store/index_repair.h"
#include "queue/writer/open_store.h"

namespace postrider::queue {

class Repairs {
 public:
  Repairs(Spool& spool, Ledger& ledger, OpenStore& store, const Clock& clock, Log& log)
      : spool_(spool), ledger_(ledger), store_(store), clock_(clock), log_(log) {}

  // What is to be done when the store is opened again: the lesser first, the greater if that was in
  // vain.
  enum class Remedy : std::uint8_t { none, rebuild_indexes, salvage };
  void want(Remedy remedy) { wanted_ = remedy; }
  bool is_salvage_wanted() const { return wanted_ == Remedy::salvage; }
  Result<void> apply_wanted();

  // Everything if that is quick. Of a large database only the small tables: the content is not
  // worth a minute's wait, damage there shows when it is read and holds that message alone.
  Result<void> check_store();
  // What only the tools for people read would be found damaged by them, who repair nothing.
  Result<void> check_figures();
  // Requires: no reader is open. True: what failed before may go well now. An error: the queue
  // could not be opened again.
  Result<bool> rebuild_indexes(Repair when);
  // An error where an index may be empty that must not be: mail that no index names would wait
  // without a word.
  Result<void> check_indexes();
  // What `postrider queue salvage` does, if that is a matter of seconds and was not done again and
  // again. As rebuild_indexes().
  Result<bool> salvage();
  // A bad page of a table's own tree takes with it what stands below that page.
  bool has_passed_over_too_much() const;

 private:
  Spool& spool_;
  Ledger& ledger_;
  OpenStore& store_;
  const Clock& clock_;
  Log& log_;
  Remedy wanted_ = Remedy::none;
  bool salvaged_in_vain_ = false;
  SteadyTime repair_again_;
};

}  // namespace postrider::queue
