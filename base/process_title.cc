#include "base/process_title.h"

#include "base/file.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <span>

namespace postrider {

namespace {

constexpr std::size_t kMostArguments = 1U << 20U;

// Where the kernel reads the command line. It begins with the name by which the program was called.
std::span<char> place_of_arguments() {
  const auto text = read_file("/proc/self/cmdline", kMostArguments);
  char* const start = program_invocation_name;
  if (!text || text->empty() || start == nullptr ||
      std::memcmp(start, text->data(), std::strlen(start) + 1) != 0)
    return {};
  return {start, text->size()};
}

}  // namespace

void set_process_title(std::string_view title) {
  static const auto place = place_of_arguments();
  if (place.empty())
    return;
  const auto length = std::min(title.size(), place.size() - 1);
  std::copy_n(title.data(), length, place.data());
  std::fill(place.begin() + static_cast<std::ptrdiff_t>(length), place.end(), '\0');
}

}  // namespace postrider
