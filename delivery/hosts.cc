#include "delivery/hosts.h"

#include "base/text.h"
#include "delivery/outcome.h"
#include "mail/address.h"

#include <boost/asio/ip/tcp.hpp>

#include <algorithm>
#include <cstring>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <set>

namespace postrider::delivery {

namespace {

using asio::ip::address;
using mail::Outcome;
using mail::Stage;
using mail::Verdict;

constexpr std::size_t kMostHosts = 10;       // in one attempt
constexpr std::size_t kMostKnown = 100;      // of a domain
constexpr std::size_t kMostAddresses = 100;  // of one host and family
constexpr std::size_t kMostCandidates = 5;

Outcome bounce(mail::EnhancedCode status, std::string text) {
  return decide(Verdict::bounce, Stage::route, status, std::move(text));
}

bool is_own_name(const std::string& name, const Settings& settings) {
  if (equals_ignoring_case(name, settings.hostname))
    return true;
  return std::any_of(settings.own_names.begin(), settings.own_names.end(),
                     [&](const auto& own) { return equals_ignoring_case(name, own); });
}

bool leads_nowhere(const address& candidate) {
  if (candidate.is_unspecified() || candidate.is_multicast())
    return true;
  if (candidate.is_v4())
    return candidate.to_v4().to_uint() == 0xffffffffU || candidate.to_v4().to_bytes()[0] == 0;
  return candidate.to_v6().is_link_local();  // of no use without a scope
}

address plain(const address& any) {
  if (any.is_v6() && any.to_v6().is_v4_mapped())
    return asio::ip::make_address_v4(asio::ip::v4_mapped, any.to_v6());
  return any;
}

std::vector<address> addresses_of_this_machine() {
  std::vector<address> found;
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0)
    return found;
  for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr)
      continue;
    if (entry->ifa_addr->sa_family == AF_INET) {
      sockaddr_in in{};
      std::memcpy(&in, entry->ifa_addr, sizeof in);
      found.emplace_back(asio::ip::address_v4(ntohl(in.sin_addr.s_addr)));
    } else if (entry->ifa_addr->sa_family == AF_INET6) {
      sockaddr_in6 in{};
      std::memcpy(&in, entry->ifa_addr, sizeof in);
      asio::ip::address_v6::bytes_type bytes;
      std::memcpy(bytes.data(), &in.sin6_addr, bytes.size());
      found.emplace_back(asio::ip::address_v6(bytes));
    }
  }
  ::freeifaddrs(list);
  return found;
}

bool is_own(const address& candidate, std::uint16_t port, const Settings& settings,
            const std::vector<address>& machine, bool strict) {
  if (strict && port == 25 && candidate.is_loopback())
    return true;
  for (const auto& own : settings.own_addresses) {
    if (own.port != port)
      continue;
    if (plain(own.address) == candidate)
      return true;
    const bool every = own.address.is_unspecified() && (own.address.is_v6() || candidate.is_v4());
    if (every && (candidate.is_loopback() ||
                  std::find(machine.begin(), machine.end(), candidate) != machine.end()))
      return true;
  }
  return false;
}

template <class Item>
void shuffle(std::vector<Item>& items, Random& random) {
  for (std::size_t left = items.size(); left > 1; --left)
    std::swap(items[left - 1], items[random.below(left)]);
}

// Keeps the order otherwise.
template <class Item, class Test>
void put_last(std::vector<Item>& items, Test belongs_last) {
  std::vector<Item> first, last;
  for (auto& item : items)
    (belongs_last(item) ? last : first).push_back(std::move(item));
  std::move(last.begin(), last.end(), std::back_inserter(first));
  items = std::move(first);
}

Candidate make_candidate(const FoundHost& host, const address& where, std::uint16_t port) {
  const auto& name = host.host.name;
  Candidate candidate;
  candidate.host = host.host.is_address ? std::string() : name;
  candidate.tls = host.tls;
  candidate.endpoint = asio::ip::tcp::endpoint(where, port);
  candidate.address = where.to_string();
  candidate.remote = (name.empty() ? candidate.address : name) + "[" + candidate.address +
                     "]:" + std::to_string(port);
  return candidate;
}

