#include "queue/store/free_list.h"

#include <algorithm>
#include <vector>

namespace postrider::queue {

namespace {

// https://www.sqlite.org/fileformat2.html, "The Freelist": the first of a list of trunk pages, each
// with the number of the next, a count and the numbers of so many leaves.
constexpr std::int64_t kPage = 4096;
constexpr std::int64_t kFirstTrunkAt = 32, kCountAt = 36;
constexpr std::uint32_t kMostLeaves = kPage / 4 - 2;
constexpr std::uint32_t kLockPage = 0x40000000 / kPage + 1;  // used by nothing
// New mail takes pages from the front, those near to where it grows first: some that stay.
constexpr std::uint32_t kSpare = 512;

using Pages = std::vector<std::uint32_t>;

std::uint32_t number_at(const std::string& bytes, std::size_t at) {
  const auto octet = [&](std::size_t i) { return static_cast<unsigned char>(bytes[at + i]); };
  return static_cast<std::uint32_t>(octet(0)) << 24U | static_cast<std::uint32_t>(octet(1)) << 16U |
         static_cast<std::uint32_t>(octet(2)) << 8U | octet(3);
}

void put_number(std::string& bytes, std::size_t at, std::uint32_t number) {
  for (std::size_t i = 0; i < 4; ++i)
    bytes[at + i] = static_cast<char>(number >> (24 - 8 * i) & 0xffU);
}

Error damaged(const char* what) {
  return Error(Errc::corrupt, std::string("read the free pages: ") + what);
}

// A page with the parents of those behind it stands before so many.
bool is_map(std::uint32_t page) {
  return page >= 2 && (page - 2) % (kPage / 5 + 1) == 0;
}

class FreeList {
 public:
  FreeList(sqlite3_file& file, std::uint32_t pages)
      : file_(file), is_free_(pages + 1), is_trunk_(pages + 1) {}

  Result<void> read();
  Result<void> write();

 private:
  Result<std::string> read_page(std::uint32_t page);
  Result<void> write_at(std::int64_t at, const std::string& bytes);
  Result<void> sync();
  Result<void> add(std::uint32_t page);
  Pages in_order() const;
  Result<std::vector<Pages>> in_trunks(const Pages& order) const;

