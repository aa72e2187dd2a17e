#include "daemon/control/content_reader.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <unistd.h>

namespace postrider::daemon {

namespace {

constexpr std::size_t kPieceOfContent = 48U << 10U;

}  // namespace

Result<void> ContentReader::next(std::string& piece) {
  const auto& content = message_->content;
  if (content.bytes) {
    piece = content.bytes->substr(std::min(at_, content.bytes->size()), kPieceOfContent);
    at_ += piece.size();
    return {};
  }
  if (!file_.is_open()) {
    auto file = open_file(queue_.body_path(content.file), O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    if (!file)
      return file.error();
    file_ = std::move(*file);
  }
  piece.resize(kPieceOfContent);
  ssize_t got = 0;
  do {
    got = ::read(file_.get(), piece.data(), piece.size());
  } while (got < 0 && errno == EINTR);
  if (got < 0)
    return system_error("read");
  piece.resize(static_cast<std::size_t>(got));
  return {};
}

}  // namespace postrider::daemon
