#include "events/outbox.h"

#include "events/event_schema.h"

#include "base/digest.h"
#include "base/file.h"
#include "base/text.h"
#include "mail/message_id.h"

#include <algorithm>
#include <cstdio>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

namespace postrider::events {

using queue::Database;
using queue::Query;
using queue::Statement;
using queue::Transaction;

namespace {

constexpr std::int64_t kApplicationId = 0x50524556;  // "PREV"
constexpr std::int64_t kVersion = 1;
constexpr std::size_t kMostPosition = 128;

constexpr const char* kTables =
    "CREATE TABLE outbox(name TEXT NOT NULL, fact INTEGER NOT NULL) STRICT;"
    "CREATE TABLE event(sequence INTEGER PRIMARY KEY AUTOINCREMENT, fact INTEGER NOT NULL,"
    " time INTEGER NOT NULL, size INTEGER NOT NULL, text TEXT NOT NULL) STRICT;"
    "PRAGMA application_id=0x50524556; PRAGMA user_version=1;";

// A number that is not a number of ours is damage.
Error damaged(const char* what) {
  return Error(Errc::corrupt, std::string("read the outbox: ") + what);
}

Result<void> check_identity(Database& database) {
  const auto identity = database.value("PRAGMA application_id");
  const auto version = database.value("PRAGMA user_version");
  if (!identity)
    return identity.error();
  if (!version)
    return version.error();
  if (*identity == 0 && *version == 0)
    return Error(Errc::not_found, "read the outbox: it is not made yet");
  if (*identity != kApplicationId || *version != kVersion)
    return damaged("it is none, or of another version");
  return {};
}

Result<void> make_tables(Database& database, const std::string& name) {
  auto transaction = Transaction::begin(database);
  if (!transaction)
    return transaction.error();
  if (auto made = database.execute(kTables); !made)
    return made.error();
  auto insert = database.prepare("INSERT INTO outbox(name, fact) VALUES(?, 0)");
  if (!insert)
    return insert.error();
  if (auto named = Query(*insert).bind_text(name).run(); !named)
    return named.error();
  return transaction->commit();
}

Result<void> configure(Database& database) {
  for (const char* sql :
       {"PRAGMA page_size=4096", "PRAGMA auto_vacuum=INCREMENTAL", "PRAGMA journal_mode=WAL",
        "PRAGMA synchronous=FULL", "PRAGMA mmap_size=0", "PRAGMA cache_size=-4096",
        "PRAGMA temp_store=MEMORY", "PRAGMA cell_size_check=ON"})
    if (auto done = database.execute(sql); !done)
      return done.error().during(sql);
  return {};
}

// SQLite's own look at a database of a moderate size; a large one shows its damage when it is used.
Result<void> check_pages(Database& database, Outbox::Check check) {
  constexpr std::int64_t kChecked = 16384;
  const auto pages = database.value("PRAGMA page_count");
  if (!pages)
    return pages.error();
  if (*pages > kChecked && check == Outbox::Check::some)
    return {};
  const auto said = database.text("PRAGMA quick_check(1)");
  if (!said)
    return said.error();
  if (*said != "ok")
    return damaged(said->c_str());
  return {};
}

struct StatementText {
  Statement& statement;
  const char* sql;
};

Result<void> prepare_all(Database& database, std::initializer_list<StatementText> all) {
  for (const auto& one : all) {
    auto made = database.prepare(one.sql);
    if (!made)
      return made.error();
    one.statement = *std::move(made);
  }
  return {};
}

// 0: there is none.
std::uint64_t inode_of(const std::string& path) {
  struct stat found {};
  return ::stat(path.c_str(), &found) == 0 ? found.st_ino : 0;
}

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
  auto file = open_file(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
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
  outbox.path_ = path;
  outbox.limits_ = limits;
  outbox.source_ = std::move(source);
  auto database = Database::open(path, Database::Mode::writer, vfs);
  if (!database)
    return database.error();
  outbox.database_ = *std::move(database);
  if (auto done = outbox.prepare(check); !done)
    return done.error().during("open " + path);
  outbox.files_ = outbox.files_by_name();
  return outbox;
}

Outbox::Files Outbox::files_by_name() const {
  return {inode_of(path_), inode_of(path_ + "-wal")};
}

bool Outbox::is_replaced() const {
  const auto now = files_by_name();
  return now.database != files_.database || now.log != files_.log;
}

bool is_damaged(const Error& error) {
  return queue::is_damage(error) || error.code() == Errc::corrupt;
}

Result<void> Outbox::prepare(Check check) {
  if (auto done = configure(database_); !done)
    return done.error();
  const auto tables = database_.value("SELECT count(*) FROM sqlite_schema");
  if (!tables)
    return tables.error();
  if (*tables == 0)
    if (auto made = make_tables(database_, encode_hex(random_bytes(8))); !made)
      return made.error();
  if (auto done = check_identity(database_); !done)
    return done.error();
  if (auto done = check_pages(database_, check); !done)
    return done.error();
  auto name = database_.text("SELECT name FROM outbox");
  if (!name)
    return name.error();
  if (!is_outbox_name(*name))
    return damaged("it has no name");
  name_ = *std::move(name);
  const auto last = database_.value("SELECT seq FROM sqlite_sequence WHERE name = 'event'");
  const auto size = database_.value("SELECT coalesce(sum(size), 0) FROM event");
  if (!last)
    return last.error();
  if (!size)
    return size.error();
  const auto fact = database_.value("SELECT fact FROM outbox");
  if (!fact)
    return fact.error();
  if (*last < 0 || *size < 0)
    return damaged("a negative number");
  last_ = static_cast<std::uint64_t>(*last);
  last_fact_ = *fact;
  bytes_ = static_cast<std::uint64_t>(*size);
  return prepare_all(
      database_,
      {{insert_, "INSERT INTO event(sequence, fact, time, size, text) VALUES(?, ?, ?, ?, ?)"},
       {set_fact_, "UPDATE outbox SET fact = ?"},
       {forget_, "DELETE FROM event WHERE sequence <= ?"},
       {oldest_, "SELECT sequence, time, size FROM event ORDER BY sequence"},
       {sum_, "SELECT coalesce(sum(size), 0), count(*) FROM event WHERE sequence <= ?"}});
}

Result<void> Outbox::set_aside(const std::string& path) {
  for (const char* end : {"", "-wal", "-shm"}) {
    const auto from = path + end;
    const auto to = path + ".damaged" + end;
    if (std::rename(from.c_str(), to.c_str()) != 0 && errno != ENOENT)
      return system_error("rename " + from);
  }
  return {};
}

Result<void> Outbox::append(std::vector<CloudEvent>& events) {
  auto transaction = Transaction::begin(database_);
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
  auto transaction = Transaction::begin(database_);
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
  const bool is_short = is_room_short();
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
    if (auto done = give_back_room(); !done)
      return done.error();
  return lost;
}

bool Outbox::is_room_short() const {
  struct statvfs disk {};
  return limits_.room > 0 && bytes_ > 0 && ::statvfs(path_.c_str(), &disk) == 0 &&
         disk.f_bavail * disk.f_frsize < limits_.room;
}

// A little at a time, for the log takes room meanwhile.
Result<void> Outbox::give_back_room() {
  constexpr std::int64_t kMostSteps = 64;
  for (std::int64_t step = 0; step < kMostSteps; ++step) {
    const auto free_pages = database_.value("PRAGMA freelist_count");
    if (!free_pages)
      return free_pages.error();
    if (*free_pages == 0)
      return {};
    if (auto done = checkpoint(); !done)
      return done.error();
  }
  return {};
}

Result<void> Outbox::checkpoint() {
  if (auto done = database_.execute("PRAGMA incremental_vacuum(512)"); !done)
    return done.error();
  const int code = sqlite3_wal_checkpoint_v2(database_.handle(), nullptr, SQLITE_CHECKPOINT_PASSIVE,
                                             nullptr, nullptr);
  if (code != SQLITE_OK && code != SQLITE_BUSY)
    return queue::sqlite_error(database_.handle(), "checkpoint the outbox");
  return {};
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
  if (auto done = check_identity(reader.database_); !done)
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
    return row ? damaged("it has no name") : row.error();
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
