// What tables of aliases say that leads nowhere, for people, before mail finds it. Blocks: reads
// included files and asks for users.
#pragma once

#include "delivery/local/addresses/expander.h"

#include <string>
#include <vector>

namespace postrider::delivery {

// addresses: whole ones, the keys of the tables. Sentences with file, line and the way that mail
// goes: aliases in a circle, chains that are too long, and names that are nobody's, each once. At
// most some hundred; what cannot be looked up now is passed over.
std::vector<std::string> doubts_about_aliases(const LocalAddresses& book, const Users& users,
                                              const std::vector<std::string>& addresses);

}  // namespace postrider::delivery
