// What TLS mail for a destination demands of one host, and what a handshake that fails means. Pure.
//
//   route, MTA-STS of the domain --TlsSources--.
//   TLSA of the host ------------TlsaLookup----+--> demand_of() --> TlsDemand
//                                                                      |
//                        the conversation --TlsAttempt--> judge() <----'
//                                                            `--> TlsVerdict, TlsReport
//
// Who wins: a route that says off, require, verify or dane beats both others; DANE (RFC 7672) beats
// MTA-STS (RFC 8461); without any, TLS is used when it is offered, whoever answers. A route that
// says opportunistic, which is the default, leaves the word to DANE and MTA-STS.
//
// Mail never goes in clear silently: each TlsVerdict that lets it has a reason, which is kept with
// the outcome (mail::Outcome::tls) and reported (RFC 8460).
#pragma once

#include "base/time.h"
#include "mail/envelope.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::delivery {

// Of a route, and of a demand. dane: a certificate that TLSA records vouch for, or no delivery.
enum class TlsMode : std::uint8_t { off, opportunistic, require, verify, dane };
const char* to_string(TlsMode mode);

enum class TlsSource : std::uint8_t { standard, route, dane, mta_sts, message };

// The result types of RFC 8460 §4.3, and success.
enum class TlsResult : std::uint8_t {
  success,
  starttls_not_supported,
  certificate_host_mismatch,
  certificate_expired,
  certificate_not_trusted,
  validation_failure,
  tlsa_invalid,
  dnssec_invalid,
  dane_required,
  sts_policy_fetch_error,
  sts_policy_invalid,
  sts_webpki_invalid,
};
const char* to_string(TlsResult result);  // "starttls-not-supported"

struct TlsaRecord {
  std::uint8_t usage = 0, selector = 0, matching = 0;
  std::vector<std::uint8_t> data;
  friend bool operator==(const TlsaRecord&, const TlsaRecord&) = default;
};
std::string to_string(const TlsaRecord& record);  // "3 1 1 0b9f..."
// RFC 7672 §3.1: DANE-TA(2) and DANE-EE(3) with a selector, a matching type and a length that
// exist; all else counts as if it were not there, but for making TLS mandatory.
bool is_usable(const TlsaRecord& record);

// What one TLSA lookup gave.
struct TlsaLookup {
  enum class Status : std::uint8_t {
    none,     // not asked (something on the way is insecure), or no secure records
    records,  // secure
    failed,   // SERVFAIL, bogus, no answer: the host cannot be used now (RFC 7672 §2.1.2)
  };
  Status status = Status::none;
  std::string base;  // the name that the records are about: SNI, and the name of the certificate
  std::vector<TlsaRecord> records;
  std::string reason;  // of none and failed, for people
};

// A policy that a domain publishes by MTA-STS, as fetched and cached elsewhere.
struct StsPolicy {
  enum class Mode : std::uint8_t { none, testing, enforce };
  Mode mode = Mode::none;
  std::string domain;              // the policy domain
  std::string id;                  // of its TXT record
  std::vector<std::string> mx;     // "mx.example.org", "*.example.org"; lower case
  std::vector<std::string> lines;  // as published, for reports
};
const char* to_string(StsPolicy::Mode mode);  // "none", "testing", "enforce"
// RFC 8461 §4.1: a wildcard stands for exactly one label. Lower case, A-labels.
bool matches_sts(std::string_view pattern, std::string_view host);
bool allows(const StsPolicy& policy, std::string_view host);

// What is known for a destination as a whole.
struct TlsSources {
  TlsMode route = TlsMode::opportunistic;
  bool implicit = false;           // smtps://: TLS from the first byte
  bool by_mx = true;               // hosts come from MX, not from a route
  bool mx_secure = false;          // the MX answer (or its absence) is authenticated
  std::string next_hop;            // the recipient domain, or the route's host
  std::vector<std::string> names;  // the route's own list of names for `verify`; usually empty
  bool unverified_login = false;   // of the route
  std::shared_ptr<const StsPolicy> sts;  // null: none
  // What the message asks (RFC 8689). required: an authenticated host or none; optional: published
  // policies count as wishes, but a route's are still ours.
  mail::TlsWish message = mail::TlsWish::unspecified;
};
// Behind the names of hosts in the name of a site, so that a connection is shared only by mail that
// demands the same of it: " (dnssec)", " (mta-sts enforce)", " (tls verify example.org)"; empty for
// the plain case. hosts: those of the site, lower case.
std::string site_tag(const TlsSources& sources, const std::vector<std::string>& hosts);

