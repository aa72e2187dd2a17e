#include "tests/unit/queue/failing_vfs.h"

#include <catch2/catch.hpp>
#include <sqlite3.h>

#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace postrider::queue::test {

namespace {

// What a file was before a write that is not synced yet.
struct Undo {
  sqlite3_int64 offset = 0;
  std::string bytes;
  sqlite3_int64 size = 0;
};

struct File {
  sqlite3_file base;
  sqlite3_file* real;  // behind this struct, in the same allocation
  std::string* path;
  ino_t number;
};

ino_t number_of(const std::string& path) {
  struct stat about {};
  return ::stat(path.c_str(), &about) == 0 ? about.st_ino : 0;
}

}  // namespace

struct FailingVfs::State {
  sqlite3_vfs vfs{};
  sqlite3_vfs* real = nullptr;
  std::mutex mutex;
  std::uint64_t counted = 0, fail_at = 0, syncs = 0, writes = 0;
  std::uint64_t written_to_log = 0, largest_commit = 0;
  int code = SQLITE_OK;
  Mode mode = Mode::once;
  bool failed = false;
  bool is_cut = false;
  std::function<void()> on_database_sync;
  std::int64_t unreadable_at = 0;
  int unreadable_code = SQLITE_OK;
  ino_t unreadable_file = 0;
  std::uint64_t failed_reads = 0;
  std::map<std::string, std::vector<Undo>> unsynced;

  // The code to fail with, or SQLITE_OK. Under the mutex.
  int count(File& file);
  // What fails may be done all the same.
  bool is_done(int failure) const { return failure == SQLITE_OK || mode == Mode::unheard; }
  // What is said of what was done.
  static int said(int failure, int done) { return failure == SQLITE_OK ? done : failure; }
  void lose(File& file);
};

namespace {

FailingVfs::State* state = nullptr;

File& as_file(sqlite3_file* file) {
  return *reinterpret_cast<File*>(file);
}

sqlite3_file* real(sqlite3_file* file) {
  return as_file(file).real;
}

void remember(File& file, sqlite3_int64 offset, int amount) {
  Undo undo;
  undo.offset = offset;
  file.real->pMethods->xFileSize(file.real, &undo.size);
  const auto there =
      std::max<sqlite3_int64>(0, std::min<sqlite3_int64>(amount, undo.size - offset));
  undo.bytes.resize(static_cast<std::size_t>(there));
  if (there > 0)
    file.real->pMethods->xRead(file.real, undo.bytes.data(), static_cast<int>(there), offset);
  state->unsynced[*file.path].push_back(std::move(undo));
}

int on_write(sqlite3_file* handle, const void* bytes, int amount, sqlite3_int64 offset) {
  const std::lock_guard lock(state->mutex);
  File& file = as_file(handle);
  ++state->writes;
  if (file.path->ends_with("-wal"))
    state->largest_commit = std::max(state->largest_commit,
                                     state->written_to_log += static_cast<std::uint64_t>(amount));
  const int failure = state->count(file);
  if (!state->is_done(failure))
    return failure;
  remember(file, offset, amount);
  return state->said(failure, file.real->pMethods->xWrite(file.real, bytes, amount, offset));
}

int on_read(sqlite3_file* handle, void* to, int amount, sqlite3_int64 offset) {
  File& file = as_file(handle);
  {
    const std::lock_guard lock(state->mutex);
    if (state->unreadable_at != 0 && state->unreadable_file == file.number &&
        state->unreadable_at >= offset && state->unreadable_at < offset + amount) {
      ++state->failed_reads;
      return state->unreadable_code;
    }
  }
  return real(handle)->pMethods->xRead(real(handle), to, amount, offset);
}

int on_truncate(sqlite3_file* handle, sqlite3_int64 size) {
  const std::lock_guard lock(state->mutex);
  File& file = as_file(handle);
  const int failure = state->count(file);
  if (!state->is_done(failure))
    return failure;
  sqlite3_int64 before = 0;
  file.real->pMethods->xFileSize(file.real, &before);
  if (before > size)
    remember(file, size, static_cast<int>(before - size));
  return state->said(failure, file.real->pMethods->xTruncate(file.real, size));
}

int on_sync(sqlite3_file* handle, int flags) {
  File& file = as_file(handle);
  if (file.path->ends_with(".db")) {
    std::unique_lock lock(state->mutex);
    const auto hook = state->on_database_sync;
    lock.unlock();
    if (hook)
      hook();
  }
  const std::lock_guard lock(state->mutex);
  ++state->syncs;
  if (file.path->ends_with("-wal"))
    state->written_to_log = 0;
  const int failure = state->count(file);
  if (!state->is_done(failure))
    return failure;
  state->unsynced.erase(*file.path);
  return state->said(failure, file.real->pMethods->xSync(file.real, flags));
}

int on_close(sqlite3_file* handle) {
  const int code = real(handle)->pMethods->xClose(real(handle));
  delete as_file(handle).path;
  return code;
}

const sqlite3_io_methods* methods() {
  static const sqlite3_io_methods all = [] {
    sqlite3_io_methods m{};
    m.iVersion = 2;
    m.xClose = on_close;
    m.xRead = on_read;
    m.xWrite = on_write;
    m.xTruncate = on_truncate;
    m.xSync = on_sync;
    m.xFileSize = [](sqlite3_file* f, sqlite3_int64* size) {
      return real(f)->pMethods->xFileSize(real(f), size);
    };
    m.xLock = [](sqlite3_file* f, int level) { return real(f)->pMethods->xLock(real(f), level); };
    m.xUnlock = [](sqlite3_file* f, int level) {
      return real(f)->pMethods->xUnlock(real(f), level);
    };
    m.xCheckReservedLock = [](sqlite3_file* f, int* out) {
      return real(f)->pMethods->xCheckReservedLock(real(f), out);
    };
    m.xFileControl = [](sqlite3_file* f, int op, void* argument) {
      return real(f)->pMethods->xFileControl(real(f), op, argument);
    };
    m.xSectorSize = [](sqlite3_file* f) { return real(f)->pMethods->xSectorSize(real(f)); };
    m.xDeviceCharacteristics = [](sqlite3_file* f) {
      return real(f)->pMethods->xDeviceCharacteristics(real(f));
    };
    m.xShmMap = [](sqlite3_file* f, int page, int size, int extend, void volatile** out) {
      return real(f)->pMethods->xShmMap(real(f), page, size, extend, out);
    };
    m.xShmLock = [](sqlite3_file* f, int offset, int n, int flags) {
      return real(f)->pMethods->xShmLock(real(f), offset, n, flags);
    };
    m.xShmBarrier = [](sqlite3_file* f) { real(f)->pMethods->xShmBarrier(real(f)); };
    m.xShmUnmap = [](sqlite3_file* f, int remove) {
      return real(f)->pMethods->xShmUnmap(real(f), remove);
    };
    return m;
  }();
  return &all;
}

int on_open(sqlite3_vfs*, const char* name, sqlite3_file* handle, int flags, int* out) {
  {
    const std::lock_guard lock(state->mutex);
    if (state->is_cut)
      return SQLITE_CANTOPEN;
  }
  File& file = as_file(handle);
  file.real = reinterpret_cast<sqlite3_file*>(reinterpret_cast<char*>(handle) + sizeof(File));
  file.base.pMethods = nullptr;
  const int code = state->real->xOpen(state->real, name, file.real, flags, out);
  if (code != SQLITE_OK)
    return code;
  file.base.pMethods = methods();
  file.path = new std::string(name == nullptr ? "" : name);
  file.number = number_of(*file.path);
  return SQLITE_OK;
}

}  // namespace

