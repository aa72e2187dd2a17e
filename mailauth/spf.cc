#include "mailauth/spf.h"

#include "base/text.h"
#include "mailauth/dns_name.h"
#include "mailauth/reverse_name.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

namespace postrider::mailauth {

namespace {

using Kind = SpfDirective::Kind;

constexpr unsigned kMostTerms = 10;
constexpr unsigned kMostVoids = 2;
constexpr std::size_t kMostMailHosts = 10;
constexpr std::size_t kMostClientNames = 10;

// What ends a check early.
struct Outcome {
  SpfResult result = SpfResult::none;
  std::string directive;
  std::string reason;
};

Outcome permerror(std::string reason) {
  return {SpfResult::permerror, {}, std::move(reason)};
}

Outcome temperror(const Answer& answer, const std::string& name) {
  return {SpfResult::temperror, {}, name + ": " + answer.reason};
}

// Whether a directive matches; or that the check ends here.
struct Match {
  bool matches = false;
  std::optional<Outcome> end;

  static Match of(bool matches) { return {matches, std::nullopt}; }
  static Match stop(Outcome outcome) { return {false, std::move(outcome)}; }
};

bool have_same_prefix(std::string_view a, std::string_view b, unsigned bits) {
  if (a.size() != b.size() || a.substr(0, bits / 8) != b.substr(0, bits / 8))
    return false;
  if (bits % 8 == 0)
    return true;
  const auto differ = static_cast<unsigned>(static_cast<unsigned char>(a[bits / 8] ^ b[bits / 8]));
  return (differ >> (8 - bits % 8)) == 0;
}

// One check_host() with all that it includes.
class Evaluation {
 public:
  Evaluation(const IpAddress& client, std::string sender, std::string helo)
      : client_octets_(octets_of(client)) {
    values_.client = client;
    values_.helo = std::move(helo);
    const auto at = sender.rfind('@');
    values_.local_part = at == std::string::npos ? "" : sender.substr(0, at);
    values_.sender_domain = at == std::string::npos ? sender : sender.substr(at + 1);
    if (!is_ascii(values_.sender_domain))  // RFC 8616 §4
      if (auto converted = claimed_domain(values_.sender_domain))
        values_.sender_domain = std::move(*converted);
    if (values_.local_part.empty())
      values_.local_part = "postmaster";
    values_.sender = values_.local_part + "@" + values_.sender_domain;
  }

  // Follows redirections. Requires: the domain can be asked.
  Asking<Outcome> check(std::string domain) {
    for (bool redirected = false;; redirected = true) {
      SpfRecord record;
      if (auto end = co_await find_record(domain, record)) {
        if (redirected && end->result == SpfResult::none)
          co_return permerror("redirect to " + domain + ": " + end->reason);
        co_return std::move(*end);
      }
      for (const auto& directive : record.directives) {
        auto match = co_await evaluate(directive, domain);
        if (match.end)
          co_return std::move(*match.end);
        if (match.matches)
          co_return Outcome{directive.result, directive.text, {}};
      }
      if (!record.redirect)
        co_return Outcome{SpfResult::neutral, {}, {}};
      if (!count_term())
        co_return too_many_terms();
      auto target = co_await name_of(record.redirect, domain);
      if (target.end)
        co_return std::move(*target.end);
      if (!target.name || target.name->find('.') == std::string::npos)
        co_return permerror("redirect to what is not a domain");
      domain = *target.name;
    }
  }

 private:
  struct Target {
    std::optional<std::string> name;  // nothing: no question can be written for it
    std::optional<Outcome> end;
  };

  bool count_term() {
    term_is_void_ = false;
    return ++terms_ <= kMostTerms;
  }
  static Outcome too_many_terms() { return permerror("more than 10 terms that cause questions"); }
  // False if too many terms found nothing.
  bool count_void(const Answer& answer) {
    if (answer.is_none() && !std::exchange(term_is_void_, true))
      ++voids_;
    return voids_ <= kMostVoids;
  }
  static Outcome too_many_voids() {
    return permerror("more than 2 terms for which the DNS has nothing");
  }

  Type address_type() const { return values_.client.is_v4() ? Type::a : Type::aaaa; }
  bool contains_client(const Answer& answer, const SpfDirective& directive) const {
    const auto bits = values_.client.is_v4() ? directive.v4_bits : directive.v6_bits;
    return std::any_of(answer.addresses.begin(), answer.addresses.end(), [&](const auto& address) {
      return have_same_prefix(octets_of(address), client_octets_, bits);
    });
  }

