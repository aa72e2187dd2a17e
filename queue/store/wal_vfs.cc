#include "queue/store/wal_vfs.h"

#include "base/assert.h"

#include <sqlite3.h>

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

namespace postrider::queue {

namespace {

constexpr std::size_t kMostGathered = 1U << 20U;
// SQLite's own VFS takes the length of a write modulo 128 KiB.
constexpr std::size_t kMostAtOnce = 64U << 10U;

struct Shim {
  std::string base, name;
  sqlite3_vfs vfs{};
};

// Logs whose tail could not be taken back, and where that begins. Thread-safe.
class Leftovers {
 public:
  void keep(const std::string& path, sqlite3_int64 from) {
    const std::lock_guard lock(mutex_);
    auto& known = from_.try_emplace(path, from).first->second;
    known = std::min(known, from);
  }
  std::optional<sqlite3_int64> of(const std::string& path) {
    const std::lock_guard lock(mutex_);
    const auto known = from_.find(path);
    return known == from_.end() ? std::nullopt : std::optional(known->second);
  }
  void forget(const std::string& path) {
    const std::lock_guard lock(mutex_);
    from_.erase(path);
  }

 private:
  std::mutex mutex_;
  std::map<std::string, sqlite3_int64> from_;
};

Leftovers& leftovers() {
  static Leftovers all;
  return all;
}

constexpr sqlite3_int64 kNowhere = -1;

struct LogTail {
  std::string path;
  std::string gathered;
  sqlite3_int64 gathered_from = 0;
  sqlite3_int64 unsynced_from = kNowhere;  // of what was written since the last sync
  bool has_failed = false;                 // and SQLite knows that this is not committed
};

// The log of one connection. The real file stands right behind it in SQLite's allocation.
struct LogFile {
  sqlite3_file handle;
  LogTail* tail;

  sqlite3_file* real() {
    return reinterpret_cast<sqlite3_file*>(reinterpret_cast<char*>(this) + sizeof(LogFile));
  }

  int flush() {
    auto& gathered = tail->gathered;
    if (gathered.empty())
      return SQLITE_OK;
    if (tail->has_failed && tail->gathered_from <= tail->unsynced_from)
      tail->has_failed = false;  // what comes now takes its place
    tail->unsynced_from = tail->unsynced_from == kNowhere
                              ? tail->gathered_from
                              : std::min(tail->unsynced_from, tail->gathered_from);
    int code = SQLITE_OK;
    for (std::size_t at = 0; at < gathered.size() && code == SQLITE_OK; at += kMostAtOnce)
      code = real()->pMethods->xWrite(real(), gathered.data() + at,
                                      static_cast<int>(std::min(kMostAtOnce, gathered.size() - at)),
                                      tail->gathered_from + static_cast<sqlite3_int64>(at));
    gathered.clear();
    if (code != SQLITE_OK)
      tail->has_failed = true;
    return code;
  }

  int sync(int flags) {
    int code = flush();
    if (code == SQLITE_OK)
      code = real()->pMethods->xSync(real(), flags);
    if (code != SQLITE_OK)
      tail->has_failed = true;
    else if (!tail->has_failed)
      tail->unsynced_from = kNowhere;
    return code;
  }

  // SQLite has told that this was not committed, but whoever opens the log next would find it
  // valid.
  int take_back() {
    const int code = cut(tail->unsynced_from);
    if (code != SQLITE_OK)
      leftovers().keep(tail->path, tail->unsynced_from);
    tail->unsynced_from = kNowhere;
    tail->has_failed = false;
    return code;
  }

