// Takes the records of a topic of Kafka as a group, one at a time, and commits the place behind each
// when it is settled. One that is refused is passed over: Kafka has no dead letters.
#pragma once

#include "brokers/consumer.h"
#include "brokers/program.h"

#include <librdkafka/rdkafka.h>
#include <memory>
#include <string>

namespace postrider::brokers {

class KafkaConsumer : public Consumer {
 public:
  // settings.topic: the topic. The clock outlives it.
  KafkaConsumer(PublisherSettings settings, const Clock& clock);
  Result<std::optional<BrokerRequest>> next(SteadyTime until) override;
  Result<void> settle(RequestEnd end, SteadyTime until) override;

 private:
  struct Destroy {
    void operator()(rd_kafka_t* consumer) const { rd_kafka_destroy(consumer); }
    void operator()(rd_kafka_message_t* record) const { rd_kafka_message_destroy(record); }
  };

  Result<void> prepare();
  Result<BrokerRequest> request_of(const rd_kafka_message_t& record) const;
  static void troubled(rd_kafka_t* consumer, int error, const char* reason, void* self);
  Error failed(rd_kafka_resp_err_t trouble, const std::string& step);

  const PublisherSettings settings_;
  const Clock& clock_;
  std::string told_;  // about the connection
  rd_kafka_resp_err_t trouble_ = RD_KAFKA_RESP_ERR_NO_ERROR;
  std::unique_ptr<rd_kafka_t, Destroy> consumer_;
  std::unique_ptr<rd_kafka_message_t, Destroy> record_;  // the request under way
};

}  // namespace postrider::brokers
