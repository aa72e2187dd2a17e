// Where a domain wants its TLS reports: the TXT record of _smtp._tls.DOMAIN (RFC 8460 §3). Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::delivery {

struct TlsReportTarget {
  bool is_mail = false;
  std::string address;  // of mail: "reports@example.org"
  std::string host;     // of HTTPS: a host name, lower case
  std::uint16_t port = 443;
  std::string path;  // "/v1/tlsrpt", with its query
  // "mailto:reports@example.org" or "https://example.org/v1/tlsrpt"
  std::string describe() const;
};

// At most five; what is neither mailto: nor https:, or not well formed, is passed over. Empty: the
// domain wants no reports, or says so in a way that nobody can read.
std::vector<TlsReportTarget> parse_tlsrpt_record(const std::vector<std::string>& records);
std::optional<TlsReportTarget> parse_tlsrpt_uri(std::string_view uri);

}  // namespace postrider::delivery
