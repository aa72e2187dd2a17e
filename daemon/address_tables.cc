#include "daemon/address_tables.h"

namespace postrider::daemon {

void AddressTables::open(const Config& config, Foundation& foundation, StartProblems& problems) {
  watcher_.emplace(foundation.log());
  auto opened = prepare(config, foundation.clock());
  if (!opened)
    return problems.add(opened.error());
  in_use_ = *std::move(opened);
  directory_ = std::make_shared<delivery::LocalDirectory>(in_use_.book, config.local.mailbox,
                                                          foundation.clock());
}

Result<AddressTables::Opened> AddressTables::prepare(const Config& config, const Clock& clock) {
  auto book = open_address_book(config, *watcher_, clock);
  if (!book)
    return book.error();
  auto tables = open_receiving_tables(config, *watcher_, *book);
  if (!tables)
    return tables.error();
  return Opened{*std::move(book), *std::move(tables)};
}

void AddressTables::adopt(const Config& config, Opened opened) {
  in_use_ = std::move(opened);
  directory_->reconfigure(in_use_.book, config.local.mailbox);
}

}  // namespace postrider::daemon
