#include "queue/ledger/releasing.h"

#include <algorithm>
#include <utility>

namespace postrider::queue {

namespace {

constexpr std::size_t kPage = 1000;  // recipients

}  // namespace

// What was released by an administrator, or is due, is left alone.
Result<void> Releasing::go_on() {
  if (!is_wanted_ || is_done_)
    return {};
  UntriedEntry after;
  for (bool more = true; more;) {
    auto page = state_.store->messages().untried(after, kPage);
    if (!page)
      return page.error().during("look for mail to be sent later");
    more = page->size() == kPage;
    for (const auto& entry : *page) {
      after = entry;
      if (entry.release == TimePoint() || entry.next_attempt == kNever ||
          state_.leases.is_leased(entry.id, entry.index))
        continue;
      const auto release = state_.time.to_queue(entry.release).time_since_epoch().count();
      const auto next = std::max(release, state_.now());
      if (entry.next_attempt <= state_.now() || next == entry.next_attempt)
        continue;
      if (auto done = state_.store->messages().postpone(entry, next); !done)
        return done.error();
      look_.expect(next);
    }
  }
  is_done_ = true;
  return {};
}

}  // namespace postrider::queue
