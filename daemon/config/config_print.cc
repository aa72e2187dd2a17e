#include "base/list_keys.h"
#include "base/text.h"
#include "daemon/config/config_file.h"

#include <algorithm>

namespace postrider::daemon {

namespace {

constexpr std::size_t kCommentColumn = 48;
constexpr std::size_t kMostColumns = 80;

// Lines of comment, as wide as they may be, but for a word that is wider.
void print_comment(std::string_view comment, std::string& out) {
  std::size_t column = 0;
  for (const auto word : split(comment, ' ')) {
    const bool fits = column > 0 && column + 1 + word.size() <= kMostColumns;
    if (!fits)
      out.append(column > 0 ? "\n#" : "#");
    column = (fits ? column : 1) + 1 + word.size();
    out.append(" ").append(word);
  }
  out.append("\n");
}

void print_option(const Loaded& loaded, const Option& option, std::size_t index, std::string& out) {
  const auto value = without_list_keys(value_text(option, *loaded.config, index));
  const auto origin = loaded.origins.find(origin_key(option, index));
  const bool given = origin != loaded.origins.end();
  // Without a value of its own the key stays open, and a comment says what that means.
  const bool open = value.empty() || (!given && value == "\"\"" && option.unset != nullptr);
  std::string line(open ? "# " : "");
  line.append(name_in_section(option)).append(" = ").append(open ? "" : value);
  std::string comment;
  if (given)
    comment.append(loaded.file).append(":").append(std::to_string(origin->second));
  else
    comment.append("default")
        .append(option.unset != nullptr ? ": " : "")
        .append(option.unset != nullptr ? option.unset : "");
  const auto column = std::max(kCommentColumn, line.size() + 1);
  if (column + 2 + comment.size() <= kMostColumns) {
    line.append(column - line.size(), ' ').append("# ").append(comment);
  } else {
    print_comment(comment, out);  // above it
    line.erase(line.find_last_not_of(' ') + 1);
  }
  out.append(line).append("\n");
}

}  // namespace

std::string print_config(const Loaded& loaded) {
  std::string out;
  for (const auto& section : sections())
    for (std::size_t index = 0; index < section.count(*loaded.config); ++index) {
      if (*section.name != '\0')
        out.append(section.repeats ? "\n[[" : "\n[")
            .append(section.name)
            .append(section.repeats ? "]]\n" : "]\n");
      for (const auto& option : options())
        if (section_of(option) == section.name)
          print_option(loaded, option, index, out);
    }
  return out;
}

}  // namespace postrider::daemon