// The addresses of hosts of one preference: one of each host, then the next of each, families in
// turn.
void append_rank(std::vector<FoundHost> rank, std::uint16_t port, Families families, Random& random,
                 std::vector<Candidate>& out) {
  shuffle(rank, random);
  std::vector<Candidate> six, four;
  std::size_t most = 0;
  for (auto& host : rank) {
    std::erase_if(host.addresses, [&](const address& where) {
      return families == (where.is_v6() ? Families::ipv4 : Families::ipv6);
    });
    shuffle(host.addresses, random);
    // So that the nth of a family is the nth of its host in that family.
    put_last(host.addresses, [](const address& where) { return where.is_v4(); });
    most = std::max(most, host.addresses.size());
  }
  const auto sixes = [](const FoundHost& host) {
    return static_cast<std::size_t>(std::count_if(host.addresses.begin(), host.addresses.end(),
                                                  [](const address& a) { return a.is_v6(); }));
  };
  for (std::size_t i = 0; i < most; ++i)
    for (const auto& host : rank) {
      const auto count = sixes(host);
      if (i < count)
        six.push_back(make_candidate(host, host.addresses[i], port));
      if (count + i < host.addresses.size())
        four.push_back(make_candidate(host, host.addresses[count + i], port));
    }
  for (std::size_t i = 0; i < std::max(six.size(), four.size()); ++i) {
    if (i < six.size())
      out.push_back(std::move(six[i]));
    if (i < four.size())
      out.push_back(std::move(four[i]));
  }
}

}  // namespace

MailHosts choose_hosts(const std::string& domain, const dns::Answer<dns::Mx>& answer,
                       const Settings& settings) {
  MailHosts chosen;
  chosen.secure = answer.secure;
  switch (answer.status) {
    case dns::Status::temporary_failure:
      chosen.outcome = decide(Verdict::retry, Stage::route, {4, 4, 3},
                              "DNS lookup for " + domain + " failed: " + answer.reason);
      return chosen;
    case dns::Status::no_such_name:
      chosen.outcome = bounce({5, 1, 2}, "the domain " + domain + " does not exist");
      return chosen;
    case dns::Status::no_data:
      chosen.implicit = true;
      if (is_own_name(domain, settings)) {
        chosen.outcome = bounce({5, 4, 6}, "mail for " + domain + " loops back to us");
        return chosen;
      }
      chosen.hosts.push_back({0, domain, false});
      return chosen;
    case dns::Status::records:
      break;
  }
  if (answer.records.size() == 1 && answer.records.front().host.empty()) {
    // RFC 7505 §4.2: the reply that goes with it is 556.
    chosen.outcome = bounce({5, 1, 10}, "the domain " + domain + " accepts no mail (null MX)");
    return chosen;
  }
  std::uint32_t own = 65536;
  for (const auto& record : answer.records) {
    if (!mail::is_dns_name(record.host))
      continue;
    if (is_own_name(record.host, settings))
      own = std::min<std::uint32_t>(own, record.preference);
    chosen.hosts.push_back({record.preference, record.host, false});
  }
  std::erase_if(chosen.hosts, [&](const Host& host) { return host.preference >= own; });
  std::sort(chosen.hosts.begin(), chosen.hosts.end(), [](const Host& a, const Host& b) {
    return std::tie(a.preference, a.name) < std::tie(b.preference, b.name);
  });
  if (chosen.hosts.size() > kMostKnown)
    chosen.hosts.resize(kMostKnown);
  if (!chosen.hosts.empty())
    return chosen;
  if (own < 65536)
    chosen.outcome = bounce({5, 4, 6}, "mail for " + domain + " loops back to us");
  else
    chosen.outcome = bounce({5, 4, 4}, "the MX records of " + domain + " name no usable host");
  return chosen;
}

std::optional<Host> literal_host(const std::string& domain) {
  if (!mail::is_address_literal(domain))
    return std::nullopt;
  std::string_view inner(domain);
  inner = inner.substr(1, inner.size() - 2);
  if (starts_with_ignoring_case(inner, "IPv6:"))
    inner.remove_prefix(5);
  return Host{0, std::string(inner), true};
}

std::string site_name(const std::vector<Host>& hosts, std::uint16_t port) {
  std::string name;
  for (std::size_t i = 0; i < std::min(hosts.size(), kMostHosts); ++i) {
    if (i > 0)
      name.push_back(hosts[i].preference == hosts[i - 1].preference ? ',' : ';');
    name.append(hosts[i].name);
  }
  if (hosts.size() > kMostHosts) {
    std::uint64_t rest = 0xcbf29ce484222325U;  // FNV-1a
    for (std::size_t i = kMostHosts; i < hosts.size(); ++i)
      for (const char octet : hosts[i].name + ";")
        rest = (rest ^ static_cast<unsigned char>(octet)) * 0x100000001b3U;
    name += ";..." + std::to_string(hosts.size() - kMostHosts) + "." + std::to_string(rest);
  }
  return port == 25 ? name : name + ":" + std::to_string(port);
}

std::vector<Host> hosts_to_try(std::vector<Host> hosts, Random& random) {
  if (hosts.size() <= kMostHosts)
    return hosts;
  shuffle(hosts, random);
  std::sort(hosts.begin(), hosts.end(),
            [](const Host& a, const Host& b) { return a.preference < b.preference; });
  // The last one stands for all that are less preferred: they must have their turn as well.
  const auto first_beyond =
      std::find_if(hosts.begin() + kMostHosts - 1, hosts.end(),
                   [&](const Host& host) { return host.preference != hosts.front().preference; });
  if (first_beyond != hosts.end())
    std::swap(hosts[kMostHosts - 1], *first_beyond);
  hosts.resize(kMostHosts);
  return hosts;
}

