#include "queue/store/page_file.h"

#include "base/regular_file.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace postrider::queue {

namespace {

constexpr std::uint32_t kUsualPage = 4096;  // queue/store/schema.cc
constexpr std::size_t kFileHeader = 100;
constexpr std::size_t kLogHeader = 32, kFrameHeader = 24;
constexpr std::uint32_t kLogMagic = 0x377f0682;  // | 1: checksums over big-endian words
constexpr std::int64_t kPendingByte = 0x40000000;
constexpr std::uint64_t kMostPayload = 1U << 30U;
constexpr std::size_t kMostColumns = 64;
// The first octet of a page of a tree.
constexpr unsigned char kIndexInterior = 2, kTableInterior = 5, kIndexLeaf = 10, kTableLeaf = 13;
// Pointer map entries.
constexpr unsigned char kRoot = 1, kOverflowFirst = 3, kOverflow = 4, kTree = 5;
constexpr std::size_t kMapEntry = 5;

unsigned char octet(std::string_view bytes, std::size_t at) {
  return at < bytes.size() ? static_cast<unsigned char>(bytes[at]) : 0;
}

std::uint32_t number_of(std::string_view bytes, std::size_t at, std::size_t octets) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < octets; ++i)
    value = value << 8U | octet(bytes, at + i);
  return value;
}

std::uint32_t little(std::string_view bytes, std::size_t at) {
  std::uint32_t value = 0;
  for (std::size_t i = 4; i-- > 0;)
    value = value << 8U | octet(bytes, at + i);
  return value;
}

// SQLite's numbers: seven bits an octet, the highest first, eight in the ninth. False: cut off.
bool take_varint(std::string_view bytes, std::size_t& at, std::uint64_t& value) {
  value = 0;
  for (int i = 0; i < 9; ++i) {
    if (at >= bytes.size())
      return false;
    const auto next = octet(bytes, at++);
    if (i == 8) {
      value = value << 8U | next;
      return true;
    }
    value = value << 7U | (next & 0x7fU);
    if (next < 0x80)
      return true;
  }
  return true;
}

bool read_at(const FileDescriptor& file, std::int64_t offset, std::string& bytes) {
  for (std::size_t at = 0; at < bytes.size();) {
    const auto got = ::pread(file.get(), bytes.data() + at, bytes.size() - at,
                             offset + static_cast<std::int64_t>(at));
    if (got < 0 && errno == EINTR)
      continue;
    if (got <= 0)  // a sector that cannot be read is a damaged page
      return false;
    at += static_cast<std::size_t>(got);
  }
  return true;
}

bool is_page_size(std::uint32_t size) {
  return std::has_single_bit(size) && size >= 512 && size <= 65536;
}

bool is_tree_page(unsigned char type) {
  return type == kIndexInterior || type == kTableInterior || type == kIndexLeaf ||
         type == kTableLeaf;
}

struct LogSum {
  bool big = false;
  std::uint32_t first = 0, second = 0;
  void feed(std::string_view bytes) {
    for (std::size_t at = 0; at + 8 <= bytes.size(); at += 8) {
      first += (big ? number_of(bytes, at, 4) : little(bytes, at)) + second;
      second += (big ? number_of(bytes, at + 4, 4) : little(bytes, at + 4)) + first;
    }
  }
};

// One column; false: of a type that does not exist.
bool take_column(std::uint64_t type, std::string_view payload, std::size_t& at, Column& column) {
  constexpr std::size_t kSizes[] = {0, 1, 2, 3, 4, 6, 8, 8, 0, 0};
  if (type == 10 || type == 11)
    return false;
  const std::uint64_t size = type >= 12 ? (type - 12) / 2 : kSizes[type];
  if (size > kMostPayload)
    return false;
  const auto from = std::min(at, payload.size());
  const auto there = payload.substr(from, size);
  at += size;
  if (type >= 12) {
    column.kind = type % 2 == 0 ? Column::Kind::blob : Column::Kind::text;
    column.bytes = there;
  } else if (type == 8 || type == 9) {
    column.kind = Column::Kind::integer;
    column.integer = type == 9 ? 1 : 0;
  } else if (type != 0 && type != 7 && there.size() == size) {
    column.kind = Column::Kind::integer;
    std::uint64_t value = (octet(there, 0) & 0x80U) != 0 ? ~std::uint64_t{0} : 0;
    for (std::size_t i = 0; i < size; ++i)
      value = value << 8U | octet(there, i);
    column.integer = static_cast<std::int64_t>(value);
  }
  return true;
}

}  // namespace

std::optional<std::vector<Column>> parse_row(std::string_view payload) {
  std::size_t at = 0;
  std::uint64_t header = 0;
  if (!take_varint(payload, at, header) || header > payload.size() || header < at)
    return std::nullopt;
  std::vector<Column> columns;
  std::size_t body = header;
  while (at < header) {
    std::uint64_t type = 0;
    Column column;
    if (columns.size() == kMostColumns || !take_varint(payload.substr(0, header), at, type) ||
        !take_column(type, payload, body, column))
      return std::nullopt;
    columns.push_back(column);
  }
  return columns;
}

