#include "smtpd/filter/authentication.h"

#include "base/memory_only.h"
#include "base/text.h"
#include "mailauth/auth_results.h"
#include "mailauth/authors.h"
#include "mailauth/dns_name.h"
#include "smtpd/filter/filter_log.h"

#include <algorithm>
#include <utility>

namespace postrider::smtpd::filter {

using Dmarc = AuthenticationSettings::Dmarc;
using Disposition = Findings::Disposition;
using mailauth::Asking;
using mailauth::SignatureReport;
using mailauth::SignatureResult;
using mailauth::SpfResult;
using mailauth::SpfVerdict;

namespace {

struct SpfVerdicts {
  SpfVerdict helo, mail_from;
};

Asking<SpfVerdicts> check_sender(IpAddress client, std::string helo, std::string sender) {
  std::vector<Asking<SpfVerdict>> checks;
  checks.push_back(mailauth::check_helo(client, helo));
  checks.push_back(mailauth::check_mail_from(client, helo, std::move(sender)));
  auto both = co_await mailauth::all(std::move(checks));
  co_return SpfVerdicts{std::move(both[0]), std::move(both[1])};
}

// RFC 5321 §4.5.1, RFC 2142: where those write whose mail is refused elsewhere.
bool is_for_complaints(const mail::Envelope& envelope) {
  const auto& all = envelope.recipients;
  return std::all_of(all.begin(), all.end(), [](const mail::Recipient& recipient) {
    const auto name = mail::local_part_of(recipient.address);
    return equals_ignoring_case(name, "postmaster") || equals_ignoring_case(name, "abuse");
  });
}

bool is_plain_domain(std::string_view name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
  });
}

// The section without the fields of this name.
void remove_fields(std::string& section, std::string_view name) {
  mail::HeaderScanner scanner(section);
  mail::HeaderField field;
  std::string kept;
  bool found = false;
  while (scanner.next(field)) {
    if (equals_ignoring_case(field.name, name))
      found = true;
    else
      kept += field.whole;
  }
  if (found)
    section = std::move(kept);
}

struct ExceptionKeys {
  std::vector<std::string> plain;
  // The newest first, with whether he wrote that DMARC had passed. His word counts as long as all
  // that changed the message after him are listed, too.
  std::vector<std::pair<std::string, bool>> sealers;
};

// What is known of the content of one message, and its checks under way. Nothing in it moves.
struct Content {
  explicit Content(std::string section) : text(std::move(section)), header(text) {}
  const std::string text;  // the header section as it came
  const mailauth::HeaderIndex header;
  mailauth::BodyHashes bodies;
  std::optional<mailauth::DkimVerifier> dkim;
  std::optional<mailauth::ArcVerifier> arc;
};

bool is_report(const mailauth::HeaderIndex& header) {
  const auto& subjects = header.named("Subject");
  return subjects.size() == 1 &&
         mailauth::is_report_subject(header.fields()[subjects.front()].value);
}

class Checks final : public Filter {
 public:
  Checks(std::shared_ptr<const AuthenticationSettings> settings, AuthenticationCounters& counters,
         const Facts& facts, const Surroundings& around)
      : settings_(std::move(settings)), counters_(counters), facts_(facts), around_(around) {}

  Stages stages() const override { return bit(Stage::mail) | bit(Stage::recipient); }
  bool changes_at_end() const override { return true; }  // others should see what was found
  Task<Verdict> mail(const mail::Envelope& envelope) override;
  Task<Verdict> recipient(const mail::Recipient&) override;
  Task<Verdict> header(const mail::Envelope&, std::string& section) override;
  bool wants_body() const override { return content_ && !content_->bodies.empty(); }
  Task<Verdict> body(std::string_view piece) override;
  Task<Verdict> end(Ending& ending) override;
  void abort() override;
  void give_up() override;

 private:
  template <class T>
  using Run = std::shared_ptr<Questioner::RunOf<T>>;

  Task<void> find(Findings& findings);
  Task<void> find_dmarc(Findings& findings, SteadyTime until);
  std::vector<mailauth::Identifier> identifiers(const Findings& findings) const;
  Task<std::optional<Verdict>> judge(const Ending& ending, Findings& findings);
  Task<std::optional<std::string>> exception(const Findings& findings);
  ExceptionKeys exception_keys(const Findings& findings) const;
  bool passed_before(const mailauth::ArcSet& set, std::string_view author) const;
  void count_of(const Findings& findings) const;
  Duration left_until(SteadyTime until) const;
  void count(std::atomic<std::uint64_t>& counter) const {
    counter.fetch_add(1, std::memory_order_relaxed);
  }

