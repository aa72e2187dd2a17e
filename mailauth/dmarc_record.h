// A DMARC Policy Record (RFC 9989 §4.7, §4.8): the TXT record at _dmarc.DOMAIN.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::mailauth {

enum class DmarcPolicy : std::uint8_t { none, quarantine, reject };  // from mild to strict
std::string_view to_string(DmarcPolicy policy);                      // "quarantine"
DmarcPolicy one_step_milder(DmarcPolicy policy);                     // what testing (t=y) asks for

// An address for reports.
struct ReportUri {
  std::string text;     // as published, without a size limit
  std::string scheme;   // lower case
  std::string mailbox;  // of a mailto URI, decoded, without its headers
  // "!10m" behind it: the octets of the largest report that is wanted there, as it is sent (RFC
  // 9990 §3.5); none: any.
  std::optional<std::uint64_t> most_size;
};

// More are ignored.
constexpr std::size_t kMostReportUris = 10;

struct DmarcRecord {
  enum class Psd : std::uint8_t { yes, no, unknown };

  std::optional<DmarcPolicy> p;
  std::optional<DmarcPolicy> sp;
  std::optional<DmarcPolicy> np;
  bool strict_dkim = false;  // adkim=s
  bool strict_spf = false;   // aspf=s
  bool testing = false;      // t=y
  Psd psd = Psd::unknown;
  std::string fo = "0";
  std::vector<ReportUri> rua;
  std::vector<ReportUri> ruf;
  // There is a p, and no sp or np that cannot be read.
  bool has_valid_policy = false;

  // Whether any policy comes of it (§4.10.1): a valid one, or, as p=none, an address for reports.
  bool applies() const { return has_valid_policy || !rua.empty(); }

  // Nothing for a text that does not begin with v=DMARC1, in that case of letters; white space
  // round it, as tag lists of DKIM have it, does not matter. What cannot be read behind it has its
  // default. So has a tag that is given twice: a record that says two things makes nobody refuse
  // mail. Unknown tags, and pct, rf and ri of RFC 7489, are ignored. Linear in the size of the
  // text, whatever it is.
  static std::optional<DmarcRecord> parse(std::string_view text);
};

// A member of rua or ruf: a URI (RFC 3986 §3, no comma and no exclamation mark) and its size limit,
// where there is one that can be read. Nothing for what is none, and for a mailto URI without a
// mailbox.
std::optional<ReportUri> parse_report_uri(std::string_view text);

}  // namespace postrider::mailauth
