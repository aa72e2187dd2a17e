#include "base/net/tls/stream.h"

#include "base/assert.h"
#include "base/net/tls/tls_channel.h"
#include "base/passed_descriptors.h"
#include "base/user_mounts.h"

#include <boost/asio/as_tuple.hpp>

#include <cerrno>
#include <cstring>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

namespace postrider {

namespace {

constexpr auto use_tuple = asio::as_tuple(use_task);

std::uint64_t user_of(int socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  return ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 ? peer.uid : 0;
}

// What was passed with descriptors is not closed here.
void close_socket(Socket& socket, bool is_local) {
  boost::system::error_code failed;
  if (!socket.is_open() || !is_local) {
    socket.close(failed);
    return;
  }
  const auto user = user_of(socket.native_handle());
  FileDescriptor own(socket.release(failed));
  if (!failed)
    close_local(std::move(own), user);
}

}  // namespace

Stream::Stream(Loop& loop, Socket socket)
    : loop_(loop), socket_(std::move(socket)), deadline_(loop.deadlines(), [this] {
        timed_out_ = true;
        boost::system::error_code ignored;
        socket_.cancel(ignored);
        if (const auto turn = turn_)
          turn->set();
      }) {
  boost::system::error_code ignored;
  socket_.non_blocking(true, ignored);
  is_local_ = socket_.is_open() && is_local_socket(socket_.native_handle());
}

Stream::~Stream() {
  if (tls_ && socket_.is_open())
    end_tls();
  close_socket(socket_, is_local_);
}

namespace {

// To look for a Unix socket's path must not wait, either.
Result<void> check_place(const asio::generic::stream_protocol::endpoint& to) {
  sockaddr_un address{};
  if (to.protocol().family() != AF_UNIX || to.size() > sizeof address)
    return {};
  std::memcpy(&address, to.data(), to.size());
  if (address.sun_path[0] != '/')
    return {};
  const auto place =
      find_place({address.sun_path, ::strnlen(address.sun_path, sizeof address.sun_path)});
  return place || place.error().code() != make_error_code(Errc::refused)
             ? Result<void>()
             : Result<void>(place.error());
}

}  // namespace

Task<Result<std::unique_ptr<Stream>>> Stream::connect(Loop& loop,
                                                      asio::generic::stream_protocol::endpoint to,
                                                      Duration limit) {
  if (auto checked = check_place(to); !checked)
    co_return checked.error();
  Socket socket(loop.context());
  boost::system::error_code failed;
  socket.open(asio::generic::stream_protocol(to.protocol().family(), to.protocol().protocol()),
              failed);
  if (failed)
    co_return Error(failed, "open socket");
  auto stream = std::make_unique<Stream>(loop, std::move(socket));
  stream->set_deadline(limit);
  const auto [code] = co_await stream->socket_.async_connect(to, use_tuple);
  if (code)
    co_return stream->error(code, "connect");
  stream->clear_deadline();
  co_return stream;
}

void Stream::set_deadline(Duration from_now) {
  limit_ = from_now;
  deadline_.set(from_now);
}

void Stream::clear_deadline() {
  deadline_.clear();
}

Error Stream::error(const boost::system::error_code& code, const char* step) const {
  if (timed_out_ && code == asio::error::operation_aborted)
    return Error(asio::error::timed_out, step);
  return Error(code, step);
}

Result<std::size_t> Stream::read_now(char* room, std::size_t size) {
  POSTRIDER_ASSERT(size > 0);
  if (tls_)
    return read_now_tls(room, size);
  for (;;) {
    const auto got = is_local_ ? receive_plain(socket_.native_handle(), room, size)
                               : ::recv(socket_.native_handle(), room, size, MSG_DONTWAIT);
    if (got > 0)
      return static_cast<std::size_t>(got);
    if (got == 0)
      return Error(asio::error::eof, "read");
    if (errno == EINTR)
      continue;
    if (errno == EAGAIN || errno == EWOULDBLOCK)
      return Error(asio::error::would_block, "read");
    return system_error("read");
  }
}

Task<Result<std::size_t>> Stream::read_some(char* room, std::size_t size) {
  return tls_ ? read_some_tls(room, size) : read_some_in_clear(room, size);
}

Task<Result<std::size_t>> Stream::read_some_in_clear(char* room, std::size_t size) {
  while (!timed_out_ && is_local_) {
    const auto [code] = co_await socket_.async_wait(Socket::wait_read, use_tuple);
    if (code)
      co_return error(code, "read");
    auto got = read_now(room, size);
    if (got || got.error().code() != asio::error::would_block)
      co_return got;
  }
  if (timed_out_)
    co_return Error(asio::error::timed_out, "read");
  const auto [code, got] = co_await socket_.async_read_some(asio::buffer(room, size), use_tuple);
  if (code)
    co_return error(code, "read");
  co_return got;
}

Task<Result<void>> Stream::wait_readable() {
  return tls_ ? wait_readable_tls() : wait_readable_in_clear();
}

Task<Result<void>> Stream::wait_readable_in_clear() {
  if (timed_out_)
    co_return Error(asio::error::timed_out, "read");
  const auto [code] = co_await socket_.async_wait(Socket::wait_read, use_tuple);
  if (code)
    co_return error(code, "read");
  co_return Result<void>{};
}

std::size_t Stream::write_now(std::string_view bytes) {
  if (!socket_.is_open())
    return 0;
  if (tls_)
    return write_now_tls(bytes);
  const auto sent =
      ::send(socket_.native_handle(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  return sent > 0 ? static_cast<std::size_t>(sent) : 0;
}

Task<Result<void>> Stream::write(std::string_view bytes) {
  auto sent = co_await write(&bytes, 1);
  co_return sent;
}

Task<Result<void>> Stream::write(const std::string_view* parts, std::size_t count) {
  POSTRIDER_ASSERT(count <= kMostParts);
  return tls_ ? write_tls(parts, count) : write_in_clear(parts, count);
}

Task<Result<void>> Stream::write_in_clear(const std::string_view* parts, std::size_t count) {
  iovec vectors[kMostParts];
  std::size_t left = 0;
  for (std::size_t i = 0; i < count; ++i)
    if (!parts[i].empty())
      vectors[left++] = {const_cast<char*>(parts[i].data()), parts[i].size()};
  iovec* next = vectors;
  while (left > 0) {
    if (timed_out_)
      co_return Error(asio::error::timed_out, "write");
    msghdr message{};
    message.msg_iov = next;
    message.msg_iovlen = left;
    const auto sent = ::sendmsg(socket_.native_handle(), &message, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR)
      continue;
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      const auto [code] = co_await socket_.async_wait(Socket::wait_write, use_tuple);
      if (code)
        co_return error(code, "write");
      continue;
    }
    if (sent < 0)
      co_return system_error("write");
    auto taken = static_cast<std::size_t>(sent);
    while (left > 0 && taken >= next->iov_len) {
      taken -= next->iov_len;
      ++next;
      --left;
    }
    if (left > 0) {
      next->iov_base = static_cast<char*>(next->iov_base) + taken;
      next->iov_len -= taken;
    }
  }
  co_return Result<void>{};
}

void Stream::shut_down_sending() {
  if (tls_ && socket_.is_open())
    end_tls();
  boost::system::error_code ignored;
  socket_.shutdown(Socket::shutdown_send, ignored);
}

void Stream::close() {
  deadline_.clear();
  if (turn_)
    loop_.post([turn = turn_] { turn->set(); });
  if (tls_ && socket_.is_open()) {
    end_tls();
    closing_ = tls_->is_busy;
    if (closing_)
      return;
  }
  close_socket(socket_, is_local_);
}

}  // namespace postrider
