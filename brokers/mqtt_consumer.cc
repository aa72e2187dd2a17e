#include "brokers/mqtt_consumer.h"

#include <utility>

namespace postrider::brokers {

namespace {

constexpr Duration kConnectLimit{15'000};

}  // namespace

MqttConsumer::MqttConsumer(PublisherSettings settings, const Clock& clock)
    : settings_(std::move(settings)), clock_(clock) {}

Result<void> MqttConsumer::connect(SteadyTime until) {
  const auto client = "postrider-" + settings_.host + "-" + settings_.name + ".requests";
  auto opened = MqttConnection::open(
      {settings_.url, settings_.password, settings_.roots, client, kMostRequest}, clock_, until,
      version_);
  if (!opened)
    return opened.error();
  connection_ = *std::move(opened);
  if (auto subscribed = connection_->subscribe(settings_.topic, until); !subscribed)
    return given_up(subscribed.error().during("take from the topic \"" + settings_.topic +
                                              "\" at " + settings_.place()));
  if (!std::exchange(had_session_, true) || connection_->has_session())
    return {};
  return Error(Errc::truncated, settings_.place() +
                                    " has forgotten our session, and the requests that came while "
                                    "there was no connection");
}

Result<std::optional<BrokerRequest>> MqttConsumer::next(SteadyTime until) {
  if (std::exchange(is_kept_due_, false))
    return kept_;
  kept_.reset();
  if (!connection_)
    if (auto connected = connect(clock_.steady() + kConnectLimit); !connected)
      return connected.error();
  const auto step = "take from the topic \"" + settings_.topic + "\" at " + settings_.place();
  for (;;) {
    auto message = connection_->read(until);
    if (!message && message.error().code() == boost::system::errc::timed_out)
      return std::optional<BrokerRequest>();
    if (!message)
      return given_up(message.error().during(step));
    id_ = message->id;
    if (!message->is_retained)
      return std::optional(request_of(*std::move(message)));
    // A copy that is kept for new subscribers; it was a request when it was published.
    if (auto settled = settle(RequestEnd::taken, clock_.steady() + kConnectLimit); !settled)
      return settled.error();
  }
}

BrokerRequest MqttConsumer::request_of(MqttPacket message) {
  BrokerRequest request;
  request.key = std::move(message.key);
  request.trace_parent = std::move(message.trace_parent);
  request.is_too_large = message.is_cut;
  request.body = std::move(message.body);
  if (id_ == 0)
    kept_ = request;
  return request;
}

Result<void> MqttConsumer::settle(RequestEnd end, SteadyTime until) {
  if (id_ == 0) {
    is_kept_due_ = end == RequestEnd::later;
    return {};
  }
  const auto step = "tell " + settings_.place() + " what became of a request";
  if (!connection_)
    return Error(Errc::truncated, step);
  if (end == RequestEnd::later) {  // what is not acknowledged comes again
    connection_.reset();
    return {};
  }
  if (auto sent = connection_->acknowledge(id_, until); !sent)
    return given_up(sent.error().during(step));
  return {};
}

bool MqttConsumer::tend() {
  if (connection_ && !connection_->tend())
    connection_.reset();
  return connection_ != nullptr || id_ == 0;
}

// The connection is of no more use.
Error MqttConsumer::given_up(const Error& error) {
  connection_.reset();
  return error;
}

}  // namespace postrider::brokers
