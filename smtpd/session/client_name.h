// What the DNS calls a client (pure).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace postrider::smtpd {

struct ClientName {
  enum class Status : std::uint8_t {
    confirmed,    // the name leads back to the address
    unconfirmed,  // it leads elsewhere
    none,         // the address has no name
    unknown       // the DNS did not say in time
  };
  Status status = Status::unknown;
  std::string name;  // that the address leads to, in lower case; empty: none

  // For Received, logs and filters, as Postfix has it: only what is confirmed is a name.
  std::string_view shown() const {
    return status == Status::confirmed ? std::string_view(name) : "unknown";
  }
  std::string_view reverse() const { return name.empty() ? "unknown" : std::string_view(name); }
};

}  // namespace postrider::smtpd
