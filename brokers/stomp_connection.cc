#include "brokers/stomp_connection.h"

#include "base/text.h"

#include <algorithm>
#include <utility>

namespace postrider::brokers {

namespace {

// We promise a sign of life in each of these; a broker waits for about two of them.
constexpr const char* kHeartBeats = "30000,0";  // milliseconds
constexpr Duration kBeatEvery{10'000};
constexpr std::size_t kMostReason = 300;

}  // namespace

// ActiveMQ's body goes on with the places in its own code.
std::string StompConnection::reason_of(const StompFrame& frame) {
  auto said = std::string(frame.header("message"));
  const auto line = frame.body.substr(0, frame.body.find_first_of("\r\n"));
  if (!line.empty() && line != said)
    said += (said.empty() ? "" : ": ") + line;
  return escaped(said, kMostReason);
}

StompConnection::StompConnection(std::unique_ptr<BrokerConnection> connection, const Clock& clock,
                                 StompReader::Limits limits)
    : connection_(std::move(connection)), clock_(clock), reader_(limits) {}

Result<std::unique_ptr<StompConnection>> StompConnection::open(const events::BrokerUrl& url,
                                                               const std::string& password,
                                                               const std::string& roots,
                                                               const Clock& clock, SteadyTime until,
                                                               StompReader::Limits limits) {
  const auto place = url.host + ":" + std::to_string(url.port);
  auto opened = BrokerConnection::open(url, roots, clock, until);
  if (!opened)
    return opened.error().during("connect to " + place);
  std::unique_ptr<StompConnection> made(new StompConnection(*std::move(opened), clock, limits));
  if (auto known = made->log_in(url, password, until); !known)
    return known.error().during("log in to " + place);
  return made;
}

Result<void> StompConnection::log_in(const events::BrokerUrl& url, const std::string& password,
                                     SteadyTime until) {
  StompFrame hello{"CONNECT",
                   {{"accept-version", "1.2"},
                    {"host", url.path.empty() ? "/" : url.path},
                    {"heart-beat", kHeartBeats}},
                   ""};
  if (!url.user.empty()) {
    hello.headers.emplace_back("login", url.user);
    hello.headers.emplace_back("passcode", password);
  }
  if (auto sent = send(encode(hello), until); !sent)
    return sent;
  const auto answer = read(until);
  if (!answer)
    return answer.error();
  if (answer->command != "CONNECTED")
    return Error(Errc::refused, reason_of(*answer));
  if (answer->header("version") != "1.2")
    return Error(Errc::refused, "the broker does not speak STOMP 1.2");
  return {};
}

Result<void> StompConnection::send(const std::string& bytes, SteadyTime until) {
  if (auto sent = connection_->send(bytes, until); !sent)
    return sent;
  last_sent_ = clock_.steady();
  return {};
}

Result<StompFrame> StompConnection::read(SteadyTime until) {
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

Result<std::optional<StompFrame>> StompConnection::tend() {
  constexpr Duration kLimit{1000};
  auto received = connection_->receive_now();
  if (!received)
    return received.error();
  if (clock_.steady() - last_sent_ >= kBeatEvery)
    if (auto beaten = beat(clock_.steady() + kLimit); !beaten)
      return beaten.error();
  reader_.feed(*received);
  return reader_.next();
}

Result<void> StompConnection::beat(SteadyTime until) {
  return send("\n", until);
}

}  // namespace postrider::brokers
