#include "delivery/site_rules.h"

#include "base/text.h"

#include <algorithm>

namespace postrider::delivery {

namespace {

bool names(std::string_view pattern, std::string_view name) {
  if (name.ends_with('.'))
    name.remove_suffix(1);
  if (!pattern.starts_with('.'))
    return equals_ignoring_case(pattern, name);
  return name.size() > pattern.size() &&
         equals_ignoring_case(pattern, name.substr(name.size() - pattern.size()));
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

const Provider* find_provider(std::string_view name) {
  const auto found = std::find_if(providers().begin(), providers().end(), [&](const Provider& one) {
    return equals_ignoring_case(one.name, name);
  });
  return found == providers().end() ? nullptr : &*found;
}

// A domain that mixes providers is not a site of either.
bool matches(std::string_view pattern, std::string_view domain, const std::vector<Host>& hosts) {
  constexpr std::string_view kHosts = "mx:";
  const auto* provider = find_provider(pattern);
  if (provider == nullptr && !pattern.starts_with(kHosts))
    return names(pattern, domain);
  const auto is_meant = [&](const Host& host) {
    return provider == nullptr ? names(pattern.substr(kHosts.size()), host.name)
                               : std::any_of(provider->hosts.begin(), provider->hosts.end(),
                                             [&](auto one) { return names(one, host.name); });
  };
  return !hosts.empty() && std::all_of(hosts.begin(), hosts.end(), is_meant);
}

constexpr unsigned kMostWeight = 1000;

}  // namespace

std::string provider_names() {
  std::string text;
  for (const auto& one : providers())
    text.append(text.empty() ? "" : ", ").append(one.name);
  return text;
}

bool is_provider(std::string_view name) {
  return find_provider(name) != nullptr;
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

std::vector<IpAddress> choose_sources(const std::vector<SiteSource>& all, std::uint64_t turn) {
  std::vector<IpAddress> chosen;
  for (const bool v4 : {false, true}) {
    std::uint64_t total = 0;
    for (const auto& source : all)
      total += source.address.is_v4() == v4 ? source.weight : 0;
    if (total == 0)
      continue;
    auto at = turn % total;
    for (const auto& source : all) {
      if (source.address.is_v4() != v4)
        continue;
      if (at < source.weight) {
        chosen.push_back(source.address);
        break;
      }
      at -= source.weight;
    }
  }
  return chosen;
}

const SiteRule* find_site_rule(const std::vector<SiteRule>& rules, std::string_view domain,
                               const std::vector<Host>& hosts) {
  const auto found = std::find_if(rules.begin(), rules.end(), [&](const SiteRule& rule) {
    return std::any_of(rule.match.begin(), rule.match.end(),
                       [&](const std::string& pattern) { return matches(pattern, domain, hosts); });
  });
  return found == rules.end() ? nullptr : &*found;
}

}  // namespace postrider::delivery
