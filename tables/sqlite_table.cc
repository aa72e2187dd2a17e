// SQLite, read-only, by one prepared statement whose parameters are the key. A statement that runs
// too long is ended. What it answers is remembered for a moment, failures included. The file may be
// another user's, who may put anything into it and anything beside it: a view in the place of a
// table, a pipe in the place of a journal.
#include "base/case_fold.h"
#include "base/memory_only.h"
#include "base/text.h"
#include "base/user_mounts.h"
#include "tables/recent_answers.h"
#include "tables/table_source.h"

#include <sqlite3.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fcntl.h>
#include <mutex>
#include <sys/stat.h>
#include <unistd.h>

namespace postrider::tables {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kBusy = 50;                            // ms to wait for a writer
constexpr int kStepsAtOnce = 1'000;                  // of SQLite's machine
constexpr int kMostSteps = 5'000;                    // times that: some 100 ms
constexpr auto kMostTime = std::chrono::seconds(2);  // for steps that are long ones
constexpr auto kPatience = std::chrono::seconds(4);  // above all that a statement may take
constexpr std::size_t kMostRows = 10'000;
constexpr std::size_t kMostValue = 1U << 20U;
constexpr int kMostProgram = 25'000;  // instructions that a query is compiled to, with its views
constexpr auto kRemember = std::chrono::seconds(2);

struct Close {
  void operator()(sqlite3* database) const { sqlite3_close_v2(database); }
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};

// For SQLite's own calls, of a database and of what lies beside it, where its owner may have mounted
// something since: wait for no pipe, no lease and no file system of a user's.
int open_without_waiting(const char* path, int flags, int mode) {
  constexpr int kNoWait = O_NONBLOCK | O_NOCTTY;
  const auto place = find_place(path);
  if (!place && place.error().code() == Errc::refused) {
    errno = EACCES;
    return -1;
  }
  auto again = place ? reopen(*place, flags | kNoWait) : Result<FileDescriptor>(place.error());
  // Else it is to be made, or there is no /proc.
  const int fd = again ? again->release() : ::open(path, flags | kNoWait, mode);
  struct stat about {};
  if (fd < 0 || ::fstat(fd, &about) != 0)
    return fd;
  if (S_ISREG(about.st_mode) || S_ISDIR(about.st_mode) || std::strcmp(path, "/dev/null") == 0)
    return fd;
  ::close(fd);
  errno = ENXIO;
  return -1;
}

int stat_without_waiting(const char* path, struct stat* about) {
  return look_at(path, *about) ? 0 : -1;
}

void forbid_waiting() {
  static std::once_flag once;
  std::call_once(once, [] {
    auto* files = sqlite3_vfs_find("unix");
    if (files == nullptr)
      return;
    files->xSetSystemCall(files, "open",
                          reinterpret_cast<sqlite3_syscall_ptr>(open_without_waiting));
    files->xSetSystemCall(files, "stat",
                          reinterpret_cast<sqlite3_syscall_ptr>(stat_without_waiting));
  });
}

class SqliteTable : public Table {
 public:
  SqliteTable(Spec spec, uid_t owner) : spec_(std::move(spec)), owner_(owner) {}

