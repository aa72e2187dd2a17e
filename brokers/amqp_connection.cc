#include "brokers/amqp_connection.h"

#include <algorithm>
#include <amqp_ssl_socket.h>
#include <amqp_tcp_socket.h>
#include <cerrno>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <utility>

namespace postrider::brokers {

namespace {

constexpr int kMostFrame = 131072;
constexpr int kHeartbeat = 20;             // seconds
constexpr Duration kConnectLimit{10'000};  // and for each step of the handshake
constexpr unsigned kUnsentLimit = 20'000;  // milliseconds in which the broker takes nothing
constexpr int kForced = 320, kResources = 506, kInternal = 541;  // reply codes of a broker in need
constexpr const char* kSystemRoots = "/etc/ssl/certs/ca-certificates.crt";

timeval timeval_of(Duration duration) {
  const auto left = std::max(duration.count(), Duration::rep{0});
  return {static_cast<time_t>(left / 1000), static_cast<suseconds_t>(left % 1000 * 1000)};
}

boost::system::error_code code_of(int status) {
  switch (status) {
    case AMQP_STATUS_TIMEOUT:
    case AMQP_STATUS_HEARTBEAT_TIMEOUT:
      return {ETIMEDOUT, boost::system::generic_category()};
    case AMQP_STATUS_SSL_HOSTNAME_VERIFY_FAILED:
    case AMQP_STATUS_SSL_PEER_VERIFY_FAILED:
      return make_error_code(Errc::untrusted);
    case AMQP_STATUS_SSL_ERROR:
    case AMQP_STATUS_SSL_CONNECTION_FAILED:
      return make_error_code(Errc::tls);
    default:
      return make_error_code(Errc::truncated);
  }
}

}  // namespace

std::string text_of(amqp_bytes_t bytes) {
  return bytes.bytes == nullptr ? std::string()
                                : std::string(static_cast<const char*>(bytes.bytes), bytes.len);
}

Result<std::unique_ptr<AmqpConnection>> AmqpConnection::open(const events::BrokerUrl& url,
                                                             const std::string& password,
                                                             const std::string& roots,
                                                             const Clock& clock, SteadyTime until) {
  std::unique_ptr<AmqpConnection> made(
      new AmqpConnection(url.host + ":" + std::to_string(url.port)));
  made->state_.reset(amqp_new_connection());
  if (!made->state_)
    return system_error(ENOMEM, "connect to " + made->place_);
  if (auto opened = made->open_socket(url, roots, clock, until); !opened)
    return opened.error();
  // A broker that has no room stops reading, and would hold us for ever.
  (void)::setsockopt(amqp_get_sockfd(made->state()), IPPROTO_TCP, TCP_USER_TIMEOUT, &kUnsentLimit,
                     sizeof kUnsentLimit);
  if (auto known = made->log_in(url, password); !known)
    return known.error();
  return made;
}

Result<void> AmqpConnection::open_socket(const events::BrokerUrl& url, const std::string& roots,
                                         const Clock& clock, SteadyTime until) {
  auto* const state = state_.get();
  auto* const socket = url.is_tls ? amqp_ssl_socket_new(state) : amqp_tcp_socket_new(state);
  if (socket == nullptr)
    return system_error(ENOMEM, "connect to " + place_);
  if (url.is_tls) {
    const auto file = roots.empty() ? std::string(kSystemRoots) : roots;
    if (amqp_ssl_socket_set_cacert(socket, file.c_str()) != AMQP_STATUS_OK)
      return Error(Errc::tls, "read the certificates of " + file);
    amqp_ssl_socket_set_verify_peer(socket, 1);
    amqp_ssl_socket_set_verify_hostname(socket, 1);
    (void)amqp_ssl_socket_set_ssl_versions(socket, AMQP_TLSv1_2, AMQP_TLSvLATEST);
  }
  const auto left = std::chrono::duration_cast<Duration>(until - clock.steady());
  auto limit = timeval_of(std::clamp(left, Duration(100), kConnectLimit));
  const int status = amqp_socket_open_noblock(socket, url.host.c_str(), url.port, &limit);
  if (status != AMQP_STATUS_OK)
    return lost(status, "connect to " + place_);
  return {};
}

Result<void> AmqpConnection::log_in(const events::BrokerUrl& url, const std::string& password) {
  auto* const state = state_.get();
  const auto limit = timeval_of(kConnectLimit);
  amqp_set_handshake_timeout(state, &limit);
  amqp_set_rpc_timeout(state, &limit);
  const auto user = url.user.empty() ? std::string("guest") : url.user;
  const auto secret = url.user.empty() ? std::string("guest") : password;
  const auto host = url.path.empty() ? std::string("/") : url.path;
  if (auto done = check(amqp_login(state, host.c_str(), 0, kMostFrame, kHeartbeat,
                                   AMQP_SASL_METHOD_PLAIN, user.c_str(), secret.c_str()),
                        "log in to " + place_);
      !done)
    return done;
  amqp_channel_open(state, kAmqpChannel);
  if (auto done = check(amqp_get_rpc_reply(state), "open a channel at " + place_); !done)
    return done;
  return {};
}

Error AmqpConnection::lost(int status, const std::string& step) const {
  return Error(code_of(status), step + " (" + amqp_error_string2(status) + ")");
}

Error AmqpConnection::closed_by_broker(const amqp_method_t& method) const {
  std::string said;
  int code = 0;
  if (method.id == AMQP_CONNECTION_CLOSE_METHOD) {
    const auto* close = static_cast<const amqp_connection_close_t*>(method.decoded);
    code = close->reply_code;
    said = text_of(close->reply_text);
  } else if (method.id == AMQP_CHANNEL_CLOSE_METHOD) {
    const auto* close = static_cast<const amqp_channel_close_t*>(method.decoded);
    code = close->reply_code;
    said = text_of(close->reply_text);
  }
  const bool is_passing = code == kForced || code == kResources || code == kInternal;
  return Error(is_passing ? Errc::truncated : Errc::refused, place_ + " says " + said);
}

Result<void> AmqpConnection::check(const amqp_rpc_reply_t& reply, const std::string& step) const {
  if (reply.reply_type == AMQP_RESPONSE_NORMAL)
    return {};
  if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION)
    return closed_by_broker(reply.reply).during(step);
  return lost(reply.library_error, step);
}

bool AmqpConnection::is_close(const amqp_method_t& method) {
  return method.id == AMQP_CHANNEL_CLOSE_METHOD || method.id == AMQP_CONNECTION_CLOSE_METHOD;
}

int AmqpConnection::wait_frame(amqp_frame_t& frame, Duration limit) const {
  auto left = timeval_of(limit);
  return amqp_simple_wait_frame_noblock(state_.get(), &frame, &left);
}

}  // namespace postrider::brokers
