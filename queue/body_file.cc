#include "queue/body_file.h"

#include <cerrno>
#include <fcntl.h>
#include <unistd.h>
#include <utility>

namespace postrider::queue {

BodyFile::State::~State() {
  if (file.is_open() && has_name)
    remove_name();
}

void BodyFile::State::remove_name() const {
  if (folder == spool->body_folder().current())
    spool->remove_body(name);
  else
    ::unlinkat(folder->file.get(), name.c_str(), 0);  // nobody looks there any more
}

Result<void> BodyFile::State::sync() {
  auto here = spool->body_folder().follow();
  if (!here)
    return here.error().during("sync body " + name);
  if (*here != folder)
    if (auto moved = move_to(*std::move(here)); !moved)
      return moved.error().during("move body " + name + " to the folder in the place of its own");
  if (auto synced = sync_file(file); !synced)
    return synced.error().during("sync body " + name);
  if (auto synced = sync_file(folder->file); !synced)
    return synced.error().during("sync folder body");
  return {};
}

Result<void> BodyFile::State::check_place() const {
  auto here = spool->body_folder().follow();
  if (!here)
    return here.error();
  if (*here == folder)
    return {};
  return Error(Errc::storage, "another folder has taken the place of " + spool->bodies());
}

Result<void> BodyFile::State::move_to(BodyFolder::Handle other) {
  ::unlinkat(other->file.get(), name.c_str(), 0);  // a copy of this one while it was not whole
  auto copy = open_file_at(other->file, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
  if (!copy)
    return copy.error();
  std::string block(256U << 10U, '\0');
  Result<void> done;
  for (std::uint64_t at = 0; done && at < size;) {
    const auto got = ::pread(file.get(), block.data(), block.size(), static_cast<off_t>(at));
    if (got < 0 && errno == EINTR)
      continue;
    if (got <= 0) {
      done =
          got < 0 ? system_error("read body " + name) : Error(Errc::truncated, "read body " + name);
      break;
    }
    done = write_all(*copy, {block.data(), static_cast<std::size_t>(got)});
    at += static_cast<std::uint64_t>(got);
  }
  if (!done) {
    ::unlinkat(other->file.get(), name.c_str(), 0);
    return done;
  }
  remove_name();
  folder = std::move(other);
  file = *std::move(copy);
  return {};
}

void BodyFile::State::keep() {
  file.reset();
}

void BodyFile::State::give_name_away() {
  if (std::exchange(has_name, false))
    remove_name();
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