  Result<void> open() {
    forbid_waiting();
    sqlite3* handle = nullptr;
    const int opened = sqlite3_open_v2(spec_.path.c_str(), &handle,
                                       SQLITE_OPEN_READONLY | SQLITE_OPEN_FULLMUTEX, nullptr);
    database_.reset(handle);
    if (opened != SQLITE_OK)
      return failed("open");
    sqlite3_busy_timeout(handle, kBusy);
    sqlite3_db_config(handle, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
    sqlite3_db_config(handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
    sqlite3_limit(handle, SQLITE_LIMIT_LENGTH, static_cast<int>(kMostValue));
    sqlite3_limit(handle, SQLITE_LIMIT_VDBE_OP, kMostProgram);
    sqlite3_limit(handle, SQLITE_LIMIT_ATTACHED, 0);
    sqlite3_exec(handle, "PRAGMA cell_size_check = ON", nullptr, nullptr, nullptr);
    begin();
    sqlite3_progress_handler(handle, kStepsAtOnce, &SqliteTable::on_progress, this);
    sqlite3_stmt* statement = nullptr;
    const char* behind = nullptr;
    const int prepared =
        sqlite3_prepare_v3(handle, spec_.detail.data(), static_cast<int>(spec_.detail.size()),
                           SQLITE_PREPARE_PERSISTENT, &statement, &behind);
    statement_.reset(statement);
    if (prepared != SQLITE_OK)
      return failed("prepare the query");
    const std::string_view rest(
        behind, static_cast<std::size_t>(spec_.detail.data() + spec_.detail.size() - behind));
    if (statement == nullptr || rest.find_first_not_of(" \t\n;") != rest.npos)
      return malformed(name() + ": has several statements or none; expected one");
    if (sqlite3_stmt_readonly(statement) == 0 || sqlite3_column_count(statement) != 1)
      return malformed(
          name() +
          ": the query changes something or has no single column; expected a SELECT of one "
          "column");
    if (sqlite3_bind_parameter_count(statement) == 0)
      return malformed(name() + ": the query does not use the key; expected the parameter :key");
    return {};
  }

  Result<std::optional<Entry>> find(std::string_view key) const override {
    const auto asked = folded_case(key);
    if (auto known = recent_.find(asked))
      return *std::move(known);
    if (MemoryOnly::forbids_waiting())
      return Error(Errc::storage, name() + ": must be asked");
    if (began_.load() + kPatience < Clock::now())
      return silent();
    const std::unique_lock lock(asking_, kPatience);
    if (!lock.owns_lock())
      return silent();
    const Asking asking(began_);
    if (auto known = recent_.find(asked))  // who was here before asked the same
      return *std::move(known);
    auto entry = ask(asked);
    if (entry)
      recent_.keep(asked, *entry);
    else
      recent_.keep_failure(asked, entry.error());
    return entry;
  }

 private:
  // While a question is asked.
  struct Asking {
    explicit Asking(std::atomic<Clock::time_point>& began_) : began(began_) {
      began = Clock::now();
    }
    ~Asking() { began = Clock::time_point::max() - kPatience; }
    Asking(const Asking&) = delete;
    Asking& operator=(const Asking&) = delete;
    std::atomic<Clock::time_point>& began;
  };

  std::string name() const { return "sqlite:" + spec_.path; }
  // Statements have limits: only its file system can take longer. Who asked first waits for it.
  Error silent() const {
    return Error(Errc::storage, name() + ": its file system does not answer");
  }
  Error failed(const char* step) const {
    return Error(Errc::storage, name() + ": " + step + ": " + sqlite3_errmsg(database_.get()));
  }

  void begin() const {
    steps_ = 0;
    end_ = Clock::now() + kMostTime;
  }
  static int on_progress(void* table) {
    const auto& self = *static_cast<const SqliteTable*>(table);
    return ++self.steps_ > kMostSteps || Clock::now() > self.end_ ? 1 : 0;
  }

  Result<std::optional<Entry>> ask(const std::string& key) const {
    auto* statement = statement_.get();
    begin();
    const int parameters = sqlite3_bind_parameter_count(statement);
    for (int i = 1; i <= parameters; ++i)
      sqlite3_bind_text(statement, i, key.data(), static_cast<int>(key.size()), SQLITE_STATIC);
    std::string value;
    int step = SQLITE_ROW;
    std::size_t rows = 0;
    while ((step = sqlite3_step(statement)) == SQLITE_ROW && rows < kMostRows &&
           value.size() <= kMostValue) {
      const auto* text = sqlite3_column_text(statement, 0);
      if (text == nullptr)
        continue;
      value.append(rows++ > 0 ? ", " : "")
          .append(reinterpret_cast<const char*>(text),
                  static_cast<std::size_t>(sqlite3_column_bytes(statement, 0)));
    }
    std::optional<Error> trouble;
    if (step == SQLITE_ROW)
      trouble = Error(Errc::too_long, name() + ": the answer has too many rows");
    else if (step != SQLITE_DONE)
      trouble = failed("look up");
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    if (trouble)
      return *trouble;
    if (trim(value).empty())
      return std::optional<Entry>();
    Entry entry;
    entry.value = std::move(value);
    entry.where = name();
    entry.owner = owner_;
    entry.folder = folder_of(spec_.path);
    return std::optional<Entry>(std::move(entry));
  }

  const Spec spec_;
  const uid_t owner_;
  mutable std::timed_mutex asking_;  // the database; held while it answers
  // When that began, far ahead if nobody asks.
  mutable std::atomic<Clock::time_point> began_{Clock::time_point::max() - kPatience};
  mutable int steps_ = 0;
  mutable Clock::time_point end_;
  std::unique_ptr<sqlite3, Close> database_;
  std::unique_ptr<sqlite3_stmt, Close> statement_;
  mutable RecentAnswers recent_{kRemember};
};

}  // namespace

Opened open_sqlite(const Spec& spec) {
  uid_t owner = 0;
  if (auto file = open_source(spec.path, owner); !file)
    return file.error();
  auto table = std::make_shared<SqliteTable>(spec, owner);
  if (auto opened = table->open(); !opened)
    return opened.error();
  return std::shared_ptr<const Table>(std::move(table));
}

}  // namespace postrider::tables