struct TlsTrouble {
  TlsResult result = TlsResult::validation_failure;
  std::string text;  // one sentence, for people
};

// What is demanded of one host.
struct TlsDemand {
  TlsMode mode = TlsMode::opportunistic;
  TlsSource source = TlsSource::standard;
  bool implicit = false;           // no STARTTLS: TLS from the first byte
  std::vector<std::string> names;  // one of them must be in the certificate; ".example.org": or
                                   // below it. Empty: no name can be checked
  std::vector<TlsaRecord> tlsa;    // usable ones
  std::string server_name;         // SNI; empty for an address
  bool unverified_login = false;   // credentials may be used whoever answers under TLS
  bool trial = false;  // MTA-STS testing: checked and reported, but nothing is refused for it
  bool dane_unusable = false;         // TLSA records are there, none usable: TLS, whoever answers
  std::optional<TlsTrouble> trouble;  // known before any connection
  // The host must not be connected to at all.
  bool is_refused() const { return trouble && !trial; }
  bool needs_tls() const { return mode >= TlsMode::require; }
  bool needs_name() const { return mode >= TlsMode::verify; }
  // "verify (MTA-STS of example.org): the certificate must name mx.example.org"
  std::string describe() const;
  // Equal demands may share resumed sessions and nothing else may; holds names and TLSA data.
  std::string session_key() const;
};
// host: lower case, without trailing dot; empty: an address, which has no name to check.
TlsDemand demand_of(const TlsSources& sources, const std::string& host, const TlsaLookup& tlsa);

// What a completed handshake proved.
enum class TlsProof : std::uint8_t {
  nothing,     // not trusted, or nobody looked
  wrong_name,  // a trusted chain for another name
  expired,     // or not valid yet
  chain,       // a trusted chain; there was no name to check
  name,        // a trusted chain for one of the names
  dane,        // a TLSA record matches
};

struct TlsAttempt {
  enum class Step : std::uint8_t {
    not_offered,  // no STARTTLS in the answer to EHLO
    declined,     // STARTTLS answered with something else than 2xx
    unanswered,   // the connection ended, or 421 or nonsense came, in place of that answer
    injected,     // bytes in clear behind that 220: an attack; not in clear for this try
    broken,       // the handshake failed, or the connection ended in it
    cut_off,      // the connection ended behind a good handshake, before a message was through
    done,
  };
  Step step = Step::not_offered;
  std::string why;               // of all that failed: reply or error, for people
  std::string code;              // of the TLS library, for reports
  std::string protocol, cipher;  // of done: "TLSv1.3", "TLS_AES_256_GCM_SHA384"
  bool resumed = false;
  TlsProof proof = TlsProof::nothing;
};

enum class TlsNext : std::uint8_t {
  go_on,        // under TLS
  in_clear,     // this conversation goes on in clear
  clear_again,  // a new connection to the same address, in clear
  next_host,    // not with this host; defer if there is no other
};
struct TlsVerdict {
  TlsNext next = TlsNext::go_on;
  TlsResult result = TlsResult::success;
  std::string reason;  // empty on success
};
TlsVerdict judge(const TlsDemand& demand, const TlsAttempt& attempt);

// What a connection is protected by, as kept with attempts and written in the log:
// "TLSv1.3 TLS_AES_256_GCM_SHA384 verified=dane", "none (the host offers no STARTTLS)".
std::string describe_state(const TlsDemand& demand, const TlsAttempt& attempt,
                           const TlsVerdict& verdict);

// One handshake, or the lack of one, as RFC 8460 counts them.
struct TlsReport {
  TimePoint when;
  std::string domain;                      // the recipient domain: the policy domain
  TlsSource source = TlsSource::standard;  // dane: "tlsa"; mta_sts: "sts"; else no policy found
  bool testing = false;
  std::shared_ptr<const StsPolicy> sts;  // of mta_sts
  std::vector<TlsaRecord> tlsa;          // of dane
  TlsResult result = TlsResult::success;
  std::string from_address;         // ours
  std::string host, helo, address;  // the receiving side; empty without a connection
  std::string detail;               // for people
  std::string code;                 // failure-reason-code
  bool went_in_clear = false;
};
// May be called on any network loop; returns at once.
using TlsObserver = std::function<void(TlsReport report)>;

}  // namespace postrider::delivery
