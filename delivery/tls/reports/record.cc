#include "delivery/tls/reports/record.h"

#include "base/text.h"
#include "base/url.h"
#include "delivery/tls/sts/tags.h"
#include "mail/address.h"

#include <algorithm>

namespace postrider::delivery {

namespace {

constexpr std::size_t kMostTargets = 5;
constexpr std::size_t kMostUri = 500;

int hex_digit(char c) {
  const char lower = ascii_lower(c);
  if (c >= '0' && c <= '9')
    return c - '0';
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// RFC 3986 §2.1. Nothing when it is malformed or would hide a control.
std::optional<std::string> decode_percent(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out.push_back(text[i]);
      continue;
    }
    const int high = i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
    const int low = high >= 0 ? hex_digit(text[i + 2]) : -1;
    const int octet = low < 0 ? -1 : high * 16 + low;
    if (octet < 0x20 || octet == 0x7f)
      return std::nullopt;
    out.push_back(static_cast<char>(octet));
    i += 2;
  }
  return out;
}

std::optional<TlsReportTarget> mail_target(std::string_view rest) {
  const auto decoded = decode_percent(rest.substr(0, rest.find('?')));
  if (!decoded || !is_ascii(*decoded) || !mail::parse_mailbox(*decoded, false))
    return std::nullopt;
  TlsReportTarget target;
  target.is_mail = true;
  target.address = *decoded;
  return target;
}

std::optional<TlsReportTarget> https_target(std::string_view uri) {
  auto url = parse_http_url(uri);
  if (!url || !mail::is_host_name(url->host) || url->host.find('.') == url->host.npos)
    return std::nullopt;
  TlsReportTarget target;
  target.host = std::move(url->host);
  target.port = url->port;
  target.path = std::move(url->target);
  return target;
}

}  // namespace

std::string TlsReportTarget::describe() const {
  if (is_mail)
    return "mailto:" + address;
  return "https://" + host + (port == 443 ? "" : ":" + std::to_string(port)) + path;
}

std::optional<TlsReportTarget> parse_tlsrpt_uri(std::string_view uri) {
  uri = uri.substr(0, uri.find('#'));
  const bool is_clean = std::all_of(uri.begin(), uri.end(), [](char c) {
    return c > 0x20 && c < 0x7f && c != '"' && c != '<' && c != '>' && c != '\\';
  });
  if (uri.size() > kMostUri || !is_clean)
    return std::nullopt;
  if (starts_with_ignoring_case(uri, "mailto:"))
    return mail_target(uri.substr(7));
  if (starts_with_ignoring_case(uri, "https://"))
    return https_target(uri);
  return std::nullopt;
}

std::vector<TlsReportTarget> parse_tlsrpt_record(const std::vector<std::string>& records) {
  std::vector<TlsReportTarget> targets;
  const auto record = only_record(records, "TLSRPTv1");
  if (!record)
    return targets;
  const auto tags = parse_tags(*record, "TLSRPTv1");
  if (!tags)
    return targets;
  for (const auto& tag : *tags) {
    if (tag.name != "rua")
      continue;
    for (const auto part : split(tag.value, ',')) {
      auto target = parse_tlsrpt_uri(trim(part));
      if (target && targets.size() < kMostTargets)
        targets.push_back(*std::move(target));
    }
  }
  return targets;
}

}  // namespace postrider::delivery
