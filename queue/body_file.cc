#include "queue/body_file.h"

#include <cerrno>
#include <unistd.h>
#include <utility>

namespace postrider::queue {

BodyFile::State::~State() {
  if (file.is_open() && has_name)
    spool->remove_body(name);
}

Result<void> BodyFile::State::sync() {
  if (auto synced = sync_file(file); !synced)
    return synced.error().during("sync body " + name);
  return spool->sync_bodies();
}

void BodyFile::State::keep() {
  file.reset();
}

void BodyFile::State::give_name_away() {
  if (std::exchange(has_name, false))
    spool->remove_body(name);
}

Result<void> BodyFile::State::check_whole(const mail::Content& content, const State* body) {
  std::uint64_t there = 0;
  if (body != nullptr && body->file.is_open() && body->has_name && body->name == content.file &&
      !content.bytes)
    there = body->size;
  else if (body == nullptr && content.bytes && content.file.empty())
    there = content.bytes->size();
  else
    return Error(Errc::truncated, "content is neither in memory nor in its file");
  if (there == content.size)
    return {};
  return Error(Errc::truncated, std::to_string(there) + " of " + std::to_string(content.size) +
                                    " octets of content are there");
}

BodyFile::BodyFile() noexcept = default;
BodyFile::BodyFile(BodyFile&& other) noexcept = default;
BodyFile& BodyFile::operator=(BodyFile&& other) noexcept = default;
BodyFile::~BodyFile() = default;

Result<void> BodyFile::append(std::string_view bytes) {
  if (!is_open())
    return Error(Errc::stopped, "write body");
  if (auto written = write_all(state_->file, bytes); !written)
    return written.error().during("write body " + name_);
  state_->size += bytes.size();
  state_->checksum.feed(bytes);
  return {};
}

Result<std::size_t> BodyFile::read(std::uint64_t offset, char* room, std::size_t size) const {
  if (!is_open())
    return Error(Errc::stopped, "read body");
  std::size_t got = 0;
  while (got < size) {
    const auto more =
        ::pread(state_->file.get(), room + got, size - got, static_cast<off_t>(offset + got));
    if (more < 0 && errno == EINTR)
      continue;
    if (more < 0)
      return system_error("read body " + name_);
    if (more == 0)
      break;
    got += static_cast<std::size_t>(more);
  }
  return got;
}

void BodyFile::give_name_away() {
  if (is_open())
    state_->give_name_away();
}

Result<void> BodyFile::sync() {
  if (!is_open())
    return Error(Errc::stopped, "sync body");
  return state_->sync();
}

bool BodyFile::is_open() const {
  return state_ && state_->file.is_open();
}

std::optional<std::uint32_t> content_checksum(const Submission& submission) {
  if (submission.body.is_open())
    return submission.body.state_->checksum.value();
  if (submission.message->content.bytes)
    return checksum_of(*submission.message->content.bytes);
  return std::nullopt;
}

}  // namespace postrider::queue
