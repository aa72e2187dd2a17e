// `postrider doctor`: what others see of this server, in the DNS and on the network.
#include "base/net/deadline.h"
#include "base/net/signal.h"
#include "base/net/tls/tls_context.h"
#include "base/text.h"
#include "daemon/dkim_check.h"
#include "daemon/doctor.h"
#include "daemon/named_few.h"
#include "delivery/routing/route.h"
#include "delivery/tls/sts/policy_file.h"
#include "delivery/tls/sts/tags.h"
#include "dns/fetch.h"
#include "mailauth/dmarc_destinations.h"
#include "mailauth/dmarc_record.h"
#include "mailauth/key_record.h"
#include "mailauth/spf.h"
#include "smtpd/filter/questioner.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include <algorithm>
#include <array>
#include <sysexits.h>

namespace postrider::daemon {

namespace {

using dns::Status;
using Kind = Finding::Kind;
using Findings = std::vector<Finding>;

// Who has taken mail on port 25 for long; and a domain that is signed.
constexpr const char* kSomeMailDomain = "gmail.com";
constexpr const char* kSignedDomain = "ietf.org";
constexpr Duration kConnect{std::chrono::seconds(10)};
constexpr Duration kInquiry{std::chrono::seconds(20)};
// Nobody's (RFC 5737, RFC 3849): what SPF says of them it says of any stranger.
constexpr const char* kStrangers[] = {"198.51.100.77", "2001:db8::77"};
constexpr std::size_t kMostLooked =
    8;  // addresses that are looked at one by one, with a line for each

// A name that we say in EHLO, and where connections under it come from.
struct Outgoing {
  std::string name;
  std::vector<asio::ip::address> addresses;
  std::string option;  // that says so
};

Finding made(Kind kind, const char* check, std::string text, std::string remedy = {}) {
  return {kind, check, std::move(text), std::move(remedy)};
}

Finding no_answer(const char* check, const std::string& what, const std::string& reason) {
  return made(Kind::unknown, check, what + ": the DNS gives no answer: " + reason,
              "look at dns.servers, and run this again");
}

IpAddress plain(const asio::ip::address& address) {
  return address.is_v4() ? IpAddress::v4(address.to_v4().to_bytes().data())
                         : IpAddress::v6(address.to_v6().to_bytes().data());
}

bool is_private(const asio::ip::address& address) {
  if (address.is_v6()) {
    const auto first = address.to_v6().to_bytes()[0];
    return address.is_loopback() || address.to_v6().is_link_local() || (first & 0xfeU) == 0xfcU;
  }
  const auto bytes = address.to_v4().to_bytes();
  return bytes[0] == 10 || bytes[0] == 127 || (bytes[0] == 192 && bytes[1] == 168) ||
         (bytes[0] == 172 && bytes[1] >= 16 && bytes[1] < 32) ||
         (bytes[0] == 100 && bytes[1] >= 64 && bytes[1] < 128) ||
         (bytes[0] == 169 && bytes[1] == 254);
}

std::string joined(const std::vector<asio::ip::address>& addresses) {
  std::vector<std::string> texts;
  for (const auto& address : addresses)
    texts.push_back(address.to_string());
  return named_few(texts);
}

using Bytes = std::vector<std::uint8_t>;

// What a TLSA record of this selector holds of a certificate, before it is hashed.
Bytes selected(x509_st* certificate, std::uint8_t selector) {
  unsigned char* made = nullptr;
  const int size = selector == 0 ? ::i2d_X509(certificate, &made)
                                 : ::i2d_X509_PUBKEY(::X509_get_X509_PUBKEY(certificate), &made);
  Bytes bytes;
  if (size > 0)
    bytes.assign(made, made + size);
  ::OPENSSL_free(made);
  return bytes;
}

bool is_same(const dns::Tlsa& record, x509_st* certificate) {
  auto bytes = selected(certificate, record.selector);
  if (record.matching != 0) {
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned size = 0;
    const auto* kind = record.matching == 1 ? ::EVP_sha256() : ::EVP_sha512();
    if (::EVP_Digest(bytes.data(), bytes.size(), digest.data(), &size, kind, nullptr) != 1)
      return false;
    bytes.assign(digest.begin(), digest.begin() + size);
  }
  return bytes == record.data;
}

// Usages 2 and 3 are those of mail (RFC 7672 §3.1).
bool is_met(const dns::Tlsa& record, const TlsIdentity& identity) {
  if (record.selector > 1 || record.matching > 2)
    return false;
  if (record.usage == 3)
    return is_same(record, identity.certificate());
  return record.usage == 2 &&
         std::any_of(identity.chain().begin(), identity.chain().end(),
                     [&](const auto& one) { return is_same(record, one.get()); });
}

class NetworkChecks {
 public:
  NetworkChecks(Loop& loop, dns::Resolver& resolver, const Patient& patient)
      : loop_(loop),
        resolver_(resolver),
        patient_(patient),
        config_(patient.config),
        questioner_(loop, resolver, log_) {
    for (const auto& route : config_.routes)
      if (route.domain == "*" && route.from.empty())
        if (auto hop = delivery::parse_next_hop(route.next_hop);
            hop && hop->kind != delivery::NextHop::Kind::mx)
          relay_ = *std::move(hop);
  }

