#include "brokers/broker_connection.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

namespace postrider::brokers {

namespace {

constexpr Duration kConnectLimit{10'000};       // for each address
constexpr unsigned kUnsentLimit = 20'000;       // milliseconds in which the broker takes nothing
constexpr std::size_t kMostReceived = 4 << 20;  // a broker that tells without end is none

struct FreeAddresses {
  void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};
using Addresses = std::unique_ptr<addrinfo, FreeAddresses>;

Result<Addresses> addresses_of(const std::string& host, std::uint16_t port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_ADDRCONFIG | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int code = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (code == EAI_SYSTEM)
    return system_error("look up " + host);
  if (code != 0)
    return Error(Errc::truncated, "look up " + host + " (" + ::gai_strerror(code) + ")");
  return Addresses(found);
}

Result<void> wait_for(int socket, short events, const Clock& clock, SteadyTime until) {
  for (;;) {
    const auto left = std::chrono::ceil<Duration>(until - clock.steady()).count();
    if (left <= 0)
      return system_error(ETIMEDOUT, "wait for the broker");
    pollfd watched{socket, events, 0};
    const int ready = ::poll(&watched, 1, static_cast<int>(std::min<Duration::rep>(left, 60'000)));
    if (ready > 0)
      return {};
    if (ready < 0 && errno != EINTR)
      return system_error("wait for the broker");
  }
}

Result<FileDescriptor> connect_to(const addrinfo& address, const Clock& clock, SteadyTime until) {
  FileDescriptor socket(::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.is_open())
    return system_error("make a socket");
  // A broker whose machine is gone says nothing; but heart-beats go out.
  (void)::setsockopt(socket.get(), IPPROTO_TCP, TCP_USER_TIMEOUT, &kUnsentLimit,
                     sizeof kUnsentLimit);
  if (::connect(socket.get(), address.ai_addr, address.ai_addrlen) == 0)
    return socket;
  if (errno != EINPROGRESS && errno != EINTR)
    return system_error("connect");
  if (auto ready =
          wait_for(socket.get(), POLLOUT, clock, std::min(until, clock.steady() + kConnectLimit));
      !ready)
    return ready.error();
  int problem = 0;
  socklen_t size = sizeof problem;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &problem, &size) != 0)
    return system_error("connect");
  if (problem != 0)
    return system_error(problem, "connect");
  return socket;
}

}  // namespace

Result<std::unique_ptr<BrokerConnection>> BrokerConnection::open(const events::BrokerUrl& url,
                                                                 const std::string& roots,
                                                                 const Clock& clock,
                                                                 SteadyTime until) {
  const auto addresses = addresses_of(url.host, url.port);
  if (!addresses)
    return addresses.error();
  Error last(Errc::truncated, "look up " + url.host);
  for (const auto* address = addresses->get(); address != nullptr; address = address->ai_next) {
    auto socket = connect_to(*address, clock, until);
    if (!socket) {
      last = socket.error();
      continue;
    }
    std::unique_ptr<BrokerConnection> made(new BrokerConnection(*std::move(socket), clock));
    if (url.is_tls)
      if (auto secured = made->start_tls(url.host, roots, until); !secured)
        return secured.error();
    return made;
  }
  return last;
}

Result<void> BrokerConnection::start_tls(const std::string& host, const std::string& roots,
                                         SteadyTime until) {
  TlsClientSettings settings;
  settings.roots = roots;
  auto context = TlsContext::client(settings);
  if (!context)
    return context.error();
  auto channel = TlsChannel::client(*context, socket_.get(), options_for_host(host));
  if (!channel)
    return channel.error();
  tls_ = *std::move(channel);
  for (;;) {
    switch (tls_->handshake()) {
      case TlsStep::done:
        return {};
      case TlsStep::wait_readable:
        if (auto ready = wait(Wait::to_read, Wait::nothing, until); !ready)
          return ready;
        break;
      case TlsStep::wait_writable:
        if (auto ready = wait(Wait::to_write, Wait::nothing, until); !ready)
          return ready;
        break;
      case TlsStep::end:
        return Error(Errc::truncated, "set up TLS");
      case TlsStep::failed:
        return tls_->error("set up TLS");
    }
  }
}

Result<void> BrokerConnection::wait(Wait what, Wait also, SteadyTime until) const {
  short events = 0;
  for (const auto each : {what, also})
    events = static_cast<short>(events | (each == Wait::to_read    ? POLLIN
                                          : each == Wait::to_write ? POLLOUT
                                                                   : 0));
  return wait_for(socket_.get(), events, clock_, until);
}

// A broker that has much to say stops reading until it is heard: both directions go on at once.
Result<void> BrokerConnection::send(std::string_view bytes, SteadyTime until) {
  while (!bytes.empty()) {
    const auto before = bytes.size();
    const auto waits_to_write = write_some(bytes);
    if (!waits_to_write)
      return waits_to_write.error();
    if (bytes.size() != before)
      continue;
    const auto waits_to_read = read_some();
    if (!waits_to_read)
      return waits_to_read.error();
    if (*waits_to_read == Wait::nothing)
      continue;
    if (auto ready = wait(*waits_to_write, *waits_to_read, until); !ready)
      return ready;
  }
  return {};
}

Result<std::string> BrokerConnection::receive(SteadyTime until) {
  while (received_.empty()) {
    const auto waits = read_some();
    if (!waits)
      return waits.error();
    if (*waits != Wait::nothing)
      if (auto ready = wait(*waits, Wait::nothing, until); !ready)
        return ready.error();
  }
  return std::exchange(received_, {});
}

Result<std::string> BrokerConnection::receive_now() {
  for (;;) {
    const auto waits = read_some();
    if (!waits && received_.empty())
      return waits.error();
    if (!waits || *waits != Wait::nothing)
      return std::exchange(received_, {});
  }
}

// What it waits for where the socket has no room, otherwise nothing.
Result<BrokerConnection::Wait> BrokerConnection::write_some(std::string_view& left) {
  if (tls_ != nullptr) {
    std::size_t taken = 0;
    const auto step = tls_->write(left.data(), std::min(left.size(), TlsChannel::kRecord), taken);
    left.remove_prefix(taken);
    if (step == TlsStep::wait_readable)
      return Wait::to_read;
    if (step == TlsStep::wait_writable)
      return Wait::to_write;
    if (step == TlsStep::done)
      return Wait::nothing;
    return step == TlsStep::end ? Error(Errc::truncated, "send to the broker")
                                : tls_->error("send to the broker");
  }
  const auto sent = ::send(socket_.get(), left.data(), left.size(), MSG_NOSIGNAL);
  if (sent >= 0)
    left.remove_prefix(static_cast<std::size_t>(sent));
  else if (errno == EAGAIN)
    return Wait::to_write;
  else if (errno != EINTR)
    return system_error("send to the broker");
  return Wait::nothing;
}

// Into received_; what it waits for where nothing has come, otherwise nothing.
Result<BrokerConnection::Wait> BrokerConnection::read_some() {
  if (received_.size() > kMostReceived)
    return Error(Errc::too_long, "read from the broker");
  std::array<char, TlsChannel::kRecord> room{};
  std::size_t got = 0;
  if (tls_ != nullptr) {
    const auto step = tls_->read(room.data(), room.size(), got);
    if (step == TlsStep::wait_readable)
      return Wait::to_read;
    if (step == TlsStep::wait_writable)
      return Wait::to_write;
    if (step == TlsStep::failed)
      return tls_->error("read from the broker");
    if (step == TlsStep::end)
      return Error(Errc::truncated, "read from the broker");
  } else {
    const auto read = ::recv(socket_.get(), room.data(), room.size(), 0);
    if (read == 0)
      return Error(Errc::truncated, "read from the broker");
    if (read < 0 && errno == EAGAIN)
      return Wait::to_read;
    if (read < 0 && errno != EINTR)
      return system_error("read from the broker");
    got = static_cast<std::size_t>(std::max<ssize_t>(read, 0));
  }
  received_.append(room.data(), got);
  return Wait::nothing;
}

}  // namespace postrider::brokers
