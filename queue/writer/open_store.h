// The store while it is open, and the files that it is in.
#pragma once

#include "queue/ledger/ledger.h"
#include "queue/store/sqlite_store.h"
#include "queue/store/upkeep.h"

namespace postrider::queue {

class OpenStore {
 public:
  OpenStore(Spool& spool, Ledger& ledger, Upkeep& upkeep)
      : spool_(spool), ledger_(ledger), upkeep_(upkeep) {}
  ~OpenStore() { close(); }
  OpenStore(const OpenStore&) = delete;
  OpenStore& operator=(const OpenStore&) = delete;

  // vfs: as in Database::open; of all that is opened from now on.
  void use(const char* vfs) { vfs_ = vfs; }
  const char* vfs() const { return vfs_; }
  // The ledger and the upkeep work on it until it is closed.
  Result<void> open();
  void close();
  SqliteStore* operator->() { return store_.get(); }
  Database& database() { return store_->database(); }

  // What is written into files that somebody removed is lost with this process.
  Result<void> check_files() const;
  // Before it is opened again: a new file must not take the place of one that is gone.
  Result<void> check_same_file() const;

 private:
  void remember_files();

  Spool& spool_;
  Ledger& ledger_;
  Upkeep& upkeep_;
  const char* vfs_ = nullptr;
  std::unique_ptr<SqliteStore> store_;
  FileIdentity database_file_, log_file_;
};

}  // namespace postrider::queue
