#include "tables/watcher.h"

#include "base/file_at_rest.h"
#include "base/in_time.h"
#include "base/memory_only.h"
#include "base/text.h"
#include "base/user_mounts.h"
#include "tables/scan.h"
#include "tables/table_source.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <ctime>
#include <filesystem>
#include <mutex>
#include <optional>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace postrider::tables {

namespace {

struct Signature {
  bool exists = false;
  dev_t device = 0;
  ino_t inode = 0;
  off_t size = 0;
  timespec changed{};  // the time that nobody can set
  mode_t mode = 0;
  friend bool operator==(const Signature& a, const Signature& b) {
    return a.exists == b.exists && a.device == b.device && a.inode == b.inode && a.size == b.size &&
           a.changed.tv_sec == b.changed.tv_sec && a.changed.tv_nsec == b.changed.tv_nsec &&
           a.mode == b.mode;
  }
};

Signature signature_of(const Spec& spec) {
  struct stat about {};
  if (spec.path.empty() || !look_at(spec.path, about))
    return {};
  Signature signature{true,          about.st_dev,  about.st_ino,
                      about.st_size, about.st_ctim, about.st_mode};
  if (spec.kind == Kind::sqlite) {  // follows its own changes; only another file is news
    signature.size = 0;
    signature.changed = {};
  }
  return signature;
}

class UnusableTable : public Table {
 public:
  explicit UnusableTable(Error why) : why_(std::move(why)) {}
  Result<std::optional<Entry>> find(std::string_view) const override { return why_; }

 private:
  const Error why_;
};

// What the files of all tables together may have; other users' tables have a part of it, so that
// root's find room whatever those do. Of these it counts what they take in memory: an entry takes
// far more than the few octets of its line, and a pattern may be a short one for a long.
constexpr off_t kMostOfAll = 256 << 20;
constexpr off_t kMostOfOthers = 32 << 20;
constexpr off_t kOfEntry = 200;
constexpr off_t kOfPattern = 66'000;  // what one is compiled to at most
constexpr off_t kOfPatterns = kMostPatterns;

// For a kept file of that size with so many lines.
off_t in_memory(Kind kind, off_t size, off_t lines) {
  if (kind == Kind::cdb)
    return size;
  return size + lines * kOfEntry +
         (kind == Kind::pcre ? std::min(lines * kOfPattern, kOfPatterns) : 0);
}

off_t count_lines(const Spec& spec) {
  uid_t owner = 0;
  const auto file = open_source(spec.path, owner);
  std::vector<char> room(64U << 10U);
  off_t lines = 1;
  for (ssize_t got = 1; file && got > 0;) {
    got = ::read(file->get(), room.data(), room.size());
    if (got > 0)
      lines += std::count(room.begin(), room.begin() + got, '\n');
  }
  return lines;
}

class Budget {
 public:
  // Whether that may take the place of a share; then it has.
  bool take(off_t size, bool is_of_others, off_t& share, bool& was_of_others) {
    const std::lock_guard lock(mutex_);
    const auto all = all_ - share + size;
    const auto others = others_ - (was_of_others ? share : 0) + (is_of_others ? size : 0);
    if (size > share && (all > kMostOfAll || (is_of_others && others > kMostOfOthers)))
      return false;
    all_ = all;
    others_ = others;
    share = size;
    was_of_others = is_of_others;
    return true;
  }

 private:
  std::mutex mutex_;
  off_t all_ = 0, others_ = 0;
};

// Of another user's file that is bad from the start: others' addresses are not that user's to stop.
class LeftOutTable : public Table {
 public:
  Result<std::optional<Entry>> find(std::string_view) const override {
    return std::optional<Entry>();
  }
};

// Of this process or of the machine, and soon gone; not of the file.
bool is_passing(const Error& error) {
  namespace errc = boost::system::errc;
  for (const auto one : {errc::too_many_files_open, errc::too_many_files_open_in_system,
                         errc::not_enough_memory, errc::io_error, errc::interrupted})
    if (error.code() == one)
      return true;
  return false;
}

// In looks at the files.
constexpr int kSettle = 2;
constexpr int kUnfinished = 20;
constexpr int kRetry = 2;
constexpr int kRetryMost = 120;
// That a database has not answered counts for so long: whoever asked has looked by then.
constexpr auto kSilentFor = std::chrono::seconds(30);

Duration time_at_rest_of(const Spec& spec) {
  struct stat about {};
  return look_at(spec.path, about) ? time_at_rest(about) : Duration(0);
}

// As a program that writes the file in place leaves it for a moment; empty: it looks complete.
std::string looks_unfinished(const Spec& spec, bool may_be_missing) {
  const bool has_lines = spec.kind != Kind::cdb && spec.kind != Kind::sqlite;
  uid_t owner = 0;
  struct stat about {};
  const auto file = open_source(spec.path, owner);
  if (!file)  // who reads it says why
    return may_be_missing && !look_at(spec.path, about) ? "is gone" : "";
  char last = 0;
  if (::fstat(file->get(), &about) != 0 || about.st_size == 0)
    return "is empty";
  if (has_lines && (::pread(file->get(), &last, 1, about.st_size - 1) != 1 || last != '\n'))
    return "ends within a line";
  return {};
}

using Steady = std::chrono::steady_clock;

class WatchedTable : public Table {
 public:
  WatchedTable(Spec spec, Options options, std::string name, Duration every,
               std::shared_ptr<Budget> budget)
      : budget_(std::move(budget)),
        spec_(std::move(spec)),
        options_(std::move(options)),
        name_(std::move(name)),
        every_(every) {}

