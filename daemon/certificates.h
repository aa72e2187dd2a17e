// The certificates of the listeners: read, checked against their keys and the clock, and watched.
#pragma once

#include "base/net/tls/tls_identity.h"
#include "base/time.h"
#include "daemon/config/config_file.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace postrider::daemon {

struct Certificates {
  std::vector<std::shared_ptr<const TlsIdentity>> identities;  // in the order of tls.certificate
  std::vector<Problem> problems;                               // of all files, not only the first
  std::vector<Problem> warnings;  // out of their time: used all the same
};
// Reads files: not on a network loop. A certificate out of its time is used: few who send mail look
// at that, and nobody who does is served by a host that is down.
Certificates load_certificates(const Config& config, const Origins& origins, TimePoint now);

// "has expired on ..."; empty: it is valid now.
std::string out_of_time(const TlsIdentity& identity, TimePoint now);

// Another text as soon as one of the files is another one, as far as stat(2) can tell.
std::string certificate_stamp(const TlsConfig& config);
// The same, or nothing while the files cannot be read in time. For a process that does not fork.
std::optional<std::string> certificate_stamp_in_time(const TlsConfig& config);

}  // namespace postrider::daemon
