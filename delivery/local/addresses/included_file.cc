#include "delivery/local/addresses/included_file.h"

#include "base/named_file.h"
#include "base/text.h"
#include "delivery/job/message_body.h"
#include "delivery/local/agents/settled_file.h"

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
  struct stat before {};
  if (::fstat(file.get(), &before) != 0)
    return system_error("stat " + shown);
  std::string text;
  std::string block(kBlock, '\0');
  for (;;) {
    const auto got = read_block(file, block);
    if (!got)
      return got.error().during(shown);
    if (*got == 0)
      break;
    if (text.size() + *got > kMost)
      return Error(Errc::too_long, shown + ": is larger than 4 MiB");
    text.append(block, 0, *got);
  }
  if (auto settled = check_settled(file, before, text, Settling::always, shown); !settled)
    return settled.error();
  return IncludedFile{std::move(text), named->owner};
}

}  // namespace postrider::delivery