  // §4.4, §4.5. An outcome if there is not exactly one record that can be read.
  Asking<std::optional<Outcome>> find_record(std::string domain, SpfRecord& record) {
    const auto answer = co_await ask(Question{domain, Type::txt});
    if (answer.is_failure())
      co_return temperror(answer, domain);
    const std::string* text = nullptr;
    for (const auto& candidate : answer.texts) {
      if (!SpfRecord::is_one(candidate))
        continue;
      if (text != nullptr)
        co_return permerror("several SPF records at " + domain);
      text = &candidate;
    }
    if (text == nullptr)
      co_return Outcome{SpfResult::none, {}, "no SPF record at " + domain};
    auto parsed = SpfRecord::parse(*text);
    if (!parsed)
      co_return permerror("SPF record at " + domain + ": " + parsed.error().step());
    record = std::move(*parsed);
    co_return std::nullopt;
  }

  // §4.8, with the validated name of the client where a macro wants it.
  Asking<Target> name_of(std::optional<DomainSpec> spec, std::string domain) {
    Target target;
    if (!spec) {
      target.name = std::move(domain);
      co_return target;
    }
    if (spec->uses_validated_name()) {
      if (!validated_names_ && ++terms_ > kMostTerms)
        target.end = too_many_terms();
      else
        target.end = co_await find_validated_names();
      if (target.end)
        co_return target;
    }
    values_.domain = domain;
    values_.validated_name = validated_name_for(domain);
    target.name = spec->expand(values_);
    co_return target;
  }

  Asking<Match> evaluate(const SpfDirective& directive, std::string domain) {
    if (directive.kind == Kind::all)
      co_return Match::of(true);
    if (directive.kind == Kind::ip4 || directive.kind == Kind::ip6) {
      const auto bits = directive.kind == Kind::ip4 ? directive.v4_bits : directive.v6_bits;
      co_return Match::of(have_same_prefix(directive.network, client_octets_, bits));
    }
    if (!count_term())
      co_return Match::stop(too_many_terms());
    auto target = co_await name_of(directive.target, domain);
    if (target.end)
      co_return Match::stop(std::move(*target.end));
    if (directive.kind == Kind::include)
      co_return co_await include(std::move(target.name));
    if (!target.name)
      co_return Match::of(false);
    if (directive.kind == Kind::mx)
      co_return co_await match_mx(directive, std::move(*target.name));
    if (directive.kind == Kind::ptr)
      co_return co_await match_ptr(std::move(*target.name));
    co_return co_await match_address(directive, std::move(*target.name));
  }

  // §5.2. No record, and what is not a domain, is a permerror.
  Asking<Match> include(std::optional<std::string> domain) {
    if (!domain || domain->find('.') == std::string::npos)
      co_return Match::stop(permerror("include of what is not a domain"));
    auto inner = co_await check(*domain);
    switch (inner.result) {
      case SpfResult::pass:
        co_return Match::of(true);
      case SpfResult::fail:
      case SpfResult::softfail:
      case SpfResult::neutral:
        co_return Match::of(false);
      case SpfResult::none:
        co_return Match::stop(permerror("include of " + *domain + ": " + inner.reason));
      case SpfResult::temperror:
      case SpfResult::permerror:
        break;
    }
    inner.directive.clear();
    co_return Match::stop(std::move(inner));
  }

  // §5.3 and, always with A, §5.7.
  Asking<Match> match_address(const SpfDirective& directive, std::string name) {
    const bool is_exists = directive.kind == Kind::exists;
    const auto type = is_exists ? Type::a : address_type();
    const auto answer = co_await ask(Question{name, type});
    if (answer.is_failure())
      co_return Match::stop(temperror(answer, name));
    if (!count_void(answer))
      co_return Match::stop(too_many_voids());
    co_return Match::of(is_exists ? answer.is_found() : contains_client(answer, directive));
  }

