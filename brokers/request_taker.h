// Takes mail requests from a broker: each is acknowledged there only when its mail is in the
// daemon's custody. One that is refused for good is reported at the broker, if there is a place for
// that, before it is given up. So nothing is lost, whoever ends in between; and what comes again
// with the same key is the same mail, for a day.
#pragma once

#include "brokers/consumer.h"
#include "brokers/publisher.h"

#include "base/log.h"
#include "daemon/protocol/submit_protocol.h"

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

namespace postrider::brokers {

class RequestTaker {
 public:
  using Submit = std::function<Result<daemon::SubmitAnswer>(const daemon::SubmitHeader& header,
                                                            std::string_view content)>;
  using Sleep = std::function<void(Duration)>;
  using Large = std::timed_mutex;
  using Count = std::shared_ptr<std::atomic<std::uint64_t>>;
  struct Settings {
    std::string name;             // of the source: whose limits count
    std::string host;             // ours
    std::string protocol;         // "amqp"
    std::uint64_t most_size = 0;  // octets of a message
    Submit submit;
    Sleep sleep;
    Count refused = std::make_shared<Count::element_type>();  // of this source, since the start
    Large* large = nullptr;  // shared by those of one program: a large request at a time
  };

  // refusals: where those that were refused are reported; null: nowhere. All of them outlive it.
  RequestTaker(Settings settings, Consumer& consumer, Publisher* refusals, const Clock& clock,
               Log& log);
  // Waits about a second for a request, and sees to it.
  void turn();

 private:
  RequestEnd take(BrokerRequest& request);
  RequestEnd take_in_turn(BrokerRequest& request);
  RequestEnd submit(const BrokerRequest& request, const daemon::SubmitHeader& header,
                    std::string_view content);
  RequestEnd put_off(const BrokerRequest& request, const std::string& reason);
  RequestEnd refuse(const BrokerRequest& request, const std::string& reason);
  Result<void> tell(const BrokerRequest& request, const std::string& reason);
  void report(const char* event, const Error& error);

  const Settings settings_;
  Consumer& consumer_;
  Publisher* const refusals_;
  const Clock& clock_;
  Log& log_;
  Duration pause_;  // after trouble with the broker
};

}  // namespace postrider::brokers
