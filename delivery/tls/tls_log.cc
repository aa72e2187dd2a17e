#include "delivery/tls/tls_log.h"

namespace postrider::delivery::maillog {

void tls(Log& log, std::string_view relay, const TlsDemand& demand, const TlsAttempt& attempt,
         const TlsVerdict& verdict) {
  const bool was_tried = attempt.step != TlsAttempt::Step::not_offered;
  const bool is_loss = verdict.next != TlsNext::go_on;
  const auto level =
      is_loss && (was_tried || verdict.next == TlsNext::next_host) ? Level::warn : Level::info;
  if (!log.enabled(level))
    return;
  LogEvent event(level, "tls");
  event.add("relay", relay).add("policy", demand.describe());
  event.add("state", describe_state(demand, attempt, verdict));
  event.add("result", to_string(verdict.result));
  if (verdict.next == TlsNext::in_clear || verdict.next == TlsNext::clear_again)
    event.add("next", "clear");
  else
    event.add("next", is_loss ? "another host" : "go on");
  log.write(std::move(event));
}

}  // namespace postrider::delivery::maillog
