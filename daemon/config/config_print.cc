#include "daemon/config/config_file.h"

namespace postrider::daemon {

namespace {

constexpr std::size_t kCommentColumn = 48;

void print_option(const Loaded& loaded, const Option& option, std::size_t index, std::string& out) {
  const auto value = value_text(option, *loaded.config, index);
  const auto origin = loaded.origins.find(origin_key(option, index));
  const bool given = origin != loaded.origins.end();
  // Without a value of its own the key stays open, and a comment says what that means.
  const bool open = value.empty() || (!given && value == "\"\"" && option.unset != nullptr);
  std::string line(open ? "# " : "");
  line.append(name_in_section(option)).append(" = ").append(open ? "" : value);
  line.append(line.size() < kCommentColumn ? kCommentColumn - line.size() : 1, ' ');
  line.append("# ");
  if (given)
    line.append(loaded.file).append(":").append(std::to_string(origin->second));
  else
    line.append("default")
        .append(option.unset != nullptr ? ": " : "")
        .append(option.unset != nullptr ? option.unset : "");
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
