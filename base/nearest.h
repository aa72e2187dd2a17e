// "did you mean": the known word that is nearest to a mistyped one.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace postrider {

// Edits (insert, delete, replace, swap of neighbours) that make one text the other.
std::size_t edit_distance(std::string_view a, std::string_view b);

// The one of `known` that `word` was probably meant to be, case ignored: at most a quarter of its
// letters and one differ. Empty if none is that near, or the word is longer than 64 octets.
std::string nearest(std::string_view word, const std::vector<std::string>& known);

}  // namespace postrider
