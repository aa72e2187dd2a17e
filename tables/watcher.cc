#include "tables/watcher.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <sys/stat.h>
#include <thread>
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
  if (spec.path.empty() || ::stat(spec.path.c_str(), &about) != 0)
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

class WatchedTable : public Table {
 public:
  WatchedTable(Spec spec, Options options, std::string name)
      : spec_(std::move(spec)), options_(std::move(options)), name_(std::move(name)) {}

  const Spec& spec() const { return spec_; }
  const std::string& name() const { return name_; }

  void load(Log& log) {
    loaded_ = seen_ = signature_of(spec_);
    auto table = open_table(spec_, options_);
    if (table)
      return set(*std::move(table));
    log.write(LogEvent(Level::error, "table_unusable")
                  .add("option", name_)
                  .add("table", spec_.path)
                  .add("problem", told(table.error())));
    set(std::make_shared<UnusableTable>(table.error()));
  }

  // On the watcher's thread.
  void look(Log& log) {
    const auto now = signature_of(spec_);
    const bool stands_still = now == seen_;
    seen_ = now;
    if (now == loaded_ || !stands_still)
      return;
    loaded_ = now;
    auto table = open_table(spec_, options_);
    if (!table) {
      log.write(LogEvent(Level::error, "table_kept")
                    .add("option", name_)
                    .add("table", spec_.path)
                    .add("problem", told(table.error())));
      return;
    }
    log.write(LogEvent(Level::info, "table_read")
                  .add("option", name_)
                  .add("table", spec_.path)
                  .add("entries", (*table)->size()));
    set(*std::move(table));
  }

  Result<std::optional<Entry>> find(std::string_view key) const override {
    return get()->find(key);
  }
  bool has_patterns() const override { return spec_.kind == Kind::pcre; }
  std::size_t size() const override { return get()->size(); }

 private:
  std::shared_ptr<const Table> get() const {
    const std::lock_guard lock(mutex_);
    return table_;
  }
  void set(std::shared_ptr<const Table> table) {
    const std::lock_guard lock(mutex_);
    std::swap(table_, table);
  }

  const Spec spec_;
  const Options options_;
  const std::string name_;
  Signature loaded_, seen_;
  mutable std::mutex mutex_;
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

Result<std::shared_ptr<const Table>> Watcher::open(const std::string& spec, const Options& options,
                                                   const std::string& name) {
  auto parsed = parse_spec(spec);
  if (!parsed)
    return parsed.error();
  if (parsed->kind == Kind::inlined)
    return open_table(*parsed, options);
  if (auto known = state_->find(*parsed, name))
    return known;
  auto table = std::make_shared<WatchedTable>(*std::move(parsed), options, name);
  table->load(state_->log);
  const std::lock_guard lock(state_->mutex);
  state_->tables.push_back(table);
  // Nobody who has no files to watch pays for the thread.
  if (!state_->thread.joinable())
    state_->thread = std::thread([state = state_.get()] { state->run(); });
  return std::shared_ptr<const Table>(std::move(table));
}

}  // namespace postrider::tables
