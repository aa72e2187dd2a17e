#include "brokers/stomp_consumer.h"

#include <utility>

namespace postrider::brokers {

namespace {

constexpr Duration kConnectLimit{15'000};

// As the application names it; otherwise as the broker does, if it gives the same name each time:
// ActiveMQ's ids begin so, those of others are of a session.
std::string key_of(const StompFrame& frame) {
  for (const auto* name : {"idempotency-key", "amqp-message-id"})
    if (const auto key = frame.header(name); !key.empty())
      return std::string(key);
  const auto id = frame.header("message-id");
  return id.starts_with("ID:") ? std::string(id) : std::string();
}

}  // namespace

StompConsumer::StompConsumer(PublisherSettings settings, const Clock& clock)
    : settings_(std::move(settings)), clock_(clock) {}

Result<void> StompConsumer::connect(SteadyTime until) {
  auto opened = StompConnection::open(settings_.url, settings_.password, settings_.roots, clock_,
                                      until, {kMostRequest, true});
  if (!opened)
    return opened.error();
  connection_ = *std::move(opened);
  // Both brokers know one of the last two, and pass over the other.
  const auto subscribed = connection_->send(encode({"SUBSCRIBE",
                                                    {{"id", "0"},
                                                     {"destination", settings_.topic},
                                                     {"ack", "client-individual"},
                                                     {"prefetch-count", "1"},
                                                     {"activemq.prefetchSize", "1"}},
                                                    ""}),
                                            until);
  if (!subscribed)
    return given_up(subscribed.error());
  return {};
}

Result<std::optional<BrokerRequest>> StompConsumer::next(SteadyTime until) {
  if (!connection_)
    if (auto connected = connect(clock_.steady() + kConnectLimit); !connected)
      return connected.error();
  for (;;) {
    auto frame = connection_->read(until);
    if (!frame && frame.error().code() == boost::system::errc::timed_out)
      return std::optional<BrokerRequest>();
    if (!frame)
      return given_up(frame.error().during("wait for requests from " + settings_.place()));
    if (frame->command == "ERROR")
      return given_up(Error(Errc::refused, "take from \"" + settings_.topic + "\" at " +
                                               settings_.place() + " (" +
                                               StompConnection::reason_of(*frame) + ")"));
    if (frame->command != "MESSAGE")
      continue;
    acknowledgement_ = frame->header("ack");
    BrokerRequest request;
    request.key = key_of(*frame);
    request.trace_parent = frame->header("traceparent");
    request.is_too_large = frame->is_cut;
    request.body = std::move(frame->body);
    return std::optional(std::move(request));
  }
}

Result<void> StompConsumer::settle(RequestEnd end, SteadyTime until) {
  if (!connection_)
    return Error(Errc::truncated, "tell " + settings_.place() + " what became of a request");
  if (end == RequestEnd::later) {  // what is not acknowledged comes again
    connection_.reset();
    return {};
  }
  StompFrame answer{end == RequestEnd::taken ? "ACK" : "NACK", {{"id", acknowledgement_}}, ""};
  if (end == RequestEnd::refused)
    answer.headers.emplace_back("requeue", "false");  // RabbitMQ would give it again at once
  if (auto sent = connection_->send(encode(answer), until); !sent)
    return given_up(sent.error().during("tell " + settings_.place() + " what became of a request"));
  return {};
}

bool StompConsumer::tend() {
  if (!connection_)
    return false;
  const auto frame = connection_->tend();
  if (!frame || *frame)  // with one in hand nothing else comes but an error
    connection_.reset();
  return connection_ != nullptr;
}

// The connection is of no more use.
Error StompConsumer::given_up(const Error& error) {
  connection_.reset();
  return error;
}

}  // namespace postrider::brokers
