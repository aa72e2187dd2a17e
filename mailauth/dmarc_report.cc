#include "mailauth/dmarc_report.h"

#include "base/text.h"
#include "mailauth/dns_name.h"

#include <algorithm>

namespace postrider::mailauth {

namespace {

constexpr std::size_t kMostSubject = 2000;

// The octets of one character of UTF-8 that XML 1.0 may hold; 0 if there is none.
std::size_t xml_character(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text.front());
  const std::size_t size = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  const auto character = text.substr(0, size);
  if (character.size() != size || !is_utf8(character))
    return 0;
  if (size == 1)
    return (lead >= 0x20 && lead != 0x7f) || lead == '\t' ? 1 : 0;
  const bool is_non_character =
      size == 3 && (character == "\xef\xbf\xbe" || character == "\xef\xbf\xbf");
  return is_non_character ? 0 : size;
}

std::string_view to_string(OverrideReason reason) {
  switch (reason) {
    case OverrideReason::none:
      return "";
    case OverrideReason::local_policy:
      return "local_policy";
    case OverrideReason::mailing_list:
      return "mailing_list";
    case OverrideReason::other:
      return "other";
    case OverrideReason::policy_test_mode:
      return "policy_test_mode";
    case OverrideReason::trusted_forwarder:
      return "trusted_forwarder";
  }
  return "";
}

// RFC 9990 §3.1.3: aligned passes first, what did not pass last.
int rank(const SignatureReport& signature, const DmarcVerdict& verdict) {
  if (signature.result != SignatureResult::pass)
    return 3;
  if (equals_ignoring_case(signature.domain, verdict.author_domain))
    return 0;
  const bool is_related = is_within(signature.domain, verdict.policy_domain) ||
                          is_within(verdict.author_domain, signature.domain);
  return is_related ? 1 : 2;
}

std::vector<ReportRow::Signature> row_signatures(const std::vector<SignatureReport>& reports,
                                                 const DmarcVerdict& verdict) {
  std::vector<ReportRow::Signature> signatures;
  for (int wanted = 0; wanted <= 3; ++wanted)
    for (const auto& report : reports)
      if (rank(report, verdict) == wanted && signatures.size() < ReportRow::kMostSignatures &&
          !report.domain.empty())
        signatures.push_back({reported_text(report.domain), reported_text(report.selector),
                              std::string(to_string(report.result))});
  return signatures;
}

// "pass": no action, with a policy that would have asked for one.
std::string disposition_of(const DmarcVerdict& verdict, const Treatment& treatment) {
  if (verdict.result == DmarcResult::pass)
    return verdict.published == DmarcPolicy::none ? "none" : "pass";
  return std::string(to_string(treatment.action));
}

OverrideReason reason_of(const DmarcVerdict& verdict, const Treatment& treatment) {
  if (treatment.reason != OverrideReason::none || verdict.result == DmarcResult::pass ||
      treatment.action == verdict.published)
    return treatment.reason;
  return verdict.record.testing && treatment.action == verdict.applied
             ? OverrideReason::policy_test_mode
             : OverrideReason::local_policy;
}

std::string xml_text(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const auto size = xml_character(text);
    const auto character = text.substr(0, std::max<std::size_t>(size, 1));
    if (size == 0)
      out += '?';
    else if (character == "&")
      out += "&amp;";
    else if (character == "<")
      out += "&lt;";
    else if (character == ">")
      out += "&gt;";
    else if (character == "\"")
      out += "&quot;";
    else
      out += character;
    text.remove_prefix(character.size());
  }
  return out;
}

// Writes elements, each on a line of its own.
class XmlWriter {
 public:
  void open(std::string_view name) {
    line().append("<").append(name).append(">\n");
    ++depth_;
  }
  void close(std::string_view name) {
    --depth_;
    line().append("</").append(name).append(">\n");
  }
  void element(std::string_view name, std::string_view text) {
    line().append("<").append(name).append(">").append(xml_text(text));
    out_.append("</").append(name).append(">\n");
  }
  void optional_element(std::string_view name, std::string_view text) {
    if (!text.empty())
      element(name, text);
  }
  const std::string& text() const { return out_; }

