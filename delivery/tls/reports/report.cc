#include "delivery/tls/reports/report.h"

#include "base/base64.h"
#include "base/text.h"
#include "mail/header.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include <algorithm>
#include <zlib.h>

namespace postrider::delivery {

namespace {

namespace json = boost::json;

constexpr std::size_t kBase64Line = 76;

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

std::string in_lines(std::string_view text) {
  std::string out;
  for (; !text.empty(); text.remove_prefix(std::min(kBase64Line, text.size())))
    out.append(text.substr(0, kBase64Line)).append("\r\n");
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

std::string gzip(std::string_view bytes) {
  constexpr int kGzip = 15 + 16;  // the largest window, and gzip's frame
  z_stream stream{};
  if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, kGzip, 8, Z_DEFAULT_STRATEGY) !=
      Z_OK)
    return {};
  std::string out(deflateBound(&stream, static_cast<uLong>(bytes.size())), '\0');
  std::string in(bytes);
  stream.next_in = reinterpret_cast<Bytef*>(in.data());
  stream.avail_in = static_cast<uInt>(in.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  const int ended = deflate(&stream, Z_FINISH);
  out.resize(ended == Z_STREAM_END ? stream.total_out : 0);
  deflateEnd(&stream);
  return out;
}

std::string tls_report_mail(const TlsReportHead& head, std::string_view compressed,
                            const std::string& to, mail::MessageId id, TimePoint now) {
  const auto boundary = "=_tlsrpt_" + head.id;
  const auto file = tls_report_file_name(head);
  std::string out = "Date: " + mail::format_date(now);
  out += "\r\nFrom: <" + head.contact + ">\r\nTo: <" + to + ">\r\nSubject: Report Domain: ";
  out += head.domain + "\r\n\tSubmitter: " + head.submitter + "\r\n\tReport-ID: <" + head.id + "@" +
         head.submitter + ">";
  out += "\r\nMessage-ID: " + mail::make_message_id(id, head.submitter);
  out += "\r\nTLS-Report-Domain: " + head.domain + "\r\nTLS-Report-Submitter: " + head.submitter;
  out += "\r\nTLS-Required: No\r\nAuto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n";
  out += "Content-Type: multipart/report; report-type=\"tlsrpt\";\r\n\tboundary=\"" + boundary +
         "\"\r\n\r\nThis is a report in MIME format.\r\n";
  out += "\r\n--" + boundary + "\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n";
  out += "This is an aggregate TLS report (RFC 8460) from " + head.submitter + ",\r\nabout " +
         head.domain + ", for " + second_text(first_second(head.day)) + " to " +
         second_text(last_second(head.day)) + ".\r\n";
  out += "\r\n--" + boundary + "\r\nContent-Type: application/tlsrpt+gzip;\r\n\tname=\"" + file;
  out += "\"\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment;\r\n";
  out += "\tfilename=\"" + file + "\"\r\n\r\n";
  out += in_lines(encode_base64(compressed));
  return out + "\r\n--" + boundary + "--\r\n";
}

}  // namespace postrider::delivery