  const std::shared_ptr<const AuthenticationSettings> settings_;
  AuthenticationCounters& counters_;
  const Facts& facts_;
  const Surroundings& around_;
  bool has_given_up_ = false;
  std::string sender_;
  // In the order of their lives: the runs refer to the content.
  std::unique_ptr<Content> content_;
  Run<SpfVerdicts> spf_;
  Run<std::vector<SignatureReport>> dkim_;
  Run<mailauth::ChainReport> arc_;
  Run<std::vector<mailauth::DmarcVerdict>> dmarc_;
};

Task<Verdict> Checks::mail(const mail::Envelope& envelope) {
  sender_ = envelope.sender;
  // A certificate that may relay was shown meanwhile.
  co_return Verdict{facts_.is_ours() ? Verdict::Kind::done : Verdict::Kind::go_on, {}, {}};
}

// Strangers who only try addresses cause no questions.
Task<Verdict> Checks::recipient(const mail::Recipient&) {
  if (!spf_ && settings_->checks_spf() && !has_given_up_) {
    spf_ = around_.dns->start(check_sender(facts_.client.address, facts_.helo, sender_),
                              settings_->time_limit);
  }
  co_return Verdict{};
}

Task<Verdict> Checks::header(const mail::Envelope&, std::string& section) {
  content_ = std::make_unique<Content>(section);
  if (settings_->checks_dkim())
    content_->dkim.emplace(content_->header, content_->bodies, mailauth::DkimLimits(),
                           mailauth::read_authors(content_->header).domains);
  if (settings_->arc)
    content_->arc.emplace(content_->header, content_->bodies);
  if (auto fresh = mailauth::without_forged_results(section, {settings_->authserv_id}))
    section = *std::move(fresh);
  remove_fields(section, kQuarantineField);
  co_return Verdict{};
}

Task<Verdict> Checks::body(std::string_view piece) {
  content_->bodies.feed(piece);
  co_return Verdict{};
}

Duration Checks::left_until(SteadyTime until) const {
  return std::max(Duration(0),
                  std::chrono::duration_cast<Duration>(until - around_.clock.steady()));
}

Task<Verdict> Checks::end(Ending& ending) {
  const auto began = around_.clock.steady();
  Findings findings;
  findings.is_report = is_report(content_->header);
  co_await find(findings);
  auto verdict = co_await judge(ending, findings);
  count_of(findings);
  // Mail that is put off is judged again when it comes again.
  if (!has_given_up_ && (!verdict || findings.disposition == Disposition::reject))
    report(*settings_, findings, facts_.client.address, ending.envelope);
  maillog::checked(around_.log, facts_, ending.id, findings,
                   std::chrono::duration_cast<Duration>(around_.clock.steady() - began));
  if (verdict)
    co_return std::move(*verdict);
  if (around_.client_name)
    co_await around_.client_name();
  std::string fields = mailauth::authentication_results_field(
      settings_->authserv_id, results_of(findings, facts_, sender_), ending.envelope.smtputf8);
  if (findings.disposition == Disposition::quarantine)
    fields += std::string(kQuarantineField) + ": DMARC (" +
              (is_plain_domain(findings.dmarc->author_domain) ? findings.dmarc->author_domain
                                                              : std::string("unusual domain")) +
              ")\r\n";
  ending.on_top.insert(0, fields);
  co_return Verdict{};
}

Task<void> Checks::find(Findings& findings) {
  const auto until = around_.clock.steady() + settings_->time_limit;
  const auto now = around_.clock.now();
  content_->bodies.finish();
  if (content_->dkim)
    dkim_ = around_.dns->start(content_->dkim->verify(now), settings_->time_limit);
  if (content_->arc)
    arc_ = around_.dns->start(content_->arc->verify(now), settings_->time_limit);
  if (has_given_up_)
    give_up();
  if (spf_) {
    co_await spf_->wait();
    auto verdicts = spf_->result();
    findings.helo = std::move(verdicts.helo);
    findings.mail_from = std::move(verdicts.mail_from);
  }
  if (dkim_) {
    co_await dkim_->wait();
    findings.signatures = dkim_->result();
  }
  if (arc_) {
    co_await arc_->wait();
    findings.chain = arc_->result();
  }
  if (settings_->dmarc != Dmarc::off)
    co_await find_dmarc(findings, until);
}

