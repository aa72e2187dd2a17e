// Whether tables are left out now (tables/left_out.h): that an address, or a domain, is not in this
// book is not known then.
#pragma once

#include "delivery/local/address_book.h"

namespace postrider::delivery {

bool lacks_addresses(const AddressBook& book);
bool lacks_domains(const AddressBook& book);

}  // namespace postrider::delivery
