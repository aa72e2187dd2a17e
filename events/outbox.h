// Events on their way out: a database of its own, events.db, which one writer fills and others
// read from their own processes. It keeps the order in which events were appended, and may lose
// the oldest of them beyond its limits: that is counted. Nothing in it is needed for mail.
#pragma once

#include "events/event.h"
#include "events/kept_database.h"

#include "base/result.h"
#include "queue/store/sqlite.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::events {

struct OutboxLimits {
  std::uint64_t bytes = 256U << 20U;          // of all events as text
  Duration age = std::chrono::hours(24 * 7);  // then what somebody has not read is lost
  Duration keep{0};        // for so long what all have read stays, if there is room
  std::uint64_t room = 0;  // below so much free disk events give way to mail
};

// Where a reader stands. `outbox` names the database: in a new one all numbers begin again.
struct Position {
  std::string outbox;  // hexadecimal digits; empty: nowhere yet
  std::uint64_t sequence = 0;
  friend bool operator==(const Position&, const Position&) = default;
};
// "NAME SEQUENCE\n", in a file of its own for each reader: the reader's process writes it, and the
// writer, who only saves room by it, trusts it as little as any other file.
Result<Position> parse_position(std::string_view text);
Result<Position> read_position(const std::string& path);  // Errc::not_found: there is none
Result<void> save_position(const std::string& path, const Position& position);

// The writer. One thread, one object.
class Outbox {
 public:
  // As KeptDatabase::open().
  using Check = KeptDatabase::Check;
  static Result<Outbox> open(const std::string& path, std::string source, OutboxLimits limits,
                             const char* vfs = nullptr, Check check = Check::some);

  const std::string& name() const { return name_; }
  std::uint64_t last() const { return last_; }
  std::uint64_t bytes() const { return bytes_; }
  void limit(OutboxLimits limits) { limits_ = limits; }

  // All of them, in this order, on stable storage; or none. Gives them their ids and source. A fact
  // that is not newer than the newest one here is here already, and is passed over.
  Result<void> append(std::vector<CloudEvent>& events);
  // Forgets what everybody has read, that is up to `read`, once it was kept long enough or room is
  // needed, and then what is too old or too much.
  // How many of the latter there were: they are lost to somebody. On a disk with less than
  // OutboxLimits::room, a quarter of all is too much, each time.
  Result<std::uint64_t> trim(std::uint64_t read, TimePoint now);
  Result<void> checkpoint() { return kept_.checkpoint(); }
  bool is_replaced() const { return kept_.is_replaced(); }

 private:
  Outbox() = default;
  Result<void> prepare();
  Result<std::uint64_t> forget(std::uint64_t up_to);
  Result<std::uint64_t> beyond(TimePoint oldest, std::uint64_t most_bytes);

  KeptDatabase kept_;
  queue::Statement insert_, set_fact_, forget_, oldest_, sum_;
  OutboxLimits limits_;
  std::string source_;
  std::string name_;
  std::uint64_t last_ = 0;
  std::int64_t last_fact_ = 0;
  std::uint64_t bytes_ = 0;
};

struct StoredEvent {
  std::uint64_t sequence = 0;
  std::string text;
};

// A reader, in any process that may read and write the folder (the log's index is shared memory).
class OutboxReader {
 public:
  static Result<OutboxReader> open(const std::string& path);

  struct Page {
    std::string outbox;
    std::vector<StoredEvent> events;
    std::uint64_t lost = 0;  // events before these that the reader has not seen and never will
  };
  // What follows `position`, at most so many events and, but for the first, octets. After another
  // outbox's position it begins at the oldest.
  Result<Page> after(const Position& position, std::size_t most, std::size_t most_bytes);
  // The number of the event with this id; nothing: it is not here.
  Result<std::optional<std::uint64_t>> find(std::string_view id);
  Result<std::uint64_t> last();  // of the newest, even if it is gone
  // The writer has set this one aside, or somebody has removed it: nothing more will come.
  bool is_replaced() const;

 private:
  OutboxReader() = default;
  std::string path_;
  std::uint64_t inode_ = 0;
  queue::Database database_;
  queue::Statement name_, first_, page_, find_, last_;
};

}  // namespace postrider::events