// An author who cannot be read is no failure of DMARC: there is nobody whose wish could be followed
// (RFC 9989 §11.5).
Task<void> Checks::find_dmarc(Findings& findings, SteadyTime until) {
  const auto authors = mailauth::read_authors(content_->header);
  if (authors.domains.empty()) {
    findings.from_problem = authors.problem.empty() ? "no domain in From" : authors.problem;
    co_return;
  }
  dmarc_ = around_.dns->start(mailauth::check_dmarc(authors.domains, identifiers(findings)),
                              left_until(until));
  if (has_given_up_)
    give_up();
  co_await dmarc_->wait();
  findings.of_authors = dmarc_->result();
  findings.dmarc = mailauth::strictest(findings.of_authors);
  findings.has_unseen_authors = authors.too_many;
  if (authors.too_many)
    findings.from_problem = authors.problem;
  const auto signatures = findings.signatures.value_or(std::vector<SignatureReport>());
  findings.has_unseen_signature =
      std::any_of(signatures.begin(), signatures.end(), [&](const SignatureReport& each) {
        const auto& author = findings.dmarc->author_domain;
        return each.is_left_out &&
               (each.domain.empty() || mailauth::may_be_one_organization(each.domain, author));
      });
}

std::vector<mailauth::Identifier> Checks::identifiers(const Findings& findings) const {
  using mailauth::Identifier;
  std::vector<Identifier> all;
  if (const auto& spf = findings.mail_from;
      spf && (spf->result == SpfResult::pass || spf->result == SpfResult::temperror))
    all.push_back({Identifier::Method::spf, spf->domain, spf->result == SpfResult::pass});
  for (const auto& each : findings.signatures.value_or(std::vector<SignatureReport>())) {
    if (each.testing ||
        (each.result != SignatureResult::pass && each.result != SignatureResult::temperror))
      continue;
    all.push_back({Identifier::Method::dkim, each.domain, each.result == SignatureResult::pass});
  }
  return all;
}

// What is to be done by the author's wish, ours, and the exceptions. A verdict: not taken.
Task<std::optional<Verdict>> Checks::judge(const Ending& ending, Findings& findings) {
  using mailauth::DmarcPolicy;
  if (!findings.dmarc || settings_->dmarc == Dmarc::report)
    co_return std::nullopt;
  // RFC 9989 §11.5: with several authors the strictest wish counts, and an unknown one may be that.
  const auto wish = findings.has_unseen_authors ? DmarcPolicy::reject : findings.dmarc->wish();
  if (wish == DmarcPolicy::none)
    co_return std::nullopt;
  const bool refuses = wish == DmarcPolicy::reject && settings_->dmarc == Dmarc::reject;
  const auto excepted = co_await exception(findings);
  if (excepted && !excepted->empty()) {
    findings.exception = *excepted;
    co_return std::nullopt;
  }
  findings.disposition = Disposition::quarantine;
  if (!refuses || (findings.has_unseen_signature && !findings.has_unseen_authors))
    co_return std::nullopt;
  if (!excepted)
    co_return Verdict::refuse({451, {4, 7, 1}, "Cannot check this message now"},
                              "the exceptions cannot be looked up");
  if (is_for_complaints(ending.envelope)) {
    findings.exception = "postmaster";
    co_return std::nullopt;
  }
  findings.disposition = Disposition::reject;
  if (findings.has_unseen_authors)
    co_return Verdict::refuse({550,
                               {5, 7, 1},
                               "Rejected: From names more than " +
                                   std::to_string(mailauth::kMostAuthorDomains) + " domains"},
                              findings.from_problem);
  const auto& author = findings.dmarc->author_domain;
  const auto whose = is_plain_domain(author) ? author : std::string("the author's domain");
  co_return Verdict::refuse({550, {5, 7, 1}, "Rejected by the DMARC policy of " + whose});
}

// The key that was found, or nothing in it; no value: they cannot be asked now.
Task<std::optional<std::string>> Checks::exception(const Findings& findings) {
  if (settings_->exceptions.empty())
    co_return std::string();
  struct Job {
    std::shared_ptr<const AuthenticationSettings> settings;
    ExceptionKeys keys;
    std::optional<std::string> found;

    Result<bool> is_listed(const std::string& key) const {
      for (const auto& table : settings->exceptions) {
        const auto entry = table->find(key);
        if (!entry)
          return entry.error();
        if (*entry)
          return true;
      }
      return false;
    }
    Result<std::string> look() const {
      for (const auto& key : keys.plain) {
        const auto listed = is_listed(key);
        if (!listed)
          return listed.error();
        if (*listed)
          return key;
      }
      for (const auto& [key, says_pass] : keys.sealers) {
        const auto listed = is_listed(key);
        if (!listed)
          return listed.error();
        if (!*listed)
          break;
        if (says_pass)
          return key;
      }
      return std::string();
    }
    void run() {
      if (auto looked = look())
        found = *std::move(looked);
    }
  };
  const auto job = std::make_shared<Job>(Job{settings_, exception_keys(findings), {}});
  {
    const MemoryOnly memory;
    job->run();
    if (!memory.was_not_enough())
      co_return job->found;
  }
  const auto aside = std::make_shared<Job>(Job{settings_, job->keys, {}});
  if (!around_.aside || !co_await around_.aside("exceptions", [aside] { aside->run(); }))
    co_return std::nullopt;
  co_return aside->found;
}

