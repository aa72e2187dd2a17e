// Whether mail of strangers is from whom it says: SPF, DKIM, ARC and DMARC, one
// Authentication-Results on top of it (RFC 8601), and what the domain in From wants to be done with
// mail that is not.
//
// Concerns sessions of the role mx whose client is not one of ours. SPF is asked for from the first
// accepted recipient on, the rest when the content has ended; all together have time_limit, counted
// for SPF from its beginning and for the rest from the end of the content. What has no answer by
// then is temperror.
//
// Trouble with the DNS never refuses a message, for good or for now: who could not be checked is
// taken, and the field says so. Waiting would help nobody whose name server is broken, and mail
// without any proof is taken every day.
#pragma once

#include "mailauth/arc.h"
#include "mailauth/dkim_verify.h"
#include "mailauth/dmarc.h"
#include "mailauth/dmarc_report.h"
#include "mailauth/spf.h"
#include "smtpd/filter/mail_filter.h"
#include "smtpd/filter/questioner.h"

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace postrider::smtpd::filter {

// To be found by filters behind this one, Sieve scripts and people: "X-Postrider-Quarantine: DMARC
// (example.org)". A stranger's own field of this name is removed.
constexpr std::string_view kQuarantineField = "X-Postrider-Quarantine";

struct AuthenticationSettings {
  // What is done where DMARC fails and the author's domain asks for it: nothing but the field; mail
  // that should be set apart or refused gets kQuarantineField; the latter is refused.
  enum class Dmarc : std::uint8_t { off, report, quarantine, reject };

  bool spf = false;  // HELO and MAIL FROM
  bool dkim = false;
  bool arc = false;
  Dmarc dmarc = Dmarc::off;  // any other: spf and dkim too
  std::string authserv_id;
  // Mail that is only reported on, whatever its author's domain wants: "192.0.2.1" (the client),
  // "example.org", ".example.org" (the author's domain, what is below it) or
  // "sealer:lists.example" (whose word in an ARC chain is taken that DMARC passed before it).
  std::vector<TablePtr> exceptions;
  Duration time_limit{std::chrono::seconds(20)};
  // Where each message goes that DMARC judged, once for each domain in From whose record asks for
  // aggregate reports (RFC 9990); on the session's thread. Null: nowhere.
  std::function<void(const mailauth::PublishedPolicy& policy, mailauth::ReportRow row)> reports;
  // Mail for this address alone is not reported on: it is what reports come from, so that those
  // about bounces and answers of reports would never end.
  std::string reports_from;

  bool checks_spf() const { return spf || dmarc != Dmarc::off; }
  bool checks_dkim() const { return dkim || dmarc != Dmarc::off; }
  bool checks_anything() const { return checks_spf() || checks_dkim() || arc; }
};

// Since start, of all loops.
struct AuthenticationCounters {
  std::atomic<std::uint64_t> checked{0}, spf_passed{0}, dkim_passed{0}, dmarc_passed{0},
      dmarc_failed{0}, troubled{0}, quarantined{0}, refused{0}, excepted{0};
};

class Authentication final : public Source {
 public:
  // counters outlive the sessions.
  Authentication(AuthenticationSettings settings, AuthenticationCounters& counters);
  std::unique_ptr<Filter> make(const Facts& facts, const Surroundings& around) const override;

 private:
  const std::shared_ptr<const AuthenticationSettings> settings_;
  AuthenticationCounters& counters_;
};

// What is known about a message in the end.
struct Findings {
  enum class Disposition : std::uint8_t { none, quarantine, reject };

  std::optional<mailauth::SpfVerdict> helo, mail_from;
  std::optional<std::vector<mailauth::SignatureReport>> signatures;
  std::optional<mailauth::ChainReport> chain;
  std::vector<mailauth::DmarcVerdict> of_authors;  // one for each domain in From
  std::optional<mailauth::DmarcVerdict> dmarc;     // the strictest
  std::string from_problem;                        // why DMARC has no verdict, or no whole one
  // From names more domains than are looked at. It counts as a failure with the strictest policy.
  bool has_unseen_authors = false;
  // A signature that might have been the author's was not verified: nothing is refused for that.
  bool has_unseen_signature = false;
  bool is_report = false;  // it says of itself that it is an aggregate report
  Disposition disposition = Disposition::none;
  std::string exception;  // why it is milder than the domain wishes: the key, or "postmaster"
};

// Tells settings.reports of a message that was taken or refused for good.
void report(const AuthenticationSettings& settings, const Findings& findings,
            const IpAddress& client, const mail::Envelope& envelope);

// The results in the order iprev (if the client's name was looked up), spf, dkim, arc, dmarc. sender:
// of the envelope.
std::vector<mailauth::MethodResult> results_of(const Findings& findings, const Facts& facts,
                                               std::string_view sender);

}  // namespace postrider::smtpd::filter
