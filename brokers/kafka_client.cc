#include "brokers/kafka_client.h"

#include <cerrno>
#include <syslog.h>

namespace postrider::brokers {

boost::system::error_code code_of_kafka(rd_kafka_resp_err_t trouble) {
  switch (trouble) {
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
      return make_error_code(Errc::refused);
    case RD_KAFKA_RESP_ERR__SSL:
      return make_error_code(Errc::tls);
    case RD_KAFKA_RESP_ERR__TIMED_OUT:
    case RD_KAFKA_RESP_ERR__MSG_TIMED_OUT:
      return {ETIMEDOUT, boost::system::generic_category()};
    default:
      return make_error_code(Errc::truncated);
  }
}

Result<void> configure_kafka(rd_kafka_conf_t* options, const PublisherSettings& settings,
                             const KafkaValues& values) {
  const auto& url = settings.url;
  const bool is_address6 = url.host.find(':') != std::string::npos;
  const auto server =
      (is_address6 ? "[" + url.host + "]" : url.host) + ":" + std::to_string(url.port);
  KafkaValues all = {{"bootstrap.servers", server},
                     {"client.id", "postrider-" + settings.host + "-" + settings.name},
                     {"log_level", std::to_string(LOG_EMERG)}};  // errors say it
  const bool has_user = !url.user.empty();
  all.emplace_back("security.protocol", has_user ? (url.is_tls ? "sasl_ssl" : "sasl_plaintext")
                                                 : (url.is_tls ? "ssl" : "plaintext"));
  if (has_user) {
    all.emplace_back("sasl.mechanisms", "PLAIN");
    all.emplace_back("sasl.username", url.user);
    all.emplace_back("sasl.password", settings.password);
  }
  if (url.is_tls) {
    all.emplace_back("ssl.endpoint.identification.algorithm", "https");
    if (!settings.roots.empty())
      all.emplace_back("ssl.ca.location", settings.roots);
  }
  all.insert(all.end(), values.begin(), values.end());
  for (const auto& [name, value] : all) {
    char reason[512] = "";
    if (rd_kafka_conf_set(options, name, value.c_str(), reason, sizeof reason) != RD_KAFKA_CONF_OK)
      return Error(Errc::refused, "make a client of Kafka (" + std::string(reason) + ")");
  }
  return {};
}

}  // namespace postrider::brokers
