#include "delivery/local/included_file.h"

#include "base/file.h"
#include "base/text.h"
#include "delivery/body_sender.h"

#include <fcntl.h>
#include <sys/stat.h>

namespace postrider::delivery {

namespace {

constexpr std::size_t kMost = 4U << 20U;
constexpr std::size_t kBlock = 64U << 10U;

}  // namespace

Result<std::string> read_included(const std::string& path) {
  const auto shown = escaped(path);
  auto file = open_file(path, O_RDONLY | O_NONBLOCK);
  if (!file) {
    const bool is_denied = file.error().code() == boost::system::errc::make_error_code(
                                                      boost::system::errc::permission_denied);
    return Error(file.error().code(),
                 shown + (is_denied ? ": cannot be opened (by its mode, or since sandbox.read does "
                                      "not name its folder)"
                                    : ": cannot be opened"));
  }
  struct stat about {};
  if (::fstat(file->get(), &about) != 0)
    return system_error(shown + ": stat");
  if (!S_ISREG(about.st_mode))
    return Error(Errc::refused, shown + ": is no regular file");
  if ((about.st_mode & S_IWOTH) != 0)
    return Error(Errc::refused, shown + ": everybody may write this file");
  std::string text;
  std::string block(kBlock, '\0');
  for (;;) {
    const auto got = read_block(*file, block);
    if (!got)
      return got.error().during(shown);
    if (*got == 0)
      return text;
    if (text.size() + *got > kMost)
      return Error(Errc::too_long, shown + ": is larger than 4 MiB");
    text.append(block, 0, *got);
  }
}

}  // namespace postrider::delivery
