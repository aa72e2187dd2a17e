#include "queue/store/index_repair.h"

#include "base/file.h"
#include "queue/store/schema.h"
#include "queue/store/sql_names.h"
#include "queue/store/sqlite.h"

#include <cerrno>
#include <fcntl.h>
#include <span>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace postrider::queue {

namespace {

constexpr std::int64_t kMostRewritten = 65536;  // pages: then what the old indexes took stays taken

// since: the version that brought what it reads. A database is repaired before it is migrated.
struct IndexRead {
  int since;
  const char* sql;
};

// Every column that is in an index.
constexpr IndexRead kReadAll[] = {
    {1, "SELECT max(deadline) FROM message NOT INDEXED"},
    {2, "SELECT max(damaged) FROM message NOT INDEXED"},
    {1, "SELECT max(domain), max(next_attempt), max(state) FROM recipient NOT INDEXED"},
    {5, "SELECT max(lane) FROM recipient NOT INDEXED"},
    {1, "SELECT max(name), max(site), max(next_due) FROM domain NOT INDEXED"},
    {1, "SELECT max(name), max(wake) FROM site NOT INDEXED"}};

// Each index from its first entry to its last.
constexpr IndexRead kReadIndexes[] = {
    {1, "SELECT count(*) FROM message INDEXED BY message_deadline"},
    {2, "SELECT count(*) FROM message INDEXED BY message_damaged WHERE damaged = 1"},
    {1, "SELECT count(*) FROM recipient INDEXED BY recipient_due WHERE state < {ended}"},
    {5, "SELECT count(*) FROM recipient INDEXED BY recipient_lane WHERE state < {ended}"},
    {1, "SELECT count(*) FROM domain INDEXED BY domain_due"},
    {1, "SELECT count(*) FROM domain INDEXED BY sqlite_autoindex_domain_1"},
    {1, "SELECT count(*) FROM site INDEXED BY site_wake"},
    {1, "SELECT count(*) FROM site INDEXED BY sqlite_autoindex_site_1"}};

Result<void> read_each(Database& database, std::span<const IndexRead> reads) {
  const auto version = database.value("PRAGMA user_version");
  if (!version)
    return version.error();
  for (const auto& read : reads)
    if (read.since <= *version)
      if (auto done = database.text(named_sql(read.sql).c_str()); !done)
        return done.error();
  return {};
}

Result<Database> open_alone(const std::string& path, const char* vfs) {
  auto database = Database::open(path, Database::Mode::writer, vfs);
  if (!database)
    return database.error();
  if (auto done = configure_writer(*database); !done)
    return done.error();
  return database;
}

// So that what is written into the file itself counts.
Result<void> empty_log(Database& database, const std::string& path) {
  if (auto done = database.checkpoint(Checkpoint::truncate); !done)
    return done.error().during("empty the log");
  struct stat about {};
  if (::stat((path + "-wal").c_str(), &about) == 0 && about.st_size != 0)
    return Error(Errc::storage, "empty the log: it is in use");
  return {};
}

Result<bool> can_be_read(const std::string& path, const char* vfs) {
  auto database = open_alone(path, vfs);
  if (!database)
    return database.error();
  if (auto done = read_each(*database, kReadIndexes); !done)
    return is_damage(done.error()) ? Result<bool>(false) : done.error();
  return true;
}

Result<std::vector<std::int64_t>> roots_of_indexes(Database& database) {
  auto statement =
      database.prepare("SELECT rootpage FROM sqlite_schema WHERE type = 'index' AND rootpage > 1");
  if (!statement)
    return statement.error();
  return Query(*statement).rows([](const Query& row) { return row.integer(0); });
}

// https://www.sqlite.org/fileformat2.html#b_tree_pages
Result<void> write_empty_pages(const std::string& path, const std::vector<std::int64_t>& roots,
                               std::int64_t page_size) {
  auto file = open_file(path, O_RDWR | O_NOFOLLOW);
  if (!file)
    return file.error();
  std::string page(static_cast<std::size_t>(page_size), '\0');
  page[0] = 10;  // a leaf of an index, without entries
  page[5] = static_cast<char>(page_size >> 8U & 0xff);
  page[6] = static_cast<char>(page_size & 0xff);
  for (const auto root : roots) {
    const auto at = (root - 1) * page_size;
    if (::pwrite(file->get(), page.data(), page.size(), at) != static_cast<ssize_t>(page.size()))
      return system_error("write " + path);
  }
  return sync_file(*file);
}

Result<void> set_mark(Database& database, const char* sql) {
  auto statement = database.prepare(sql);
  if (!statement)
    return statement.error();
  Query query(*statement);
  query.bind_text(kReindexMark);
  return query.run();
}

Result<void> empty_indexes(const std::string& path, const char* vfs) {
  auto database = open_alone(path, vfs);
  if (!database)
    return database.error();
  if (auto done = read_each(*database, kReadAll); !done)
    return done.error().during("read the tables");
  auto roots = roots_of_indexes(*database);
  const auto page_size = database->value("PRAGMA page_size");
  const auto pages = database->value("PRAGMA page_count");
  if (!roots || !page_size || !pages)
    return !roots ? roots.error() : (page_size ? pages : page_size).error();
  for (const auto root : *roots)
    if (root > *pages)
      return Error(Errc::corrupt, "an index stands beyond the end of the file");
  if (auto done = set_mark(*database, "INSERT OR REPLACE INTO meta(key, value) VALUES(?, 1)");
      !done)
    return done.error();
  if (auto done = empty_log(*database, path); !done)
    return done.error();
  database->close();
  return write_empty_pages(path, *roots, *page_size);
}

}  // namespace

Result<bool> rebuild_indexes(const std::string& path, const char* vfs, Repair when) {
  if (when == Repair::if_unreadable) {
    auto readable = can_be_read(path, vfs);
    if (!readable || *readable)
      return readable ? Result<bool>(false) : readable.error();
  }
  if (auto done = empty_indexes(path, vfs); !done)
    return done.error();
  auto database = open_alone(path, vfs);
  if (!database)
    return database.error();
  if (auto done = database->execute("REINDEX"); !done)
    return done.error().during("rebuild the indexes");
  if (auto done = set_mark(*database, "DELETE FROM meta WHERE key = ?"); !done)
    return done.error();
  // The pages of the old ones belong to nobody now.
  const auto pages = database->value("PRAGMA page_count");
  if (pages && *pages <= kMostRewritten && database->execute("PRAGMA temp_store=FILE"))
    (void)database->execute("VACUUM");
  return true;
}

}  // namespace postrider::queue
