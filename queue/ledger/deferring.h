// Mail that was never tried and waits behind a site in trouble is deferred: its row says so, and
// the log and the facts say why, once for each recipient.
//
// Mail that comes while the site is in trouble is marked as it is stored, and mail that delivery
// gives back as that is recorded. What was in the queue before (because the site came into trouble,
// the process was started again, its site became known, or an administrator released it) is marked
// by a walk through the domain, a piece a transaction. Each message is marked once in its life,
// whatever the number of probes; a domain is walked again from where the last walk began, so that
// a site that comes and goes costs no look at all that waits.
#pragma once

#include "queue/ledger/damaged_mail.h"

#include <deque>
#include <unordered_map>

namespace postrider::queue {

class Deferring {
 public:
  Deferring(QueueState& state, DamagedMail& damaged) : state_(state), damaged_(damaged) {}

  // The store has been opened: nothing is known of what it holds.
  Result<void> opened();
  // All sites in trouble: mail of any domain may have come to wait.
  Result<void> begin_all();
  Result<void> begin_site(std::int64_t site);
  void begin_domain(std::int64_t domain);
  bool is_busy() const { return !walks_.empty(); }
  // The next piece.
  Result<void> go_on(Effects& effects);
  void committed();
  // The pieces that were not committed come again.
  void start_over();

  // Whether all recipients of a message that is stored now wait for sites in trouble.
  Result<bool> concerns(const mail::Message& message);
  // The same of a name of a domain or of a host to which mail goes first.
  Result<bool> is_in_trouble_at(const std::string& name);
  // The same for any of those with these indexes.
  Result<bool> concerns_any(const mail::Message& message, std::span<const std::uint32_t> indexes);
  // Counts one such recipient, with the lines that say so.
  Result<void> tell(const mail::Message& message, const std::string& recipient, Effects& effects,
                    const std::string& next_hop = {});

 private:
  struct Walk {
    std::int64_t domain = 0;
    std::int64_t begun = 0;
    struct Position {
      QueuedPlace place;
      mail::MessageId marked;  // the last; there may be more of its recipients
    };
    Position after;  // committed
    Position next;
    bool is_done = false;
    bool is_over = false;    // the site is in trouble no more
    bool is_broken = false;  // what it goes through is damaged
  };
  Result<bool> is_in_trouble(const std::string& address);
  bool is_wanted() const { return state_.log.enabled(Level::info) || state_.facts.are_wanted(); }
  Result<std::size_t> walk_on(Walk& walk, std::size_t most, Effects& effects);
  Result<void> mark(Walk& walk, const QueuedEntry& entry, Effects& effects);
  Result<void> look_at(mail::MessageId id);
  Result<void> state(const mail::Message& message, std::string_view recipient, std::int64_t domain,
                     Effects& effects);

  QueueState& state_;
  DamagedMail& damaged_;
  std::deque<Walk> walks_;
  mail::Message seen_;  // the last of a walk, without its recipients
  std::unordered_map<std::int64_t, std::int64_t> walked_;  // domains, with the time of the walk
};

}  // namespace postrider::queue
