#include "brokers/kafka_publisher.h"

#include "brokers/kafka_client.h"

#include "base/text.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace postrider::brokers {

namespace {

constexpr int kLongestTurn = 500;              // milliseconds
constexpr const char* kRecordLimit = "60000";  // milliseconds that the library tries; we end before
constexpr const char* kLinger = "0";           // the wave is all that there is
constexpr std::size_t kMostReason = 300;

}  // namespace

void KafkaPublisher::Destroy::operator()(rd_kafka_t* producer) const {
  rd_kafka_purge(
      producer, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT | RD_KAFKA_PURGE_F_NON_BLOCKING);
  rd_kafka_destroy(producer);
}

KafkaPublisher::KafkaPublisher(PublisherSettings settings, const Clock& clock)
    : settings_(std::move(settings)), clock_(clock) {}

Result<void> KafkaPublisher::publish(const Wave& wave, SteadyTime until, std::vector<bool>& taken) {
  if (!producer_)
    if (auto prepared = prepare(); !prepared)
      return prepared;
  reports_ = {};
  reports_.taken = &taken;
  Result<void> done;
  for (std::size_t i = 0; done && i < wave.size(); ++i)
    done = send(*wave[i], i);
  while (done && reports_.open > 0 && !reports_.is_over) {
    const auto left = std::chrono::ceil<Duration>(until - clock_.steady()).count();
    if (left <= 0)
      done = failed(RD_KAFKA_RESP_ERR__TIMED_OUT,
                    "wait for the acknowledgements of " + settings_.place());
    else
      rd_kafka_poll(producer_.get(), static_cast<int>(std::min<Duration::rep>(left, kLongestTurn)));
  }
  if (done && reports_.trouble != RD_KAFKA_RESP_ERR_NO_ERROR)
    done = failed(reports_.trouble, "give an event to " + settings_.place());
  // What failed must not come later from this producer, out of its order.
  if (!done)
    producer_.reset();
  reports_ = {};
  return done;
}

Result<void> KafkaPublisher::prepare() {
  auto* const options = rd_kafka_conf_new();
  rd_kafka_conf_set_opaque(options, this);
  rd_kafka_conf_set_dr_msg_cb(options, &KafkaPublisher::delivered);
  rd_kafka_conf_set_error_cb(options, &KafkaPublisher::troubled);
  auto configured = configure_kafka(options, settings_,
                                    {{"enable.idempotence", "true"},
                                     {"acks", "all"},
                                     {"message.timeout.ms", kRecordLimit},
                                     {"linger.ms", kLinger}});
  char reason[512] = "";
  if (configured)
    producer_.reset(rd_kafka_new(RD_KAFKA_PRODUCER, options, reason, sizeof reason));
  if (configured && producer_)
    return {};
  rd_kafka_conf_destroy(options);
  return configured ? Error(Errc::refused, "make a Kafka producer (" + std::string(reason) + ")")
                    : configured.error();
}

Result<void> KafkaPublisher::send(const Message& message, std::size_t place_in_wave) {
  const auto topic = topic_of(settings_.topic, message);
  const std::string content_type = "application/cloudevents+json";
  rd_kafka_vu_t parts[6]{};
  parts[0].vtype = RD_KAFKA_VTYPE_TOPIC;
  parts[0].u.cstr = topic.c_str();
  parts[1].vtype = RD_KAFKA_VTYPE_KEY;
  parts[1].u.mem = {const_cast<char*>(message.subject.data()), message.subject.size()};
  parts[2].vtype = RD_KAFKA_VTYPE_VALUE;
  parts[2].u.mem = {const_cast<char*>(message.text.data()), message.text.size()};
  parts[3].vtype = RD_KAFKA_VTYPE_HEADER;
  parts[3].u.header = {"content-type", content_type.data(),
                       static_cast<ssize_t>(content_type.size())};
  parts[4].vtype = RD_KAFKA_VTYPE_MSGFLAGS;
  parts[4].u.i = RD_KAFKA_MSG_F_COPY;
  parts[5].vtype = RD_KAFKA_VTYPE_OPAQUE;  // a number: zero would be none
  parts[5].u.ptr = reinterpret_cast<void*>(place_in_wave + 1);
  const std::unique_ptr<rd_kafka_error_t, void (*)(rd_kafka_error_t*)> trouble(
      rd_kafka_produceva(producer_.get(), parts, std::size(parts)), &rd_kafka_error_destroy);
  if (trouble)
    return failed(rd_kafka_error_code(trouble.get()), "send to " + settings_.place());
  ++reports_.open;
  return {};
}

void KafkaPublisher::delivered(rd_kafka_t*, const rd_kafka_message_t* record, void* self) {
  auto& reports = static_cast<KafkaPublisher*>(self)->reports_;
  if (reports.taken == nullptr || reports.open == 0)
    return;  // of a producer that is given up
  --reports.open;
  if (record->err == RD_KAFKA_RESP_ERR_NO_ERROR)
    (*reports.taken)[reinterpret_cast<std::size_t>(record->_private) - 1] = true;
  else
    reports.trouble = record->err;
}

void KafkaPublisher::troubled(rd_kafka_t*, int error, const char* reason, void* self) {
  auto& reports = static_cast<KafkaPublisher*>(self)->reports_;
  const auto trouble = static_cast<rd_kafka_resp_err_t>(error);
  // It says this after each of its brokers has said why.
  if (trouble != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN || reports.told.empty())
    reports.told = escaped(reason == nullptr ? "" : reason, kMostReason);
  // A wrong password does not become right, and a producer with a fatal error sends nothing more.
  if (trouble == RD_KAFKA_RESP_ERR__AUTHENTICATION || trouble == RD_KAFKA_RESP_ERR__FATAL) {
    reports.trouble = trouble;
    reports.is_over = true;
  }
}

void KafkaPublisher::tend() {
  if (producer_)
    rd_kafka_poll(producer_.get(), 0);
}

Error KafkaPublisher::failed(rd_kafka_resp_err_t trouble, const std::string& step) const {
  const auto& told = reports_.told;  // says more
  return Error(code_of_kafka(trouble),
               step + " (" + (told.empty() ? rd_kafka_err2str(trouble) : told) + ")");
}

}  // namespace postrider::brokers
