// What is said of a change: to who asked for it, once, and to the log. It is complete when all of
// its pieces are stored and delivery has said what of them was under way.
#pragma once

#include "base/log.h"
#include "queue/store/store.h"

#include <memory>
#include <mutex>

namespace postrider::queue {

// The words of the command line: "--from a@b.test --status held", "--all".
std::string describe(const Filter& filter);
const char* name_of(Verb verb);

// Any thread.
class ChangeTold : public std::enable_shared_from_this<ChangeTold> {
 public:
  using OnDone = std::function<void(Result<Changed>)>;
  ChangeTold(Verb verb, Filter filter, bool dry_run, Actor actor, std::string next_hop,
             OnDone on_done, Log& log);

  void add(const Changed& piece);
  // A piece of which delivery has some in hand: it is asked to begin nothing more of them; what it
  // could not stop is counted apart.
  void ask(Consumer& consumer, std::vector<BulkChange::PickedLease> picked, const Changed& piece);
  void finish();                  // no more pieces
  void fail(const Error& error);  // what was stored before stays

 private:
  void answered(Changed piece);
  void tell();

  const Verb verb_;
  const Filter filter_;
  const bool dry_run_;
  const Actor actor_;
  const std::string next_hop_;
  OnDone on_done_;
  Log& log_;
  std::mutex mutex_;
  Changed changed_;
  std::size_t open_ = 1;  // answers that are missing, and the end
};

}  // namespace postrider::queue
