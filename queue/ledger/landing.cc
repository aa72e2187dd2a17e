#include "queue/ledger/landing.h"

#include <algorithm>

namespace postrider::queue {

void Landing::begin(std::shared_ptr<const mail::Message> message, std::uint64_t lane,
                    Effects& effects) {
  Leased leased;
  leased.number = ++state_.last_lease;
  leased.reason = Lease::Reason::fresh;
  leased.message = message;
  leased.landed = true;
  leased.lane = lane;
  effects.landing.emplace_back(message->id, leased.number);
  state_.leases.add(std::move(leased));
  under_way_.push_back({std::move(message)});
}

Result<void> Landing::go_on(Effects& effects) {
  for (auto& each : under_way_) {
    if (each.is_done)
      continue;
    const auto* leased = state_.leases.find(each.message->id);
    if (leased != nullptr && leased->landed)
      return land_piece(each, effects);
    // Taken back, or moved by a commit that was thought to have failed.
    if (leased != nullptr && leased->recipients.empty())
      end(each, leased->number, effects);
    each.is_done = true;
  }
  return {};
}

Result<void> Landing::land_piece(UnderWay& each, Effects& effects) {
  const auto& message = *each.message;
  const auto all = message.envelope.recipients.size();
  const auto end_of_piece = std::min(each.next + kMostTogether, all);
  each.due = std::min(each.due, state_.now());
  if (auto done = state_.store->messages().add_recipients(
          message, due_rows(message, each.next, end_of_piece, each.due));
      !done)
    return done.error();
  for (; each.next < end_of_piece; ++each.next)
    if (auto done = tell_deferred(each, effects); !done)
      return done.error();
  if (each.next < all)
    return {};
  MessageRow row = new_row(state_, message);
  row.waiting = static_cast<std::int64_t>(all);
  row.tried = each.is_deferred;  // it waits as if it had been
  if (auto done = state_.store->messages().move_rest(message, row); !done)
    return done.error();
  look_.expect(row.deadline);
  end(each, state_.leases.find(message.id)->number, effects);
  return {};
}

// The next recipient, if nothing is tried at the site.
Result<void> Landing::tell_deferred(UnderWay& each, Effects& effects) {
  const auto& message = *each.message;
  const auto index = static_cast<std::uint32_t>(each.next);
  auto waits = deferring_.concerns_any(message, {&index, 1});
  if (!waits || !*waits)
    return waits ? Result<void>() : waits.error();
  each.is_deferred = true;
  return deferring_.tell(message, message.envelope.recipients[index].address, effects);
}

void Landing::end(UnderWay& each, std::uint64_t lease, Effects& effects) {
  effects.ended.push_back(state_.leases.take(each.message->id, lease));
  look_.expect(state_.now());
  each.is_done = true;
}

void Landing::committed() {
  std::erase_if(under_way_, [](const UnderWay& each) { return each.is_done; });
}

void Landing::start_over() {
  for (auto& each : under_way_) {
    each.next = 0;
    each.is_deferred = each.is_done = false;
  }
}

}  // namespace postrider::queue
