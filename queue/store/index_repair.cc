#include "queue/store/index_repair.h"

#include "base/file.h"
#include "queue/store/schema.h"
#include "queue/store/sql_names.h"
#include "queue/store/sqlite.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace postrider::queue {

namespace {

constexpr std::int64_t kMostRewritten = 65536;  // pages: then what the old indexes took stays taken

// Every column that is in an index.
constexpr const char* kReadAll[] = {
    "SELECT max(deadline) + max(damaged) FROM message NOT INDEXED",
    "SELECT max(domain), max(next_attempt), max(state) FROM recipient NOT INDEXED",
    "SELECT max(name), max(site), max(next_due) FROM domain NOT INDEXED",
    "SELECT max(name), max(wake) FROM site NOT INDEXED"};

// Each index from its first entry to its last.
constexpr const char* kReadIndexes[] = {
    "SELECT count(*) FROM message INDEXED BY message_deadline",
    "SELECT count(*) FROM message INDEXED BY message_damaged WHERE damaged = 1",
    "SELECT count(*) FROM recipient INDEXED BY recipient_due WHERE state < {ended}",
    "SELECT count(*) FROM domain INDEXED BY domain_due",
    "SELECT count(*) FROM domain INDEXED BY sqlite_autoindex_domain_1",
    "SELECT count(*) FROM site INDEXED BY site_wake",
    "SELECT count(*) FROM site INDEXED BY sqlite_autoindex_site_1"};

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
  for (const char* sql : kReadIndexes)
    if (auto read = database->text(named_sql(sql).c_str()); !read)
      return is_damage(read.error()) ? Result<bool>(false) : read.error();
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
  for (const char* sql : kReadAll)
    if (auto read = database->text(sql); !read)
      return read.error().during("read the tables");
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
