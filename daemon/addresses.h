// From the configuration to the address book: opens the tables of [local] and [rewrite].
#pragma once

#include "base/result.h"
#include "daemon/config.h"
#include "delivery/local/address_book.h"
#include "tables/watcher.h"

#include <memory>
#include <string>
#include <vector>

namespace postrider::daemon {

// A table that cannot be read is told in the log and answers "not now" until it is mended; only
// what the configuration itself says wrongly is an error.
Result<std::shared_ptr<const delivery::AddressBook>> open_address_book(const Config& config,
                                                                       tables::Watcher& watcher);
// Tables of other options, named `option` in the log: their values are not looked at.
Result<std::vector<delivery::TablePtr>> open_tables(const std::vector<std::string>& specs,
                                                    const char* option, tables::Watcher& watcher);

// What is wrong with the tables now, each with its option: for `postrider check`.
struct TableProblem {
  std::string option;
  std::string text;
};
std::vector<TableProblem> check_tables(const Config& config);

}  // namespace postrider::daemon
