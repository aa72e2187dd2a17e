#include "brokers/mqtt_publisher.h"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace postrider::brokers {

namespace {

constexpr int kKeepAlive = 20;  // seconds
constexpr int kAtLeastOnce = 1;
constexpr unsigned kMostInFlight = 200;
constexpr Duration kConnectLimit{10'000};
constexpr long kLongestTurn = 500;  // milliseconds
constexpr int kAnswerUnavailable = 3;
constexpr const char* kRootsFolder = "/etc/ssl/certs";

boost::system::error_code code_of_mqtt(int status) {
  switch (status) {
    case MOSQ_ERR_ERRNO:
      return {errno, boost::system::generic_category()};
    case MOSQ_ERR_TLS:
      return make_error_code(Errc::tls);
    case MOSQ_ERR_INVAL:
    case MOSQ_ERR_MALFORMED_UTF8:
    case MOSQ_ERR_PAYLOAD_SIZE:
    case MOSQ_ERR_OVERSIZE_PACKET:
      return make_error_code(Errc::refused);
    default:
      return make_error_code(Errc::truncated);
  }
}

}  // namespace

MqttPublisher::MqttPublisher(PublisherSettings settings, const Clock& clock)
    : settings_(std::move(settings)), clock_(clock) {}

Result<void> MqttPublisher::publish(const Wave& wave, SteadyTime until, std::vector<bool>& taken) {
  open_.clear();
  acknowledged_.clear();
  auto done = client_ ? Result<void>() : connect(until);
  for (std::size_t i = 0; done && i < wave.size(); ++i)
    done = send(*wave[i], i);
  while (done && !open_.empty())
    done = turn(until, "wait for the acknowledgements of " + settings_.place());
  for (const auto each : acknowledged_)
    taken[each] = true;
  return done;
}

Result<void> MqttPublisher::connect(SteadyTime until) {
  answer_ = -1;
  const auto name = "postrider-" + settings_.host + "-" + settings_.name;
  client_.reset(mosquitto_new(name.c_str(), true, this));
  if (!client_)
    return system_error("connect to " + settings_.place());
  if (auto prepared = prepare(); !prepared)
    return prepared;
  const int status = mosquitto_connect_async(client_.get(), settings_.url.host.c_str(),
                                             settings_.url.port, kKeepAlive);
  if (status != MOSQ_ERR_SUCCESS)
    return lost(status, "connect to " + settings_.place());
  const auto limit = std::min(until, clock_.steady() + kConnectLimit);
  while (answer_ < 0)
    if (auto turned = turn(limit, "connect to " + settings_.place()); !turned)
      return turned;
  if (answer_ == 0)
    return {};
  client_.reset();
  return Error(answer_ == kAnswerUnavailable ? Errc::truncated : Errc::refused,
               "log in to " + settings_.place() + " (" + mosquitto_connack_string(answer_) + ")");
}

Result<void> MqttPublisher::prepare() {
  auto* const client = client_.get();
  mosquitto_connect_callback_set(client, [](mosquitto*, void* self, int answer) {
    static_cast<MqttPublisher*>(self)->answer_ = answer;
  });
  mosquitto_publish_callback_set(client, [](mosquitto*, void* self, int number) {
    auto& publisher = *static_cast<MqttPublisher*>(self);
    if (const auto found = publisher.open_.extract(number); !found.empty())
      publisher.acknowledged_.push_back(found.mapped());
  });
  mosquitto_max_inflight_messages_set(client, kMostInFlight);
  if (!settings_.url.user.empty())
    if (const int status = mosquitto_username_pw_set(client, settings_.url.user.c_str(),
                                                     settings_.password.c_str());
        status != MOSQ_ERR_SUCCESS)
      return lost(status, "log in to " + settings_.place());
  if (!settings_.url.is_tls)
    return {};
  const auto& roots = settings_.roots;
  const int status =
      mosquitto_tls_set(client, roots.empty() ? nullptr : roots.c_str(),
                        roots.empty() ? kRootsFolder : nullptr, nullptr, nullptr, nullptr);
  if (status != MOSQ_ERR_SUCCESS)
    return lost(status, "read the certificates of " + (roots.empty() ? kRootsFolder : roots));
  return {};
}

Result<void> MqttPublisher::send(const Message& message, std::size_t place_in_wave) {
  const auto topic = topic_of(settings_.topic, message);
  int number = 0;
  const int status = mosquitto_publish(client_.get(), &number, topic.c_str(),
                                       static_cast<int>(message.text.size()), message.text.data(),
                                       kAtLeastOnce, false);
  if (status != MOSQ_ERR_SUCCESS)
    return lost(status, "send to " + settings_.place());
  open_[number] = place_in_wave;
  return {};
}

Result<void> MqttPublisher::turn(SteadyTime until, const std::string& step) {
  const auto left = std::chrono::ceil<Duration>(until - clock_.steady()).count();
  if (left <= 0) {
    client_.reset();
    return system_error(ETIMEDOUT, step);
  }
  const int status =
      mosquitto_loop(client_.get(), static_cast<int>(std::min<long>(left, kLongestTurn)), 1);
  // An answer to CONNECT that is a refusal is such an error, too.
  if (status != MOSQ_ERR_SUCCESS && answer_ <= 0)
    return lost(status, step);
  return {};
}

void MqttPublisher::tend() {
  if (client_ && mosquitto_loop(client_.get(), 0, 1) != MOSQ_ERR_SUCCESS)
    client_.reset();
}

// The connection is of no more use.
Error MqttPublisher::lost(int status, const std::string& step) {
  const auto code = code_of_mqtt(status);
  client_.reset();
  return Error(code, step + " (" + mosquitto_strerror(status) + ")");
}

}  // namespace postrider::brokers
