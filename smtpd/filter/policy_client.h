// The connection of one session to one policy service: opened when it is first needed, kept for
// the questions of the session. A milter::Gate bounds the connections of all sessions, and spares a
// service that cannot be reached.
#pragma once

#include "base/net/loop.h"
#include "base/net/tls/stream.h"
#include "smtpd/filter/milter_client.h"
#include "smtpd/filter/policy_protocol.h"

#include <memory>
#include <string>

namespace postrider::smtpd::filter::policy {

struct Patience {
  Duration connect{std::chrono::seconds(10)};
  Duration answer{std::chrono::seconds(100)};  // as Postfix has it
};

class PolicyClient {
 public:
  // clock and gate outlive it.
  PolicyClient(Loop& loop, const Clock& clock, milter::Gate& gate, milter::Address address,
               const Patience& patience);
  ~PolicyClient() { close(); }
  PolicyClient(const PolicyClient&) = delete;
  PolicyClient& operator=(const PolicyClient&) = delete;

  // A service may end a connection that it was not asked on for a while: then it is asked once
  // more.
  Task<Result<Action>> ask(std::string request);
  void give_up();

 private:
  Task<Result<void>> open();
  Task<Result<Action>> exchange(const std::string& request);
  void close();

  Loop& loop_;
  const Clock& clock_;
  milter::Gate& gate_;
  const milter::Address address_;
  const Patience patience_;
  std::unique_ptr<Stream> stream_;
  bool is_within_ = false;  // the gate
  bool has_given_up_ = false;
};

}  // namespace postrider::smtpd::filter::policy
