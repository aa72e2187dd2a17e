// From DNS answers to the addresses that one attempt tries, in order. Neither I/O nor a clock.
#pragma once

#include "base/random.h"
#include "delivery/routing/host_address.h"
#include "delivery/routing/own_hosts.h"
#include "dns/resolver.h"
#include "mail/outcome.h"

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace postrider::delivery {

using dns::Families;

struct Host {
  std::uint16_t preference = 0;
  std::string name;
  bool is_address = false;  // an address literal, or a route's; never an MX target (attacks.md D13)
};

// What the MX answer for a domain comes to: all hosts in order of preference (at least one), or an
// outcome: a bounce (no such domain, null MX, ourselves), or a retry (DNS in trouble).
struct MailHosts {
  std::vector<Host> hosts;
  std::optional<mail::Outcome> outcome;
  bool implicit = false;  // no MX: the domain itself (RFC 5321 §5.1)
  bool secure = false;
};
MailHosts choose_hosts(const std::string& domain, const dns::Answer<dns::Mx>& answer,
                       const OwnHosts& own);

// A site keeps so many hosts of a domain. Of more, others are chosen each time, at random among
// equals; the last one is of a further preference. No verdict on those that were left out.
inline constexpr std::size_t kMostHosts = 100;
std::vector<Host> some_of(std::vector<Host> hosts, Random& random);

// IPv4-mapped ones as they are; empty if the system does not tell.
std::vector<boost::asio::ip::address> addresses_of_this_machine();

// The host of "[192.0.2.1]" or "[IPv6:2001:db8::1]" (RFC 5321 §4.1.3).
std::optional<Host> literal_host(const std::string& domain);

// The order in which to look them up: by preference, at random among equals. An attempt looks up
// kHostsAtOnce, and as many again while none of them can be used; the last of the first ones is of
// a further preference, each of which has its turn.
inline constexpr std::size_t kHostsAtOnce = 10;
std::vector<Host> lookup_order(std::vector<Host> hosts, Random& random);

// "mx1.example.org,mx2.example.org;backup.example.net": equal preference by comma, then the rest;
// of more than ten, a number stands for those behind the tenth.
std::string site_name(const std::vector<Host>& hosts, std::uint16_t port);

// A host with what its address lookups gave.
struct FoundHost {
  Host host;
  std::vector<asio::ip::address> addresses;
  std::string trouble;  // of a lookup that failed for now
  bool is_ourselves = false;
  bool secure = false;                   // every answer with an address was authenticated
  std::string canonical;                 // behind aliases; the name itself if there are none
  std::shared_ptr<const TlsDemand> tls;  // null: nobody asked
};
// At most a hundred of them, at random among more.
void add_addresses(FoundHost& host, const dns::Answer<asio::ip::address>& answer, Random& random);
// Marks hosts with an address and port that we listen on; drops addresses that lead nowhere
// (attacks.md D06). strict: loopback at port 25 counts as ourselves too (MX hosts).
void find_ourselves(std::vector<FoundHost>& hosts, const OwnHosts& own, std::uint16_t port,
                    bool strict);

struct Found {
  std::vector<FoundHost> hosts;          // usable ones, in order of preference
  std::optional<mail::Outcome> outcome;  // there are none: why
};
bool has_usable(const std::vector<FoundHost>& hosts);   // one that is not ourselves
bool is_doubtful(const std::vector<FoundHost>& hosts);  // a lookup failed for now
// Ourselves and all that are not preferred to us are cut (RFC 5321 §5.1). That there is none
// bounces mail only if these are all the hosts that the domain's owner has named.
Found usable_hosts(std::vector<FoundHost> hosts, const std::string& site, bool may_bounce);

// The addresses for one attempt: by preference, at random among equals, hosts and families
// alternating, at most five (attacks.md D08); both families, and a host of a further preference
// (each has its turn), are among them if there are any. Addresses that failed lately come last.
using BadAddresses = std::unordered_map<std::string, SteadyTime>;
std::vector<HostAddress> candidates_of(const std::vector<FoundHost>& hosts, std::uint16_t port,
                                       Families families, const BadAddresses& bad, SteadyTime now,
                                       Random& random);

}  // namespace postrider::delivery
