#include "delivery/local/included_file.h"

#include "base/named_file.h"
#include "base/text.h"
#include "delivery/body_sender.h"

namespace postrider::delivery {

namespace {

constexpr std::size_t kMost = 4U << 20U;
constexpr std::size_t kBlock = 64U << 10U;

}  // namespace

Result<IncludedFile> read_included(const std::string& path, uid_t author) {
  const auto shown = escaped(path);
  auto named = open_named_file(path, author);
  if (!named)
    return named.error();
  const auto& file = named->file;
  std::string text;
  std::string block(kBlock, '\0');
  for (;;) {
    const auto got = read_block(file, block);
    if (!got)
      return got.error().during(shown);
    if (*got == 0)
      return IncludedFile{std::move(text), named->owner};
    if (text.size() + *got > kMost)
      return Error(Errc::too_long, shown + ": is larger than 4 MiB");
    text.append(block, 0, *got);
  }
}

}  // namespace postrider::delivery
