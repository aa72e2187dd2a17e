#include "brokers/stomp_publisher.h"

#include "base/text.h"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace postrider::brokers {

namespace {

// We promise a sign of life in each of these; a broker waits for about two of them.
constexpr const char* kHeartBeats = "30000,0";  // milliseconds
constexpr Duration kBeatEvery{10'000};
constexpr Duration kConnectLimit{15'000};
constexpr std::size_t kMostReason = 300;

// The sentence of an ERROR frame. ActiveMQ's body goes on with the places in its own code.
std::string reason_of(const StompFrame& frame) {
  auto said = std::string(frame.header("message"));
  auto line = frame.body.substr(0, frame.body.find_first_of("\r\n"));
  if (!line.empty() && line != said)
    said += (said.empty() ? "" : ": ") + line;
  return escaped(said, kMostReason);
}

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
  auto opened = BrokerConnection::open(settings_.url, settings_.roots, clock_, until);
  if (!opened)
    return lost(opened.error(), "connect to " + settings_.place());
  connection_ = *std::move(opened);
  reader_ = StompReader();
  next_ = 0;
  return log_in(until);
}

Result<void> StompPublisher::log_in(SteadyTime until) {
  const auto& url = settings_.url;
  StompFrame hello{"CONNECT",
                   {{"accept-version", "1.2"},
                    {"host", url.path.empty() ? "/" : url.path},
                    {"heart-beat", kHeartBeats}},
                   ""};
  if (!url.user.empty()) {
    hello.headers.emplace_back("login", url.user);
    hello.headers.emplace_back("passcode", settings_.password);
  }
  const auto step = "log in to " + settings_.place();
  if (auto sent = connection_->send(encode(hello), until); !sent)
    return lost(sent.error(), step);
  last_sent_ = clock_.steady();
  auto answer = read_frame(until);
  if (!answer)
    return lost(answer.error(), step);
  if (answer->command != "CONNECTED")
    return refused(*answer, step);
  if (answer->header("version") != "1.2")
    return refused({"", {{"message", "the broker does not speak STOMP 1.2"}}, ""}, step);
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
    return lost(sent.error(), "send to " + settings_.place());
  last_sent_ = clock_.steady();
  return {};
}

Result<void> StompPublisher::collect(std::size_t count, SteadyTime until,
                                     std::vector<bool>& taken) {
  const auto step = "wait for the receipts of " + settings_.place();
  while (static_cast<std::size_t>(std::count(taken.begin(), taken.end(), true)) < count) {
    auto frame = read_frame(until);
    if (!frame)
      return lost(frame.error(), step);
    if (frame->command == "ERROR")
      return refused(*frame, "give an event to " + settings_.place());
    if (frame->command != "RECEIPT")
      continue;
    if (auto known = take_receipt(*frame, taken); !known)
      return lost(known.error(), step);
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

Result<StompFrame> StompPublisher::read_frame(SteadyTime until) {
  for (;;) {
    auto frame = reader_.next();
    if (!frame)
      return frame.error();
    if (*frame)
      return **std::move(frame);
    const auto turn = std::min(until, last_sent_ + kBeatEvery);
    auto received = connection_->receive(turn);
    const bool is_late = !received && received.error().code() == boost::system::errc::timed_out;
    if (is_late && turn < until) {
      if (auto beaten = beat(until); !beaten)
        return beaten.error();
      continue;
    }
    if (!received)
      return received.error();
    reader_.feed(*received);
  }
}

Result<void> StompPublisher::beat(SteadyTime until) {
  if (auto sent = connection_->send("\n", until); !sent)
    return sent;
  last_sent_ = clock_.steady();
  return {};
}

// What the broker says while nothing is under way is the end, or nothing.
void StompPublisher::tend() {
  if (!connection_)
    return;
  const auto received = connection_->receive_now();
  const bool is_beaten = received && (clock_.steady() - last_sent_ < kBeatEvery ||
                                      beat(clock_.steady() + Duration(1000)));
  if (!is_beaten) {
    connection_.reset();
    return;
  }
  reader_.feed(*received);
  if (const auto frame = reader_.next(); !frame || (*frame && (**frame).command == "ERROR"))
    connection_.reset();
}

// The connection is of no more use.
Error StompPublisher::lost(const Error& error, const std::string& step) {
  connection_.reset();
  return error.during(step);
}

Error StompPublisher::refused(const StompFrame& frame, const std::string& step) {
  connection_.reset();
  return Error(Errc::refused, step + " (" + reason_of(frame) + ")");
}

}  // namespace postrider::brokers
