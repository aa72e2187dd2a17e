#include "brokers/amqp_consumer.h"

#include <algorithm>
#include <utility>

namespace postrider::brokers {

namespace {

constexpr std::uint16_t kInHand = 1;
constexpr Duration kContentLimit{60'000};  // from the first frame of a message to its last
constexpr Duration kConnectLimit{15'000};

amqp_bytes_t bytes_of(const std::string& text) {
  return {text.size(), const_cast<char*>(text.data())};
}

// The header of that name, if it is a text.
std::string header_of(const amqp_table_t& headers, std::string_view name) {
  for (int i = 0; i < headers.num_entries; ++i) {
    const auto& [key, value] = headers.entries[i];
    if (text_of(key) == name && value.kind == AMQP_FIELD_KIND_UTF8)
      return text_of(value.value.bytes);
  }
  return {};
}

}  // namespace

AmqpConsumer::AmqpConsumer(PublisherSettings settings, const Clock& clock)
    : settings_(std::move(settings)), clock_(clock) {}

Result<void> AmqpConsumer::connect(SteadyTime until) {
  auto opened =
      AmqpConnection::open(settings_.url, settings_.password, settings_.roots, clock_, until);
  if (!opened)
    return opened.error();
  connection_ = *std::move(opened);
  auto* const state = connection_->state();
  amqp_basic_qos(state, kAmqpChannel, 0, kInHand, 0);
  auto done = connection_->check(amqp_get_rpc_reply(state),
                                 "ask " + settings_.place() + " for one at a time");
  if (done) {
    amqp_basic_consume(state, kAmqpChannel, bytes_of(settings_.topic), amqp_empty_bytes, 0, 0, 0,
                       amqp_empty_table);
    done =
        connection_->check(amqp_get_rpc_reply(state), "take from the queue \"" + settings_.topic +
                                                          "\" at " + settings_.place());
  }
  if (!done)
    connection_.reset();
  return done;
}

Result<std::optional<BrokerRequest>> AmqpConsumer::next(SteadyTime until) {
  if (!connection_)
    if (auto connected = connect(clock_.steady() + kConnectLimit); !connected)
      return connected.error();
  for (;;) {
    amqp_maybe_release_buffers(connection_->state());
    const auto left = std::chrono::ceil<Duration>(until - clock_.steady());
    amqp_frame_t frame{};
    const int status = connection_->wait_frame(frame, std::max(left, Duration(0)));
    if (status == AMQP_STATUS_TIMEOUT)
      return std::optional<BrokerRequest>();
    if (status != AMQP_STATUS_OK)
      return given_up(connection_->lost(status, "wait for requests from " + settings_.place()));
    if (frame.frame_type != AMQP_FRAME_METHOD)
      continue;
    const auto& method = frame.payload.method;
    if (AmqpConnection::is_close(method))
      return given_up(connection_->closed_by_broker(method));
    if (method.id == AMQP_BASIC_CANCEL_METHOD)
      return given_up(Error(Errc::refused, "take from the queue \"" + settings_.topic + "\" at " +
                                               settings_.place() + " (it is gone)"));
    if (method.id != AMQP_BASIC_DELIVER_METHOD)
      continue;
    tag_ = static_cast<const amqp_basic_deliver_t*>(method.decoded)->delivery_tag;
    if (auto read = read_content(clock_.steady() + kContentLimit); !read)
      return read.error();
    return std::optional(std::exchange(request_, {}));
  }
}

// A body that is too large is read to its end, and not kept.
Result<void> AmqpConsumer::read_content(SteadyTime until) {
  request_ = {};
  amqp_frame_t frame{};
  if (auto read = read_frame(frame, until); !read)
    return read;
  if (frame.frame_type != AMQP_FRAME_HEADER)
    return given_up(malformed("the header of a message of " + settings_.place()));
  const auto size = frame.payload.properties.body_size;  // the next frame takes its place
  const auto* properties =
      static_cast<const amqp_basic_properties_t*>(frame.payload.properties.decoded);
  if ((properties->_flags & AMQP_BASIC_MESSAGE_ID_FLAG) != 0)
    request_.key = text_of(properties->message_id);
  if ((properties->_flags & AMQP_BASIC_HEADERS_FLAG) != 0)
    request_.trace_parent = header_of(properties->headers, "traceparent");
  request_.is_too_large = size > kMostRequest;
  for (std::uint64_t got = 0; got < size;) {
    if (auto read = read_frame(frame, until); !read)
      return read;
    if (frame.frame_type != AMQP_FRAME_BODY)
      return given_up(malformed("the body of a message of " + settings_.place()));
    got += frame.payload.body_fragment.len;
    if (!request_.is_too_large)
      request_.body += text_of(frame.payload.body_fragment);
    amqp_maybe_release_buffers_on_channel(connection_->state(), kAmqpChannel);
  }
  return {};
}

Result<void> AmqpConsumer::read_frame(amqp_frame_t& frame, SteadyTime until) {
  const auto left = std::chrono::ceil<Duration>(until - clock_.steady());
  const int status = connection_->wait_frame(frame, std::max(left, Duration(0)));
  if (status != AMQP_STATUS_OK)
    return given_up(connection_->lost(status, "read a request from " + settings_.place()));
  return {};
}

Result<void> AmqpConsumer::settle(RequestEnd end, SteadyTime) {
  if (!connection_)
    return Error(Errc::truncated, "tell " + settings_.place() + " what became of a request");
  auto* const state = connection_->state();
  const int status = end == RequestEnd::taken
                         ? amqp_basic_ack(state, kAmqpChannel, tag_, 0)
                         : amqp_basic_reject(state, kAmqpChannel, tag_, end == RequestEnd::later);
  if (status != AMQP_STATUS_OK)
    return given_up(
        connection_->lost(status, "tell " + settings_.place() + " what became of a request"));
  return {};
}

// With one request in hand the broker sends no other.
bool AmqpConsumer::tend() {
  amqp_frame_t frame{};
  if (!connection_)
    return false;
  const int status = connection_->wait_frame(frame, Duration(0));
  const bool is_closed = status == AMQP_STATUS_OK && frame.frame_type == AMQP_FRAME_METHOD &&
                         AmqpConnection::is_close(frame.payload.method);
  if (is_closed || (status != AMQP_STATUS_OK && status != AMQP_STATUS_TIMEOUT))
    connection_.reset();
  return connection_ != nullptr;
}

// The connection is of no more use.
Error AmqpConsumer::given_up(const Error& error) {
  connection_.reset();
  return error;
}

}  // namespace postrider::brokers
