// A day's report for one domain: its JSON, its compressed form, and the mail that carries it
// (RFC 8460 §4.4, §5.3). Pure.
#pragma once

#include "delivery/reports/report_mail.h"
#include "delivery/tls/reports/tally.h"
#include "mail/message_id.h"

#include <string>
#include <string_view>

namespace postrider::delivery {

struct TlsReportHead {
  std::string organisation;
  std::string contact;    // an address, which is also the sender
  std::string submitter;  // our host name
  std::string domain;     // that the report is about
  std::string id;         // unique, letters and digits
  Day day;
};

std::string tls_report_json(const TlsReportHead& head, const DomainTally& policies);

// "mx.us.example!example.org!1796342400!1796428799!id.json.gz"
std::string tls_report_file_name(const TlsReportHead& head);

// The whole message, CRLF line ends, 7-bit. It says "TLS-Required: No": a report must arrive
// although TLS does not work (RFC 8460 §3, RFC 8689 §5).
std::string tls_report_mail(const TlsReportHead& head, std::string_view compressed,
                            const std::string& to, mail::MessageId id, TimePoint now);

}  // namespace postrider::delivery
