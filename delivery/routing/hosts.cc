#include "delivery/routing/hosts.h"

#include "base/text.h"
#include "delivery/job/job_outcome.h"
#include "mail/address.h"

#include <boost/asio/ip/tcp.hpp>

#include <algorithm>
#include <cstring>
#include <ifaddrs.h>
#include <map>
#include <netinet/in.h>

namespace postrider::delivery {

namespace {

using asio::ip::address;
using mail::Outcome;
using mail::Stage;
using mail::Verdict;

constexpr std::size_t kMostNamed = 10;       // in the name of a site
constexpr std::size_t kMostAddresses = 100;  // of one host and family
constexpr std::size_t kMostCandidates = 5;

Outcome bounce(mail::EnhancedCode status, std::string text) {
  return decide(Verdict::bounce, Stage::route, status, std::move(text));
}

bool is_own_name(const std::string& name, const OwnHosts& own) {
  if (equals_ignoring_case(name, own.hostname))
    return true;
  return std::any_of(own.names.begin(), own.names.end(),
                     [&](const auto& mine) { return equals_ignoring_case(name, mine); });
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

}  // namespace

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

namespace {

bool is_own(const address& candidate, std::uint16_t port, const OwnHosts& own,
            const std::vector<address>& machine, bool strict) {
  if (strict && port == 25 && candidate.is_loopback())
    return true;
  for (const auto& mine : own.addresses) {
    if (mine.port != port)
      continue;
    if (plain(mine.address) == candidate)
      return true;
    const bool every = mine.address.is_unspecified() && (mine.address.is_v6() || candidate.is_v4());
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

HostAddress make_candidate(const FoundHost& host, const address& where, std::uint16_t port) {
  const auto& name = host.host.name;
  HostAddress candidate;
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
                 std::vector<HostAddress>& out) {
  shuffle(rank, random);
  std::vector<HostAddress> six, four;
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
                       const OwnHosts& own) {
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
      if (is_own_name(domain, own)) {
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
  std::uint32_t ours = 65536;
  for (const auto& record : answer.records) {
    if (!mail::is_dns_name(record.host))
      continue;
    if (is_own_name(record.host, own))
      ours = std::min<std::uint32_t>(ours, record.preference);
    chosen.hosts.push_back({record.preference, record.host, false});
  }
  std::erase_if(chosen.hosts, [&](const Host& host) { return host.preference >= ours; });
  std::sort(chosen.hosts.begin(), chosen.hosts.end(), [](const Host& a, const Host& b) {
    return std::tie(a.preference, a.name) < std::tie(b.preference, b.name);
  });
  if (!chosen.hosts.empty())
    return chosen;
  if (ours < 65536)
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
  for (std::size_t i = 0; i < std::min(hosts.size(), kMostNamed); ++i) {
    if (i > 0)
      name.push_back(hosts[i].preference == hosts[i - 1].preference ? ',' : ';');
    name.append(hosts[i].name);
  }
  if (hosts.size() > kMostNamed) {
    std::uint64_t rest = 0xcbf29ce484222325U;  // FNV-1a
    for (std::size_t i = kMostNamed; i < hosts.size(); ++i)
      for (const char octet : hosts[i].name + ";")
        rest = (rest ^ static_cast<unsigned char>(octet)) * 0x100000001b3U;
    name += ";..." + std::to_string(hosts.size() - kMostNamed) + "." + std::to_string(rest);
  }
  return port == 25 ? name : name + ":" + std::to_string(port);
}

namespace {

// By preference, at random among equals. The last one of the first `count` stands for all that are
// less preferred: each of those preferences must have its turn as well.
std::vector<Host> in_turns(std::vector<Host> hosts, std::size_t count, Random& random) {
  shuffle(hosts, random);
  std::sort(hosts.begin(), hosts.end(),
            [](const Host& a, const Host& b) { return a.preference < b.preference; });
  if (hosts.size() <= count)
    return hosts;
  const auto last = hosts.begin() + static_cast<std::ptrdiff_t>(count) - 1;
  std::vector<std::vector<Host>::iterator> firsts;  // of each preference from there on
  for (auto host = last; host != hosts.end(); ++host)
    if (host->preference != hosts.front().preference &&
        (firsts.empty() || firsts.back()->preference != host->preference))
      firsts.push_back(host);
  if (!firsts.empty())
    std::swap(*last, *firsts[random.below(firsts.size())]);
  return hosts;
}

}  // namespace

std::vector<Host> some_of(std::vector<Host> hosts, Random& random) {
  if (hosts.size() <= kMostHosts)
    return hosts;
  hosts = in_turns(std::move(hosts), kMostHosts, random);
  hosts.resize(kMostHosts);
  return hosts;
}

std::vector<Host> lookup_order(std::vector<Host> hosts, Random& random) {
  return in_turns(std::move(hosts), kHostsAtOnce, random);
}

void add_addresses(FoundHost& host, const dns::Answer<asio::ip::address>& answer, Random& random) {
  if (answer.status == dns::Status::temporary_failure && host.trouble.empty())
    host.trouble = answer.reason.empty() ? "DNS lookup failed" : answer.reason;
  if (!answer.records.empty()) {
    host.secure = answer.secure && (host.secure || host.addresses.empty());
    host.canonical = answer.canonical_name.empty() ? host.host.name : answer.canonical_name;
  }
  auto records = answer.records;
  if (records.size() > kMostAddresses) {
    shuffle(records, random);
    records.resize(kMostAddresses);
  }
  for (const auto& found : records)
    host.addresses.push_back(plain(found));
}

void find_ourselves(std::vector<FoundHost>& hosts, const OwnHosts& own, std::uint16_t port,
                    bool strict) {
  const auto machine = own.addresses.empty() ? std::vector<address>() : addresses_of_this_machine();
  for (auto& host : hosts) {
    std::erase_if(host.addresses, leads_nowhere);
    host.is_ourselves = std::any_of(
        host.addresses.begin(), host.addresses.end(),
        [&](const address& found) { return is_own(found, port, own, machine, strict); });
  }
}

bool has_usable(const std::vector<FoundHost>& hosts) {
  return std::any_of(hosts.begin(), hosts.end(), [](const FoundHost& host) {
    return !host.is_ourselves && !host.addresses.empty();
  });
}

bool is_doubtful(const std::vector<FoundHost>& hosts) {
  return std::any_of(hosts.begin(), hosts.end(),
                     [](const FoundHost& host) { return !host.trouble.empty(); });
}

Found usable_hosts(std::vector<FoundHost> hosts, const std::string& site, bool may_bounce) {
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
  std::sort(found.hosts.begin(), found.hosts.end(),
            [](const auto& a, const auto& b) { return a.host.preference < b.host.preference; });
  if (!found.hosts.empty())
    return found;
  // A route that leads to ourselves is a mistake of the configuration, which bounces nothing.
  const auto verdict = may_bounce ? Verdict::bounce : Verdict::retry;
  const std::uint8_t klass = may_bounce ? 5 : 4;
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

std::vector<HostAddress> candidates_of(const std::vector<FoundHost>& hosts, std::uint16_t port,
                                       Families families, const BadAddresses& bad, SteadyTime now,
                                       Random& random) {
  std::vector<HostAddress> all;
  std::map<std::string, std::size_t> ranks;  // by remote: 0 for the first preference, then 1, ...
  for (std::size_t i = 0, ranked = 0; i < hosts.size(); ++ranked) {
    std::vector<FoundHost> rank;
    const auto preference = hosts[i].host.preference;
    for (; i < hosts.size() && hosts[i].host.preference == preference; ++i)
      rank.push_back(hosts[i]);
    const auto before = all.size();
    append_rank(std::move(rank), port, families, random, all);
    for (auto one = before; one < all.size(); ++one)
      ranks.emplace(all[one].remote, ranked);
  }
  put_last(all, [&](const HostAddress& candidate) {
    const auto found = bad.find(candidate.address);
    return found != bad.end() && found->second > now;
  });
  if (all.size() <= kMostCandidates)
    return all;
  // However many hosts of the first preferences are dead, each further one has its turn.
  const auto end_of_cut = all.begin() + kMostCandidates;
  const auto turn = end_of_cut - 2;
  std::map<std::size_t, std::vector<HostAddress>::iterator> firsts;  // of each further rank
  for (auto candidate = turn; candidate != all.end(); ++candidate)
    if (ranks.at(candidate->remote) > 0)
      firsts.emplace(ranks.at(candidate->remote), candidate);
  if (!firsts.empty()) {
    const auto chosen = static_cast<std::ptrdiff_t>(random.below(firsts.size()));
    std::swap(*turn, *std::next(firsts.begin(), chosen)->second);
  }
  const auto is_six = [](const HostAddress& c) { return c.address.find(':') != std::string::npos; };
  const bool first = is_six(all.front());
  const auto differs = [&](const HostAddress& c) { return is_six(c) != first; };
  if (std::none_of(all.begin(), end_of_cut, differs)) {
    const auto other = std::find_if(end_of_cut, all.end(), differs);
    if (other != all.end())
      std::swap(*(end_of_cut - 1), *other);
  }
  all.resize(kMostCandidates);
  return all;
}

}  // namespace postrider::delivery
