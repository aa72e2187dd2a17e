#include "events/file_sink.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace postrider::events {

Result<void> FileSink::write(const std::vector<std::string>& events) {
  if (auto open = open_if_needed(); !open)
    return open.error();
  std::string lines;
  for (const auto& event : events)
    lines.append(event).push_back('\n');
  is_unsynced_ = true;
  auto done = write_all(file_, lines);
  if (done)
    return {};
  close();
  return done.error().during("write " + path_);
}

Result<void> FileSink::sync() {
  if (!left_)
    return std::exchange(left_, Result<void>());
  if (!std::exchange(is_unsynced_, false))
    return {};
  auto done = sync_file(file_);
  if (done)
    return {};
  file_.reset();
  return done.error().during("write " + path_);
}

void FileSink::close() {
  if (auto done = sync(); !done)
    left_ = done;
  file_.reset();
}

// Is what we have open still what has the name?
Result<bool> FileSink::is_in_place() const {
  struct stat ours {};
  struct stat named {};
  if (::fstat(file_.get(), &ours) != 0)
    return system_error("look at " + path_);
  if (::stat(path_.c_str(), &named) == 0)
    return ours.st_ino == named.st_ino && ours.st_dev == named.st_dev;
  if (errno == ENOENT)
    return false;
  return system_error("look at " + path_);
}

Result<void> FileSink::open_if_needed() {
  if (file_.is_open()) {
    const auto same = is_in_place();
    if (!same)
      return same.error();
    if (*same)
      return {};
    close();
    if (!left_)
      return left_;
  }
  // O_NONBLOCK: a pipe that nobody reads would hold us for ever; it is refused below.
  constexpr int kFlags = O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
  auto file = open_file(path_, O_RDWR | kFlags, 0640);
  is_readable_ = file.has_value();
  if (!file && file.error().code() == boost::system::errc::permission_denied)
    file = open_file(path_, O_WRONLY | kFlags, 0640);
  if (!file)
    return file.error();
  struct stat found {};
  if (::fstat(file->get(), &found) != 0)
    return system_error("look at " + path_);
  if (!S_ISREG(found.st_mode))
    return Error(Errc::refused, "write to " + path_ + ", which is not a regular file");
  file_ = *std::move(file);
  auto ended = end_cut_line();
  if (!ended)
    file_.reset();
  return ended;
}

// A full disk or a kill in the middle leaves half a line.
Result<void> FileSink::end_cut_line() {
  struct stat found {};
  if (::fstat(file_.get(), &found) != 0)
    return system_error("look at " + path_);
  if (found.st_size == 0)
    return {};
  if (!is_readable_)  // an empty line is the lesser evil
    return write_all(file_, "\n");
  char last = 0;
  if (::pread(file_.get(), &last, 1, found.st_size - 1) != 1)
    return system_error("read " + path_);
  return last == '\n' ? Result<void>() : write_all(file_, "\n");
}

}  // namespace postrider::events