  explicit XmlWriter(int depth = 0) : depth_(depth) {}

 private:
  std::string& line() { return out_.append(static_cast<std::size_t>(depth_) * 2, ' '); }

  std::string out_;
  int depth_;
};

std::string seconds_text(std::chrono::sys_seconds when) {
  return std::to_string(when.time_since_epoch().count());
}

std::string record_xml(const ReportRow& row, std::uint64_t count) {
  XmlWriter xml(1);
  const auto word = [](bool pass) { return pass ? "pass" : "fail"; };
  xml.open("record");
  xml.open("row");
  xml.element("source_ip", row.source);
  xml.element("count", std::to_string(count));
  xml.open("policy_evaluated");
  xml.element("disposition", row.disposition);
  xml.element("dkim", word(row.dkim_aligned));
  xml.element("spf", word(row.spf_aligned));
  if (!row.reason.empty()) {
    xml.open("reason");
    xml.element("type", row.reason);
    xml.optional_element("comment", row.comment);
    xml.close("reason");
  }
  xml.close("policy_evaluated");
  xml.close("row");
  xml.open("identifiers");
  xml.element("header_from", row.header_from);
  xml.optional_element("envelope_from", row.envelope_from);
  xml.close("identifiers");
  xml.open("auth_results");
  for (const auto& signature : row.signatures) {
    xml.open("dkim");
    xml.element("domain", signature.domain);
    xml.element("selector", signature.selector);
    xml.element("result", signature.result);
    xml.close("dkim");
  }
  xml.open("spf");
  xml.element("domain", row.envelope_from);
  xml.element("scope", "mfrom");
  xml.element("result", row.spf_result);
  xml.close("spf");
  xml.close("auth_results");
  xml.close("record");
  return xml.text();
}

std::string head_xml(const ReportHead& head, const PublishedPolicy& policy,
                     std::uint64_t left_out) {
  XmlWriter xml(1);
  xml.element("version", "1.0");
  xml.open("report_metadata");
  xml.element("org_name", head.organisation);
  xml.element("email", head.contact);
  xml.element("report_id", head.id);
  xml.open("date_range");
  xml.element("begin", seconds_text(head.begin));
  xml.element("end", seconds_text(head.end));
  xml.close("date_range");
  std::string error = policy.error;
  if (left_out > 0)
    error.append(error.empty() ? "" : "; ")
        .append(std::to_string(left_out) + " messages are left out of this report");
  xml.optional_element("error", error);
  xml.optional_element("generator", head.generator);
  xml.close("report_metadata");
  xml.open("policy_published");
  xml.element("domain", policy.domain);
  xml.element("discovery_method", "treewalk");
  xml.element("p", policy.p);
  xml.optional_element("sp", policy.sp);
  xml.optional_element("np", policy.np);
  xml.element("fo", policy.fo);
  xml.element("adkim", policy.adkim);
  xml.element("aspf", policy.aspf);
  xml.element("testing", policy.testing);
  xml.close("policy_published");
  return xml.text();
}

}  // namespace

std::string reported_text(std::string_view text) {
  constexpr std::size_t kMost = 253;
  std::string out;
  text = text.substr(0, kMost);
  while (!text.empty()) {
    const auto size = xml_character(text);
    if (size == 0)
      out += '?';
    else
      out += text.substr(0, size);
    text.remove_prefix(std::max<std::size_t>(size, 1));
  }
  return out;
}