  // §5.4. No MX records: no match, not even by the address of the name itself.
  Asking<Match> match_mx(const SpfDirective& directive, std::string name) {
    const auto exchanges = co_await ask(Question{name, Type::mx});
    if (exchanges.is_failure())
      co_return Match::stop(temperror(exchanges, name));
    if (!count_void(exchanges))
      co_return Match::stop(too_many_voids());
    if (exchanges.hosts.size() > kMostMailHosts)
      co_return Match::stop(permerror("more than 10 MX records at " + name));
    const auto questions = address_questions(exchanges.hosts);
    const auto answers = co_await ask_all(questions);
    for (std::size_t i = 0; i < answers.size(); ++i) {
      if (answers[i].is_failure())
        co_return Match::stop(temperror(answers[i], questions[i].name));
      if (!count_void(answers[i]))
        co_return Match::stop(too_many_voids());
      if (contains_client(answers[i], directive))
        co_return Match::of(true);
    }
    co_return Match::of(false);
  }

  // §5.5.
  Asking<Match> match_ptr(std::string target) {
    if (auto end = co_await find_validated_names())
      co_return Match::stop(std::move(*end));
    const auto& names = *validated_names_;
    co_return Match::of(std::any_of(names.begin(), names.end(),
                                    [&](const auto& name) { return is_within(name, target); }));
  }

  // The client's names that lead back to it (§5.5), found once in a check. Trouble with the DNS
  // only leaves names out.
  Asking<std::optional<Outcome>> find_validated_names() {
    if (validated_names_)
      co_return std::nullopt;
    auto names = co_await ask(Question{reverse_name(values_.client), Type::ptr});
    validated_names_.emplace();
    if (!count_void(names))
      co_return too_many_voids();
    if (names.hosts.size() > kMostClientNames)
      names.hosts.resize(kMostClientNames);
    const auto questions = address_questions(names.hosts);
    const auto answers = co_await ask_all(questions);
    for (std::size_t i = 0; i < answers.size(); ++i) {
      if (!count_void(answers[i]))
        co_return too_many_voids();
      if (std::count(answers[i].addresses.begin(), answers[i].addresses.end(), values_.client) > 0)
        validated_names_->push_back(questions[i].name);
    }
    co_return std::nullopt;
  }

  // §7.3, p: the domain itself, else a name below it, else any.
  std::string validated_name_for(const std::string& domain) const {
    if (!validated_names_ || validated_names_->empty())
      return "unknown";
    const auto& names = *validated_names_;
    auto best = std::find_if(names.begin(), names.end(),
                             [&](const auto& name) { return equals_ignoring_case(name, domain); });
    if (best == names.end())
      best = std::find_if(names.begin(), names.end(),
                          [&](const auto& name) { return is_within(name, domain); });
    return best == names.end() ? names.front() : *best;
  }

  std::vector<Question> address_questions(const std::vector<std::string>& hosts) const {
    std::vector<Question> questions;
    for (const auto& host : hosts)
      if (can_be_asked(host))
        questions.push_back(Question{host, address_type()});
    return questions;
  }

  MacroValues values_;
  std::string client_octets_;
  unsigned terms_ = 0;
  unsigned voids_ = 0;
  bool term_is_void_ = false;
  std::optional<std::vector<std::string>> validated_names_;
};

}  // namespace

Asking<SpfVerdict> check_host(IpAddress client, std::string domain, std::string sender,
                              std::string helo) {
  SpfVerdict verdict;
  verdict.domain = domain;
  const auto name = claimed_domain(domain);
  if (!name || client.is_none()) {
    verdict.reason = client.is_none() ? "no client address" : "not a domain name";
    co_return verdict;
  }
  verdict.domain = *name;
  Evaluation evaluation(client, std::move(sender), std::move(helo));
  auto outcome = co_await evaluation.check(*name);
  verdict.result = outcome.result;
  verdict.directive = std::move(outcome.directive);
  verdict.reason = std::move(outcome.reason);
  co_return verdict;
}

Asking<SpfVerdict> check_helo(IpAddress client, std::string helo) {
  auto sender = "postmaster@" + helo;
  return check_host(client, helo, std::move(sender), helo);
}

Asking<SpfVerdict> check_mail_from(IpAddress client, std::string helo, std::string mail_from) {
  if (mail_from.empty())
    return check_helo(client, std::move(helo));
  const auto at = mail_from.rfind('@');
  auto domain = at == std::string::npos ? mail_from : mail_from.substr(at + 1);
  return check_host(client, std::move(domain), std::move(mail_from), std::move(helo));
}

}  // namespace postrider::mailauth
