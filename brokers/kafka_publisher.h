// Kafka: each event is a record with its subject as the key, so that all of one subject are in one
// partition, in their order. By librdkafka's idempotent producer, with the acknowledgement of all
// replicas that are in sync.
#pragma once

#include "brokers/program.h"

#include <librdkafka/rdkafka.h>
#include <memory>
#include <string>
#include <vector>

namespace postrider::brokers {

class KafkaPublisher : public Publisher {
 public:
  KafkaPublisher(PublisherSettings settings, const Clock& clock);  // clock outlives it
  Result<void> publish(const Wave& wave, SteadyTime until, std::vector<bool>& taken) override;
  void tend() override;  // what the library has to say

 private:
  struct Destroy {
    // What is still in it is given up: it comes again.
    void operator()(rd_kafka_t* producer) const;
  };
  // What came of a wave.
  struct Reports {
    std::vector<bool>* taken = nullptr;
    std::size_t open = 0;
    rd_kafka_resp_err_t trouble = RD_KAFKA_RESP_ERR_NO_ERROR;  // of the last that failed
    bool is_over = false;                                      // no more reports will come
    std::string told;                                          // about the connection, meanwhile
  };

  Result<void> prepare();
  Result<void> send(const Message& message, std::size_t place_in_wave);
  static void delivered(rd_kafka_t* producer, const rd_kafka_message_t* record, void* self);
  static void troubled(rd_kafka_t* producer, int error, const char* reason, void* self);
  Error failed(rd_kafka_resp_err_t trouble, const std::string& step) const;

  const PublisherSettings settings_;
  const Clock& clock_;
  Reports reports_;
  std::unique_ptr<rd_kafka_t, Destroy> producer_;
};

}  // namespace postrider::brokers
