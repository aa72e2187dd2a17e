// A damaged database, read page by page without SQLite, which gives up at the first page that is
// not what it must be. Format: https://www.sqlite.org/fileformat2.html. Nothing is written, and
// every octet counts as hostile: what does not parse is left out.
#pragma once

#include "base/file.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace postrider::queue {

// A column of a row. Floating point and what does not parse is null.
struct Column {
  enum class Kind : std::uint8_t { null, integer, text, blob } kind = Kind::null;
  std::int64_t integer = 0;
  std::string_view bytes;  // of text and blob; cut where the row was cut
};

// nullopt: the bytes are not a row. A row whose end is missing has its later columns cut.
std::optional<std::vector<Column>> parse_row(std::string_view payload);

class PageFile {
 public:
  // With what the log (path + "-wal") adds. Fails only if the file itself cannot be read.
  static Result<PageFile> open(const std::string& path);

  // Where a row stands: for payload().
  struct Place {
    std::uint32_t page = 0;  // beyond the last: a page of the log that is not valid
    std::uint16_t cell = 0;
  };
  struct Cell {
    Place place;
    bool is_table = false;  // else an entry of an index, or of a table without rowid
    std::int64_t rowid = 0;
    std::string_view local;  // what stands on the page itself of the payload
  };
  // Every row of every page that is in use, whether or not the way to it is whole.
  void for_each_cell(const std::function<void(const Cell&)>& visit);
  // The whole payload, as far as it is there.
  std::string payload(Place place);

  std::uint32_t pages() const { return pages_; }
  std::uint32_t unreadable() const { return unreadable_; }  // in use, but no page of a database
  // There, and the system cannot read it; or gone, where the file was cut off.
  std::uint32_t refused() const { return refused_; }

 private:
  struct Found {
    Cell cell;
    std::uint64_t size = 0;
    std::uint32_t overflow = 0;
  };
  void read_log(const std::string& path);
  bool read_page(std::uint32_t number, std::string& page) const;
  bool is_in_use(std::uint32_t number, std::string_view page);
  std::uint32_t map_page_of(std::uint32_t number) const;
  bool load_map(std::uint32_t number);
  void read_free_list();
  std::optional<Found> find_cell(std::uint32_t number, std::string_view page,
                                 std::uint16_t cell) const;

  FileDescriptor file_, log_;
  std::uint32_t page_size_ = 0;
  std::uint32_t pages_ = 0;
  std::uint32_t in_file_ = 0;
  std::uint32_t unreadable_ = 0;
  std::uint32_t refused_ = 0;
  std::unordered_map<std::uint32_t, std::int64_t> in_log_;  // page to offset
  std::vector<std::int64_t> doubtful_;                      // offsets of pages of bad frames
  std::unordered_set<std::uint32_t> free_;
  bool knows_free_ = false;
  std::string map_;  // the pointer map that was read last
  std::uint32_t map_number_ = 0;
  bool map_is_good_ = false;
};

}  // namespace postrider::queue