Result<PageFile> PageFile::open(const std::string& path) {
  PageFile pages;
  auto file = open_regular_file(path, O_RDONLY);
  if (!file)
    return file.error();
  struct stat about {};
  if (::fstat(file->get(), &about) != 0)
    return system_error("look at " + path);
  pages.file_ = *std::move(file);
  std::string header(kFileHeader, '\0');
  const bool has_header = read_at(pages.file_, 0, header) && header.starts_with("SQLite format 3");
  const auto said = number_of(header, 16, 2) == 1 ? 65536U : number_of(header, 16, 2);
  pages.page_size_ = has_header && is_page_size(said) ? said : kUsualPage;
  pages.pages_ = static_cast<std::uint32_t>(std::min<std::int64_t>(
      (about.st_size + pages.page_size_ - 1) / pages.page_size_, UINT32_MAX - 1));
  pages.in_file_ = static_cast<std::uint32_t>(
      std::min<std::int64_t>(about.st_size / pages.page_size_, UINT32_MAX - 1));
  pages.read_log(path + "-wal");
  // The size is right if both counters of changes are the same (fileformat2, 1.3.7, 1.3.8).
  if (const auto in_all = static_cast<std::uint32_t>(number_of(header, 28, 4));
      has_header && in_all > pages.pages_ && number_of(header, 24, 4) == number_of(header, 92, 4))
    pages.refused_ = in_all - pages.pages_;  // the file was cut off
  pages.read_free_list();
  return pages;
}

// Each frame's checksum goes on from that of the frame before, so those behind a damaged one can
// still be told from rubbish. What follows the last end of a transaction was promised to nobody.
void PageFile::read_log(const std::string& path) {
  auto file = open_regular_file(path, O_RDONLY);
  std::string header(kLogHeader, '\0');
  if (!file || !read_at(*file, 0, header))
    return;
  log_ = *std::move(file);
  const auto magic = number_of(header, 0, 4);
  const auto size = number_of(header, 8, 4);
  if ((magic & ~1U) == kLogMagic && is_page_size(size))
    page_size_ = size;
  LogSum sum{(magic & 1U) != 0};
  sum.feed(std::string_view(header).substr(0, 24));
  std::string frame(kFrameHeader + page_size_, '\0');
  std::vector<std::pair<std::uint32_t, std::int64_t>> open;  // of the transaction being read
  std::vector<std::int64_t> doubtful;
  const std::string_view bytes(frame);
  for (std::int64_t at = kLogHeader; read_at(log_, at, frame);
       at += static_cast<std::int64_t>(frame.size())) {
    if (bytes.substr(8, 8) != std::string_view(header).substr(16, 8))
      continue;  // of an earlier round through the file
    sum.feed(bytes.substr(0, 8));
    sum.feed(bytes.substr(kFrameHeader));
    const bool is_good =
        sum.first == number_of(bytes, 16, 4) && sum.second == number_of(bytes, 20, 4);
    sum.first = number_of(bytes, 16, 4);
    sum.second = number_of(bytes, 20, 4);
    const auto offset = at + static_cast<std::int64_t>(kFrameHeader);
    if (!is_good) {
      doubtful.push_back(offset);
      continue;
    }
    open.emplace_back(number_of(bytes, 0, 4), offset);
    if (const auto whole = number_of(bytes, 4, 4); whole != 0) {
      for (const auto& [page, place] : open)
        in_log_[page] = place;
      doubtful_.insert(doubtful_.end(), doubtful.begin(), doubtful.end());
      open.clear();
      doubtful.clear();
      pages_ = whole;
    }
  }
}

bool PageFile::read_page(std::uint32_t number, std::string& page) const {
  page.assign(page_size_, '\0');
  if (number == 0)
    return false;
  if (number > pages_)
    return number - pages_ <= doubtful_.size() &&
           read_at(log_, doubtful_[number - pages_ - 1], page);
  if (const auto at = in_log_.find(number); at != in_log_.end())
    return read_at(log_, at->second, page);
  return read_at(file_, static_cast<std::int64_t>(number - 1) * page_size_, page);
}

std::uint32_t PageFile::map_page_of(std::uint32_t number) const {
  const std::uint32_t each = page_size_ / kMapEntry + 1;
  auto map = (number - 2) / each * each + 2;
  if (map == kPendingByte / page_size_ + 1)
    ++map;
  return map;
}

// False if any of its entries is none: then nothing in it counts.
bool PageFile::load_map(std::uint32_t number) {
  if (map_number_ == number)
    return map_is_good_;
  map_number_ = number;
  map_is_good_ = read_page(number, map_);
  for (std::uint32_t i = 0; map_is_good_ && i < page_size_ / kMapEntry; ++i) {
    const auto page = number + 1 + i;
    const auto type = octet(map_, i * kMapEntry);
    const bool is_there = page <= pages_ && page != kPendingByte / page_size_ + 1;
    map_is_good_ = !is_there || (type >= kRoot && type <= kTree);
  }
  return map_is_good_;
}

