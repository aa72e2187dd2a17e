// A connection to a broker, in clear or by TLS, for those protocols that have no client library.
// Blocking; of one thread.
#pragma once

#include "events/broker_url.h"

#include "base/file.h"
#include "base/net/tls/tls_channel.h"
#include "base/result.h"
#include "base/time.h"

#include <memory>
#include <string>
#include <string_view>

namespace postrider::brokers {

class BrokerConnection {
 public:
  // By the names that this machine knows; each address has its turn. With TLS the certificate must
  // be trusted and name the host. roots: a file of certificates; empty: the system's. The clock
  // outlives it.
  static Result<std::unique_ptr<BrokerConnection>> open(const events::BrokerUrl& url,
                                                        const std::string& roots,
                                                        const Clock& clock, SteadyTime until);

  // All of it, or an error. What comes meanwhile is kept for receive().
  Result<void> send(std::string_view bytes, SteadyTime until);
  // What has come, at least an octet. ETIMEDOUT; Errc::truncated: the broker has hung up.
  Result<std::string> receive(SteadyTime until);
  // What has come by now, which may be nothing.
  Result<std::string> receive_now();

 private:
  enum class Wait : std::uint8_t { nothing, to_read, to_write };

  BrokerConnection(FileDescriptor socket, const Clock& clock)
      : socket_(std::move(socket)), clock_(clock) {}
  Result<void> start_tls(const std::string& host, const std::string& roots, SteadyTime until);
  Result<Wait> write_some(std::string_view& left);
  Result<Wait> read_some();
  Result<void> wait(Wait what, Wait also, SteadyTime until) const;

  FileDescriptor socket_;
  const Clock& clock_;
  std::unique_ptr<TlsChannel> tls_;
  std::string received_;
};

}  // namespace postrider::brokers