void add_addresses(FoundHost& host, const dns::Answer<asio::ip::address>& answer) {
  if (answer.status == dns::Status::temporary_failure && host.trouble.empty())
    host.trouble = answer.reason.empty() ? "DNS lookup failed" : answer.reason;
  if (!answer.records.empty()) {
    host.secure = answer.secure && (host.secure || host.addresses.empty());
    host.canonical = answer.canonical_name.empty() ? host.host.name : answer.canonical_name;
  }
  const auto most = host.addresses.size() + kMostAddresses;
  for (const auto& found : answer.records) {
    if (host.addresses.size() >= most)
      break;
    host.addresses.push_back(plain(found));
  }
}

void find_ourselves(std::vector<FoundHost>& hosts, const Settings& settings, std::uint16_t port,
                    bool strict) {
  const auto machine =
      settings.own_addresses.empty() ? std::vector<address>() : addresses_of_this_machine();
  for (auto& host : hosts) {
    std::erase_if(host.addresses, leads_nowhere);
    host.is_ourselves = std::any_of(
        host.addresses.begin(), host.addresses.end(),
        [&](const address& found) { return is_own(found, port, settings, machine, strict); });
  }
}

Found usable_hosts(std::vector<FoundHost> hosts, const std::string& site, bool by_mx) {
  Found found;
  std::uint32_t own = 65536;
  std::string trouble;
  for (const auto& host : hosts) {
    if (host.is_ourselves)
      own = std::min<std::uint32_t>(own, host.host.preference);
    if (host.addresses.empty() && trouble.empty())
      trouble = host.trouble;
  }
  for (auto& host : hosts)
    if (host.host.preference < own && !host.addresses.empty())
      found.hosts.push_back(std::move(host));
  if (!found.hosts.empty())
    return found;
  // A route that leads to ourselves is a mistake of the configuration, which bounces nothing.
  const auto verdict = by_mx ? Verdict::bounce : Verdict::retry;
  const std::uint8_t klass = by_mx ? 5 : 4;
  if (!trouble.empty())
    found.outcome = decide(Verdict::retry, Stage::route, {4, 4, 3},
                           "DNS lookup for a host of " + site + " failed: " + trouble);
  else if (own < 65536)
    found.outcome =
        decide(verdict, Stage::route, {klass, 4, 6}, "mail for " + site + " loops back to us");
  else
    found.outcome =
        decide(verdict, Stage::route, {klass, 4, 4}, "no host of " + site + " has an address");
  return found;
}

std::vector<Candidate> candidates_of(const std::vector<FoundHost>& hosts, std::uint16_t port,
                                     Families families, const BadAddresses& bad, SteadyTime now,
                                     Random& random) {
  std::vector<Candidate> all;
  std::set<std::string> preferred;  // addresses of the first preference
  for (std::size_t i = 0; i < hosts.size();) {
    if (i > 0 && preferred.empty())
      for (const auto& candidate : all)
        preferred.insert(candidate.remote);
    std::vector<FoundHost> rank;
    const auto preference = hosts[i].host.preference;
    for (; i < hosts.size() && hosts[i].host.preference == preference; ++i)
      rank.push_back(hosts[i]);
    append_rank(std::move(rank), port, families, random, all);
  }
  put_last(all, [&](const Candidate& candidate) {
    const auto found = bad.find(candidate.address);
    return found != bad.end() && found->second > now;
  });
  if (all.size() <= kMostCandidates)
    return all;
  const auto is_six = [](const Candidate& c) { return c.address.find(':') != std::string::npos; };
  const bool first = is_six(all.front());
  const auto end_of_cut = all.begin() + kMostCandidates;
  const auto differs = [&](const Candidate& c) { return is_six(c) != first; };
  if (std::none_of(all.begin(), end_of_cut, differs)) {
    const auto other = std::find_if(end_of_cut, all.end(), differs);
    if (other != all.end())
      std::swap(*(end_of_cut - 1), *other);
  }
  // However many hosts of the first preference are dead, another has its turn.
  const auto is_further = [&](const Candidate& c) {
    return !preferred.empty() && !preferred.contains(c.remote);
  };
  if (std::none_of(all.begin(), end_of_cut, is_further)) {
    const auto further = std::find_if(end_of_cut, all.end(), is_further);
    if (further != all.end())
      std::swap(*(end_of_cut - 2), *further);
  }
  all.resize(kMostCandidates);
  return all;
}

}  // namespace postrider::delivery