  ~WatchedTable() override { (void)budget_->take(0, false, share_, is_share_of_others_); }

  const Spec& spec() const { return spec_; }
  const std::string& name() const { return name_; }
  // Empty: what it says is what the file says now.
  std::string not_read() const {
    const std::lock_guard lock(mutex_);
    return not_read_;
  }

  void load(Log& log) {
    if (!answers_in_time(spec_.path))
      return wait_for_answer(log);
    loaded_ = seen_ = signature_of(spec_);
    const auto now = Steady::now();
    since_ = now - time_at_rest_of(spec_);
    // A change within the same tick of the file system's clock has the same time.
    retry_at_ = is_fresh(loaded_) ? std::optional(now + kSettle * every_) : std::nullopt;
    auto table = open();
    if (const auto why = doubt_at_start(); !why.empty())
      return wait_for_whole(log, why);
    if (!table) {
      go_without(log, Level::error, table.error());
      return try_later();
    }
    tell_lines(log, **table);
    set(*std::move(table));
  }

  // On the watcher's thread.
  void look(Log& log) {
    if (!can_be_looked_at())
      return tell(log, Level::error, "table_kept", silent().step());
    const auto signature = signature_of(spec_);
    const auto now = Steady::now();
    if (!(signature == seen_)) {
      seen_ = signature;
      since_ = now;
      return;
    }
    const bool is_changed = is_awaited_ || !(signature == loaded_);
    if (!is_changed && is_usable_ && pause_ == Duration(0))
      forget_problem();  // its file system answers again
    if (!(is_changed ? now - since_ >= kSettle * every_ : retry_at_ && now >= *retry_at_))
      return;
    if (!answers_in_time(spec_.path))
      return;
    if (is_changed && (is_usable_ || is_awaited_) && now - since_ < kUnfinished * every_)
      if (const auto why = looks_unfinished(spec_, options_.missing_is_empty); !why.empty())
        return is_awaited_ ? wait_for_whole(log, why)
                           : tell(log, Level::warn, "table_kept",
                                  spec_.path + ": " + why + "; that counts if it stays so for " +
                                      format_duration(kUnfinished * every_));
    read(log, signature);
  }

  bool is_left_out() const override {
    return dynamic_cast<const LeftOutTable*>(get().get()) != nullptr ||
           Steady::now() < silent_until_.load();
  }

  // A database can fail at any question, by its owner's doing too: as a file that is bad does.
  Result<std::optional<Entry>> find(std::string_view key) const override {
    auto found = get()->find(key);
    if (found || spec_.kind != Kind::sqlite || !options_.lenient || !is_of_others(spec_))
      return found;
    if (!MemoryOnly::is_promised())  // else it may not have been asked
      silent_until_ = Steady::now() + kSilentFor;
    return std::optional<Entry>();
  }
  std::vector<std::string> problems() const override { return get()->problems(); }
  bool has_patterns() const override { return spec_.kind == Kind::pcre; }
  std::size_t size() const override { return get()->size(); }

 private:
  Opened open() {
    struct stat about {};
    const bool is_kept =
        spec_.kind != Kind::sqlite && look_at(spec_.path, about) && S_ISREG(about.st_mode);
    const auto before = share_;
    const bool was_of_others = is_share_of_others_;
    const bool is_others = is_of_others(spec_);
    const bool is_read = is_kept && is_others && about.st_size <= kMostOfOthers;
    const auto size = !is_kept  ? 0
                      : is_read ? in_memory(spec_.kind, about.st_size, count_lines(spec_))
                                : about.st_size;
    if (!budget_->take(size, is_others, share_, is_share_of_others_))
      return too_large(is_others);
    auto table = open_table(spec_, options_);
    // It may have grown since its lines were counted.
    const auto entries = table && is_read ? static_cast<off_t>((*table)->size()) * kOfEntry : 0;
    if (entries > share_ && !budget_->take(entries, is_others, share_, is_share_of_others_))
      table = too_large(is_others);
    if (!table)  // the old one stays
      (void)budget_->take(before, was_of_others, share_, is_share_of_others_);
    return table;
  }

