#include "daemon/log/log_sinks.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <string_view>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace postrider::daemon {

namespace {

constexpr std::size_t kBlock = 64U << 10U;  // lines are written in blocks of about this size
constexpr unsigned kReadableByGroup = 0640;
// How long a full queue of syslog or of the journal is waited for. Events wait meanwhile; mail does
// not.
constexpr timeval kPatience{10, 0};
constexpr timeval kLittlePatience{0, 100'000};

[[noreturn]] void fail(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

// The daemon's umask hides all it makes from others; a new log is for who may read logs.
FileDescriptor open_log(const std::string& path) {
  constexpr int flags = O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY;
  FileDescriptor file(open(path.c_str(), flags | O_CREAT | O_EXCL, kReadableByGroup));
  if (file.is_open()) {
    if (fchmod(file.get(), kReadableByGroup) != 0)
      fail("chmod " + path);
    return file;
  }
  file = FileDescriptor(open(path.c_str(), flags | O_CREAT, kReadableByGroup));
  if (!file.is_open())
    fail("open " + path);
  return file;
}

// How many bytes went out.
std::size_t write_some(int file, std::string_view bytes) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const auto got = write(file, bytes.data() + done, bytes.size() - done);
    if (got < 0 && errno == EINTR)
      continue;
    if (got <= 0)
      break;
    done += static_cast<std::size_t>(got);
  }
  return done;
}

bool set_patience(const FileDescriptor& socket, timeval patience) {
  return setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) == 0;
}

std::string name_of(const struct stat& file) {
  return std::to_string(file.st_dev) + ":" + std::to_string(file.st_ino);
}

}  // namespace

LogTarget standard_error_target(const std::string& journal) {
  const char* stream = std::getenv("JOURNAL_STREAM");
  struct stat standard_error {};
  if (stream != nullptr && fstat(STDERR_FILENO, &standard_error) == 0 &&
      name_of(standard_error) == stream && access(journal.c_str(), F_OK) == 0)
    return {LogTarget::Kind::journal, journal};
  return {LogTarget::Kind::standard_error, ""};
}

LogTarget syslog_target() {
  return {LogTarget::Kind::syslog, "/dev/log"};
}

std::uint64_t LineSink::take_lost() {
  const std::lock_guard lock(mutex_);
  return std::exchange(lost_, 0);
}

StreamSink::StreamSink(const LogTarget& target) {
  if (target.kind == LogTarget::Kind::file)
    file_ = open_log(target.path);
}

void StreamSink::sink_it_(const spdlog::details::log_msg& message) {
  formatter_->format(message, block_);
  ++lines_;
  if (block_.size() >= kBlock)
    flush_();
}

// The log's disk may be full or gone; mail goes on.
void StreamSink::flush_() {
  if (block_.size() == 0)
    return;
  const int out = file_.is_open() ? file_.get() : STDERR_FILENO;
  if (torn_ && write_some(out, "\n") == 1)
    torn_ = false;
  const std::string_view bytes(block_.data(), block_.size());
  const auto written = torn_ ? 0 : write_some(out, bytes);
  if (written < bytes.size()) {
    const auto whole = bytes.substr(0, written);
    std::uint64_t complete = 0;
    for (const char c : whole)
      complete += c == '\n' ? 1 : 0;
    lost_ += lines_ - complete;
    torn_ = torn_ || (!whole.empty() && whole.back() != '\n');
  }
  block_.clear();
  lines_ = 0;
}

DatagramSink::DatagramSink(const LogTarget& target)
    : path_(target.path), socket_(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
  if (!socket_.is_open() || !set_patience(socket_, kPatience))
    fail("socket");
  if (path_.size() >= sizeof sockaddr_un::sun_path) {
    errno = ENAMETOOLONG;
    fail(path_);
  }
}

void DatagramSink::sink_it_(const spdlog::details::log_msg& message) {
  spdlog::memory_buf_t datagram;
  formatter_->format(message, datagram);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path_.data(), path_.size());
  ssize_t sent = 0;
  do {
    sent = sendto(socket_.get(), datagram.data(), datagram.size(), MSG_NOSIGNAL,
                  reinterpret_cast<const sockaddr*>(&address), sizeof address);
  } while (sent < 0 && errno == EINTR);
  const bool is_full = sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
  // One that hangs is waited for once: a stop of the daemon is not to wait for each line.
  if (is_full != is_slow_ && set_patience(socket_, is_full ? kLittlePatience : kPatience))
    is_slow_ = is_full;
  if (sent < 0)
    ++lost_;
}

void DatagramSink::flush_() {}

std::shared_ptr<LineSink> make_sink(const LogTarget& target) {
  switch (target.kind) {
    case LogTarget::Kind::syslog:
    case LogTarget::Kind::journal:
      return std::make_shared<DatagramSink>(target);
    case LogTarget::Kind::standard_error:
    case LogTarget::Kind::file:
      break;
  }
  return std::make_shared<StreamSink>(target);
}

}  // namespace postrider::daemon
