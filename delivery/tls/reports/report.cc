#include "delivery/tls/reports/report.h"

#include "base/text.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

namespace postrider::delivery {

namespace {

namespace json = boost::json;

// "2026-11-23T00:00:00Z"
std::string second_text(std::chrono::sys_seconds when) {
  auto text = format_rfc3339(TimePoint(when));
  const auto dot = text.find('.');
  return text.substr(0, dot) + "Z";
}

std::chrono::sys_seconds first_second(Day day) {
  return day;
}
std::chrono::sys_seconds last_second(Day day) {
  return day + std::chrono::days(1) - std::chrono::seconds(1);
}

json::array to_json(const std::vector<std::string>& texts) {
  json::array out;
  for (const auto& text : texts)
    out.emplace_back(text);
  return out;
}

json::object failure_json(const TlsFailure& failure) {
  json::object out{{"result-type", failure.result}};
  const auto add = [&](const char* key, const std::string& value) {
    if (!value.empty())
      out[key] = value;
  };
  add("sending-mta-ip", failure.from_address);
  add("receiving-mx-hostname", failure.host);
  add("receiving-mx-helo", failure.helo);
  add("receiving-ip", failure.address);
  out["failed-session-count"] = failure.count;
  add("additional-information", failure.detail);
  add("failure-reason-code", failure.code);
  return out;
}

json::object policy_json(const PolicyTally& policy, const std::string& domain) {
  json::object about{{"policy-type", policy.type}};
  if (!policy.strings.empty())
    about["policy-string"] = to_json(policy.strings);
  about["policy-domain"] = domain;
  if (!policy.hosts.empty())
    about["mx-host"] = to_json(policy.hosts);
  json::object out{{"policy", std::move(about)}};
  out["summary"] = json::object{{"total-successful-session-count", policy.successes},
                                {"total-failure-session-count", policy.failures}};
  if (policy.details.empty())
    return out;
  json::array details;
  for (const auto& failure : policy.details)
    details.push_back(failure_json(failure));
  out["failure-details"] = std::move(details);
  return out;
}

}  // namespace

std::string tls_report_json(const TlsReportHead& head, const DomainTally& policies) {
  json::object out{{"organization-name", head.organisation}};
  out["date-range"] = json::object{{"start-datetime", second_text(first_second(head.day))},
                                   {"end-datetime", second_text(last_second(head.day))}};
  out["contact-info"] = head.contact;
  out["report-id"] = head.id;
  json::array list;
  for (const auto& policy : policies)
    list.push_back(policy_json(policy, head.domain));
  out["policies"] = std::move(list);
  return json::serialize(out);
}

std::string tls_report_file_name(const TlsReportHead& head) {
  const auto seconds = [](std::chrono::sys_seconds when) {
    return std::to_string(when.time_since_epoch().count());
  };
  return head.submitter + "!" + head.domain + "!" + seconds(first_second(head.day)) + "!" +
         seconds(last_second(head.day)) + "!" + head.id + ".json.gz";
}

std::string tls_report_mail(const TlsReportHead& head, std::string_view compressed,
                            const std::string& to, mail::MessageId id, TimePoint now) {
  AttachedReport report;
  report.contact = head.contact;
  report.submitter = head.submitter;
  report.to = to;
  report.subject = "Report Domain: " + head.domain + "\r\n\tSubmitter: " + head.submitter +
                   "\r\n\tReport-ID: <" + head.id + "@" + head.submitter + ">";
  report.fields = "TLS-Report-Domain: " + head.domain +
                  "\r\nTLS-Report-Submitter: " + head.submitter + "\r\nTLS-Required: No\r\n";
  report.content_type = "multipart/report; report-type=\"tlsrpt\"";
  report.boundary = "=_tlsrpt_" + head.id;
  report.sentence = "This is an aggregate TLS report (RFC 8460) from " + head.submitter +
                    ",\r\nabout " + head.domain + ", for " + second_text(first_second(head.day)) +
                    " to " + second_text(last_second(head.day)) + ".\r\n";
  report.part_type = "application/tlsrpt+gzip";
  report.file = tls_report_file_name(head);
  return report_message(report, attachment_text(compressed), id, now);
}

}  // namespace postrider::delivery