  // Why what was just read may be half of what is being written; empty: it may not. Behind the
  // reading, so that what was cut meanwhile is seen.
  std::string doubt_at_start() const {
    if (!(signature_of(spec_) == loaded_))
      return "is being written";
    if (!loaded_.exists && options_.missing_is_empty && folder_at_rest() < kUnfinished * every_)
      return "is gone";
    if (!loaded_.exists || Steady::now() - since_ >= kUnfinished * every_ ||
        was_made_empty(spec_.path))
      return {};
    return looks_unfinished(spec_, false);
  }

  // In which a program may have removed the file a moment ago, to put another into its place.
  Duration folder_at_rest() const {
    struct stat about {};
    const auto folder = std::filesystem::absolute(spec_.path).parent_path();
    return look_at(folder.string(), about) ? time_at_rest(about) : kLongAtRest;
  }

  // Lookups fail for now until the file is whole, or has been at rest for long enough. Of one that
  // is gone only names that nothing else knows wait.
  void wait_for_whole(Log& log, const std::string& why) {
    go_without(log, Level::warn, perhaps_unfinished(spec_.path, why));
    is_awaited_ = true;
    loaded_ = {};  // nothing of it counts
  }

  // While there is no table of the file.
  void go_without(Log& log, Level level, const Error& error) {
    const bool is_gone = options_.missing_is_empty && !seen_.exists;
    const bool is_left_out =
        is_gone || (options_.lenient && is_of_others(spec_) && !is_passing(error));
    tell(log, level, is_left_out ? "table_left_out" : "table_unusable",
         is_perhaps_unfinished(error) ? error.step() : told(error));
    if (is_left_out)
      set(std::make_shared<LeftOutTable>());
    else
      set(std::make_shared<UnusableTable>(error));
    is_usable_ = false;
    is_awaited_ = false;
  }

  // Its file system may have stopped answering.
  bool can_be_looked_at() const {
    return done_in_time("look " + spec_.path, [path = spec_.path] {
      struct stat about {};
      (void)look_at(path, about);
    });
  }
  Error silent() const {
    return Error(make_error_code(boost::system::errc::timed_out),
                 spec_.path + ": could not be read in time: its file system does not answer");
  }
  // Whose file it is cannot be known either.
  void wait_for_answer(Log& log) {
    tell(log, Level::error, "table_unusable", silent().step());
    set(std::make_shared<UnusableTable>(silent()));
    is_usable_ = false;
    is_awaited_ = false;
    loaded_ = {};
    try_later();
  }

  Error too_large(bool is_others) const {
    return Error(Errc::refused,
                 spec_.path + ": with it the tables " +
                     (is_others ? "of users other than root " : "") + "would have more than " +
                     std::to_string((is_others ? kMostOfOthers : kMostOfAll) >> 20) + " MiB");
  }

  void read(Log& log, const Signature& signature) {
    const bool is_new = !(signature == loaded_);
    auto table = open();
    if (!(signature_of(spec_) == signature))
      return;  // it was changed while it was read: what was read may be half of it
    loaded_ = signature;
    if (!table) {
      if (is_new)
        pause_ = Duration(0);
      try_later();
      if (is_awaited_)
        return go_without(log, Level::error, table.error());
      return tell(log, Level::error, "table_kept", told(table.error()));
    }
    const bool is_news = is_new || pause_ != Duration(0);
    retry_at_ = std::nullopt;
    pause_ = Duration(0);
    forget_problem();
    if (is_news)
      log.write(LogEvent(Level::info, "table_read")
                    .add("option", name_)
                    .add("table", spec_.path)
                    .add("entries", (*table)->size()));
    tell_lines(log, **table);
    set(*std::move(table));
  }

  // What the table goes on without, at each reading that found something else.
  void tell_lines(Log& log, const Table& table) {
    auto problems = table.problems();
    if (problems == lines_told_)
      return;
    lines_told_ = std::move(problems);
    for (const auto& problem : lines_told_)
      log.write(LogEvent(Level::warn, "table_line")
                    .add("option", name_)
                    .add("table", spec_.path)
                    .add("problem", problem));
  }

  bool is_fresh(const Signature& signature) const {
    if (!signature.exists || spec_.kind == Kind::sqlite)
      return false;
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    const auto age = std::chrono::seconds(now.tv_sec - signature.changed.tv_sec);
    return age <= kSettle * every_ + std::chrono::seconds(1);
  }

