#include "delivery/tls/reports/tally.h"

#include "base/text.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include <algorithm>
#include <tuple>

namespace postrider::delivery {

namespace {

namespace json = boost::json;

constexpr std::size_t kMostText = 256;
constexpr std::size_t kMostStrings = 100;

std::string cut(const std::string& text) {
  return escaped(text, kMostText);
}

std::vector<std::string> cut(const std::vector<std::string>& texts) {
  std::vector<std::string> out;
  for (const auto& text : texts)
    if (out.size() < kMostStrings)
      out.push_back(cut(text));
  return out;
}

PolicyTally policy_of(const TlsReport& report) {
  PolicyTally policy;
  policy.type = "no-policy-found";
  if (report.source == TlsSource::dane) {
    policy.type = "tlsa";
    std::vector<std::string> records;
    for (const auto& record : report.tlsa)
      records.push_back(to_string(record));
    policy.strings = cut(records);
  } else if (report.source == TlsSource::mta_sts && report.sts) {
    policy.type = "sts";
    policy.strings = cut(report.sts->lines);
    policy.hosts = cut(report.sts->mx);
  }
  return policy;
}

TlsFailure failure_of(const TlsReport& report) {
  TlsFailure failure;
  failure.result = to_string(report.result);
  failure.from_address = cut(report.from_address);
  failure.host = cut(report.host);
  failure.helo = cut(report.helo);
  failure.address = cut(report.address);
  failure.detail = cut(report.detail);
  failure.code = cut(report.code);
  return failure;
}

auto fields(const TlsFailure& failure) {
  return std::tie(failure.result, failure.from_address, failure.host, failure.helo, failure.address,
                  failure.detail, failure.code);
}

void add_failure(PolicyTally& policy, TlsFailure failure, std::size_t most) {
  const auto known =
      std::find_if(policy.details.begin(), policy.details.end(),
                   [&](const TlsFailure& one) { return fields(one) == fields(failure); });
  if (known != policy.details.end()) {
    ++known->count;
  } else if (policy.details.size() < most) {
    failure.count = 1;
    policy.details.push_back(std::move(failure));
  }
}

// --- JSON ---

constexpr std::pair<const char*, std::string TlsFailure::*> kTexts[] = {
    {"result", &TlsFailure::result}, {"from", &TlsFailure::from_address},
    {"host", &TlsFailure::host},     {"helo", &TlsFailure::helo},
    {"to", &TlsFailure::address},    {"detail", &TlsFailure::detail},
    {"code", &TlsFailure::code},
};

json::array to_json(const std::vector<std::string>& texts) {
  json::array out;
  for (const auto& text : texts)
    out.emplace_back(text);
  return out;
}

json::object to_json(const PolicyTally& policy) {
  json::object out{{"type", policy.type},
                   {"strings", to_json(policy.strings)},
                   {"hosts", to_json(policy.hosts)},
                   {"successes", policy.successes},
                   {"failures", policy.failures}};
  json::array details;
  for (const auto& failure : policy.details) {
    json::object one{{"count", failure.count}};
    for (const auto& [name, member] : kTexts)
      if (!(failure.*member).empty())
        one[name] = failure.*member;
    details.push_back(std::move(one));
  }
  out["details"] = std::move(details);
  return out;
}

// Escaped when it was counted; four times as long at most.
std::string kept(const json::string& text) {
  return text.size() <= 4 * kMostText + 3 ? std::string(text) : std::string();
}

// Each reader gives an empty value for what is not there or of another type.
std::string text_at(const json::object& from, std::string_view key) {
  const auto* value = from.if_contains(key);
  return value != nullptr && value->is_string() ? kept(value->get_string()) : std::string();
}

std::uint64_t number_at(const json::object& from, std::string_view key) {
  const auto* value = from.if_contains(key);
  boost::system::error_code failed;
  const auto number = value == nullptr ? 0 : value->to_number<std::uint64_t>(failed);
  return failed ? 0 : number;
}

const json::array& array_at(const json::object& from, std::string_view key) {
  static const json::array kNone;
  const auto* value = from.if_contains(key);
  return value != nullptr && value->is_array() ? value->get_array() : kNone;
}

std::vector<std::string> texts_at(const json::object& from, std::string_view key) {
  std::vector<std::string> out;
  for (const auto& value : array_at(from, key))
    if (value.is_string() && out.size() < kMostStrings)
      out.push_back(kept(value.get_string()));
  return out;
}

PolicyTally policy_from(const json::object& from, std::size_t most_details) {
  PolicyTally policy;
  policy.type = text_at(from, "type");
  policy.strings = texts_at(from, "strings");
  policy.hosts = texts_at(from, "hosts");
  policy.successes = number_at(from, "successes");
  policy.failures = number_at(from, "failures");
  for (const auto& value : array_at(from, "details")) {
    if (!value.is_object() || policy.details.size() >= most_details)
      continue;
    TlsFailure failure;
    for (const auto& [name, member] : kTexts)
      failure.*member = text_at(value.get_object(), name);
    failure.count = number_at(value.get_object(), "count");
    policy.details.push_back(std::move(failure));
  }
  return policy;
}

}  // namespace

void TlsTally::add(const TlsReport& report) {
  const auto day = std::chrono::floor<std::chrono::days>(report.when);
  auto& domains = days_[day];
  auto found = domains.find(report.domain);
  if (found == domains.end()) {
    if (domains_ >= limits_.domains)
      return;
    ++domains_;
    found = domains.emplace(report.domain, DomainTally()).first;
  }
  auto& policies = found->second;
  auto wanted = policy_of(report);
  auto known = std::find_if(policies.begin(), policies.end(), [&](const PolicyTally& one) {
    return one.type == wanted.type && one.strings == wanted.strings && one.hosts == wanted.hosts;
  });
  if (known == policies.end()) {
    if (policies.size() >= limits_.policies)
      return;
    policies.push_back(std::move(wanted));
    known = policies.end() - 1;
  }
  if (report.result == TlsResult::success) {
    ++known->successes;
    return;
  }
  ++known->failures;
  add_failure(*known, failure_of(report), limits_.details);
}

void TlsTally::remove(Day day, const std::string& domain) {
  const auto found = days_.find(day);
  if (found == days_.end())
    return;
  domains_ -= found->second.erase(domain);
  if (found->second.empty())
    days_.erase(found);
}

void TlsTally::remove_before(Day day) {
  while (!days_.empty() && days_.begin()->first < day) {
    domains_ -= days_.begin()->second.size();
    days_.erase(days_.begin());
  }
}

std::string TlsTally::encode() const {
  json::object out;
  for (const auto& [day, domains] : days_) {
    json::object of_day;
    for (const auto& [domain, policies] : domains) {
      json::array list;
      for (const auto& policy : policies)
        list.push_back(to_json(policy));
      of_day[domain] = std::move(list);
    }
    out[std::to_string(day.time_since_epoch().count())] = std::move(of_day);
  }
  return json::serialize(out);
}

Result<TlsTally> TlsTally::decode(std::string_view text) {
  constexpr std::uint64_t kMostDay = 100'000;  // 2243
  TlsTally tally;
  boost::system::error_code failed;
  const auto parsed = json::parse(text, failed);
  if (failed || !parsed.is_object())
    return Error(Errc::corrupt, "read the stored TLS results");
  for (const auto& entry : parsed.get_object()) {
    const auto number = parse_unsigned(entry.key());
    if (!number || *number > kMostDay || !entry.value().is_object())
      return Error(Errc::corrupt, "read the stored TLS results");
    const Day day{std::chrono::days(static_cast<int>(*number))};
    for (const auto& of_domain : entry.value().get_object()) {
      if (!of_domain.value().is_array() || tally.domains_ >= tally.limits_.domains)
        continue;
      auto& policies = tally.days_[day][of_domain.key()];
      for (const auto& value : of_domain.value().get_array())
        if (value.is_object() && policies.size() < tally.limits_.policies)
          policies.push_back(policy_from(value.get_object(), tally.limits_.details));
      ++tally.domains_;
    }
  }
  return tally;
}

}  // namespace postrider::delivery
