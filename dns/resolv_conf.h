// /etc/resolv.conf, as far as a mail server needs it (resolv.conf(5)): nameserver, and the options
// timeout, attempts and trust-ad. `search` and `domain` are ignored: a mail domain is complete.
#pragma once

#include "base/time.h"
#include "dns/name_server.h"

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::dns {

struct ResolvConf {
  static constexpr std::size_t kMostServers = 8;
  std::vector<Server> servers;      // never empty: without a nameserver line it is 127.0.0.1
  std::optional<Duration> timeout;  // of one attempt
  std::optional<unsigned> attempts;
  bool trust_ad = false;
  friend bool operator==(const ResolvConf&, const ResolvConf&) = default;
};

// Never fails: lines that mean nothing are skipped, as the C library does.
ResolvConf parse_resolv_conf(std::string_view text);

// Notices when the file was changed or replaced. Reads nothing more often than kInterval.
class ResolvConfWatch {
 public:
  static constexpr Duration kInterval{3000};
  explicit ResolvConfWatch(std::string path) : path_(std::move(path)) {}

  // What the file says now, if it says something else than at the last call. A file that is
  // missing or unreadable says the default at first, and nothing new afterwards.
  std::optional<ResolvConf> changed(SteadyTime now);

 private:
  struct Version {
    std::uint64_t device = 0, inode = 0;
    std::int64_t size = 0, seconds = 0, nanoseconds = 0;
    friend bool operator==(const Version&, const Version&) = default;
  };
  std::optional<Version> version() const;

  std::string path_;
  std::optional<SteadyTime> checked_;
  std::optional<Version> seen_;
  std::optional<ResolvConf> last_;
};

}  // namespace postrider::dns
