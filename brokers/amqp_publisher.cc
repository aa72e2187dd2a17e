#include "brokers/amqp_publisher.h"

#include <algorithm>
#include <amqp_ssl_socket.h>
#include <amqp_tcp_socket.h>
#include <cerrno>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>

namespace postrider::brokers {

namespace {

constexpr amqp_channel_t kChannel = 1;
constexpr int kMostFrame = 131072;
constexpr int kHeartbeat = 20;             // seconds
constexpr Duration kConnectLimit{10'000};  // and for each step of the handshake
constexpr unsigned kUnsentLimit = 20'000;  // milliseconds in which the broker takes nothing
constexpr std::uint8_t kPersistent = 2;    // delivery_mode
constexpr int kForced = 320, kResources = 506, kInternal = 541;  // reply codes of a broker in need
constexpr const char* kSystemRoots = "/etc/ssl/certs/ca-certificates.crt";

timeval timeval_of(Duration duration) {
  const auto left = std::max(duration.count(), Duration::rep{0});
  return {static_cast<time_t>(left / 1000), static_cast<suseconds_t>(left % 1000 * 1000)};
}

amqp_bytes_t bytes_of(const std::string& text) {
  return {text.size(), const_cast<char*>(text.data())};
}

std::string text_of(amqp_bytes_t bytes) {
  return bytes.bytes == nullptr ? std::string()
                                : std::string(static_cast<const char*>(bytes.bytes), bytes.len);
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

AmqpPublisher::AmqpPublisher(PublisherSettings settings, const Clock& clock)
    : settings_(std::move(settings)), clock_(clock) {}

Result<void> AmqpPublisher::publish(const Wave& wave, SteadyTime until, std::vector<bool>& taken) {
  if (!connection_)
    if (auto connected = connect(until); !connected) {
      connection_.reset();
      return connected;
    }
  for (const auto* message : wave)
    if (auto sent = send(*message); !sent)
      return sent;
  return collect(wave, until, taken);
}

Result<void> AmqpPublisher::connect(SteadyTime until) {
  connection_.reset(amqp_new_connection());
  if (!connection_)
    return system_error(ENOMEM, "connect to " + settings_.place());
  if (auto opened = open_socket(until); !opened)
    return opened;
  // A broker that has no room stops reading, and would hold us for ever.
  (void)::setsockopt(amqp_get_sockfd(connection_.get()), IPPROTO_TCP, TCP_USER_TIMEOUT,
                     &kUnsentLimit, sizeof kUnsentLimit);
  return log_in();
}

Result<void> AmqpPublisher::open_socket(SteadyTime until) {
  auto* const state = connection_.get();
  auto* const socket =
      settings_.url.is_tls ? amqp_ssl_socket_new(state) : amqp_tcp_socket_new(state);
  if (socket == nullptr)
    return system_error(ENOMEM, "connect to " + settings_.place());
  if (settings_.url.is_tls) {
    const auto& roots = settings_.roots.empty() ? std::string(kSystemRoots) : settings_.roots;
    if (amqp_ssl_socket_set_cacert(socket, roots.c_str()) != AMQP_STATUS_OK)
      return Error(Errc::tls, "read the certificates of " + roots);
    amqp_ssl_socket_set_verify_peer(socket, 1);
    amqp_ssl_socket_set_verify_hostname(socket, 1);
    (void)amqp_ssl_socket_set_ssl_versions(socket, AMQP_TLSv1_2, AMQP_TLSvLATEST);
  }
  const auto left = std::chrono::duration_cast<Duration>(until - clock_.steady());
  auto limit = timeval_of(std::clamp(left, Duration(100), kConnectLimit));
  const int status =
      amqp_socket_open_noblock(socket, settings_.url.host.c_str(), settings_.url.port, &limit);
  if (status != AMQP_STATUS_OK)
    return lost(status, "connect to " + settings_.place());
  return {};
}

Result<void> AmqpPublisher::log_in() {
  auto* const state = connection_.get();
  const auto limit = timeval_of(kConnectLimit);
  amqp_set_handshake_timeout(state, &limit);
  amqp_set_rpc_timeout(state, &limit);
  const auto& url = settings_.url;
  const auto user = url.user.empty() ? std::string("guest") : url.user;
  const auto password = url.user.empty() ? std::string("guest") : settings_.password;
  const auto host = url.path.empty() ? std::string("/") : url.path;
  if (auto done = check(amqp_login(state, host.c_str(), 0, kMostFrame, kHeartbeat,
                                   AMQP_SASL_METHOD_PLAIN, user.c_str(), password.c_str()),
                        "log in to " + settings_.place());
      !done)
    return done;
  amqp_channel_open(state, kChannel);
  if (auto done = check(amqp_get_rpc_reply(state), "open a channel at " + settings_.place()); !done)
    return done;
  amqp_confirm_select(state, kChannel);
  if (auto done = check(amqp_get_rpc_reply(state), "ask " + settings_.place() + " for confirms");
      !done)
    return done;
  next_ = 1;
  return {};
}

Result<void> AmqpPublisher::send(const Message& message) {
  const std::string content_type = "application/cloudevents+json", program = "postrider";
  const auto type = "postrider." + message.type;
  amqp_basic_properties_t properties{};
  properties._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG |
                      AMQP_BASIC_MESSAGE_ID_FLAG | AMQP_BASIC_TYPE_FLAG | AMQP_BASIC_APP_ID_FLAG;
  properties.content_type = bytes_of(content_type);
  properties.delivery_mode = kPersistent;
  properties.message_id = bytes_of(message.id);
  properties.type = bytes_of(type);
  properties.app_id = bytes_of(program);
  const auto topic = topic_of(settings_.topic, message);
  const int status = amqp_basic_publish(connection_.get(), kChannel, bytes_of(settings_.exchange),
                                        bytes_of(topic), 1, 0, &properties, bytes_of(message.text));
  if (status != AMQP_STATUS_OK)
    return lost(status, "send to " + settings_.place());
  ++next_;
  return {};
}

// Waits for the broker's word on each message of the wave, which was sent last.
Result<void> AmqpPublisher::collect(const Wave& wave, SteadyTime until, std::vector<bool>& taken) {
  Confirms confirms;
  confirms.first = next_ - wave.size();
  confirms.answered.resize(wave.size());
  confirms.returned.resize(wave.size());
  confirms.open = wave.size();
  while (confirms.open > 0) {
    const auto left = std::chrono::ceil<Duration>(until - clock_.steady());
    auto limit = timeval_of(left);
    amqp_frame_t frame{};
    const int status = amqp_simple_wait_frame_noblock(connection_.get(), &frame, &limit);
    if (status != AMQP_STATUS_OK)
      return lost(status, "wait for the confirms of " + settings_.place());
    if (frame.frame_type == AMQP_FRAME_METHOD)
      if (auto done = handle(frame.payload.method, wave, confirms, taken); !done)
        return done;
    amqp_maybe_release_buffers(connection_.get());
  }
  const bool is_returned = std::find(confirms.returned.begin(), confirms.returned.end(), true) !=
                           confirms.returned.end();
  if (is_returned)
    return Error(Errc::refused, confirms.trouble);
  if (!confirms.trouble.empty())
    return Error(Errc::storage, confirms.trouble);
  return {};
}

Result<void> AmqpPublisher::handle(const amqp_method_t& method, const Wave& wave,
                                   Confirms& confirms, std::vector<bool>& taken) {
  // multiple: all up to this one, and with 0 all that there are.
  const auto settle = [&](std::uint64_t tag, bool multiple, bool is_taken) {
    const auto is_meant = [&](std::uint64_t number) {
      return multiple ? tag == 0 || number <= tag : number == tag;
    };
    for (std::size_t i = 0; i < wave.size(); ++i) {
      if (confirms.answered[i] || !is_meant(confirms.first + i))
        continue;
      confirms.answered[i] = true;
      --confirms.open;
      taken[i] = is_taken && !confirms.returned[i];
    }
  };
  switch (method.id) {
    case AMQP_BASIC_ACK_METHOD: {
      const auto* ack = static_cast<const amqp_basic_ack_t*>(method.decoded);
      settle(ack->delivery_tag, ack->multiple != 0, true);
      return {};
    }
    case AMQP_BASIC_NACK_METHOD: {
      const auto* nack = static_cast<const amqp_basic_nack_t*>(method.decoded);
      settle(nack->delivery_tag, nack->multiple != 0, false);
      confirms.trouble = "give an event to " + settings_.place() + ": the broker does not take it";
      return {};
    }
    case AMQP_BASIC_RETURN_METHOD:
      return take_returned(method, wave, confirms);
    case AMQP_CHANNEL_CLOSE_METHOD:
    case AMQP_CONNECTION_CLOSE_METHOD:
      return closed_by_broker(method);
    default:
      return {};
  }
}

// The message itself follows, and then the confirm of a message that is nowhere.
Result<void> AmqpPublisher::take_returned(const amqp_method_t& method, const Wave& wave,
                                          Confirms& confirms) {
  const auto* returned = static_cast<const amqp_basic_return_t*>(method.decoded);
  const auto trouble = "give an event to the exchange \"" + text_of(returned->exchange) +
                       "\": no queue has the routing key \"" + text_of(returned->routing_key) +
                       "\" (" + text_of(returned->reply_text) + ")";
  amqp_message_t message{};
  if (auto read = check(amqp_read_message(connection_.get(), kChannel, &message, 0),
                        "read what " + settings_.place() + " returns");
      !read)
    return read;
  const auto id = text_of(message.properties.message_id);
  amqp_destroy_message(&message);
  confirms.trouble = trouble;
  for (std::size_t i = 0; i < wave.size(); ++i)
    if (wave[i]->id == id)
      confirms.returned[i] = true;
  return {};
}

void AmqpPublisher::tend() {
  while (connection_) {
    timeval none{};
    amqp_frame_t frame{};
    const int status = amqp_simple_wait_frame_noblock(connection_.get(), &frame, &none);
    if (status == AMQP_STATUS_TIMEOUT)
      return amqp_maybe_release_buffers(connection_.get());
    if (status != AMQP_STATUS_OK || (frame.frame_type == AMQP_FRAME_METHOD &&
                                     (frame.payload.method.id == AMQP_CHANNEL_CLOSE_METHOD ||
                                      frame.payload.method.id == AMQP_CONNECTION_CLOSE_METHOD)))
      connection_.reset();
  }
}

// The connection is of no more use.
Error AmqpPublisher::lost(int status, const std::string& step) {
  connection_.reset();
  return Error(code_of(status), step + " (" + amqp_error_string2(status) + ")");
}

Error AmqpPublisher::closed_by_broker(const amqp_method_t& method) {
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
  connection_.reset();
  const bool is_passing = code == kForced || code == kResources || code == kInternal;
  return Error(is_passing ? Errc::truncated : Errc::refused, settings_.place() + " says " + said);
}

Result<void> AmqpPublisher::check(const amqp_rpc_reply_t& reply, const std::string& step) {
  if (reply.reply_type == AMQP_RESPONSE_NORMAL)
    return {};
  if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION)
    return closed_by_broker(reply.reply).during(step);
  return lost(reply.library_error, step);
}

}  // namespace postrider::brokers
