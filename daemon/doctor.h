// What a mail server gets wrong outside of its own configuration: names, records and ports.
#pragma once

#include "base/net/loop.h"
#include "daemon/certificates.h"
#include "daemon/config/config_file.h"
#include "dns/resolver.h"
#include "mailauth/signer.h"

#include <string>
#include <string_view>
#include <vector>

namespace postrider::daemon {

struct Finding {
  enum class Kind : std::uint8_t {
    ok,
    advice,  // others will take it, and it could be better
    problem,
    unknown,  // it could not be found out
  };
  Kind kind = Kind::ok;
  std::string check;   // "ptr", "spf": an interface of --json
  std::string text;    // what was found; not escaped
  std::string remedy;  // what to do; empty for ok
};

// What is examined, and where.
struct Patient {
  const Config& config;
  const Certificates& certificates;
  const mailauth::Signer* signer;  // null: no keys
  std::string domain;              // whose mail is sent
};

// The checks that look at this machine alone: blocks.
std::vector<Finding> examine_machine(const Patient& patient);
// Those that ask the DNS, and servers that it names. resolver: of the loop.
Task<std::vector<Finding>> examine_network(Loop& loop, dns::Resolver& resolver, Patient patient);

}  // namespace postrider::daemon