int FailingVfs::State::count(File& file) {
  if (is_cut)
    return SQLITE_IOERR;
  ++counted;
  const bool goes_on = mode == Mode::forever || mode == Mode::unheard;
  const bool hit = fail_at > 0 && (goes_on ? counted >= fail_at : counted == fail_at);
  if (!hit)
    return SQLITE_OK;
  failed = true;
  if (mode == Mode::cut) {
    lose(file);
    return SQLITE_IOERR;
  }
  return code;
}

// Undoes all that was not synced, in all files, through one open handle each: the file that is
// being written is at hand, others are reopened by the system.
void FailingVfs::State::lose(File&) {
  is_cut = true;
  for (auto& [path, undos] : unsynced) {
    std::FILE* const file = std::fopen(path.c_str(), "r+b");
    if (file == nullptr)
      continue;
    for (auto undo = undos.rbegin(); undo != undos.rend(); ++undo) {
      std::fseek(file, static_cast<long>(undo->offset), SEEK_SET);
      std::fwrite(undo->bytes.data(), 1, undo->bytes.size(), file);
      std::fflush(file);
      (void)!::ftruncate(::fileno(file), undo->size);
    }
    // Closing it drops SQLite's locks on the file, which nobody needs any more.
    std::fclose(file);
  }
  unsynced.clear();
}

FailingVfs::FailingVfs() : state_(std::make_unique<State>()) {
  REQUIRE(state == nullptr);
  state = state_.get();
  state_->real = sqlite3_vfs_find(nullptr);
  state_->vfs = *state_->real;
  state_->vfs.szOsFile = static_cast<int>(sizeof(File)) + state_->real->szOsFile;
  state_->vfs.zName = "failing";
  state_->vfs.pNext = nullptr;
  state_->vfs.xOpen = on_open;
  sqlite3_vfs_register(&state_->vfs, 0);
}

FailingVfs::~FailingVfs() {
  sqlite3_vfs_unregister(&state_->vfs);
  state = nullptr;
}

const char* FailingVfs::name() const {
  return "failing";
}

void FailingVfs::fail_at(std::uint64_t number, int code, Mode mode) {
  const std::lock_guard lock(state_->mutex);
  state_->counted = 0;
  state_->fail_at = number;
  state_->code = code;
  state_->mode = mode;
  state_->failed = false;
}

void FailingVfs::heal() {
  fail_at(0, SQLITE_OK, Mode::once);
}

void FailingVfs::fail_reads_at(const std::string& database, std::int64_t offset, int code) {
  const std::lock_guard lock(state_->mutex);
  state_->unreadable_at = offset;
  state_->unreadable_code = code;
  state_->unreadable_file = number_of(database);
}

std::uint64_t FailingVfs::failed_reads() const {
  const std::lock_guard lock(state_->mutex);
  return state_->failed_reads;
}

std::uint64_t FailingVfs::take_largest_commit() {
  const std::lock_guard lock(state_->mutex);
  state_->written_to_log = 0;
  return std::exchange(state_->largest_commit, 0);
}

void FailingVfs::on_database_sync(std::function<void()> hook) {
  const std::lock_guard lock(state_->mutex);
  state_->on_database_sync = std::move(hook);
}

std::uint64_t FailingVfs::operations() const {
  const std::lock_guard lock(state_->mutex);
  return state_->counted;
}

std::uint64_t FailingVfs::syncs() const {
  const std::lock_guard lock(state_->mutex);
  return state_->syncs;
}

std::uint64_t FailingVfs::writes() const {
  const std::lock_guard lock(state_->mutex);
  return state_->writes;
}

bool FailingVfs::has_failed() const {
  const std::lock_guard lock(state_->mutex);
  return state_->failed;
}

}  // namespace postrider::queue::test
