#include "events/socket_sink.h"

#include "base/text.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

namespace postrider::events {

namespace {

constexpr std::string_view kTaken = "ok";
constexpr std::size_t kMostAnswer = 512;

bool is_for_later(int number) {
  return number == EAGAIN || number == EINTR;
}

}  // namespace

Result<void> SocketSink::deliver(const std::string&, const std::vector<std::string>& events) {
  std::string text;
  for (const auto& event : events)
    text.append(event).push_back('\n');
  text.push_back('\n');
  if (!socket_.is_open())
    if (auto connected = connect(); !connected)
      return connected.error();
  auto done = exchange(text);
  if (!done)
    socket_.reset();  // an answer that comes late must not be taken for the next one
  return done;
}

Result<void> SocketSink::connect() {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path_.empty() || path_.size() >= sizeof address.sun_path)
    return Error(Errc::too_long, "connect to " + path_);
  std::memcpy(address.sun_path, path_.data(), path_.size());
  FileDescriptor made(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!made.is_open())
    return system_error("make a socket");
  // To a Unix socket it is done at once, or refused: EAGAIN when too many wait there.
  if (::connect(made.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return system_error("connect to " + path_);
  socket_ = std::move(made);
  return {};
}

Result<void> SocketSink::exchange(const std::string& text) {
  const auto until = clock_.steady() + limit_;
  if (auto sent = send(text, until); !sent)
    return sent.error();
  return read_answer(until);
}

Result<void> SocketSink::send(std::string_view text, SteadyTime until) {
  while (!text.empty()) {
    const auto sent = ::send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL);
    if (sent < 0 && !is_for_later(errno))
      return system_error("send to " + path_);
    if (sent >= 0)
      text.remove_prefix(static_cast<std::size_t>(sent));
    else if (auto ready = wait_for(POLLOUT, until); !ready)
      return ready.error();
  }
  return {};
}

Result<void> SocketSink::read_answer(SteadyTime until) {
  std::string answer;
  while (!answer.ends_with('\n') && answer.size() < kMostAnswer) {
    char byte = 0;  // what follows the line is not ours to take
    const auto got = ::recv(socket_.get(), &byte, 1, 0);
    if (got == 0)
      return Error(Errc::truncated, "wait for the answer of " + path_);
    if (got < 0 && !is_for_later(errno))
      return system_error("read from " + path_);
    if (got > 0)
      answer.push_back(byte);
    else if (auto ready = wait_for(POLLIN, until); !ready)
      return ready.error();
  }
  if (answer.ends_with('\n'))
    answer.pop_back();
  if (answer != kTaken)
    return Error(Errc::refused, "give events to " + path_ + " (" + escaped(answer) + ")");
  return {};
}

Result<void> SocketSink::wait_for(short what, SteadyTime until) {
  if (is_stopping_)
    return Error(Errc::stopped, "wait for " + path_);
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - clock_.steady()).count();
  pollfd watched{socket_.get(), what, 0};
  if (left > 0 && ::poll(&watched, 1, static_cast<int>(std::min<long>(left, 250))) < 0 &&
      errno != EINTR)
    return system_error("wait for " + path_);
  if (left <= 0)
    return system_error(ETIMEDOUT, "wait for " + path_);
  return {};
}

}  // namespace postrider::events
