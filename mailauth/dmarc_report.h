// Aggregate reports for domains that publish DMARC records (RFC 9990): what is reported of a message,
// and a report as XML. Pure.
#pragma once

#include "base/network.h"
#include "base/time.h"
#include "mailauth/dkim_verify.h"
#include "mailauth/dmarc.h"
#include "mailauth/spf.h"

#include <chrono>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::mailauth {

// What we did with a message that failed, and why if that is not what its domain asks for (§3.1.6).
enum class OverrideReason : std::uint8_t {
  none,
  local_policy,
  mailing_list,
  other,
  policy_test_mode,
  trusted_forwarder
};
struct Treatment {
  DmarcPolicy action = DmarcPolicy::none;
  OverrideReason reason = OverrideReason::none;  // none: found by itself
  std::string comment;
};

// One kind of message: all of a kind are one record of the report, with their number. Texts are cut
// at 253 octets, and are UTF-8 that XML can hold. Envelope recipients are not kept: nobody needs them.
struct ReportRow {
  static constexpr std::size_t kMostSignatures = 100;  // §3.1.3
  struct Signature {
    std::string domain, selector, result;
    friend auto operator<=>(const Signature&, const Signature&) = default;
  };

  std::string source;  // the client's address
  std::string header_from;
  std::string envelope_from;  // the domain that SPF was asked about
  std::string disposition;    // none, pass, quarantine, reject
  bool dkim_aligned = false;
  bool spf_aligned = false;
  std::string reason;  // local_policy, ...; empty: none
  std::string comment;
  std::string spf_result;
  std::vector<Signature> signatures;  // aligned passes, other passes, what did not pass
  friend auto operator<=>(const ReportRow&, const ReportRow&) = default;
};
// Outside text as a row has it.
std::string reported_text(std::string_view text);
// Requires: the verdict has a record.
ReportRow report_row(const DmarcVerdict& verdict, const IpAddress& client,
                     const SpfVerdict& mail_from, const std::vector<SignatureReport>& signatures,
                     const Treatment& treatment);

// One configuration of one policy domain; each has a report of its own (§3.2).
struct PublishedPolicy {
  std::string domain;
  std::string p, sp, np;  // sp, np empty: not published
  std::string adkim, aspf, fo, testing;
  std::string error;             // what is wrong with the record; empty: nothing
  std::vector<std::string> rua;  // as published, size limits in octets
  friend auto operator<=>(const PublishedPolicy&, const PublishedPolicy&) = default;
};
PublishedPolicy published_policy(const DmarcVerdict& verdict);

// Letters, digits, "-", "_" and dots: what can stand in the name of a report's file and in a header.
bool is_report_domain(std::string_view domain);
// The record that applies asks for reports, and its domain can have one.
bool asks_for_reports(const DmarcVerdict& verdict);

// What a report tells.
struct PolicyRows {
  using Rows = std::map<ReportRow, std::uint64_t>;
  PublishedPolicy published;
  Rows rows;               // with their numbers
  std::uint64_t lost = 0;  // messages of kinds for which there was no room
};

struct ReportHead {
  std::string organisation;
  std::string contact;    // an address
  std::string submitter;  // our host name
  std::string id;         // letters, digits, ".", "-", "_"; unique
  std::chrono::sys_seconds begin, end;
  std::string generator = {};  // "Postrider 0.1.0"
};

// The XML document, in the namespace of RFC 9990. Outside text is escaped, and what XML cannot hold
// becomes "?". The rows with the highest counts come first; those beyond most_size octets are left
// out, and an error in the document says how many messages they were, with those that were lost.
std::string report_xml(const ReportHead& head, const PolicyRows& policy,
                       std::size_t most_size = 10'000'000);
// "mx.example.org!example.com!1796342400!1796428799!ID.xml.gz": what is sent again has it again.
std::string report_file_name(const ReportHead& head, const PublishedPolicy& policy);
// The value of Subject (§3.5.2), folded.
std::string report_subject(const ReportHead& head, const PublishedPolicy& policy);
// The Subject of somebody's report (§3.5.2, and RFC 7489 §7.2.1.1): two receivers that tell each other of each report
// would never end.
bool is_report_subject(std::string_view value);

}  // namespace postrider::mailauth
