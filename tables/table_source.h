// Inside of tables/: a file as it was read, and what its form makes of it.
#pragma once

#include "base/file.h"
#include "tables/table.h"

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace postrider::tables {

struct Source {
  std::string path;
  std::string text;
  uid_t owner = 0;
};

inline constexpr std::size_t kMostFile = 256U << 20U;
inline constexpr std::size_t kMostPatterns = 16U << 20U;  // octets of one table's, compiled

// Errc::refused for a file that everybody may write, or that is not a regular file.
Result<FileDescriptor> open_source(const std::string& path, uid_t& owner);
Result<Source> read_source(const std::string& path);
// "path:line: problem"
Error problem_at(const std::string& path, std::size_t line, const std::string& problem);
std::string folder_of(const std::string& path);

// Whether a file of which wrong lines are passed over is a table at all, by its lines. One that was
// overwritten with something else has few right ones, if any, and must not count as a table in
// which nothing is: rather no answer for now than "there is no such name" for every one.
class LineTally {
 public:
  enum class Line : std::uint8_t { entry, useless, wrong };  // useless: an entry that never matches
  void add(Line line) { ++counts_[static_cast<std::size_t>(line)]; }
  // Empty: it is a table. Comments alone are one.
  std::string problem() const;
  // Nobody writes that many entries by chance.
  bool is_sure() const { return count(Line::entry) > count(Line::wrong) + 10'000; }

 private:
  std::size_t count(Line line) const { return counts_[static_cast<std::size_t>(line)]; }
  std::array<std::size_t, 3> counts_{};
};

using Opened = Result<std::shared_ptr<const Table>>;
Opened read_lines(const Spec& spec, Source source, const Options& options);
Opened read_patterns(const Spec& spec, const Source& source, const Options& options);
Opened read_inline(const Spec& spec, const Options& options);
Opened open_cdb(const Spec& spec);
Opened open_sqlite(const Spec& spec);
Opened open_socketmap(const Spec& spec);
Result<void> check_socketmap(const Spec& spec);
Opened open_tcp(const Spec& spec);
Result<void> check_tcp(const Spec& spec);
Opened open_pgsql(const Spec& spec);
Opened open_ldap(const Spec& spec);

}  // namespace postrider::tables
