// A connection to an AMQP 0.9.1 broker with one channel, by rabbitmq-c. Blocking; of one thread.
#pragma once

#include "events/broker_url.h"

#include "base/result.h"
#include "base/time.h"

#include <amqp.h>
#include <memory>
#include <string>

namespace postrider::brokers {

inline constexpr amqp_channel_t kAmqpChannel = 1;

class AmqpConnection {
 public:
  // roots: a file of certificates; empty: the system's.
  static Result<std::unique_ptr<AmqpConnection>> open(const events::BrokerUrl& url,
                                                      const std::string& password,
                                                      const std::string& roots, const Clock& clock,
                                                      SteadyTime until);

  amqp_connection_state_t state() const { return state_.get(); }
  // After an error the connection is of no more use.
  Result<void> check(const amqp_rpc_reply_t& reply, const std::string& step) const;
  Error lost(int status, const std::string& step) const;
  // What a channel.close or connection.close says.
  Error closed_by_broker(const amqp_method_t& method) const;
  static bool is_close(const amqp_method_t& method);
  // The next frame, if one comes in time.
  int wait_frame(amqp_frame_t& frame, Duration limit) const;

 private:
  struct Destroy {
    void operator()(amqp_connection_state_t state) const { amqp_destroy_connection(state); }
  };
  using State = std::unique_ptr<amqp_connection_state_t_, Destroy>;

  explicit AmqpConnection(std::string place) : place_(std::move(place)) {}
  Result<void> open_socket(const events::BrokerUrl& url, const std::string& roots,
                           const Clock& clock, SteadyTime until);
  Result<void> log_in(const events::BrokerUrl& url, const std::string& password);

  const std::string place_;
  State state_;
};

std::string text_of(amqp_bytes_t bytes);

}  // namespace postrider::brokers
