#include "smtpd/listener.h"

#include "smtpd/connection.h"
#include "smtpd/local_sender.h"
#include "smtpd/session/replies.h"

#include <boost/asio/as_tuple.hpp>

#include <cerrno>
#include <fcntl.h>
#include <netinet/in.h>
#include <new>
#include <sys/socket.h>

namespace postrider::smtpd {

namespace {

constexpr int kBurst = 64;  // then the loop's other work has its turn
constexpr Duration kPause(100);
constexpr auto kComplaint = std::chrono::seconds(10);

int family_of(int socket) {
  int family = 0;
  socklen_t size = sizeof family;
  ::getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &family, &size);
  return family;
}

asio::generic::stream_protocol protocol_of(int family) {
  return {family, family == AF_UNIX ? 0 : IPPROTO_TCP};
}

std::uint16_t port_of(const sockaddr* peer) {
  // The port stands at the same place in both.
  if (peer->sa_family == AF_INET || peer->sa_family == AF_INET6)
    return ntohs(reinterpret_cast<const sockaddr_in*>(peer)->sin_port);
  return 0;
}

FileDescriptor open_spare() {
  return FileDescriptor(::open("/dev/null", O_RDONLY | O_CLOEXEC));
}

}  // namespace

Listener::Listener(std::shared_ptr<LoopConnections> reception, FileDescriptor socket,
                   const ListenerSettings& settings, std::shared_ptr<const TlsContext> tls)
    : reception_(std::move(reception)),
      socket_(reception_->loop().context()),
      role_(settings.role),
      proxied_(settings.proxy_protocol),
      address_(std::make_shared<const std::string>(settings.address)),
      next_hop_(std::make_shared<const std::string>(settings.next_hop)),
      tls_start_(settings.tls),
      tls_(std::move(tls)),
      spare_(open_spare()) {
  const auto protocol = protocol_of(family_of(socket.get()));
  boost::system::error_code failed;
  socket_.assign(protocol, socket.get(), failed);
  if (!failed)
    (void)socket.release();
}

Task<void> Listener::run(std::shared_ptr<Listener> self) {
  using Timer = asio::basic_waitable_timer<std::chrono::steady_clock,
                                           asio::wait_traits<std::chrono::steady_clock>, Executor>;
  Timer pause(self->reception_->loop().context());
  constexpr auto use_tuple = asio::as_tuple(use_task);
  while (self->socket_.is_open()) {
    const auto [failed] = co_await self->socket_.async_wait(Socket::wait_read, use_tuple);
    if (failed)
      co_return;
    auto last = Accepted::one;
    for (int i = 0; i < kBurst && last == Accepted::one; ++i)
      last = self->accept_one();
    if (last == Accepted::closed)
      co_return;
    if (last == Accepted::no_descriptors) {
      self->shed();
      pause.expires_after(kPause);
      co_await pause.async_wait(use_tuple);
    }
  }
}

void Listener::share_port() {
  const int on = 1;
  ::setsockopt(socket_.native_handle(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
}

void Listener::close() {
  boost::system::error_code ignored;
  socket_.close(ignored);
}

Listener::Accepted Listener::accept_one() {
  sockaddr_storage peer{};
  socklen_t size = sizeof peer;
  auto* address = reinterpret_cast<sockaddr*>(&peer);
  FileDescriptor accepted(
      ::accept4(socket_.native_handle(), address, &size, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (accepted.is_open()) {
    try {
      admit(std::move(accepted), address);
    } catch (const std::bad_alloc&) {
      return Accepted::no_descriptors;  // nor memory: a pause, and one that hears of it
    }
    return Accepted::one;
  }
  switch (errno) {
    case EAGAIN:
      return Accepted::none;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
      return Accepted::no_descriptors;
    case EBADF:
    case EINVAL:
    case ENOTSOCK:
      return Accepted::closed;
    default:
      return Accepted::one;  // that client has gone already
  }
}

void Listener::admit(FileDescriptor socket, const sockaddr* peer) {
  Arrival arrival;
  arrival.address = IpAddress::from(peer);
  arrival.port = port_of(peer);
  arrival.role = role_;
  arrival.proxied = proxied_;
  arrival.tls_start = tls_start_;
  arrival.listener = address_;
  arrival.next_hop = next_hop_;
  auto& reception = *reception_;
  if (reception.is_stopping())
    return turn_away(socket, arrival.address, "stopping", replies::kStopping);
  if (proxied_ && !reception.policy()->may_send_proxy_header(arrival.address))
    return turn_away(socket, arrival.address, "not a listed proxy", {});
  // An eighth of the slots is kept for our own clients (attacks.md X01, X09).
  const auto limit = reception.session_limit();
  const bool trusted = proxied_ || reception.policy()->is_trusted(arrival.address);
  if (!reception.slots().take(trusted ? limit : limit - limit / 8))
    return turn_away(socket, arrival.address, "all slots taken", replies::kAllBusy);
  reception.notice_stress();
  if (reception.settings()->local_counter != nullptr && !proxied_)
    arrival.local_user = local_user_of(socket.get(), peer, trusted);
  Socket stream(reception.loop().context());
  boost::system::error_code failed;
  stream.assign(protocol_of(peer->sa_family), socket.get(), failed);
  if (failed) {
    reception.slots().give_back();
    return;
  }
  (void)socket.release();
  arrival.tls = tls_;
  std::unique_ptr<Connection> connection;
  try {
    connection = std::make_unique<Connection>(reception_, std::move(stream), arrival);
  } catch (const std::bad_alloc&) {
    reception.slots().give_back();
    throw;
  }
  reception.loop().spawn(Connection::serve(std::move(connection)), reception.log(),
                         "smtpd connection");
}

void Listener::turn_away(const FileDescriptor& socket, const IpAddress& client,
                         std::string_view reason, std::string_view reply) {
  // Who waits for a handshake cannot read it.
  if (!reply.empty() && tls_start_ != TlsStart::at_once)
    (void)::send(socket.get(), reply.data(), reply.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  count(reception_->counters().turned_away);
  maillog::turned_away(reception_->limited_log(), client, reason, reply);
}

void Listener::shed() {
  const auto error = system_error(EMFILE, "accept");
  spare_.reset();
  const FileDescriptor unlucky(
      ::accept4(socket_.native_handle(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (unlucky.is_open() && tls_start_ != TlsStart::at_once)
    (void)::send(unlucky.get(), replies::kAllBusy.data(), replies::kAllBusy.size(),
                 MSG_NOSIGNAL | MSG_DONTWAIT);
  count(reception_->counters().turned_away);
  spare_ = open_spare();
  const auto now = reception_->clock().steady();
  if (last_complaint_ != SteadyTime{} && now - last_complaint_ < kComplaint)
    return;
  last_complaint_ = now;
  maillog::trouble(reception_->log(), {}, "no file descriptors or memory left", error);
}

}  // namespace postrider::smtpd
