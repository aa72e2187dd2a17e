// What kind of trouble an error of the store is.
#pragma once

#include "base/result.h"

namespace postrider::queue {

bool is_of_store(const Error& error);  // of the database, not of what is done with it
// No room on the disk: an ordinary event, the connection stays usable.
bool is_full(const Error& error);
// Pages that are not what they must be, or cannot be read. Of storage that fails altogether nothing
// can be read either: then no repair can be stored, and the next attempt fails again.
bool is_damage(const Error& error);
// A page cannot be read now; perhaps later.
bool is_unreadable(const Error& error);
// An index that does not say what its table says.
bool is_damage_of_index(const Error& error);
// The row itself was refused; the transaction goes on without it.
bool is_constraint(const Error& error);

}  // namespace postrider::queue
