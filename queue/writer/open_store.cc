#include "queue/writer/open_store.h"

namespace postrider::queue {

Result<void> OpenStore::open() {
  auto store = SqliteStore::open(spool_.database(), vfs_, ledger_.leases());
  if (!store && is_damage(store.error()))
    return store.error().during("open the queue, which is damaged (`postrider queue salvage`)");
  if (!store)
    return store.error().during("open the queue");
  store_ = *std::move(store);
  ledger_.use(store_.get());
  if (auto done = ledger_.pausing().load(); !done)
    return done.error().during("open the queue: what is paused");
  upkeep_.watch(store_->database(), vfs_);
  remember_files();
  return {};
}

void OpenStore::close() {
  ledger_.use(nullptr);
  upkeep_.forget();
  store_.reset();
}

Result<void> OpenStore::check_same_file() const {
  auto identity = Spool::identity_of(spool_.database());
  if (!identity)
    return identity.error();
  if (*identity != database_file_)
    return Error(Errc::storage, "open the queue: another file has taken the place of queue.db");
  return {};
}

Result<void> OpenStore::check_files() const {
  const std::pair<std::string, FileIdentity> files[] = {{spool_.database(), database_file_},
                                                        {spool_.database() + "-wal", log_file_}};
  bool are_there = true;
  for (const auto& [path, known] : files) {
    const auto now = Spool::identity_of(path);
    if (now ? *now != known : now.error().code() == boost::system::errc::no_such_file_or_directory)
      are_there = false;
  }
  if (are_there)
    return {};
  return Error(Errc::storage, "the files of the queue were removed or replaced");
}

void OpenStore::remember_files() {
  if (auto identity = Spool::identity_of(spool_.database()))
    database_file_ = *identity;
  if (auto identity = Spool::identity_of(spool_.database() + "-wal"))
    log_file_ = *identity;
}

}  // namespace postrider::queue
