// How long connections to other servers wait, and what protects them.
#pragma once

#include "base/time.h"

#include <memory>

namespace postrider {
class TlsContext;
}

namespace postrider::delivery {

// How long to wait at each stage (RFC 5321 §4.5.3.2; the connection as Postfix has it).
struct Timeouts {
  Duration connect = std::chrono::seconds(30);
  Duration greeting = std::chrono::minutes(5);
  Duration ehlo = std::chrono::minutes(5);
  Duration mail = std::chrono::minutes(5);
  Duration rcpt = std::chrono::minutes(5);
  Duration data = std::chrono::minutes(2);
  Duration block = std::chrono::minutes(3);      // a block of the content
  Duration body_end = std::chrono::minutes(10);  // a shorter wait makes duplicates
  Duration quit = std::chrono::seconds(5);
  Duration handshake = std::chrono::minutes(1);  // of TLS
  Duration auth = std::chrono::minutes(5);       // each reply
};

struct SmtpSettings {
  Timeouts timeouts;
  Duration idle_connection = std::chrono::seconds(5);  // kept open for the next message
  // For handshakes where any TLS is better than none, and where it must be good. Null: no TLS.
  std::shared_ptr<const TlsContext> tls_lenient;
  std::shared_ptr<const TlsContext> tls_strict;
};

}  // namespace postrider::delivery
