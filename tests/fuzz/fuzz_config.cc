// Whatever stands in a configuration file: it is refused with at least one problem, or what is
// printed from it reads back as the same.
#include "base/assert.h"
#include "daemon/config/config_file.h"

#include <cstddef>
#include <cstdint>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace postrider::daemon;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const Machine machine{"mx.example.org", [](const std::string& path) {
                          return postrider::Result<std::string>(path.substr(1));
                        }};
  const auto loaded = parse_config(text, "fuzz.toml", machine);
  if (!loaded.config) {
    POSTRIDER_ASSERT(!loaded.problems.empty() && !loaded.describe().empty());
    return 0;
  }
  const auto printed = print_config(loaded);
  const auto again = parse_config(printed, "fuzz.toml", machine);
  POSTRIDER_ASSERT(again.config && print_config(again).size() >= printed.size() / 2);
  for (const auto& option : options())
    for (std::size_t i = 0; i < find_section(section_of(option))->count(*loaded.config); ++i)
      POSTRIDER_ASSERT(value_text(option, *loaded.config, i) ==
                       value_text(option, *again.config, i));
  return 0;
}
