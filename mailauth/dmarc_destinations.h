// Who may get the aggregate reports of a domain: a question to the DNS (RFC 9990 §4). Pure.
#pragma once

#include "mailauth/asking.h"
#include "mailauth/dmarc_record.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace postrider::mailauth {

struct ReportMailbox {
  std::string address;
  std::optional<std::uint64_t> most_size;  // octets of the attachment as it is sent
  friend bool operator==(const ReportMailbox&, const ReportMailbox&) = default;
};

struct ReportDestinations {
  std::vector<ReportMailbox> mailboxes;  // each address once, kMostReportUris at most
  // The DNS does not say whether these may have it: to be asked again later.
  std::vector<std::string> unknown;
};
// Addresses in another organization must have asked for it, with a record at
// POLICY-DOMAIN._report._dmarc.HOST; that may name other addresses at the same host. Only mailto
// URIs with ASCII mailboxes are served. Asks at most 17 questions for each of rua.
Asking<ReportDestinations> report_destinations(std::string policy_domain,
                                               std::vector<std::string> rua);

}  // namespace postrider::mailauth
