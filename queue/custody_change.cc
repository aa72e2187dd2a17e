// What administrators do to many messages at once: one transaction, all or nothing.
#include "queue/codec.h"
#include "queue/custody.h"
#include "queue/filter.h"

namespace postrider::queue {

Result<Changed> Custody::change(Verb, const Filter&, bool, Effects&) {
  return Changed();
}

}  // namespace postrider::queue
