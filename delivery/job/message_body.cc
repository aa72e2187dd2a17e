#include "delivery/job/message_body.h"

#include <algorithm>
#include <cerrno>
#include <unistd.h>

namespace postrider::delivery {

Result<std::size_t> read_block(const FileDescriptor& file, std::string& block) {
  for (;;) {
    const auto got = ::read(file.get(), block.data(), block.size());
    if (got >= 0)
      return static_cast<std::size_t>(got);
    if (errno != EINTR)
      return system_error("read body");
  }
}

Result<std::string> load_bytes(const mail::Message& message, const OpenBody& open_body,
                               std::uint64_t most) {
  const auto& content = message.content;
  if (content.bytes)
    return *content.bytes;
  auto file = open_body(message);
  if (!file)
    return file.error();
  std::string whole;
  std::string block;
  std::uint64_t left = std::min(content.size, most);
  while (left > 0) {
    block.resize(std::min<std::uint64_t>(kBodyBlock, left));
    auto got = read_block(*file, block);
    if (!got)
      return got.error();
    if (*got == 0)
      return Error(Errc::corrupt, "body is shorter than recorded");
    whole.append(block, 0, *got);
    left -= *got;
  }
  return whole;
}

}  // namespace postrider::delivery
