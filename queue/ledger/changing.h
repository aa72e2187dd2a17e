// What administrators do to many messages: in pieces, each a part of a short transaction.
#pragma once

#include "queue/ledger/deferring.h"

namespace postrider::queue {

// A change under way: it goes through the queue once, the oldest first. It concerns what had
// arrived when it began; whether a message matches is decided when its turn comes.
struct ChangeRun {
  ChangeRun(Verb verb_, const Filter& filter, bool dry_run_, TimePoint wall, std::string next_hop_,
            Actor actor_ = {});
  Verb verb;
  Actor actor;
  bool dry_run;
  PreparedFilter prepared;
  std::string next_hop;  // of reroute
  bool has_begun = false;
  bool has_candidates = false;
  bool is_done = false;
  std::int64_t last = 0;  // ids beyond it came later
  std::vector<mail::MessageId> landed;
  std::size_t next_landed = 0;
  std::vector<mail::MessageId> counted;  // of those
  std::optional<std::vector<mail::MessageId>> candidates;
  std::size_t next_candidate = 0;
  std::int64_t after = 0;      // without candidates: how far it came
  std::int64_t messages = 64;  // in a piece
  // How far it came: a piece that was undone is done again from there.
  struct Place {
    bool has_candidates = false;
    std::size_t next_landed = 0, next_candidate = 0, counted = 0;
    std::int64_t after = 0;
  };
  Place place() const {
    return {has_candidates, next_landed, next_candidate, counted.size(), after};
  }
  void return_to(const Place& place);
  // Of the latest piece: what it changed, and of leased messages, which delivery is to be told.
  Changed piece;
  std::vector<BulkChange::PickedLease> picked;
};

class Changing {
 public:
  Changing(QueueState& state, NextLook& look, Deferring& deferring)
      : state_(state), look_(look), deferring_(deferring) {}

  // last: the highest id of what had arrived.
  Result<void> begin(ChangeRun& run, std::int64_t last);
  // The next piece of a change, which takes about `most`.
  Result<void> change_on(ChangeRun& run, std::chrono::microseconds most, Effects& effects);

 private:
  Result<void> change_landed(ChangeRun& run, mail::MessageId id, Effects& effects);
  Result<void> pick_piece(ChangeRun& run);
  Result<void> keep_wishes();
  Result<void> apply_piece(ChangeRun& run, Effects& effects);
  Result<void> sort_held(ChangeRun& run);
  Result<void> sort_paused(ChangeRun& run);
  Result<void> count_paused(ChangeRun& run);
  bool note_paused(ChangeRun& run, std::string_view sender, std::string_view domain) const;
  void want_again(const std::vector<BulkChange::PickedLease>& under_way);
  Result<void> remove_piece(ChangeRun& run, const Changed& changed, Effects& effects);

  QueueState& state_;
  NextLook& look_;
  Deferring& deferring_;
};

}  // namespace postrider::queue
