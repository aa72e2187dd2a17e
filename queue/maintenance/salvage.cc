// In order: write what can be saved into a new database beside the old one
// (queue/maintenance/salvage_rows.h); link the old files into a folder of their own; take their
// place.
#include "queue/maintenance/salvage.h"

#include "queue/maintenance/salvage_rows.h"

#include <cerrno>
#include <ctime>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace postrider::queue {

namespace {

constexpr const char* kNewName = "/queue.db.salvage";
constexpr const char* kMark = "/salvage-unfinished";
constexpr const char* kParts[] = {"", "-wal", "-shm"};

void remove_database(const std::string& path) {
  for (const char* part : kParts)
    ::unlink((path + part).c_str());
}

bool is_there(const std::string& path) {
  struct stat about {};
  return ::lstat(path.c_str(), &about) == 0;
}

// "damaged-20261129T081500"; another one if that exists.
Result<std::string> make_folder_for_old(const std::string& spool, TimePoint now) {
  const std::time_t seconds = now.time_since_epoch().count() / 1000;
  std::tm broken{};
  ::gmtime_r(&seconds, &broken);
  char stamp[32];
  std::strftime(stamp, sizeof stamp, "/damaged-%Y%m%dT%H%M%S", &broken);
  for (int i = 1; i < 100; ++i) {
    const auto folder = spool + stamp + (i == 1 ? std::string() : "-" + std::to_string(i));
    if (::mkdir(folder.c_str(), 0700) == 0)
      return folder;
    if (errno != EEXIST)
      return system_error("make " + folder);
  }
  return Error(Errc::refused, "make " + spool + stamp + ": it exists");
}

// Under a second name: the spool stays what it is.
Result<std::string> link_old(const Spool& spool, TimePoint now) {
  auto folder = make_folder_for_old(spool.folder(), now);
  if (!folder)
    return folder.error();
  for (const char* part : {"", "-wal"}) {
    const auto from = spool.database() + part;
    if (is_there(from) && ::link(from.c_str(), (*folder + "/queue.db" + part).c_str()) != 0)
      return system_error("link " + from);
  }
  if (auto synced = sync_folder(*folder); !synced)
    return synced.error();
  if (auto synced = sync_folder(spool.folder()); !synced)
    return synced.error();
  return folder;
}

// A log that stands beside a database it does not belong to would be played into it: so nobody
// opens the queue while the mark is there.
Result<void> take_place(const Spool& spool, const std::string& old_files) {
  const auto mark = spool.folder() + kMark;
  if (auto done = replace_file(mark, old_files, 0600); !done)
    return done.error();
  ::unlink((spool.database() + "-wal").c_str());
  ::unlink((spool.database() + "-shm").c_str());
  if (auto synced = sync_folder(spool.folder()); !synced)
    return synced.error();
  const auto fresh = spool.folder() + kNewName;
  if (::rename(fresh.c_str(), spool.database().c_str()) != 0)
    return system_error("rename " + fresh);
  return sync_folder(spool.folder());
}

// What take_place() had begun is undone.
Result<void> restore(const Spool& spool) {
  const auto mark = spool.folder() + kMark;
  if (!is_there(mark))
    return {};
  auto old_files = read_file(mark, 4096);
  if (!old_files)
    return old_files.error();
  const auto log = "/queue.db-wal";
  if (is_there(spool.folder() + kNewName) && is_there(*old_files + log) &&
      !is_there(spool.folder() + log) &&
      ::link((*old_files + log).c_str(), (spool.folder() + log).c_str()) != 0)
    return system_error("link " + *old_files + log);
  if (auto synced = sync_folder(spool.folder()); !synced)
    return synced.error();
  if (::unlink(mark.c_str()) != 0)
    return system_error("remove " + mark);
  return sync_folder(spool.folder());
}

Result<Salvaged> write_new(const Spool& spool, TimePoint now, Bodies bodies) {
  auto pages = PageFile::open(spool.database());
  if (!pages)
    return pages.error();
  const auto path = spool.folder() + kNewName;
  remove_database(path);
  const Leases leases;
  auto store = SqliteStore::open(path, nullptr, leases);
  if (!store)
    return store.error();
  Salvaged done;
  if (auto run = save_rows(spool, *pages, **store, now, bodies, done); !run)
    return run.error();
  if (auto written = (*store)->database().checkpoint(Checkpoint::truncate); !written)
    return written.error().during("write " + path);
  store->reset();
  auto file = open_file(path, O_RDWR | O_NOFOLLOW);
  if (!file)
    return file.error();
  if (auto synced = sync_file(*file); !synced)
    return synced.error();
  ::unlink((path + "-wal").c_str());
  ::unlink((path + "-shm").c_str());
  return done;
}

Result<void> move_strangers(Spool& spool, const Leases& leases) {
  auto store = SqliteStore::open(spool.database(), nullptr, leases);
  if (!store)
    return store.error();
  auto moved = spool.sweep(
      [&](const std::string& name) -> Result<bool> {
        const auto id = mail::parse_message_id(name);
        return id ? (*store)->messages().exists(*id) : Result<bool>(false);
      },
      Spool::Unknown::move_aside);
  if (!moved)
    return moved.error();
  return {};
}

Result<Salvaged> run(Spool& spool, TimePoint now, Bodies bodies) {
  const auto& folder = spool.folder();
  if (auto done = restore(spool); !done)
    return done.error();
  auto done = write_new(spool, now, bodies);
  if (!done) {
    remove_database(folder + kNewName);
    return done;
  }
  auto old_files = link_old(spool, now);
  if (!old_files) {
    remove_database(folder + kNewName);
    return old_files.error();
  }
  done->old_files = *old_files;
  if (auto taken = take_place(spool, *old_files); !taken)
    return taken.error();
  const Leases leases;
  if (bodies == Bodies::are_swept)
    if (auto moved = move_strangers(spool, leases); !moved)
      return moved.error();
  if (::unlink((folder + kMark).c_str()) != 0)
    return system_error("end the salvage");
  if (auto synced = sync_folder(folder); !synced)
    return synced.error();
  return done;
}

}  // namespace

bool is_salvage_unfinished(const std::string& spool) {
  return is_there(spool + kMark);
}

Result<Salvaged> salvage(const std::string& folder, TimePoint now) {
  if (!is_there(folder + "/queue.db"))
    return Error(Errc::not_found, "there is no queue in " + folder);
  auto spool = Spool::open(folder);
  if (!spool)
    return spool.error();
  return run(*spool, now, Bodies::are_swept);
}

Result<Salvaged> salvage_database(Spool& spool, TimePoint now) {
  return run(spool, now, Bodies::stay);
}

}  // namespace postrider::queue
