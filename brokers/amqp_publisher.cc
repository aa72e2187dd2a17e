#include "brokers/amqp_publisher.h"

#include <algorithm>
#include <utility>

namespace postrider::brokers {

namespace {

constexpr std::uint8_t kPersistent = 2;  // delivery_mode

amqp_bytes_t bytes_of(const std::string& text) {
  return {text.size(), const_cast<char*>(text.data())};
}

}  // namespace

AmqpPublisher::AmqpPublisher(PublisherSettings settings, const Clock& clock)
    : settings_(std::move(settings)), clock_(clock) {}

Result<void> AmqpPublisher::publish(const Wave& wave, SteadyTime until, std::vector<bool>& taken) {
  if (!connection_)
    if (auto connected = connect(until); !connected)
      return connected;
  for (const auto* message : wave)
    if (auto sent = send(*message); !sent)
      return sent;
  return collect(wave, until, taken);
}

Result<void> AmqpPublisher::connect(SteadyTime until) {
  auto opened =
      AmqpConnection::open(settings_.url, settings_.password, settings_.roots, clock_, until);
  if (!opened)
    return opened.error();
  connection_ = *std::move(opened);
  amqp_confirm_select(connection_->state(), kAmqpChannel);
  next_ = 1;
  auto done = connection_->check(amqp_get_rpc_reply(connection_->state()),
                                 "ask " + settings_.place() + " for confirms");
  if (!done)
    connection_.reset();
  return done;
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
  const int status =
      amqp_basic_publish(connection_->state(), kAmqpChannel, bytes_of(settings_.exchange),
                         bytes_of(topic), 1, 0, &properties, bytes_of(message.text));
  if (status != AMQP_STATUS_OK)
    return given_up(connection_->lost(status, "send to " + settings_.place()));
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
    amqp_frame_t frame{};
    const int status =
        connection_->wait_frame(frame, std::chrono::ceil<Duration>(until - clock_.steady()));
    if (status != AMQP_STATUS_OK)
      return given_up(connection_->lost(status, "wait for the confirms of " + settings_.place()));
    if (frame.frame_type == AMQP_FRAME_METHOD)
      if (auto done = handle(frame.payload.method, wave, confirms, taken); !done)
        return done;
    amqp_maybe_release_buffers(connection_->state());
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
      return given_up(connection_->closed_by_broker(method));
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
  if (auto read =
          connection_->check(amqp_read_message(connection_->state(), kAmqpChannel, &message, 0),
                             "read what " + settings_.place() + " returns");
      !read)
    return given_up(read.error());
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
    amqp_frame_t frame{};
    const int status = connection_->wait_frame(frame, Duration(0));
    if (status == AMQP_STATUS_TIMEOUT)
      return amqp_maybe_release_buffers(connection_->state());
    if (status != AMQP_STATUS_OK ||
        (frame.frame_type == AMQP_FRAME_METHOD && AmqpConnection::is_close(frame.payload.method)))
      connection_.reset();
  }
}

// The connection is of no more use.
Error AmqpPublisher::given_up(const Error& error) {
  connection_.reset();
  return error;
}

}  // namespace postrider::brokers
