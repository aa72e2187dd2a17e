#include "queue/ledger/facts.h"

#include <algorithm>

namespace postrider::queue {

namespace {

constexpr std::uint64_t kMostWaiting = 65536;

// Those of a change have its user, and are not run again after a commit in doubt.
bool is_of_a_change(const Fact& fact) {
  const auto line = decode_fact(fact.bytes);
  return line && !line->value("uid").empty() && line->name != "accepted";
}

}  // namespace

bool Facts::are_stored() const {
  return !is_disk_full_ && !is_damaged_ && waiting_ + added_ < kMostWaiting;
}

Error Facts::failed(const Error& error) {
  is_damaged_ = true;
  has_failed_ = true;
  log_.write(LogEvent(Level::error, "events_not_written")
                 .add("reason", error.describe())
                 .add("then", "until the next start a crash may lose events"));
  return error;
}

Result<void> Facts::add(std::string_view line, TimePoint when, std::vector<Fact>& facts) {
  if (!are_wanted())
    return {};
  Fact fact{ids_.next(when).value, encode_fact(when, line)};
  if (are_stored()) {
    if (auto done = store_->facts().add(fact); !done)
      return is_damage(done.error()) ? failed(done.error()) : done.error();
    ++added_;
  }
  facts.push_back(std::move(fact));
  return {};
}

Result<std::vector<Fact>> Facts::left() {
  auto facts = store_->facts().load(0);
  if (!facts) {
    if (!is_damage(facts.error()))
      return facts.error();
    (void)failed(facts.error());
    has_failed_ = false;
    return std::vector<Fact>();
  }
  waiting_ = facts->size();
  if (!facts->empty())
    last_ = facts->back().number;
  return facts;
}

void Facts::settle(std::int64_t number) {
  auto known = settled_.load();
  while (known < number && !settled_.compare_exchange_weak(known, number)) {
  }
}

Result<void> Facts::forget_settled() {
  const auto settled = settled_.load();
  if (settled <= forgotten_ || waiting_ == 0 || is_damaged_)
    return {};
  auto gone = store_->facts().remove_to(settled);
  if (!gone)
    return is_damage(gone.error()) ? failed(gone.error()) : gone.error();
  forgetting_.emplace(settled, *gone);
  return {};
}

void Facts::committed(const std::vector<Fact>& facts) {
  waiting_ += added_;
  added_ = 0;
  if (forgetting_) {
    forgotten_ = forgetting_->first;
    waiting_ -= std::min(waiting_.load(), forgetting_->second);
    forgetting_.reset();
  }
  if (!facts.empty())
    last_ = facts.back().number;
}

void Facts::undone() {
  added_ = 0;
  forgetting_.reset();
}

Result<std::vector<Fact>> Facts::resolve_doubt() {
  std::vector<Fact> kept;
  if (is_damaged_)
    return kept;
  auto doubtful = store_->facts().load(last_);
  if (!doubtful)
    return is_damage(doubtful.error()) ? failed(doubtful.error()) : doubtful.error();
  for (auto& fact : *doubtful)
    if (is_of_a_change(fact))
      kept.push_back(std::move(fact));
    else if (auto done = store_->facts().remove(fact.number); !done)
      return done.error();
  if (!kept.empty())
    last_ = kept.back().number;
  waiting_ += kept.size();
  return kept;
}

}  // namespace postrider::queue
