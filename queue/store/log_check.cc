#include "queue/store/log_check.h"

#include "base/regular_file.h"

#include <bit>
#include <cerrno>
#include <fcntl.h>
#include <unistd.h>

namespace postrider::queue {

namespace {

// https://www.sqlite.org/fileformat2.html#the_write_ahead_log
constexpr std::size_t kHeader = 32, kFrameHeader = 24;
constexpr std::uint32_t kMagic = 0x377f0682;  // | 1: checksums over big-endian words

std::uint32_t word(std::string_view bytes, std::size_t at, bool big = true) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < 4; ++i)
    value |= static_cast<std::uint32_t>(static_cast<unsigned char>(bytes[at + i]))
             << (big ? 24 - 8 * i : 8 * i);
  return value;
}

struct Sum {
  bool big = false;
  std::uint32_t first = 0, second = 0;
  void feed(std::string_view bytes) {
    for (std::size_t at = 0; at + 8 <= bytes.size(); at += 8) {
      first += word(bytes, at, big) + second;
      second += word(bytes, at + 4, big) + first;
    }
  }
};

// False: the file ends before.
Result<bool> read_whole(const FileDescriptor& file, std::string& bytes) {
  for (std::size_t at = 0; at < bytes.size();) {
    const auto got = ::read(file.get(), bytes.data() + at, bytes.size() - at);
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      return system_error("read the log");
    if (got == 0)
      return false;
    at += static_cast<std::size_t>(got);
  }
  return true;
}

bool is_page_size_of_log(std::uint32_t size) {
  return std::has_single_bit(size) && size >= 512 && size <= 65536;
}

// By the database's own header, for a log whose header cannot be believed.
std::uint32_t page_size_of_database(const std::string& log) {
  constexpr std::size_t kSizeAt = 16;
  constexpr std::uint32_t kUsual = 4096;  // queue/store/schema.cc
  auto file =
      open_regular_file(log.substr(0, log.size() - std::string_view("-wal").size()), O_RDONLY);
  std::string begin(20, '\0');
  if (!file)
    return kUsual;
  const auto read = read_whole(*file, begin);
  const auto size = read && *read ? word(begin, kSizeAt) >> 16U : 0;
  return size == 1 ? 65536 : is_page_size_of_log(size) ? size : kUsual;
}

// The two words that each frame of one round through the log repeats. The first counts the rounds,
// the second is drawn again: what has one of them is of that round, the other is damaged.
struct Salts {
  std::uint32_t round = 0, drawn = 0;
  bool are_known() const { return round != 0 || drawn != 0; }
  bool are_of_round(const Salts& other) const {
    return round == other.round || drawn == other.drawn;
  }
  bool operator==(const Salts&) const = default;
};

Salts salts_at(std::string_view bytes, std::size_t at) {
  return {word(bytes, at), word(bytes, at + 4)};
}

}  // namespace

// A header that is not valid hides all frames. Then those of the round that the first of them is of
// count: a round begins at the begin of the file.
Result<LogCheck> check_log(const std::string& path) {
  LogCheck check;
  auto file = open_regular_file(path, O_RDONLY);
  if (!file)
    return file.error().code() == boost::system::errc::no_such_file_or_directory
               ? Result<LogCheck>(check)
               : file.error();
  std::string header(kHeader, '\0');
  auto read = read_whole(*file, header);
  if (!read || !*read)
    return read ? Result<LogCheck>(check) : read.error();
  const auto magic = word(header, 0);
  auto page = word(header, 8);
  Sum sum{(magic & 1U) != 0};
  sum.feed(std::string_view(header).substr(0, 24));
  bool is_valid = (magic & ~1U) == kMagic && is_page_size_of_log(page) &&
                  sum.first == word(header, 24) && sum.second == word(header, 28);
  auto ours = is_valid ? salts_at(header, 16) : Salts();
  check.has_bad_header = !is_valid;
  if (!is_valid)
    page = page_size_of_database(path);
  std::string frame(kFrameHeader + page, '\0');
  for (;;) {
    read = read_whole(*file, frame);
    if (!read)
      return read.error();
    if (!*read)
      return check;
    const std::string_view bytes(frame);
    const auto its = salts_at(bytes, 8);
    if (!ours.are_known())
      ours = its;
    if (is_valid) {
      sum.feed(bytes.substr(0, 8));
      sum.feed(bytes.substr(kFrameHeader));
      is_valid = its == ours && sum.first == word(bytes, 16) && sum.second == word(bytes, 20);
    }
    if (is_valid)
      ++check.valid_frames;
    else if (its.are_known() && its.are_of_round(ours) && word(bytes, 4) != 0)
      ++check.hidden_commits;
  }
}

}  // namespace postrider::queue