  Task<Findings> run();

 private:
  using Check = Task<void> (NetworkChecks::*)(Findings&);
  using Verdicts = std::shared_ptr<smtpd::filter::Questioner::RunOf<mailauth::SpfVerdict>>;
  // What SPF says of one address that mail leaves from.
  struct Asked {
    std::string name, text;  // said in EHLO; the address
    bool is_v4 = true;
    Verdicts of_domain, of_name;
  };

  Task<void> perform(Check check, Findings* out, std::size_t* left, Signal* done);
  Task<void> perform_all(std::vector<Check> checks, Findings* out);
  Task<void> name_of_one(const Outgoing* outgoing, asio::ip::address address, Findings* out,
                         std::size_t* left, Signal* done);
  Finding spf_finding(const Asked& asked);
  void spf_helo(const Asked& asked, Findings& out);
  Task<void> spf_of_strangers(Findings& out);
  Task<void> mx_host(std::string host, Findings& out);
  Task<void> report_addresses(std::string domain, mailauth::DmarcRecord record, Findings& out);
  Task<void> announced_policy(Findings&);
  Task<void> resolver_checks(Findings& out);
  Task<void> names(Findings& out);
  Task<void> name(const Outgoing& outgoing, const asio::ip::address& address, Findings& out);
  Task<void> port(Findings& out);
  Task<void> mx(Findings& out);
  Task<void> spf(Findings& out);
  Task<void> dkim(Findings& out);
  Task<void> dmarc(Findings& out);
  Task<void> mta_sts(Findings& out);
  Task<void> tlsa(Findings& out);
  Task<void> find_outgoing(Findings& out);
  void look_at_few(std::vector<asio::ip::address>& addresses, Findings& out) const;
  Task<std::vector<asio::ip::address>> addresses_of(std::string name, std::string* trouble);
  Task<std::string> greeting(asio::ip::address address, std::uint16_t port);
  Task<Result<HttpResponse>> policy_file();

