#include "queue/store/wal_vfs.h"

#include "base/assert.h"

#include <sqlite3.h>

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
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

// The log of one connection. The real file stands right behind it in SQLite's allocation.
struct LogFile {
  sqlite3_file handle;
  sqlite3_int64 start;  // of what was gathered
  std::string* gathered;

  sqlite3_file* real() {
    return reinterpret_cast<sqlite3_file*>(reinterpret_cast<char*>(this) + sizeof(LogFile));
  }
  int flush() {
    int code = SQLITE_OK;
    for (std::size_t at = 0; at < gathered->size() && code == SQLITE_OK; at += kMostAtOnce)
      code =
          real()->pMethods->xWrite(real(), gathered->data() + at,
                                   static_cast<int>(std::min(kMostAtOnce, gathered->size() - at)),
                                   start + static_cast<sqlite3_int64>(at));
    gathered->clear();
    return code;
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
  const bool follows = file.start + static_cast<sqlite3_int64>(file.gathered->size()) == offset;
  if (!follows || file.gathered->size() >= kMostGathered)
    if (const int code = file.flush(); code != SQLITE_OK)
      return code;
  if (file.gathered->empty())
    file.start = offset;
  file.gathered->append(static_cast<const char*>(bytes), static_cast<std::size_t>(amount));
  return SQLITE_OK;
}

int on_close(sqlite3_file* handle) {
  LogFile& file = log_file(handle);
  (void)file.flush();  // not synced, so nobody counts on it
  delete file.gathered;
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
    made.xTruncate = after_flush<&Methods::xTruncate, sqlite3_int64>;
    made.xSync = after_flush<&Methods::xSync, int>;
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
  file.start = 0;
  file.gathered = new std::string;
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
