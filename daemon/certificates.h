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
};
// Reads files: not on a network loop. A certificate out of its time is a problem.
Certificates load_certificates(const Config& config, const Origins& origins, TimePoint now);

// Another text as soon as one of the files is another one, as far as stat(2) can tell.
std::string certificate_stamp(const TlsConfig& config);
// The same, or nothing while the files cannot be read in time. For a process that does not fork.
std::optional<std::string> certificate_stamp_in_time(const TlsConfig& config);

}  // namespace postrider::daemon