  int cut(sqlite3_int64 from) {
    sqlite3_int64 size = 0;
    if (const int code = real()->pMethods->xFileSize(real(), &size); code != SQLITE_OK)
      return code;
    return size <= from ? SQLITE_OK : real()->pMethods->xTruncate(real(), from);
  }
};

LogFile& log_file(sqlite3_file* handle) {
  return *reinterpret_cast<LogFile*>(handle);
}

// Calls `method` of the real file once everything gathered is there.
template <auto method, class... Arguments>
int after_flush(sqlite3_file* handle, Arguments... arguments) {
  LogFile& file = log_file(handle);
  if (const int code = file.flush(); code != SQLITE_OK)
    return code;
  return (file.real()->pMethods->*method)(file.real(), arguments...);
}

template <auto method, class... Arguments>
int pass(sqlite3_file* handle, Arguments... arguments) {
  LogFile& file = log_file(handle);
  return (file.real()->pMethods->*method)(file.real(), arguments...);
}

int on_write(sqlite3_file* handle, const void* bytes, int amount, sqlite3_int64 offset) {
  LogFile& file = log_file(handle);
  auto& tail = *file.tail;
  const bool follows =
      tail.gathered_from + static_cast<sqlite3_int64>(tail.gathered.size()) == offset;
  if (!follows || tail.gathered.size() >= kMostGathered)
    if (const int code = file.flush(); code != SQLITE_OK)
      return code;
  if (tail.gathered.empty())
    tail.gathered_from = offset;
  tail.gathered.append(static_cast<const char*>(bytes), static_cast<std::size_t>(amount));
  return SQLITE_OK;
}

int on_sync(sqlite3_file* handle, int flags) {
  return log_file(handle).sync(flags);
}

int on_truncate(sqlite3_file* handle, sqlite3_int64 size) {
  LogFile& file = log_file(handle);
  if (const int code = file.flush(); code != SQLITE_OK)
    return code;
  const int code = file.real()->pMethods->xTruncate(file.real(), size);
  if (code == SQLITE_OK && size <= file.tail->unsynced_from) {
    file.tail->unsynced_from = kNowhere;
    file.tail->has_failed = false;
  }
  return code;
}

// What is gathered still was never committed.
int on_close(sqlite3_file* handle) {
  LogFile& file = log_file(handle);
  if (file.tail->has_failed && file.tail->unsynced_from != kNowhere)
    (void)file.take_back();
  delete file.tail;
  return file.real()->pMethods->xClose(file.real());
}

const sqlite3_io_methods* methods() {
  using Methods = sqlite3_io_methods;
  static const Methods all = [] {
    Methods made{};
    made.iVersion = 1;  // a log has no shared memory of its own
    made.xClose = on_close;
    made.xRead = after_flush<&Methods::xRead, void*, int, sqlite3_int64>;
    made.xWrite = on_write;
    made.xTruncate = on_truncate;
    made.xSync = on_sync;
    made.xFileSize = after_flush<&Methods::xFileSize, sqlite3_int64*>;
    made.xLock = pass<&Methods::xLock, int>;
    made.xUnlock = pass<&Methods::xUnlock, int>;
    made.xCheckReservedLock = pass<&Methods::xCheckReservedLock, int*>;
    made.xFileControl = pass<&Methods::xFileControl, int, void*>;
    made.xSectorSize = pass<&Methods::xSectorSize>;
    made.xDeviceCharacteristics = pass<&Methods::xDeviceCharacteristics>;
    return made;
  }();
  return &all;
}

int on_open(sqlite3_vfs* vfs, const char* name, sqlite3_file* handle, int flags, int* out) {
  const auto& shim = *static_cast<const Shim*>(vfs->pAppData);
  sqlite3_vfs* const base = sqlite3_vfs_find(shim.base.empty() ? nullptr : shim.base.c_str());
  handle->pMethods = nullptr;
  if (base == nullptr)
    return SQLITE_CANTOPEN;
  // Every other file is the base's own, without us in between.
  if ((flags & SQLITE_OPEN_WAL) == 0)
    return base->xOpen(base, name, handle, flags, out);
  LogFile& file = log_file(handle);
  const int code = base->xOpen(base, name, file.real(), flags, out);
  if (code != SQLITE_OK)
    return code;
  file.tail = new LogTail;
  file.tail->path = name;
  if (const auto from = leftovers().of(file.tail->path)) {
    if (const int failed = file.cut(*from); failed != SQLITE_OK) {
      delete file.tail;
      (void)file.real()->pMethods->xClose(file.real());
      return failed;
    }
    leftovers().forget(file.tail->path);
  }
  handle->pMethods = methods();
  return SQLITE_OK;
}

template <auto method, class... Arguments>
int of_base(sqlite3_vfs* vfs, Arguments... arguments) {
  const auto& shim = *static_cast<const Shim*>(vfs->pAppData);
  sqlite3_vfs* const base = sqlite3_vfs_find(shim.base.empty() ? nullptr : shim.base.c_str());
  return base == nullptr ? SQLITE_ERROR : (base->*method)(base, arguments...);
}

void add(Shim& shim, const char* base) {
  const sqlite3_vfs* const below = sqlite3_vfs_find(base);
  POSTRIDER_ASSERT(below != nullptr);
  shim.base = base == nullptr ? "" : base;
  shim.name = "gathering " + shim.base;
  shim.vfs.iVersion = 1;
  shim.vfs.szOsFile = static_cast<int>(sizeof(LogFile)) + below->szOsFile;
  shim.vfs.mxPathname = below->mxPathname;
  shim.vfs.zName = shim.name.c_str();
  shim.vfs.pAppData = &shim;
  shim.vfs.xOpen = on_open;
  shim.vfs.xDelete = of_base<&sqlite3_vfs::xDelete, const char*, int>;
  shim.vfs.xAccess = of_base<&sqlite3_vfs::xAccess, const char*, int, int*>;
  shim.vfs.xFullPathname = of_base<&sqlite3_vfs::xFullPathname, const char*, int, char*>;
  shim.vfs.xRandomness = of_base<&sqlite3_vfs::xRandomness, int, char*>;
  shim.vfs.xSleep = of_base<&sqlite3_vfs::xSleep, int>;
  shim.vfs.xCurrentTime = of_base<&sqlite3_vfs::xCurrentTime, double*>;
  shim.vfs.xGetLastError = of_base<&sqlite3_vfs::xGetLastError, int, char*>;
  POSTRIDER_ASSERT(sqlite3_vfs_register(&shim.vfs, 0) == SQLITE_OK);
}

}  // namespace

const char* gathering_vfs(const char* base) {
  // SQLite keeps pointers to them for good.
  static std::mutex mutex;
  static auto* const shims = new std::map<std::string, std::unique_ptr<Shim>>;
  const std::lock_guard lock(mutex);
  auto& shim = (*shims)[base == nullptr ? "" : base];
  if (!shim) {
    shim = std::make_unique<Shim>();
    add(*shim, base);
  }
  return shim->name.c_str();
}

}  // namespace postrider::queue