  void try_later() {
    pause_ = std::min(kRetryMost * every_, pause_ == Duration(0) ? kRetry * every_ : pause_ * 2);
    retry_at_ = Steady::now() + pause_;
  }

  // The same problem once.
  void tell(Log& log, Level level, const char* event, const std::string& problem) {
    if (problem == told_)
      return;
    told_ = problem;
    const std::string_view name = event;
    const auto meanwhile = name == "table_kept"       ? "the one before is in use"
                           : name == "table_left_out" ? "it is left out until then"
                                                      : "lookups fail until then";
    note(level < Level::error ? ""
                              : name_ + ": a table cannot be read, " + meanwhile + ": " + problem);
    log.write(LogEvent(level, event)
                  .add("option", name_)
                  .add("table", spec_.path)
                  .add("problem", problem));
  }

  void forget_problem() {
    told_.clear();
    note({});
  }
  void note(std::string problem) {
    const std::lock_guard lock(mutex_);
    not_read_ = std::move(problem);
  }

  std::shared_ptr<const Table> get() const {
    const std::lock_guard lock(mutex_);
    return table_;
  }
  void set(std::shared_ptr<const Table> table) {
    const std::lock_guard lock(mutex_);
    std::swap(table_, table);
    is_usable_ = true;
    is_awaited_ = false;
  }

  const std::shared_ptr<Budget> budget_;
  off_t share_ = 0;
  bool is_share_of_others_ = false;
  const Spec spec_;
  const Options options_;
  const std::string name_;
  const Duration every_;
  bool is_usable_ = false;
  bool is_awaited_ = false;  // there is no table yet, for the file looks unfinished
  Signature loaded_, seen_;
  Steady::time_point since_;  // when seen_ was seen first
  std::optional<Steady::time_point>
      retry_at_;       // when to read once more, though nothing has changed
  Duration pause_{0};  // the last one behind a failure; 0: it did not fail
  mutable std::atomic<Steady::time_point> silent_until_{Steady::time_point::min()};
  std::string told_;  // the problem that the log has
  std::vector<std::string> lines_told_;
  mutable std::mutex mutex_;
  std::string not_read_;  // why, for people
  std::shared_ptr<const Table> table_;
};

}  // namespace

struct Watcher::State {
  State(Log& log_, Duration every_) : log(log_), every(every_) {}

  void run() {
    std::unique_lock lock(mutex);
    while (!wake.wait_for(lock, every, [this] { return stopping; })) {
      std::vector<std::shared_ptr<WatchedTable>> alive;
      std::erase_if(tables, [](const auto& one) { return one.expired(); });
      for (const auto& one : tables)
        if (auto table = one.lock())
          alive.push_back(std::move(table));
      lock.unlock();
      for (const auto& table : alive)
        table->look(log);
      alive.clear();
      lock.lock();
    }
  }

  std::shared_ptr<const Table> find(const Spec& spec, const std::string& name) {
    const std::lock_guard lock(mutex);
    for (const auto& one : tables)
      if (auto table = one.lock();
          table && table->spec().str() == spec.str() && table->name() == name)
        return table;
    return nullptr;
  }

  Log& log;
  const Duration every;
  const std::shared_ptr<Budget> budget = std::make_shared<Budget>();
  std::mutex mutex;
  std::condition_variable wake;
  bool stopping = false;
  std::vector<std::weak_ptr<WatchedTable>> tables;
  std::thread thread;
};

Watcher::Watcher(Log& log, Duration every) : state_(std::make_unique<State>(log, every)) {}

Watcher::~Watcher() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
  }
  state_->wake.notify_all();
  if (state_->thread.joinable())
    state_->thread.join();
}

std::vector<std::string> Watcher::not_read() const {
  const std::lock_guard lock(state_->mutex);
  std::vector<std::string> all;
  for (const auto& one : state_->tables)
    if (const auto table = one.lock())
      if (auto problem = table->not_read(); !problem.empty())
        all.push_back(std::move(problem));
  return all;
}

Result<std::shared_ptr<const Table>> Watcher::open(const std::string& spec, const Options& options,
                                                   const std::string& name) {
  auto parsed = parse_spec(spec);
  if (!parsed)
    return parsed.error();
  if (!has_file(parsed->kind))
    return open_table(*parsed, options);
  if (auto known = state_->find(*parsed, name))
    return known;
  auto table = std::make_shared<WatchedTable>(*std::move(parsed), options, name, state_->every,
                                              state_->budget);
  table->load(state_->log);
  const std::lock_guard lock(state_->mutex);
  state_->tables.push_back(table);
  // Nobody who has no files to watch pays for the thread.
  if (!state_->thread.joinable())
    state_->thread = std::thread([state = state_.get()] { state->run(); });
  return std::shared_ptr<const Table>(std::move(table));
}

}  // namespace postrider::tables
