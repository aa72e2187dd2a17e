#include "brokers/kafka_consumer.h"

#include "brokers/kafka_client.h"

#include "base/text.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace postrider::brokers {

namespace {

constexpr std::size_t kMostReason = 300;
// Read ahead by the library: as much, and one answer of a broker.
constexpr const char* kKilobytesInHand = "2048";
constexpr const char* kMostFetched = "4194304";
// Milliseconds until the cluster gives the partitions of one that was killed to others.
constexpr const char* kMissingFor = "15000";
constexpr const char* kKeyHeader = "idempotency-key";

// The last of that name.
std::optional<std::string> header_of(const rd_kafka_message_t& record, const char* name) {
  rd_kafka_headers_t* headers = nullptr;
  const void* value = nullptr;
  std::size_t size = 0;
  if (rd_kafka_message_headers(&record, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR ||
      rd_kafka_header_get_last(headers, name, &value, &size) != RD_KAFKA_RESP_ERR_NO_ERROR ||
      value == nullptr)
    return {};
  return std::string(static_cast<const char*>(value), size);
}

}  // namespace

KafkaConsumer::KafkaConsumer(PublisherSettings settings, const Clock& clock)
    : settings_(std::move(settings)), clock_(clock) {}

Result<void> KafkaConsumer::prepare() {
  told_.clear();
  trouble_ = RD_KAFKA_RESP_ERR_NO_ERROR;
  auto* const options = rd_kafka_conf_new();
  rd_kafka_conf_set_opaque(options, this);
  rd_kafka_conf_set_error_cb(options, &KafkaConsumer::troubled);
  auto configured = configure_kafka(options, settings_,
                                    {{"group.id", "postrider-" + settings_.name},
                                     {"enable.auto.commit", "false"},
                                     {"auto.offset.reset", "earliest"},
                                     {"session.timeout.ms", kMissingFor},
                                     {"queued.max.messages.kbytes", kKilobytesInHand},
                                     {"fetch.max.bytes", kMostFetched}});
  char reason[512] = "";
  if (configured)
    consumer_.reset(rd_kafka_new(RD_KAFKA_CONSUMER, options, reason, sizeof reason));
  if (!consumer_) {
    rd_kafka_conf_destroy(options);
    return configured ? Error(Errc::refused, "make a client of Kafka (" + std::string(reason) + ")")
                      : configured.error();
  }
  rd_kafka_poll_set_consumer(consumer_.get());
  auto* const topics = rd_kafka_topic_partition_list_new(1);
  rd_kafka_topic_partition_list_add(topics, settings_.topic.c_str(), RD_KAFKA_PARTITION_UA);
  const auto status = rd_kafka_subscribe(consumer_.get(), topics);
  rd_kafka_topic_partition_list_destroy(topics);
  if (status != RD_KAFKA_RESP_ERR_NO_ERROR)
    return failed(status,
                  "take from the topic \"" + settings_.topic + "\" at " + settings_.place());
  return {};
}

Result<std::optional<BrokerRequest>> KafkaConsumer::next(SteadyTime until) {
  if (!consumer_)
    if (auto prepared = prepare(); !prepared)
      return prepared.error();
  const auto left = std::chrono::ceil<Duration>(until - clock_.steady()).count();
  record_.reset(
      rd_kafka_consumer_poll(consumer_.get(), static_cast<int>(std::max<Duration::rep>(left, 0))));
  const auto step = "take from the topic \"" + settings_.topic + "\" at " + settings_.place();
  if (!record_ && trouble_ != RD_KAFKA_RESP_ERR_NO_ERROR)
    return failed(trouble_, step);
  if (!record_)
    return std::optional<BrokerRequest>();
  if (record_->err != RD_KAFKA_RESP_ERR_NO_ERROR)
    return failed(record_->err, step);
  auto request = request_of(*record_);
  if (!request)
    return request.error();
  return std::optional(*std::move(request));
}

// The key that the application gave it; otherwise its place, which is the same each time, and its
// time: a topic that is made again counts from 0 again.
Result<BrokerRequest> KafkaConsumer::request_of(const rd_kafka_message_t& record) const {
  BrokerRequest request;
  request.is_too_large = record.len > kMostRequest;
  if (!request.is_too_large)
    request.body.assign(static_cast<const char*>(record.payload), record.len);
  if (const auto key = header_of(record, kKeyHeader))
    request.key = *key;
  else
    request.key = settings_.topic + "/" + std::to_string(record.partition) + "/" +
                  std::to_string(record.offset) + "/" +
                  std::to_string(rd_kafka_message_timestamp(&record, nullptr));
  request.trace_parent = header_of(record, "traceparent").value_or("");
  return request;
}

Result<void> KafkaConsumer::settle(RequestEnd end, SteadyTime) {
  const auto step = "tell " + settings_.place() + " what became of a request";
  if (!consumer_ || !record_)
    return Error(Errc::truncated, step);
  if (end == RequestEnd::later) {  // from what was committed on, by whoever is in the group
    record_.reset();
    consumer_.reset();
    return {};
  }
  const auto status = rd_kafka_commit_message(consumer_.get(), record_.get(), 0);
  record_.reset();
  if (status != RD_KAFKA_RESP_ERR_NO_ERROR)
    return failed(status, step);
  return {};
}

void KafkaConsumer::troubled(rd_kafka_t*, int error, const char* reason, void* self) {
  auto& consumer = *static_cast<KafkaConsumer*>(self);
  consumer.told_ = escaped(reason == nullptr ? "" : reason, kMostReason);
  const auto trouble = static_cast<rd_kafka_resp_err_t>(error);
  constexpr rd_kafka_resp_err_t kEnds[] = {
      // of others the library sees to itself
      RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN, RD_KAFKA_RESP_ERR__AUTHENTICATION,
      RD_KAFKA_RESP_ERR__FATAL, RD_KAFKA_RESP_ERR__SSL, RD_KAFKA_RESP_ERR__RESOLVE};
  if (std::find(std::begin(kEnds), std::end(kEnds), trouble) != std::end(kEnds))
    consumer.trouble_ = trouble;
}

// The client is of no more use.
Error KafkaConsumer::failed(rd_kafka_resp_err_t trouble, const std::string& step) {
  record_.reset();
  consumer_.reset();
  return Error(code_of_kafka(trouble),
               step + " (" + (told_.empty() ? rd_kafka_err2str(trouble) : told_) + ")");
}

}  // namespace postrider::brokers
