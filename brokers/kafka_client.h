// What the clients of Kafka have in common, by librdkafka.
#pragma once

#include "brokers/program.h"

#include <librdkafka/rdkafka.h>
#include <string>
#include <utility>
#include <vector>

namespace postrider::brokers {

using KafkaValues = std::vector<std::pair<const char*, std::string>>;

// Where the cluster is, how to log in, and these values. Errc::refused: the library does not take
// one.
Result<void> configure_kafka(rd_kafka_conf_t* options, const PublisherSettings& settings,
                             const KafkaValues& values);
boost::system::error_code code_of_kafka(rd_kafka_resp_err_t trouble);

}  // namespace postrider::brokers
