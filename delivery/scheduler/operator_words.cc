#include "delivery/scheduler/operator_words.h"

#include "base/text.h"

#include <algorithm>

namespace postrider::scheduler {

namespace {

constexpr std::size_t kMostSteps = 20;
constexpr std::uint64_t kMostRate = 1'000'000;
constexpr Duration kLeastStep = std::chrono::milliseconds(100);
constexpr Duration kMostStep = std::chrono::hours(24 * 7);

std::optional<ReplyClass> class_named(std::string_view text) {
  for (std::size_t i = 0; i < kReplyClasses; ++i)
    if (text == name(static_cast<ReplyClass>(i)))
      return static_cast<ReplyClass>(i);
  return std::nullopt;
}

// What the providers call the hosts that take their mail.
struct Provider {
  std::string_view name;
  std::vector<std::string_view> hosts;
};

const std::vector<Provider>& providers() {
  static const std::vector<Provider> all = {
      {"apple", {".mail.icloud.com", ".apple.com"}},
      {"comcast", {".comcast.net"}},
      {"fastmail", {".messagingengine.com"}},
      {"gmx", {".gmx.net", ".gmx.com", ".web.de", ".kundenserver.de", ".mail.com"}},
      {"google", {".google.com", ".googlemail.com", ".psmtp.com"}},
      {"mailru", {".mail.ru"}},
      {"microsoft", {".protection.outlook.com", ".olc.protection.outlook.com", ".mx.microsoft"}},
      {"mimecast", {".mimecast.com", ".mimecast.co.za"}},
      {"orange", {".orange.fr", ".wanadoo.fr"}},
      {"ovh", {".ovh.net"}},
      {"proofpoint", {".pphosted.com", ".ppe-hosted.com"}},
      {"proton", {".protonmail.ch"}},
      {"qq", {".qq.com"}},
      {"tonline", {".t-online.de"}},
      {"yahoo", {".yahoodns.net"}},
      {"yandex", {".yandex.ru", ".yandex.net"}},
      {"zoho", {".zoho.com", ".zoho.eu", ".zoho.in"}},
  };
  return all;
}

constexpr unsigned kMostWeight = 1000;

}  // namespace

std::optional<double> parse_rate(std::string_view text) {
  const auto slash = text.find('/');
  if (slash == text.npos || slash + 2 != text.size())
    return std::nullopt;
  const auto count = parse_unsigned(text.substr(0, slash));
  if (!count || *count == 0 || *count > kMostRate)
    return std::nullopt;
  constexpr std::string_view kUnits = "smhd";
  constexpr double kSeconds[] = {1, 60, 3600, 86400};
  const auto unit = kUnits.find(text.back());
  if (unit == kUnits.npos)
    return std::nullopt;
  return static_cast<double>(*count) / kSeconds[unit];
}

std::optional<RetryRule> parse_retry_rule(std::string_view text) {
  std::optional<RetryRule> rule;
  for (const auto word : split(text, ' ')) {
    if (word.empty())
      continue;
    if (!rule) {
      const auto klass = class_named(word);
      if (!klass)
        return std::nullopt;
      rule = RetryRule{*klass, {}};
      continue;
    }
    const auto step = parse_duration(word);
    if (!step || *step < kLeastStep || *step > kMostStep || rule->steps.size() == kMostSteps)
      return std::nullopt;
    rule->steps.push_back(*step);
  }
  return rule && !rule->steps.empty() ? rule : std::nullopt;
}

std::string provider_names() {
  std::string text;
  for (const auto& one : providers())
    text.append(text.empty() ? "" : ", ").append(one.name);
  return text;
}

std::vector<std::string_view> hosts_of_provider(std::string_view name) {
  const auto found = std::find_if(providers().begin(), providers().end(), [&](const Provider& one) {
    return equals_ignoring_case(one.name, name);
  });
  return found == providers().end() ? std::vector<std::string_view>() : found->hosts;
}

std::optional<SiteSource> parse_site_source(std::string_view text) {
  SiteSource source;
  if (const auto star = text.find('*'); star != text.npos) {
    const auto weight = parse_unsigned(text.substr(star + 1));
    if (!weight || *weight == 0 || *weight > kMostWeight)
      return std::nullopt;
    source.weight = static_cast<unsigned>(*weight);
    text = text.substr(0, star);
  }
  const auto address = IpAddress::parse(text);
  if (!address)
    return std::nullopt;
  source.address = *address;
  return source;
}

}  // namespace postrider::scheduler
