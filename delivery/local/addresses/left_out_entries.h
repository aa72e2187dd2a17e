// Whether tables are left out now (tables/table.h): that an address, or a domain, is not
// in this book is not known then.
#pragma once

#include "delivery/local/addresses/local_addresses.h"

namespace postrider::delivery {

bool lacks_addresses(const LocalAddresses& book);
bool lacks_domains(const LocalAddresses& book);

}  // namespace postrider::delivery