ReportRow report_row(const DmarcVerdict& verdict, const IpAddress& client,
                     const SpfVerdict& mail_from, const std::vector<SignatureReport>& signatures,
                     const Treatment& treatment) {
  ReportRow row;
  row.source = client.str();
  row.header_from = reported_text(verdict.author_domain);
  row.envelope_from = reported_text(mail_from.domain);
  row.disposition = disposition_of(verdict, treatment);
  row.dkim_aligned = verdict.dkim_aligned;
  row.spf_aligned = verdict.spf_aligned;
  row.reason = to_string(reason_of(verdict, treatment));
  row.comment = row.reason.empty() ? "" : reported_text(treatment.comment);
  row.spf_result = to_string(mail_from.result);
  row.signatures = row_signatures(signatures, verdict);
  return row;
}

PublishedPolicy published_policy(const DmarcVerdict& verdict) {
  const auto& record = verdict.record;
  PublishedPolicy policy;
  policy.domain = verdict.policy_domain;
  policy.p = to_string(record.has_valid_policy ? *record.p : DmarcPolicy::none);
  if (record.has_valid_policy && record.sp)
    policy.sp = to_string(*record.sp);
  if (record.has_valid_policy && record.np)
    policy.np = to_string(*record.np);
  policy.adkim = record.strict_dkim ? "s" : "r";
  policy.aspf = record.strict_spf ? "s" : "r";
  policy.fo = record.fo;
  policy.testing = record.testing ? "y" : "n";
  if (!record.has_valid_policy)
    policy.error = "p, sp or np is missing or cannot be read";
  for (const auto& uri : record.rua)
    policy.rua.push_back(uri.most_size ? uri.text + "!" + std::to_string(*uri.most_size)
                                       : uri.text);
  return policy;
}

bool is_report_domain(std::string_view domain) {
  return !domain.empty() && std::all_of(domain.begin(), domain.end(), [](char c) {
    const char lower = ascii_lower(c);
    return (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
           c == '.';
  });
}

bool asks_for_reports(const DmarcVerdict& verdict) {
  return !verdict.record.rua.empty() && is_report_domain(verdict.policy_domain);
}

std::string report_xml(const ReportHead& head, const PolicyRows& policy, std::size_t most_size) {
  std::vector<const PolicyRows::Rows::value_type*> sorted;
  for (const auto& row : policy.rows)
    sorted.push_back(&row);
  // Of equal counts in the order of the map, so that it is the same each time.
  std::sort(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) {
    return a->second != b->second ? a->second > b->second : a->first < b->first;
  });
  std::string records;
  auto left_out = policy.lost;
  bool is_full = false;
  for (const auto* row : sorted) {
    const auto record = is_full ? std::string() : record_xml(row->first, row->second);
    is_full = is_full || records.size() + record.size() > most_size;
    if (is_full)
      left_out += row->second;
    else
      records += record;
  }
  return "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
         "<feedback xmlns=\"urn:ietf:params:xml:ns:dmarc-2.0\">\n" +
         head_xml(head, policy.published, left_out) + records + "</feedback>\n";
}

std::string report_file_name(const ReportHead& head, const PublishedPolicy& policy) {
  std::string unique;
  for (const char c : head.id)
    if ((c >= '0' && c <= '9') || (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z'))
      unique += c;
  return head.submitter + "!" + policy.domain + "!" + seconds_text(head.begin) + "!" +
         seconds_text(head.end) + "!" + unique + ".xml.gz";
}

std::string report_subject(const ReportHead& head, const PublishedPolicy& policy) {
  return "Report Domain: " + policy.domain + "\r\n\tSubmitter: " + head.submitter +
         "\r\n\tReport-ID: <" + head.id + "@" + head.submitter + ">";
}

bool is_report_subject(std::string_view value) {
  // "Report Domain: x Submitter: y Report-ID: <z>", folded anywhere.
  std::string words;
  for (const char c : value.substr(0, kMostSubject))
    if (c != ' ' && c != '\t' && c != '\r' && c != '\n')
      words += ascii_lower(c);
  const auto submitter = words.find("submitter:");
  return words.starts_with("reportdomain:") && submitter != std::string::npos &&
         words.find("report-id:", submitter) != std::string::npos;
}

}  // namespace postrider::mailauth