  sqlite3_file& file_;
  std::vector<bool> is_free_, is_trunk_;
  std::uint32_t count_ = 0;
};

Result<std::string> FreeList::read_page(std::uint32_t page) {
  std::string bytes(kPage, '\0');
  if (file_.pMethods->xRead(&file_, bytes.data(), kPage, (page - 1) * kPage) != SQLITE_OK)
    return Error(Errc::storage, "read the free pages");
  return bytes;
}

Result<void> FreeList::write_at(std::int64_t at, const std::string& bytes) {
  if (file_.pMethods->xWrite(&file_, bytes.data(), static_cast<int>(bytes.size()), at) != SQLITE_OK)
    return Error(Errc::storage, "write the free pages");
  return {};
}

Result<void> FreeList::sync() {
  if (file_.pMethods->xSync(&file_, SQLITE_SYNC_NORMAL) != SQLITE_OK)
    return Error(Errc::storage, "sync the free pages");
  return {};
}

Result<void> FreeList::add(std::uint32_t page) {
  if (page < 2 || page >= is_free_.size() || is_free_[page])
    return damaged("one is there twice, or is none");
  is_free_[page] = true;
  ++count_;
  return {};
}

Result<void> FreeList::read() {
  const auto first = read_page(1);
  if (!first)
    return first.error();
  for (auto trunk = number_at(*first, kFirstTrunkAt); trunk != 0;) {
    if (auto done = add(trunk); !done)
      return done.error();
    is_trunk_[trunk] = true;
    const auto bytes = read_page(trunk);
    if (!bytes)
      return bytes.error();
    const auto leaves = number_at(*bytes, 4);
    if (leaves > kMostLeaves)
      return damaged("a list is too long");
    for (std::uint32_t i = 0; i < leaves; ++i)
      if (auto done = add(number_at(*bytes, 8 + i * 4)); !done)
        return done.error();
    trunk = number_at(*bytes, 0);
  }
  if (count_ != number_at(*first, kCountAt))
    return damaged("they are not as many as they must be");
  return {};
}

// From the last page of the file on, each is either free, or moves to one that stays: so far that
// all free ones are used up. A few that stay come first.
Pages FreeList::in_order() const {
  Pages order;
  order.reserve(count_);
  std::uint32_t low = 2;
  auto high = static_cast<std::uint32_t>(is_free_.size() - 1);
  const auto take_low = [&] {
    while (low < high && !is_free_[low])
      ++low;
    if (low < high)
      order.push_back(low++);
  };
  for (std::uint32_t i = 0; i < kSpare; ++i)
    take_low();
  for (; high >= low; --high)
    if (is_free_[high])
      order.push_back(high);
    else if (!is_map(high) && high != kLockPage)
      take_low();
  return order;
}

// The last leaf of the old list in each piece holds the piece: none of the old list's own pages.
Result<std::vector<Pages>> FreeList::in_trunks(const Pages& order) const {
  constexpr std::size_t kPiece = kMostLeaves - 32;  // room for what becomes free
  std::vector<Pages> trunks;
  for (std::size_t at = 0; at < order.size(); at += kPiece) {
    const auto from = order.begin() + static_cast<std::ptrdiff_t>(at);
    Pages piece(from, from + static_cast<std::ptrdiff_t>(std::min(kPiece, order.size() - at)));
    const auto leaf =
        std::find_if(piece.rbegin(), piece.rend(), [&](auto page) { return !is_trunk_[page]; });
    if (leaf == piece.rend()) {
      if (trunks.empty() || trunks.back().size() + piece.size() > kMostLeaves + 1)
        return damaged("too many lists");
      trunks.back().insert(trunks.back().end(), piece.begin(), piece.end());
      continue;
    }
    std::rotate(leaf, leaf + 1, piece.rend());  // to the front, in the order of the rest
    trunks.push_back(std::move(piece));
  }
  return trunks;
}

Result<void> FreeList::write() {
  auto trunks = in_trunks(in_order());
  if (!trunks)
    return trunks.error();
  for (std::size_t i = 0; i < trunks->size(); ++i) {
    const auto& pages = (*trunks)[i];
    std::string bytes(kPage, '\0');
    put_number(bytes, 0, i + 1 < trunks->size() ? (*trunks)[i + 1].front() : 0);
    put_number(bytes, 4, static_cast<std::uint32_t>(pages.size() - 1));
    for (std::size_t leaf = 1; leaf < pages.size(); ++leaf)
      put_number(bytes, 4 + leaf * 4, pages[leaf]);
    if (auto done = write_at((pages.front() - 1) * kPage, bytes); !done)
      return done.error();
  }
  if (trunks->empty())
    return {};
  if (auto done = sync(); !done)
    return done.error();
  std::string first(4, '\0');
  put_number(first, 0, trunks->front().front());
  if (auto done = write_at(kFirstTrunkAt, first); !done)
    return done.error();
  return sync();
}

Result<sqlite3_file*> file_of(Database& database, int which) {
  sqlite3_file* file = nullptr;
  if (sqlite3_file_control(database.handle(), "main", which, &file) != SQLITE_OK ||
      file == nullptr || file->pMethods == nullptr)
    return Error(Errc::storage, "find the file of the queue");
  return file;
}

// Now the file says everything, also after a power cut: the log that was emptied stays so.
Result<bool> empty_log(Database& database) {
  const int code = sqlite3_wal_checkpoint_v2(database.handle(), nullptr, SQLITE_CHECKPOINT_TRUNCATE,
                                             nullptr, nullptr);
  if (code == SQLITE_BUSY)
    return false;
  if (code != SQLITE_OK)
    return sqlite_error(database.handle(), "empty the log");
  auto log = file_of(database, SQLITE_FCNTL_JOURNAL_POINTER);
  if (!log)
    return log.error();
  sqlite3_int64 size = 0;
  if ((*log)->pMethods->xFileSize(*log, &size) != SQLITE_OK || size != 0)
    return false;
  if ((*log)->pMethods->xSync(*log, SQLITE_SYNC_NORMAL) != SQLITE_OK)
    return Error(Errc::storage, "sync the log");
  return true;
}

// Whoever has read the first page before reads it again, for the log says that something changed.
Result<void> tell_others(const std::string& path, const char* vfs) {
  auto database = Database::open(path, Database::Mode::writer, vfs);
  if (!database)
    return database.error();
  return database->execute(
      "INSERT INTO meta(key, value) VALUES('sorted', 1)"
      " ON CONFLICT(key) DO UPDATE SET value = value + 1");
}

}  // namespace

Result<bool> sort_free_list(Database& database, const std::string& path, const char* vfs) {
  const auto page_size = database.value("PRAGMA page_size");
  const auto pages = database.value("PRAGMA page_count");
  if (!page_size || !pages)
    return (page_size ? pages : page_size).error();
  if (*page_size != kPage)
    return Error(Errc::unsupported, "sort the free pages: of another size");
  if (auto emptied = empty_log(database); !emptied || !*emptied)
    return emptied;
  auto file = file_of(database, SQLITE_FCNTL_FILE_POINTER);
  if (!file)
    return file.error();
  FreeList list(**file, static_cast<std::uint32_t>(*pages));
  if (auto done = list.read(); !done)
    return done.error();
  if (auto done = list.write(); !done)
    return done.error();
  if (auto done = tell_others(path, vfs); !done)
    return done.error();
  return true;
}

}  // namespace postrider::queue