void PageFile::read_free_list() {
  std::string page;
  if (!read_page(1, page) || !page.starts_with("SQLite format 3"))
    return;
  auto trunk = number_of(page, 32, 4);
  const auto count = number_of(page, 36, 4);
  while (trunk != 0) {
    if (trunk > pages_ || !free_.insert(trunk).second || !read_page(trunk, page))
      return;
    const auto leaves = number_of(page, 4, 4);
    if (leaves > page_size_ / 4 - 2)
      return;
    for (std::uint32_t i = 0; i < leaves; ++i)
      free_.insert(number_of(page, 8 + 4 * std::size_t{i}, 4));
    trunk = number_of(page, 0, 4);
  }
  knows_free_ = free_.size() == count;
}

// A page that was set free still shows its rows: mail that is gone must not come back. Where
// neither the pointer map nor the list of free pages can tell, it counts as used.
bool PageFile::is_in_use(std::uint32_t number, std::string_view page) {
  if (number == 1 || number > pages_)
    return true;
  const auto map = map_page_of(number);
  if (number == map || number == kPendingByte / page_size_ + 1)
    return false;
  if (!load_map(map))
    return !knows_free_ || !free_.contains(number);
  switch (octet(map_, (number - map - 1) * kMapEntry)) {
    case kRoot:
    case kTree:
      return true;
    case kOverflowFirst:
    case kOverflow:  // which begins with the number of a page, so it never looks like a tree's
      return is_tree_page(octet(page, 0)) && !free_.contains(number);
    default:
      return false;
  }
}

std::optional<PageFile::Found> PageFile::find_cell(std::uint32_t number, std::string_view page,
                                                   std::uint16_t cell) const {
  const std::size_t start = number == 1 ? kFileHeader : 0;
  const auto type = octet(page, start);
  const std::size_t pointers = start + (type == kIndexInterior ? 12 : 8);
  const auto count = number_of(page, start + 3, 2);
  if (cell >= count || pointers + 2 * std::size_t{count} > page.size())
    return std::nullopt;
  std::size_t at = number_of(page, pointers + 2 * std::size_t{cell}, 2);
  if (at < pointers + 2 * std::size_t{count})
    return std::nullopt;
  at += type == kIndexInterior ? 4 : 0;
  Found found;
  std::uint64_t rowid = 0;
  if (!take_varint(page, at, found.size) || found.size > kMostPayload ||
      (type == kTableLeaf && !take_varint(page, at, rowid)))
    return std::nullopt;
  const std::uint64_t usable = page_size_;
  const std::uint64_t most = type == kTableLeaf ? usable - 35 : (usable - 12) * 64 / 255 - 23;
  const std::uint64_t least = (usable - 12) * 32 / 255 - 23;
  std::uint64_t local = found.size;
  if (local > most) {
    const auto rest = least + (found.size - least) % (usable - 4);
    local = rest <= most ? rest : least;
    found.overflow = number_of(page, at + local, 4);
    if (at + local + 4 > page.size())
      return std::nullopt;
  }
  if (at + local > page.size())
    return std::nullopt;
  found.cell = {
      {number, cell}, type == kTableLeaf, static_cast<std::int64_t>(rowid), page.substr(at, local)};
  return found;
}

void PageFile::for_each_cell(const std::function<void(const Cell&)>& visit) {
  std::string page;
  const auto all = pages_ + static_cast<std::uint32_t>(doubtful_.size());
  for (std::uint32_t number = 1; number <= all; ++number) {
    const bool is_read = read_page(number, page);
    refused_ += !is_read && number <= in_file_ ? 1 : 0;
    if (!is_in_use(number, page))
      continue;
    const auto type = octet(page, number == 1 ? kFileHeader : 0);
    if (!is_read || !is_tree_page(type)) {
      unreadable_ += number == 1 || map_is_good_ ? 1 : 0;
      continue;
    }
    if (type == kTableInterior)
      continue;
    const auto count = number_of(page, (number == 1 ? kFileHeader : 0) + 3, 2);
    for (std::uint32_t cell = 0; cell < count && cell < page_size_ / 2; ++cell)
      if (const auto found = find_cell(number, page, static_cast<std::uint16_t>(cell)))
        visit(found->cell);
  }
}

std::string PageFile::payload(Place place) {
  std::string page;
  if (!read_page(place.page, page))
    return {};
  const auto found = find_cell(place.page, page, place.cell);
  if (!found)
    return {};
  std::string payload(found->cell.local);
  const auto most = page_size_ - 4;
  auto next = found->overflow;
  std::string more;
  for (std::uint32_t steps = 0; payload.size() < found->size && steps <= pages_; ++steps) {
    if (next == 0 || next > pages_ || !read_page(next, more))
      break;
    payload.append(more, 4, std::min<std::uint64_t>(most, found->size - payload.size()));
    next = number_of(more, 0, 4);
  }
  return payload;
}

}  // namespace postrider::queue
