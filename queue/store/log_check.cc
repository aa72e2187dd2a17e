#include "queue/store/log_check.h"

#include "base/file.h"

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

}  // namespace

Result<LogCheck> check_log(const std::string& path) {
  LogCheck check;
  auto file = open_file(path, O_RDONLY | O_NOFOLLOW);
  if (!file)
    return file.error().code() == boost::system::errc::no_such_file_or_directory
               ? Result<LogCheck>(check)
               : file.error();
  std::string header(kHeader, '\0');
  auto read = read_whole(*file, header);
  if (!read || !*read)
    return read ? Result<LogCheck>(check) : read.error();
  const auto magic = word(header, 0);
  const auto page = word(header, 8);
  if ((magic & ~1U) != kMagic || !std::has_single_bit(page) || page < 512 || page > 65536)
    return check;
  Sum sum{(magic & 1U) != 0};
  sum.feed(std::string_view(header).substr(0, 24));
  bool is_valid = sum.first == word(header, 24) && sum.second == word(header, 28);
  std::string frame(kFrameHeader + page, '\0');
  for (;;) {
    read = read_whole(*file, frame);
    if (!read)
      return read.error();
    if (!*read)
      return check;
    const std::string_view bytes(frame);
    const bool is_ours = bytes.substr(8, 8) == std::string_view(header).substr(16, 8);
    if (is_valid) {
      sum.feed(bytes.substr(0, 8));
      sum.feed(bytes.substr(kFrameHeader));
      is_valid = is_ours && sum.first == word(bytes, 16) && sum.second == word(bytes, 20);
    }
    if (is_valid)
      ++check.valid_frames;
    else if (is_ours && word(bytes, 4) != 0)
      ++check.hidden_commits;
  }
}

}  // namespace postrider::queue
