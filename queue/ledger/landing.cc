#include "queue/ledger/landing.h"

#include <algorithm>

namespace postrider::queue {

bool Landing::has_to_wait(const Record& record) {
  const auto* leased = state_.leases.find(record.id);
  if (leased == nullptr || !leased->landed || !is_large(*leased->message))
    return false;
  begin(*leased);
  return true;
}

void Landing::begin_all() {
  state_.leases.each([this](const Leased& leased) {
    if (leased.landed && is_large(*leased.message))
      begin(leased);
  });
}

void Landing::begin(const Leased& leased) {
  const auto is_known =
      std::any_of(under_way_.begin(), under_way_.end(),
                  [&](const UnderWay& each) { return each.message->id == leased.message->id; });
  if (!is_known)
    under_way_.push_back({leased.message});
}

Result<void> Landing::go_on(Effects& effects) {
  for (auto& each : under_way_) {
    if (each.is_done)
      continue;
    auto* leased = state_.leases.find(each.message->id);
    if (leased != nullptr && leased->landed)
      return land_piece(each, *leased, effects);
    each.is_done = true;  // moved as a whole, because it is damaged
  }
  return {};
}

Result<void> Landing::land_piece(UnderWay& each, Leased& leased, Effects& effects) {
  const auto& message = *each.message;
  const auto all = message.envelope.recipients.size();
  const auto end = std::min(each.next + kMostTogether, all);
  if (auto done = state_.store->messages().add_recipients(
          message.id, due_rows(message, each.next, end, state_.now()));
      !done)
    return done.error();
  each.next = end;
  if (end < all)
    return {};
  MessageRow row = new_row(state_, message);
  row.waiting = static_cast<std::int64_t>(all);
  if (auto done = state_.store->messages().move_rest(message, row); !done)
    return done.error();
  look_.expect(row.deadline);
  leased.landed = false;
  effects.moved.push_back(message.id);
  each.is_done = true;
  return {};
}

void Landing::committed() {
  std::erase_if(under_way_, [](const UnderWay& each) { return each.is_done; });
}

void Landing::start_over() {
  for (auto& each : under_way_) {
    each.next = 0;
    each.is_done = false;
  }
}

}  // namespace postrider::queue
