#include "brokers/stomp_publisher.h"

#include "base/text.h"

#include <algorithm>
#include <utility>

namespace postrider::brokers {

namespace {

constexpr Duration kConnectLimit{15'000};

}  // namespace

StompPublisher::StompPublisher(PublisherSettings settings, const Clock& clock)
    : settings_(std::move(settings)), clock_(clock) {}

Result<void> StompPublisher::publish(const Wave& wave, SteadyTime until, std::vector<bool>& taken) {
  if (!connection_)
    if (auto connected = connect(std::min(until, clock_.steady() + kConnectLimit)); !connected)
      return connected;
  if (auto sent = send(wave, until); !sent)
    return sent;
  return collect(wave.size(), until, taken);
}

Result<void> StompPublisher::connect(SteadyTime until) {
  auto opened = StompConnection::open(settings_.url, settings_.password, settings_.roots, clock_,
                                      until, StompReader::Limits());
  if (!opened)
    return opened.error();
  connection_ = *std::move(opened);
  next_ = 0;
  return {};
}

Result<void> StompPublisher::send(const Wave& wave, SteadyTime until) {
  first_ = next_;
  std::string bytes;
  for (const auto* message : wave)
    bytes += encode({"SEND",
                     {{"destination", topic_of(settings_.topic, *message)},
                      {"receipt", std::to_string(next_++)},
                      {"persistent", "true"},
                      {"content-type", "application/cloudevents+json"},
                      {"type", "postrider." + message->type},
                      {"amqp-message-id", message->id}},
                     message->text});
  if (auto sent = connection_->send(bytes, until); !sent)
    return given_up(sent.error().during("send to " + settings_.place()));
  return {};
}

Result<void> StompPublisher::collect(std::size_t count, SteadyTime until,
                                     std::vector<bool>& taken) {
  const auto step = "wait for the receipts of " + settings_.place();
  while (static_cast<std::size_t>(std::count(taken.begin(), taken.end(), true)) < count) {
    const auto frame = connection_->read(until);
    if (!frame)
      return given_up(frame.error().during(step));
    if (frame->command == "ERROR")
      return given_up(Error(Errc::refused, "give an event to " + settings_.place() + " (" +
                                               StompConnection::reason_of(*frame) + ")"));
    if (frame->command != "RECEIPT")
      continue;
    if (auto known = take_receipt(*frame, taken); !known)
      return given_up(known.error().during(step));
  }
  return {};
}

Result<void> StompPublisher::take_receipt(const StompFrame& frame, std::vector<bool>& taken) {
  const auto number = parse_unsigned(frame.header("receipt-id"));
  if (!number || *number < first_ || *number - first_ >= taken.size())
    return malformed("a receipt for what was not sent");
  taken[static_cast<std::size_t>(*number - first_)] = true;
  return {};
}

// What the broker says while nothing is under way is the end, or nothing.
void StompPublisher::tend() {
  if (!connection_)
    return;
  const auto frame = connection_->tend();
  if (!frame || (*frame && (**frame).command == "ERROR"))
    connection_.reset();
}

// The connection is of no more use.
Error StompPublisher::given_up(const Error& error) {
  connection_.reset();
  return error;
}

}  // namespace postrider::brokers
