#include "events/outbox.h"

#include "events/event_schema.h"

#include "base/regular_file.h"
#include "base/text.h"
#include "mail/message_id.h"

#include <algorithm>
#include <fcntl.h>

namespace postrider::events {

using queue::Database;
using queue::Query;
using queue::Statement;
using queue::Transaction;

namespace {

constexpr std::size_t kMostPosition = 128;

constexpr const char* kTables =
    "CREATE TABLE outbox(name TEXT NOT NULL, fact INTEGER NOT NULL) STRICT;"
    "CREATE TABLE event(sequence INTEGER PRIMARY KEY AUTOINCREMENT, fact INTEGER NOT NULL,"
    " time INTEGER NOT NULL, size INTEGER NOT NULL, text TEXT NOT NULL) STRICT;"
    "INSERT INTO outbox(name, fact) VALUES(lower(hex(randomblob(8))), 0);"
    "PRAGMA application_id=0x50524556; PRAGMA user_version=1;";
constexpr KeptFormat kFormat{0x50524556, 1, kTables};  // "PREV"

bool is_outbox_name(std::string_view name) {
  return name.size() == 16 && name.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

}  // namespace

Result<Position> parse_position(std::string_view text) {
  const auto space = text.find(' ');
  if (space == std::string_view::npos || !text.ends_with('\n'))
    return malformed("position");
  const auto name = text.substr(0, space);
  const auto number = parse_unsigned(text.substr(space + 1, text.size() - space - 2));
  if (!number || !is_outbox_name(name))
    return malformed("position");
  return Position{std::string(name), *number};
}

Result<Position> read_position(const std::string& path) {
  auto file = open_regular_file(path, O_RDONLY);
  if (!file) {
    if (file.error().code() == boost::system::errc::no_such_file_or_directory)
      return Error(Errc::not_found, "read " + path);
    return file.error();
  }
  const auto text = read_file(*file, path, kMostPosition);
  if (!text)
    return text.error();
  auto position = parse_position(*text);
  if (!position)
    return position.error().during("read " + path);
  return position;
}

Result<void> save_position(const std::string& path, const Position& position) {
  return replace_file(path, position.outbox + " " + std::to_string(position.sequence) + "\n", 0600);
}

Result<Outbox> Outbox::open(const std::string& path, std::string source, OutboxLimits limits,
                            const char* vfs, Check check) {
  Outbox outbox;
  outbox.limits_ = limits;
  outbox.source_ = std::move(source);
  auto kept = KeptDatabase::open(path, kFormat, vfs, check);
  if (!kept)
    return kept.error();
  outbox.kept_ = *std::move(kept);
  if (auto done = outbox.prepare(); !done)
    return done.error().during("open " + path);
  return outbox;
}

Result<void> Outbox::prepare() {
  auto& database = kept_.database();
  auto name = database.text("SELECT name FROM outbox");
  if (!name)
    return name.error();
  if (!is_outbox_name(*name))
    return damaged_file("it has no name");
  name_ = *std::move(name);
  const auto last = database.value("SELECT seq FROM sqlite_sequence WHERE name = 'event'");
  const auto size = database.value("SELECT coalesce(sum(size), 0) FROM event");
  if (!last)
    return last.error();
  if (!size)
    return size.error();
  const auto fact = database.value("SELECT fact FROM outbox");
  if (!fact)
    return fact.error();
  if (*last < 0 || *size < 0)
    return damaged_file("a negative number");
  last_ = static_cast<std::uint64_t>(*last);
  last_fact_ = *fact;
  bytes_ = static_cast<std::uint64_t>(*size);
  return prepare_all(
      database,
      {{insert_, "INSERT INTO event(sequence, fact, time, size, text) VALUES(?, ?, ?, ?, ?)"},
       {set_fact_, "UPDATE outbox SET fact = ?"},
       {forget_, "DELETE FROM event WHERE sequence <= ?"},
       {oldest_, "SELECT sequence, time, size FROM event ORDER BY sequence"},
       {sum_, "SELECT coalesce(sum(size), 0), count(*) FROM event WHERE sequence <= ?"}});
}

Result<void> Outbox::append(std::vector<CloudEvent>& events) {
  auto transaction = Transaction::begin(kept_.database());
  if (!transaction)
    return transaction.error();
  auto last = last_;
  auto last_fact = last_fact_;
  std::uint64_t added = 0;
  for (auto& event : events) {
    if (event.fact != 0 && event.fact <= last_fact)
      continue;  // it was written before a crash
    ++last;
    last_fact = std::max(last_fact, event.fact);
    event.id = event.fact != 0 ? to_string(mail::MessageId{event.fact})
                               : name_ + "-" + std::to_string(last);
    event.source = source_;
    const auto text = encode(event);
    Query query(insert_);
    query.bind(static_cast<std::int64_t>(last))
        .bind(event.fact)
        .bind(event.time.time_since_epoch().count());
    query.bind(static_cast<std::int64_t>(text.size()));
    if (auto done = query.bind_text(text).run(); !done)
      return done.error();
    added += text.size();
  }
  if (last_fact != last_fact_)
    if (auto done = Query(set_fact_).bind(last_fact).run(); !done)
      return done.error();
  if (auto done = transaction->commit(); !done)
    return done.error();
  last_ = last;
  last_fact_ = last_fact;
  bytes_ += added;
  return {};
}

Result<std::uint64_t> Outbox::forget(std::uint64_t up_to) {
  if (up_to == 0)
    return 0;
  const auto limit = static_cast<std::int64_t>(std::min(up_to, last_));
  auto transaction = Transaction::begin(kept_.database());
  if (!transaction)
    return transaction.error();
  std::uint64_t size = 0, count = 0;
  {
    Query query(sum_);
    if (auto row = query.bind(limit).next(); !row)
      return row.error();
    size = static_cast<std::uint64_t>(query.integer(0));
    count = static_cast<std::uint64_t>(query.integer(1));
  }
  if (count == 0)
    return 0;
  if (auto done = Query(forget_).bind(limit).run(); !done)
    return done.error();
  if (auto done = transaction->commit(); !done)
    return done.error();
  bytes_ -= std::min(bytes_, size);
  return count;
}

// The latest of those at the old end that are too old, or too much with all that follow.
Result<std::uint64_t> Outbox::beyond(TimePoint oldest, std::uint64_t most_bytes) {
  const auto too_old = oldest.time_since_epoch().count();
  std::uint64_t left = bytes_;
  std::uint64_t newest = 0;
  Query query(oldest_);
  for (;;) {
    auto row = query.next();
    if (!row)
      return row.error();
    if (!*row || (query.integer(1) >= too_old && left <= most_bytes))
      return newest;
    newest = static_cast<std::uint64_t>(query.integer(0));
    left -= std::min(left, static_cast<std::uint64_t>(query.integer(2)));
  }
}

// What all have read goes when `keep` is over or room is needed; the rest only beyond the limits.
Result<std::uint64_t> Outbox::trim(std::uint64_t read, TimePoint now) {
  const bool is_short = bytes_ > 0 && kept_.is_room_short(limits_.room);
  const auto most = is_short ? std::min(limits_.bytes, bytes_ / 4 * 3) : limits_.bytes;
  auto used_up = read;
  if (limits_.keep > Duration(0)) {
    const auto found = beyond(now - limits_.keep, most);
    if (!found)
      return found.error();
    used_up = std::min(read, *found);
  }
  if (auto done = forget(used_up); !done)
    return done.error();
  const auto up_to = beyond(now - limits_.age, most);
  if (!up_to)
    return up_to.error();
  const auto lost = forget(*up_to);
  if (lost && is_short)
    if (auto done = kept_.give_back_room(); !done)
      return done.error();
  return lost;
}

Result<OutboxReader> OutboxReader::open(const std::string& path) {
  OutboxReader reader;
  reader.path_ = path;
  reader.inode_ = inode_of(path);
  if (reader.inode_ == 0)
    return Error(Errc::not_found, "open " + path);
  auto database = Database::open(path, Database::Mode::reader);
  if (!database)
    return database.error();
  reader.database_ = *std::move(database);
  for (const char* sql : {"PRAGMA query_only=ON", "PRAGMA busy_timeout=5000", "PRAGMA mmap_size=0",
                          "PRAGMA cache_size=-2048"})
    if (auto done = reader.database_.execute(sql); !done)
      return done.error().during(sql);
  if (auto done = check_format(reader.database_, kFormat); !done)
    return done.error();
  if (auto done = prepare_all(
          reader.database_,
          {{reader.name_, "SELECT name FROM outbox"},
           {reader.first_,
            "SELECT coalesce((SELECT min(sequence) FROM event),"
            " (SELECT seq + 1 FROM sqlite_sequence WHERE name = 'event'), 1)"},
           {reader.page_,
            "SELECT sequence, text FROM event WHERE sequence > ? ORDER BY sequence LIMIT ?"},
           {reader.find_, "SELECT sequence FROM event WHERE fact = ?"},
           {reader.last_,
            "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'event'), 0)"}});
      !done)
    return done.error();
  return reader;
}

Result<std::optional<std::uint64_t>> OutboxReader::find(std::string_view id) {
  auto transaction = Transaction::begin_reading(database_);
  if (!transaction)
    return transaction.error();
  if (const auto fact = mail::parse_message_id(id)) {
    Query query(find_);
    query.bind(fact->value);
    auto row = query.next();
    if (!row)
      return row.error();
    return *row ? std::optional(static_cast<std::uint64_t>(query.integer(0))) : std::nullopt;
  }
  Query name(name_);
  if (auto row = name.next(); !row || !*row)
    return row ? damaged_file("it has no name") : row.error();
  const auto dash = id.rfind('-');
  if (dash == std::string_view::npos || id.substr(0, dash) != name.text(0))
    return std::optional<std::uint64_t>();
  return parse_unsigned(id.substr(dash + 1));
}

Result<std::uint64_t> OutboxReader::last() {
  Query query(last_);
  if (auto row = query.next(); !row)
    return row.error();
  return static_cast<std::uint64_t>(std::max<std::int64_t>(0, query.integer(0)));
}

bool OutboxReader::is_replaced() const {
  return inode_of(path_) != inode_;
}

Result<OutboxReader::Page> OutboxReader::after(const Position& position, std::size_t most,
                                               std::size_t most_bytes) {
  // One state of the database for all three.
  auto transaction = Transaction::begin_reading(database_);
  if (!transaction)
    return transaction.error();
  Page page;
  Query name(name_);
  Query first(first_);
  if (auto row = name.next(); !row)
    return row.error();
  page.outbox = std::string(name.text(0));
  if (auto row = first.next(); !row)
    return row.error();
  const bool is_same = position.outbox == page.outbox;
  const auto oldest = static_cast<std::uint64_t>(std::max<std::int64_t>(1, first.integer(0)));
  const auto from = is_same ? position.sequence : 0;
  if (from + 1 < oldest && is_same)
    page.lost = oldest - from - 1;
  std::size_t size = 0;
  Query query(page_);
  query.bind(static_cast<std::int64_t>(std::min<std::uint64_t>(from, INT64_MAX)))
      .bind(static_cast<std::int64_t>(most));
  for (;;) {
    auto row = query.next();
    if (!row)
      return row.error();
    if (!*row)
      break;
    const auto text = query.text(1);
    size += text.size();
    if (!page.events.empty() && size > most_bytes)
      break;
    page.events.push_back({static_cast<std::uint64_t>(query.integer(0)), std::string(text)});
  }
  return page;
}

}  // namespace postrider::events