ExceptionKeys Checks::exception_keys(const Findings& findings) const {
  const auto& author = findings.dmarc->author_domain;
  ExceptionKeys keys;
  keys.plain = {facts_.client.address.str()};
  if (findings.has_unseen_authors)
    return keys;
  keys.plain.push_back(author);
  for (auto at = author.find('.'); at != std::string::npos; at = author.find('.', at + 1))
    keys.plain.push_back(author.substr(at));
  if (findings.chain && findings.chain->result == mailauth::ChainResult::pass) {
    const auto chain = mailauth::read_arc_chain(content_->header);
    const auto& sealers = findings.chain->sealers;
    for (auto i = std::min(sealers.size(), chain.sets.size()); i-- > 0;) {
      keys.sealers.emplace_back("sealer:" + ascii_lower(sealers[i]),
                                passed_before(chain.sets[i], author));
    }
  }
  return keys;
}

// Whether the sealer of this set wrote that DMARC had passed for this author.
bool Checks::passed_before(const mailauth::ArcSet& set, std::string_view author) const {
  if (!set.results_place)
    return false;
  auto value = content_->header.fields()[*set.results_place].value;
  const auto semicolon = value.find(';');  // behind "i=1"
  if (semicolon == std::string_view::npos)
    return false;
  const auto parsed = mailauth::parse_authentication_results(value.substr(semicolon + 1));
  if (!parsed)
    return false;
  return std::any_of(
      parsed->results.begin(), parsed->results.end(), [&](const mailauth::MethodResult& each) {
        return each.method == "dmarc" && each.result == "pass" &&
               std::any_of(each.properties.begin(), each.properties.end(), [&](const auto& prop) {
                 return prop.type == "header" && prop.name == "from" &&
                        equals_ignoring_case(prop.value, author);
               });
      });
}

void Checks::count_of(const Findings& findings) const {
  using mailauth::DmarcResult;
  count(counters_.checked);
  if (findings.mail_from && findings.mail_from->result == SpfResult::pass)
    count(counters_.spf_passed);
  const auto& signatures = findings.signatures;
  if (signatures && std::any_of(signatures->begin(), signatures->end(), [](const auto& each) {
        return each.result == SignatureResult::pass;
      }))
    count(counters_.dkim_passed);
  if (findings.dmarc) {
    const auto result = findings.dmarc->result;
    if (result == DmarcResult::pass)
      count(counters_.dmarc_passed);
    else if (result == DmarcResult::fail)
      count(counters_.dmarc_failed);
    else if (result == DmarcResult::temperror)
      count(counters_.troubled);
  }
  if (!findings.exception.empty())
    count(counters_.excepted);
  if (findings.disposition == Disposition::quarantine)
    count(counters_.quarantined);
  else if (findings.disposition == Disposition::reject)
    count(counters_.refused);
}

void Checks::abort() {
  dmarc_.reset();
  arc_.reset();
  dkim_.reset();
  spf_.reset();
  content_.reset();
  sender_.clear();
}

void Checks::give_up() {
  has_given_up_ = true;
  constexpr const char* kReason = "the session has ended";
  if (spf_)
    spf_->give_up(kReason);
  if (dkim_)
    dkim_->give_up(kReason);
  if (arc_)
    arc_->give_up(kReason);
  if (dmarc_)
    dmarc_->give_up(kReason);
}

}  // namespace

Authentication::Authentication(AuthenticationSettings settings, AuthenticationCounters& counters)
    : settings_(std::make_shared<const AuthenticationSettings>(std::move(settings))),
      counters_(counters) {}

std::unique_ptr<Filter> Authentication::make(const Facts& facts, const Surroundings& around) const {
  if (facts.role != Role::mx || facts.is_ours() || facts.client.address.is_none() ||
      around.dns == nullptr || !settings_->checks_anything())
    return nullptr;
  return std::make_unique<Checks>(settings_, counters_, facts, around);
}

}  // namespace postrider::smtpd::filter
