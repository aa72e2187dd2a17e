#include "tables/remote_table.h"

#include "base/case_fold.h"
#include "base/memory_only.h"
#include "base/text.h"
#include "tables/recent_answers.h"

#include <condition_variable>
#include <mutex>
#include <utility>
#include <vector>

namespace postrider::tables {

namespace {

using Connection = std::unique_ptr<RemoteConnection>;

constexpr auto kFailedFor = std::chrono::seconds(1);

bool is_timeout(const Error& error) {
  return error.code() == boost::system::errc::timed_out;
}

class RemoteTable : public Table {
 public:
  explicit RemoteTable(RemoteRules rules)
      : rules_(std::move(rules)), recent_(rules_.remembered_for) {}

  Result<std::optional<Entry>> find(std::string_view key) const override {
    const auto asked = rules_.folds_case ? folded_case(key) : std::string(key);
    if (!rules_.may_have(asked))
      return std::optional<Entry>();
    if (auto known = recall(asked))
      return *std::move(known);
    if (MemoryOnly::forbids_waiting())
      return failed("must be asked");
    auto entry = ask(asked);
    if (entry)
      recent_.keep(asked, *entry);
    return entry;
  }

 private:
  Error failed(const std::string& why) const {
    return Error(Errc::storage, rules_.name + ": " + why);
  }

  std::optional<Result<std::optional<Entry>>> recall(const std::string& key) const {
    if (auto known = recent_.find(key))
      return known;
    const std::lock_guard lock(mutex_);
    if (down_until_ > RemoteClock::now())
      return Result<std::optional<Entry>>(failed(why_));
    return std::nullopt;
  }

  Result<std::optional<Entry>> ask(const std::string& key) const {
    const auto until = RemoteClock::now() + rules_.patience;
    auto taken = take(until);
    if (!taken)
      return failed("too many questions are open");
    auto connection = *std::move(taken);
    const bool was_open = connection != nullptr;
    auto said = ask_on(connection, key, until);
    // It may have closed a connection that was idle.
    if (!said && was_open && !connection && RemoteClock::now() < until)
      said = ask_on(connection, key, until);
    const bool is_lost = connection == nullptr;
    give_back(std::move(connection));
    if (!said) {
      const auto why = failed(told(said.error()));
      if (is_lost)
        leave_alone(key, said.error());
      return why;
    }
    if (!*said || trim(**said).empty())
      return std::optional<Entry>();
    Entry entry;
    entry.value = **std::move(said);
    entry.where = rules_.name;
    entry.owner = rules_.owner();
    return std::optional<Entry>(std::move(entry));
  }

  // Makes the connection where there is none; there is none afterwards if it was lost.
  RemoteConnection::Answer ask_on(Connection& connection, const std::string& key,
                                  RemoteClock::time_point until) const {
    if (!connection) {
      auto made = rules_.connect(until);
      if (!made)
        return made.error();
      connection = *std::move(made);
    }
    auto said = connection->ask(key, until);
    if (!connection->is_usable())
      connection.reset();
    return said;
  }

  // One key may be what takes so long: nobody waits for it again for a while.
  void leave_alone(const std::string& key, const Error& why) const {
    const auto text = told(why);
    if (is_timeout(why))
      recent_.keep_failure(key, failed(text));
    const std::lock_guard lock(mutex_);
    down_until_ = RemoteClock::now() + kFailedFor;
    why_ = text;
  }

  // Null: a new one may be made.
  std::optional<Connection> take(RemoteClock::time_point until) const {
    std::unique_lock lock(mutex_);
    if (!given_back_.wait_until(lock, until, [&] { return in_use_ < rules_.connections; }))
      return std::nullopt;
    ++in_use_;
    while (!idle_.empty()) {
      auto connection = std::move(idle_.back());
      idle_.pop_back();
      if (connection->is_usable())
        return connection;
    }
    return Connection();
  }

  // Null: it was lost, and so are the others, which lead to the same server.
  void give_back(Connection connection) const {
    std::vector<Connection> lost;  // closed without the lock
    {
      const std::lock_guard lock(mutex_);
      --in_use_;
      if (connection)
        idle_.push_back(std::move(connection));
      else
        lost.swap(idle_);
    }
    given_back_.notify_one();
  }

  const RemoteRules rules_;
  mutable std::mutex mutex_;  // never held for long
  mutable std::condition_variable given_back_;
  mutable std::size_t in_use_ = 0;
  mutable std::vector<Connection> idle_;
  mutable RecentAnswers recent_;
  mutable RemoteClock::time_point down_until_;
  mutable std::string why_;
};

}  // namespace

std::shared_ptr<const Table> make_remote_table(RemoteRules rules) {
  return std::make_shared<RemoteTable>(std::move(rules));
}

}  // namespace postrider::tables