  Loop& loop_;
  dns::Resolver& resolver_;
  const Patient& patient_;
  const Config& config_;
  NullLog log_;
  smtpd::filter::Questioner questioner_;
  std::optional<delivery::NextHop> relay_;  // of all other mail
  std::vector<Outgoing> outgoing_;
  std::vector<std::string> mx_hosts_;
  dns::Answer<std::string> announced_;  // at _mta-sts
};

Task<void> NetworkChecks::perform(Check check, Findings* out, std::size_t* left, Signal* done) {
  co_await (this->*check)(*out);
  if (--*left == 0)
    done->set();
}

// Side by side, told in their order.
Task<void> NetworkChecks::perform_all(std::vector<Check> checks, Findings* out) {
  std::size_t left = checks.size();
  Signal done;
  for (std::size_t i = 0; i < checks.size(); ++i)
    loop_.spawn(perform(checks[i], &out[i], &left, &done), log_, "doctor");
  while (left > 0)
    co_await done.wait();
}

// Some need what others find. A DNS that says nothing is waited for a few times, not once for each.
Task<Findings> NetworkChecks::run() {
  enum Place {
    kHostname,
    kResolver,
    kNames,
    kPort,
    kMx,
    kSpf,
    kDkim,
    kDmarc,
    kTlsa,
    kMtaSts,
    kAll
  };
  std::vector<Findings> found(kAll);
  {
    std::vector<Findings> first(8);
    std::vector<Check> checks = {&NetworkChecks::find_outgoing, &NetworkChecks::resolver_checks,
                                 &NetworkChecks::port,          &NetworkChecks::mx,
                                 &NetworkChecks::dkim,          &NetworkChecks::dmarc,
                                 &NetworkChecks::tlsa,          &NetworkChecks::announced_policy};
    co_await perform_all(std::move(checks), first.data());
    constexpr Place kPlaces[] = {kHostname, kResolver, kPort, kMx, kDkim, kDmarc, kTlsa, kMtaSts};
    for (std::size_t i = 0; i < first.size(); ++i)
      found[kPlaces[i]] = std::move(first[i]);
  }
  {
    std::vector<Findings> second(3);
    std::vector<Check> checks = {&NetworkChecks::names, &NetworkChecks::spf,
                                 &NetworkChecks::mta_sts};
    co_await perform_all(std::move(checks), second.data());
    constexpr Place kPlaces[] = {kNames, kSpf, kMtaSts};
    for (std::size_t i = 0; i < second.size(); ++i)
      found[kPlaces[i]] = std::move(second[i]);
  }
  Findings together;
  for (auto& some : found)
    together.insert(together.end(), some.begin(), some.end());
  co_return together;
}

Task<std::vector<asio::ip::address>> NetworkChecks::addresses_of(std::string name,
                                                                 std::string* trouble) {
  std::vector<asio::ip::address> found;
  const auto four = co_await resolver_.a(name);
  dns::Answer<asio::ip::address> six = four;
  six.records.clear();
  if (four.status != Status::temporary_failure)
    six = co_await resolver_.aaaa(name);
  for (const dns::Answer<asio::ip::address>* answer : {&four, &std::as_const(six)}) {
    found.insert(found.end(), answer->records.begin(), answer->records.end());
    if (answer->status == Status::temporary_failure)
      *trouble = answer->reason;
  }
  co_return found;
}

// No machine sends from more; a name that has them has others' answers, or is a pool.
void NetworkChecks::look_at_few(std::vector<asio::ip::address>& addresses, Findings& out) const {
  if (addresses.size() <= kMostLooked)
    return;
  out.push_back(made(Kind::advice, "hostname",
                     config_.hostname + " has " + std::to_string(addresses.size()) +
                         " addresses, of which " + std::to_string(kMostLooked) + " are looked at",
                     "give hostname a name of this machine alone"));
  addresses.resize(kMostLooked);
}

Task<void> NetworkChecks::find_outgoing(Findings& out) {
  std::string trouble;
  outgoing_.push_back({config_.hostname, {}, "hostname"});
  outgoing_.front().addresses = co_await addresses_of(config_.hostname, &trouble);
  const bool is_name = config_.hostname.find('.') != std::string::npos;
  if (!is_name)
    out.push_back(made(Kind::problem, "hostname", config_.hostname + " is not a full name",
                       "set hostname to the name that the DNS has for this machine's address"));
  else if (outgoing_.front().addresses.empty() && trouble.empty())
    out.push_back(made(Kind::problem, "hostname", config_.hostname + " has no address in the DNS",
                       "publish one: " + config_.hostname + ". A ADDRESS"));
  else if (outgoing_.front().addresses.empty())
    out.push_back(no_answer("hostname", config_.hostname, trouble));
  else
    out.push_back(made(Kind::ok, "hostname",
                       config_.hostname + " is " + joined(outgoing_.front().addresses)));
  look_at_few(outgoing_.front().addresses, out);
  for (const auto& address : outgoing_.front().addresses)
    if (is_private(address) && !address.is_loopback())
      out.push_back(made(Kind::advice, "hostname",
                         config_.hostname + " is " + address.to_string() +
                             ", a private address: others see another one",
                         "let the DNS say to others what they see"));
  for (const auto& route : config_.routes) {
    if (route.source.empty() && route.helo.empty())
      continue;
    Outgoing more{route.helo.empty() ? config_.hostname : route.helo, {}, "route.source"};
    for (const auto& source : route.source)
      more.addresses.push_back(asio::ip::make_address(source));
    if (more.addresses.empty())
      more.addresses = outgoing_.front().addresses;
    outgoing_.push_back(std::move(more));
  }
}

Task<void> NetworkChecks::resolver_checks(Findings& out) {
  const auto answer = co_await resolver_.mx(kSignedDomain);
  if (answer.status == Status::temporary_failure)
    out.push_back(made(Kind::problem, "resolver", "the DNS gives no answer: " + answer.reason,
                       "look at dns.servers, and whether port 53 out is open"));
  else if (answer.secure)
    out.push_back(made(Kind::ok, "resolver", "answers, and validates (DNSSEC)"));
  else
    out.push_back(made(Kind::advice, "resolver",
                       "answers, and what it says is not known to be validated (DNSSEC), so DANE "
                       "is not used",
                       "run a resolver that validates on this machine, such as unbound, and set "
                       "dns.servers = [\"127.0.0.1\"]"));
}

Task<void> NetworkChecks::name_of_one(const Outgoing* outgoing, asio::ip::address address,
                                      Findings* out, std::size_t* left, Signal* done) {
  co_await name(*outgoing, address, *out);
  if (--*left == 0)
    done->set();
}

Task<void> NetworkChecks::names(Findings& out) {
  std::vector<std::pair<const Outgoing*, asio::ip::address>> all;
  for (const auto& outgoing : outgoing_)
    for (const auto& address : outgoing.addresses)
      all.emplace_back(&outgoing, address);
  std::vector<Findings> found(all.size());
  std::size_t left = all.size();
  Signal done;
  for (std::size_t i = 0; i < all.size(); ++i)
    loop_.spawn(name_of_one(all[i].first, all[i].second, &found[i], &left, &done), log_, "doctor");
  while (left > 0)
    co_await done.wait();
  for (auto& some : found)
    out.insert(out.end(), some.begin(), some.end());
}

// The address's name, and back.
Task<void> NetworkChecks::name(const Outgoing& outgoing, const asio::ip::address& address,
                               Findings& out) {
  const auto wrong = relay_ ? Kind::advice : Kind::problem;
  const auto text = address.to_string();
  const auto pointers = co_await resolver_.ptr(address);
  if (pointers.status == Status::temporary_failure) {
    out.push_back(no_answer("ptr", text, pointers.reason));
    co_return;
  }
  const auto& all = pointers.records;
  const bool is_named = std::any_of(all.begin(), all.end(), [&](const auto& each) {
    return equals_ignoring_case(each, outgoing.name);
  });
  std::string trouble;
  const auto back = co_await addresses_of(outgoing.name, &trouble);
  const bool leads_back = std::find(back.begin(), back.end(), address) != back.end();
  if (is_named && leads_back)
    out.push_back(made(Kind::ok, "ptr", text + " is " + outgoing.name + ", there and back"));
  else if (is_named)
    out.push_back(
        made(wrong, "ptr", outgoing.name + " does not lead back to " + text,
             "publish " + outgoing.name + ". " + (address.is_v4() ? "A " : "AAAA ") + text));
  else
    out.push_back(
        made(wrong, "ptr",
             text + (all.empty() ? " has no name in the DNS"
                                 : " is called " + all.front() + ", and we say " + outgoing.name),
             "let who gives you the address set its PTR record to " + outgoing.name +
                 (all.empty() ? "" : ", or set " + outgoing.option + " to that name")));
}

// Empty: nobody is there in time; else what was said first, or "(silence)".
Task<std::string> NetworkChecks::greeting(asio::ip::address address, std::uint16_t port) {
  asio::ip::tcp::socket socket(loop_.context());
  bool is_late = false;
  Deadline deadline(loop_.deadlines(), [&] {
    is_late = true;
    boost::system::error_code ignored;
    socket.close(ignored);
  });
  deadline.set(kConnect);
  const auto [failed] = co_await socket.async_connect(asio::ip::tcp::endpoint(address, port),
                                                      asio::as_tuple(use_task));
  if (failed || is_late)
    co_return std::string();
  std::array<char, 512> buffer{};
  const auto [cut, size] =
      co_await socket.async_read_some(asio::buffer(buffer), asio::as_tuple(use_task));
  if (cut || size == 0)
    co_return std::string("(silence)");
  const std::string_view line(buffer.data(), size);
  co_return std::string(line.substr(0, line.find_first_of("\r\n")));
}

Task<void> NetworkChecks::port(Findings& out) {
  std::string host;
  auto port = static_cast<std::uint16_t>(config_.delivery.port);
  if (relay_ && relay_->host.empty())
    co_return;
  if (relay_) {
    if (relay_->kind == delivery::NextHop::Kind::lmtp_socket)
      co_return;
    host = relay_->host;
    port = relay_->port;
  } else {
    const auto mx = co_await resolver_.mx(kSomeMailDomain);
    if (mx.records.empty()) {
      out.push_back(made(Kind::unknown, "port",
                         std::string("the mail hosts of ") + kSomeMailDomain +
                             " are not to be found, so port " + std::to_string(port) +
                             " out was not tried",
                         "try it by hand: nc -vz HOST " + std::to_string(port)));
      co_return;
    }
    host = mx.records.front().host;
  }
  std::string trouble;
  boost::system::error_code no_address;
  const auto literal = asio::ip::make_address(host, no_address);
  auto addresses =
      no_address ? co_await addresses_of(host, &trouble) : std::vector<asio::ip::address>{literal};
  const auto where = host + " at port " + std::to_string(port);
  if (addresses.size() > 2)
    addresses.resize(2);
  for (const auto& address : addresses) {
    const auto said = co_await greeting(address, port);
    const bool is_tls = relay_ && relay_->kind == delivery::NextHop::Kind::smtps;
    if (said.empty() || (!is_tls && !said.starts_with("220")))
      continue;
    out.push_back(made(Kind::ok, "port", where + " answers"));
    co_return;
  }
  if (addresses.empty())
    out.push_back(no_answer("port", host, trouble));
  else
    out.push_back(made(Kind::problem, "port", where + " does not answer: mail cannot leave",
                       relay_ ? "look at the relay, and at what stands in between"
                              : "ask your provider to open port 25 out, or name a relay in "
                                "[[route]]"));
}

Task<void> NetworkChecks::mx(Findings& out) {
  const auto& domain = patient_.domain;
  const auto answer = co_await resolver_.mx(domain);
  if (answer.status == Status::temporary_failure)
    co_return out.push_back(no_answer("mx", domain, answer.reason));
  if (std::any_of(answer.records.begin(), answer.records.end(),
                  [](const auto& each) { return each.host.empty(); }))
    co_return out.push_back(
        made(Kind::problem, "mx",
             domain + " says that it takes no mail (a null MX, \"0 .\"): answers and bounces are "
                      "lost, and others refuse mail from it",
             "publish " + domain + ". MX 10 " + config_.hostname + ". instead of it"));
  for (const auto& each : answer.records)
    mx_hosts_.push_back(each.host);
  const auto& here = config_.local.domains;
  const bool is_ours = std::any_of(here.begin(), here.end(), [&](const auto& each) {
    return equals_ignoring_case(each, domain);
  });
  if (mx_hosts_.empty())
    co_return out.push_back(made(Kind::advice, "mx",
                                 domain + " has no MX record: answers and bounces may be lost",
                                 "publish " + domain + ". MX 10 " + config_.hostname + "."));
  const auto few = std::min<std::size_t>(mx_hosts_.size(), kMostLooked);
  for (std::size_t i = 0; i < few; ++i)
    co_await mx_host(mx_hosts_[i], out);
  if (!out.empty())
    co_return;
  const bool leads_here = std::any_of(mx_hosts_.begin(), mx_hosts_.end(), [&](const auto& host) {
    return equals_ignoring_case(host, config_.hostname);
  });
  if (is_ours && !leads_here)
    out.push_back(made(
        Kind::advice, "mx",
        "mail for " + domain + " goes to " + mx_hosts_.front() + ", not to " + config_.hostname,
        "publish " + domain + ". MX 10 " + config_.hostname + ". unless that host sends it on"));
  else
    out.push_back(made(Kind::ok, "mx", "mail for " + domain + " goes to " + mx_hosts_.front()));
}

// RFC 5321 §5.1, RFC 2181 §10.3: the name of a host that has an address itself.
Task<void> NetworkChecks::mx_host(std::string host, Findings& out) {
  const auto say = [&](const std::string& what, const std::string& remedy) {
    out.push_back(made(Kind::problem, "mx", "the MX record of " + patient_.domain + what, remedy));
  };
  if (IpAddress::parse(host)) {
    say(" names " + host + ", an address: others cannot deliver",
        "let it name a host, and give that host an A or AAAA record");
    co_return;
  }
  const auto alias = co_await resolver_.cname(host);
  if (alias.status == Status::records) {
    say(" names " + host + ", an alias (CNAME) of " + alias.records.front() +
            ": some do not deliver to it",
        "let it name a host that has an A or AAAA record itself");
    co_return;
  }
  std::string trouble;
  const auto addresses = co_await addresses_of(host, &trouble);
  if (addresses.empty() && trouble.empty())
    say(" names " + host + ", which has no address: others cannot deliver",
        "publish " + host + ". A ADDRESS, or let it name another host");
}

Task<void> NetworkChecks::spf(Findings& out) {
  if (relay_)
    co_return out.push_back(
        made(Kind::unknown, "spf",
             "mail leaves through " + relay_->describe() + ", whose addresses are not known here",
             "its provider says what the SPF record of " + patient_.domain + " must include"));
  std::vector<Asked> all;
  for (const auto& outgoing : outgoing_)
    for (const auto& address : outgoing.addresses) {
      Asked asked;
      asked.name = outgoing.name;
      asked.text = address.to_string();
      asked.is_v4 = address.is_v4();
      asked.of_domain = questioner_.start(
          mailauth::check_mail_from(plain(address), outgoing.name, "postmaster@" + patient_.domain),
          kInquiry);
      asked.of_name =
          questioner_.start(mailauth::check_helo(plain(address), outgoing.name), kInquiry);
      all.push_back(std::move(asked));
    }
  for (const auto& asked : all) {
    co_await asked.of_domain->wait();
    co_await asked.of_name->wait();
    out.push_back(spf_finding(asked));
    spf_helo(asked, out);
  }
  co_await spf_of_strangers(out);
}

Finding NetworkChecks::spf_finding(const Asked& asked) {
  using mailauth::SpfResult;
  const auto& domain = patient_.domain;
  const auto verdict = asked.of_domain->result();
  const auto more = (asked.is_v4 ? " ip4:" : " ip6:") + asked.text;
  switch (verdict.result) {
    case SpfResult::pass:
      return made(Kind::ok, "spf", domain + " lets " + asked.text + " send");
    case SpfResult::temperror:
      return no_answer("spf", domain, verdict.reason);
    case SpfResult::none:
      return made(Kind::problem, "spf", domain + " has no SPF record",
                  "publish " + domain + ". TXT \"v=spf1" + more + " -all\"");
    case SpfResult::permerror:
      return made(Kind::problem, "spf",
                  "the SPF record of " + domain + " is wrong, and counts for nothing: permerror" +
                      (verdict.reason.empty() ? "" : ", " + verdict.reason),
                  "leave one SPF record, of at most 10 terms that ask the DNS, such as \"v=spf1" +
                      more + " -all\"");
    default:
      return made(Kind::problem, "spf",
                  domain + " does not let " + asked.text +
                      " send: " + std::string(to_string(verdict.result)) +
                      (verdict.reason.empty() ? "" : ", " + verdict.reason),
                  "put" + more + " into its SPF record");
  }
}

void NetworkChecks::spf_helo(const Asked& asked, Findings& out) {
  using mailauth::SpfResult;
  const auto helo = asked.of_name->result().result;
  if (helo == SpfResult::none)
    out.push_back(made(Kind::advice, "spf_helo",
                       asked.name + " has no SPF record, which counts for bounces",
                       "publish " + asked.name + ". TXT \"v=spf1 a -all\""));
  else if (helo != SpfResult::pass && helo != SpfResult::temperror)
    out.push_back(
        made(Kind::problem, "spf_helo",
             asked.name + " does not let " + asked.text + " send: " + std::string(to_string(helo)),
             "put" + std::string(asked.is_v4 ? " ip4:" : " ip6:") + asked.text +
                 " into its SPF record"));
}

// A record may be right for us, and let in everybody else, or break behind the term that is ours.
Task<void> NetworkChecks::spf_of_strangers(Findings& out) {
  using mailauth::SpfResult;
  const auto& domain = patient_.domain;
  std::vector<Verdicts> all;
  for (const auto* stranger : kStrangers)
    all.push_back(
        questioner_.start(mailauth::check_mail_from(*IpAddress::parse(stranger), "stranger.invalid",
                                                    "postmaster@" + domain),
                          kInquiry));
  bool is_open = false, is_undecided = false;
  std::string broken;
  for (const auto& each : all) {
    co_await each->wait();
    const auto verdict = each->result();
    is_open |= verdict.result == SpfResult::pass;
    is_undecided |= verdict.result == SpfResult::neutral;
    if (verdict.result == SpfResult::permerror)
      broken = verdict.reason;
  }
  const bool is_told = std::any_of(out.begin(), out.end(), [](const Finding& one) {
    return one.check == "spf" && one.kind == Kind::problem;
  });
  if (is_open)
    out.push_back(made(Kind::problem, "spf", domain + " lets everybody send in its name",
                       "end its SPF record in -all, and take out what holds the whole Internet: "
                       "+all, all, ip4:0.0.0.0/0, or an include that has one of these"));
  else if (!broken.empty() && !is_told)
    out.push_back(
        made(Kind::problem, "spf",
             "the SPF record of " + domain + " breaks behind the term for us: permerror, " + broken,
             "leave at most 10 terms that ask the DNS, and none that is wrong"));
  else if (is_undecided)
    out.push_back(made(Kind::advice, "spf",
                       domain + " says nothing about mail that others send in its name",
                       "end its SPF record in -all or ~all"));
}

Task<void> NetworkChecks::dkim(Findings& out) {
  const auto& domain = patient_.domain;
  const auto* keys = patient_.signer == nullptr ? nullptr : patient_.signer->keys_for(domain);
  if (keys == nullptr)
    co_return out.push_back(made(Kind::problem, "dkim", "mail of " + domain + " is not signed",
                                 "postrider dkim new " + domain +
                                     ", publish the record that it prints, and name the folder "
                                     "in dkim.folder"));
  for (const auto& key : *keys) {
    const auto name = mailauth::key_name(key.selector, key.domain).value_or(std::string());
    const auto answer = co_await resolver_.txt(name);
    const auto finding = judge_dkim_record(key.key, answer);
    out.push_back(made(finding.code == EX_OK         ? Kind::ok
                       : finding.code == EX_TEMPFAIL ? Kind::unknown
                                                     : Kind::problem,
                       "dkim", name + ": " + finding.text,
                       finding.code == EX_OK
                           ? ""
                           : "publish what postrider dkim record " + key.domain + " prints"));
  }
}

// Of the domain, or of the nearest one above it.
Task<void> NetworkChecks::dmarc(Findings& out) {
  std::string_view domain = patient_.domain;
  for (; domain.find('.') != domain.npos; domain.remove_prefix(domain.find('.') + 1)) {
    const auto answer = co_await resolver_.txt("_dmarc." + std::string(domain));
    if (answer.status == Status::temporary_failure)
      co_return out.push_back(no_answer("dmarc", std::string(domain), answer.reason));
    std::vector<mailauth::DmarcRecord> records;
    for (const auto& text : answer.records)
      if (auto record = mailauth::DmarcRecord::parse(text))
        records.push_back(*std::move(record));
    if (records.empty())
      continue;
    const auto& first = records.front();
    if (records.size() > 1 || !first.applies())
      out.push_back(made(Kind::problem, "dmarc",
                         "_dmarc." + std::string(domain) +
                             (records.size() > 1 ? " has two records, so none counts"
                                                 : " has a record that says nothing"),
                         "leave one, such as \"v=DMARC1; p=none; rua=mailto:postmaster@" +
                             patient_.domain + "\""));
    else if (first.p.value_or(mailauth::DmarcPolicy::none) == mailauth::DmarcPolicy::none)
      out.push_back(made(Kind::advice, "dmarc",
                         "_dmarc." + std::string(domain) +
                             " says p=none: others are to take forgeries like any mail",
                         "once its reports show that your own mail passes, say p=quarantine, and "
                         "then p=reject"));
    else
      out.push_back(
          made(Kind::ok, "dmarc",
               "_dmarc." + std::string(domain) + " says p=" + std::string(to_string(*first.p))));
    if (records.size() == 1)
      co_await report_addresses(std::string(domain), std::move(records.front()), out);
    co_return;
  }
  out.push_back(made(Kind::advice, "dmarc", patient_.domain + " has no DMARC record",
                     "publish _dmarc." + patient_.domain +
                         ". TXT \"v=DMARC1; p=none; rua=mailto:postmaster@" + patient_.domain +
                         "\""));
}

// Those elsewhere must have said that they take reports (RFC 9990 §4): others send none.
Task<void> NetworkChecks::report_addresses(std::string domain, mailauth::DmarcRecord record,
                                           Findings& out) {
  for (const auto& uri : record.rua) {
    if (uri.scheme != "mailto")
      continue;
    std::vector<std::string> one;
    one.push_back(uri.text);
    const auto asked =
        questioner_.start(mailauth::report_destinations(domain, std::move(one)), kInquiry);
    co_await asked->wait();
    const auto found = asked->result();
    const auto host = uri.mailbox.substr(uri.mailbox.rfind('@') + 1);
    if (found.mailboxes.empty() && found.unknown.empty())
      out.push_back(made(Kind::problem, "dmarc",
                         "reports for " + uri.mailbox + " go nowhere: " + host +
                             " does not say that it takes those of " + domain,
                         "let " + host + " publish " + domain + "._report._dmarc." + host +
                             ". TXT \"v=DMARC1\", or name an address in " + domain));
  }
}

Task<Result<HttpResponse>> NetworkChecks::policy_file() {
  TlsClientSettings settings;
  settings.roots = config_.delivery.tls_ca;
  auto tls = TlsContext::client(settings);
  if (!tls)
    co_return tls.error();
  HttpRequest request;
  request.host = "mta-sts." + patient_.domain;
  request.port = static_cast<std::uint16_t>(config_.mta_sts.port);
  request.target = "/.well-known/mta-sts.txt";
  request.fields.emplace_back("User-Agent", "Postrider");
  HttpLimits limits;
  limits.whole = config_.mta_sts.timeout;
  limits.body = delivery::kMostStsPolicy;
  auto answer =
      co_await dns::http_request(loop_, resolver_, dns::Families::both, *std::move(tls),
                                 std::move(request), limits, std::make_shared<HttpCall>());
  co_return answer;
}

Task<void> NetworkChecks::announced_policy(Findings&) {
  announced_ = co_await resolver_.txt("_mta-sts." + patient_.domain);
}

Task<void> NetworkChecks::mta_sts(Findings& out) {
  const auto& domain = patient_.domain;
  const auto name = "_mta-sts." + domain;
  const auto& announced = announced_;
  if (announced.status == Status::temporary_failure)
    co_return out.push_back(no_answer("mta_sts", name, announced.reason));
  if (!delivery::parse_sts_record(announced.records))
    co_return out.push_back(made(Kind::advice, "mta_sts",
                                 domain + " has no MTA-STS policy: others need not use TLS to it",
                                 "publish one (RFC 8461), once a certificate is there"));
  const auto answer = co_await policy_file();
  const std::string remedy = "others refuse to deliver while it is wrong: put it right, or take " +
                             name + " out of the DNS";
  if (!answer)
    co_return out.push_back(made(
        Kind::problem, "mta_sts",
        "the policy of " + domain + " cannot be fetched: " + answer.error().describe(), remedy));
  if (const auto trouble = delivery::trouble_of(*answer))
    co_return out.push_back(made(Kind::problem, "mta_sts", trouble->text, remedy));
  const auto policy = delivery::parse_sts_policy(answer->body);
  if (!policy)
    co_return out.push_back(
        made(Kind::problem, "mta_sts",
             "the policy of " + domain + " is wrong: " + policy.error().describe(), remedy));
  for (const auto& host : mx_hosts_)
    if (policy->policy.mode != delivery::StsPolicy::Mode::none &&
        !delivery::allows(policy->policy, host))
      co_return out.push_back(made(Kind::problem, "mta_sts",
                                   "the policy of " + domain + " does not name its MX host " + host,
                                   "add the line mx: " + host + ", and change the id in " + name));
  out.push_back(made(Kind::ok, "mta_sts",
                     std::string("the policy of ") + domain + " is in mode " +
                         delivery::to_string(policy->policy.mode)));
}

Task<void> NetworkChecks::tlsa(Findings& out) {
  const auto name = "_25._tcp." + config_.hostname;
  const auto answer = co_await resolver_.tlsa(name);
  if (answer.status == Status::temporary_failure)
    co_return out.push_back(no_answer("tlsa", name, answer.reason));
  if (answer.records.empty())
    co_return out.push_back(
        made(Kind::advice, "tlsa", config_.hostname + " has no TLSA record (DANE)",
             "where the zone is signed, publish " + name + ". TLSA 3 1 1 of the key"));
  const auto& identities = patient_.certificates.identities;
  const bool is_met_by_one =
      std::any_of(answer.records.begin(), answer.records.end(), [&](const auto& record) {
        return std::any_of(identities.begin(), identities.end(),
                           [&](const auto& identity) { return is_met(record, *identity); });
      });
  if (!is_met_by_one)
    co_return out.push_back(made(Kind::problem, "tlsa",
                                 name + " is of none of our certificates, so others refuse to "
                                        "deliver",
                                 "publish a record of the certificate in tls.certificate, or take "
                                 "these out"));
  out.push_back(made(Kind::ok, "tlsa",
                     name + " is of our certificate" +
                         (answer.secure ? "" : ", and not known here to be signed")));
}

}  // namespace

Task<Findings> examine_network(Loop& loop, dns::Resolver& resolver, Patient patient) {
  NetworkChecks checks(loop, resolver, patient);
  co_return co_await checks.run();
}

}  // namespace postrider::daemon
