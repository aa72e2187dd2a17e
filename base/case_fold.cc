#include "base/case_fold.h"

#include "base/text.h"

#include <stringprep.h>

namespace postrider {

namespace {

// The library searches by halves, and says nowhere how many there are.
std::size_t size_of(const Stringprep_table_element* table) {
  std::size_t size = 0;
  while (table[size].start != 0)
    ++size;
  return size;
}

}  // namespace

std::string folded_case(std::string_view text) {
  // One character becomes three at most.
  constexpr std::size_t kMostGrowth = 3;
  if (is_ascii(text) || !is_utf8(text) || text.find('\0') != std::string_view::npos)
    return ascii_lower(text);
  static const std::size_t size = size_of(stringprep_rfc3454_B_3);
  const Stringprep_profile folding[] = {
      {STRINGPREP_MAP_TABLE, Stringprep_profile_flags{}, stringprep_rfc3454_B_3, size},
      {Stringprep_profile_steps{}, Stringprep_profile_flags{}, nullptr, 0}};
  std::string room(text.size() * kMostGrowth + 1, '\0');
  text.copy(room.data(), text.size());
  if (stringprep(room.data(), room.size(), Stringprep_profile_flags{}, folding) != STRINGPREP_OK)
    return ascii_lower(text);
  room.resize(room.find('\0'));
  return room;
}

}  // namespace postrider
