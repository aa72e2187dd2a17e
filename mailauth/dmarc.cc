#include "mailauth/dmarc.h"

#include "base/text.h"
#include "mailauth/dns_name.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

namespace postrider::mailauth {

namespace {

constexpr std::size_t kKeptLabels = 7;  // of a long name, behind the first question

// What _dmarc.DOMAIN says.
struct Published {
  enum class Kind : std::uint8_t { nothing, record, failure };
  Kind kind = Kind::nothing;
  DmarcRecord record;
  std::string reason;

  bool is_failure() const { return kind == Kind::failure; }
  bool is_record() const { return kind == Kind::record; }
};

Published published_in(const Answer& answer, const std::string& name) {
  Published found;
  if (answer.is_failure()) {
    found.kind = Published::Kind::failure;
    found.reason = name + ": " + answer.reason;
    return found;
  }
  for (const auto& text : answer.texts) {
    auto record = DmarcRecord::parse(text);
    if (!record)
      continue;
    if (found.is_record())  // several are all discarded
      return Published{};
    found.kind = Published::Kind::record;
    found.record = std::move(*record);
  }
  return found;
}

// What a tree walk comes to.
struct Organization {
  std::string domain;  // the Organizational Domain
  // The nearest Public Suffix Domain above the start that publishes a record; empty if none.
  std::string suffix;
  std::string failure;  // the DNS failed on the way: nothing else holds
};

// The records of one check, each asked for once.
class Tree {
 public:
  Asking<const Published*> look_up(std::string domain) {
    std::vector<std::string> domains;
    domains.push_back(domain);
    co_await look_up_all(std::move(domains));
    co_return &known_.at(domain);
  }

  // What was looked up already.
  const Published* known(const std::string& domain) const {
    const auto found = known_.find(domain);
    return found == known_.end() ? nullptr : &found->second;
  }

  Asking<Organization> organization_of(std::string start) {
    const auto names = tree_walk(start);
    co_await look_up_all(names);
    Organization found;
    found.domain = start;
    for (const auto& name : names) {
      const auto& published = known_.at(name);
      if (published.is_failure()) {
        found.failure = published.reason;
        co_return found;
      }
      if (!published.is_record())
        continue;
      if (published.record.psd == DmarcRecord::Psd::yes) {
        if (name != start) {
          found.suffix = name;
          found.domain = last_labels(start, count_labels(name) + 1);
        }
        co_return found;
      }
      found.domain = name;
      if (published.record.psd == DmarcRecord::Psd::no)
        co_return found;
    }
    co_return found;
  }

 private:
  Asking<void> look_up_all(std::vector<std::string> domains) {
    std::vector<std::string> asked;
    std::vector<Question> questions;
    for (auto& domain : domains) {
      if (known_.count(domain) > 0)
        continue;
      auto name = "_dmarc." + domain;
      known_.emplace(domain, Published());
      if (!can_be_asked(name))
        continue;
      questions.push_back(Question{std::move(name), Type::txt});
      asked.push_back(std::move(domain));
    }
    const auto names = questions;
    const auto answers = co_await ask_all(std::move(questions));
    for (std::size_t i = 0; i < asked.size(); ++i)
      known_[asked[i]] = published_in(answers[i], names[i].name);
  }

  std::map<std::string, Published> known_;
};

// One author domain.
class Check {
 public:
  Check(Tree& tree, std::string author, const std::vector<Identifier>& identifiers)
      : tree_(tree), identifiers_(identifiers) {
    verdict_.author_domain = std::move(author);
  }

  Asking<DmarcVerdict> run() {
    if (!co_await find_policy())
      co_return verdict_;
    co_await align();
    if (verdict_.result == DmarcResult::fail)
      co_await choose_policy();
    co_return verdict_;
  }

 private:
  const std::string& author() const { return verdict_.author_domain; }

  // §4.10.1. False if DMARC does not apply, or if nobody knows.
  Asking<bool> find_policy() {
    const auto* own = co_await tree_.look_up(author());
    if (own->is_failure())
      co_return give_up(own->reason);
    if (own->is_record())
      co_return take(author(), own->record);
    const auto organization = co_await tree_.organization_of(author());
    if (!organization.failure.empty())
      co_return give_up(organization.failure);
    for (const auto& domain : {organization.domain, organization.suffix})
      if (const auto* published = tree_.known(domain); published && published->is_record())
        co_return take(domain, published->record);
    verdict_.reason = "no DMARC record for " + author();
    co_return false;
  }

  // False, for find_policy().
  bool give_up(const std::string& reason) {
    verdict_.result = DmarcResult::temperror;
    verdict_.reason = reason;
    return false;
  }

  bool take(const std::string& domain, const DmarcRecord& record) {
    if (!record.applies()) {
      verdict_.reason = "the DMARC record of " + domain + " has no valid policy";
      return false;
    }
    verdict_.policy_domain = domain;
    verdict_.record = record;
    set_policy(domain == author() || !record.sp ? record.p : record.sp);
    return true;
  }

  void set_policy(const std::optional<DmarcPolicy>& policy) {
    const auto& record = verdict_.record;
    verdict_.published =
        record.has_valid_policy ? policy.value_or(DmarcPolicy::none) : DmarcPolicy::none;
    verdict_.applied = record.testing ? one_step_milder(verdict_.published) : verdict_.published;
  }

  // np is for author domains that do not exist (§3.2.13). Without an answer nobody knows which
  // policy it is.
  Asking<void> choose_policy() {
    const auto np = verdict_.record.np;
    if (verdict_.policy_domain == author() || !np || *np == verdict_.published)
      co_return;
    const auto answer = co_await ask(Question{author(), Type::a});
    if (answer.is_failure())
      give_up(author() + ": " + answer.reason);
    else if (answer.status == Answer::Status::no_name)
      set_policy(np);
  }

  // §4.4, §5.3.4, §5.3.5.
  Asking<void> align() {
    std::string uncertain;
    for (const auto& identifier : identifiers_) {
      bool& aligned = identifier.method == Identifier::Method::spf ? verdict_.spf_aligned
                                                                   : verdict_.dkim_aligned;
      if (aligned)
        continue;
      std::string failure;
      const bool is_aligned = co_await aligns(identifier, failure);
      if (!failure.empty())
        uncertain = failure;
      else if (is_aligned && !identifier.is_certain)
        uncertain = "the DNS failed for " + identifier.domain;
      else if (is_aligned)
        aligned = true;
    }
    if (verdict_.spf_aligned || verdict_.dkim_aligned)
      verdict_.result = DmarcResult::pass;
    else
      verdict_.result = uncertain.empty() ? DmarcResult::fail : DmarcResult::temperror;
    if (verdict_.result == DmarcResult::temperror)
      verdict_.reason = uncertain;
  }

  Asking<bool> aligns(const Identifier& identifier, std::string& failure) {
    const auto domain = ascii_lower(identifier.domain);
    if (domain == author())
      co_return true;
    const bool is_strict = identifier.method == Identifier::Method::spf
                               ? verdict_.record.strict_spf
                               : verdict_.record.strict_dkim;
    // Organizational Domains are among a domain's own parents: without a common one they differ.
    if (is_strict || !can_be_asked(domain) || last_labels(domain, 1) != last_labels(author(), 1))
      co_return false;
    const auto ours = co_await tree_.organization_of(author());
    // The other one's questions are spared where it cannot have this domain.
    if (ours.failure.empty() && !is_within(domain, ours.domain))
      co_return false;
    const auto theirs = co_await tree_.organization_of(domain);
    failure = ours.failure.empty() ? theirs.failure : ours.failure;
    co_return failure.empty() && ours.domain == theirs.domain;
  }

  Tree& tree_;
  const std::vector<Identifier>& identifiers_;
  DmarcVerdict verdict_;
};

int weight(const DmarcVerdict& verdict) {
  switch (verdict.result) {
    case DmarcResult::pass:
      return 0;
    case DmarcResult::none:
    case DmarcResult::permerror:
      return 1;
    case DmarcResult::temperror:
      return 2;
    case DmarcResult::fail:
      break;
  }
  return 3 + static_cast<int>(verdict.applied);
}

}  // namespace

std::string_view to_string(DmarcResult result) {
  switch (result) {
    case DmarcResult::none:
      return "none";
    case DmarcResult::pass:
      return "pass";
    case DmarcResult::fail:
      return "fail";
    case DmarcResult::temperror:
      return "temperror";
    case DmarcResult::permerror:
      return "permerror";
  }
  return "permerror";
}

std::vector<std::string> tree_walk(std::string_view domain) {
  std::vector<std::string> names;
  names.emplace_back(domain);
  const auto labels = count_labels(domain);
  for (auto left = labels > kKeptLabels ? kKeptLabels : labels - std::min<std::size_t>(labels, 1);
       left > 0; --left)
    names.emplace_back(last_labels(domain, left));
  return names;
}

Asking<std::vector<DmarcVerdict>> check_dmarc(std::vector<std::string> author_domains,
                                              std::vector<Identifier> identifiers) {
  if (identifiers.size() > kMostIdentifiers)
    identifiers.resize(kMostIdentifiers);
  Tree tree;
  std::vector<DmarcVerdict> verdicts;
  for (auto& author : author_domains) {
    Check check(tree, std::move(author), identifiers);
    verdicts.push_back(co_await check.run());
  }
  co_return verdicts;
}

const DmarcVerdict& strictest(const std::vector<DmarcVerdict>& verdicts) {
  return *std::max_element(verdicts.begin(), verdicts.end(),
                           [](const auto& a, const auto& b) { return weight(a) < weight(b); });
}

Asking<std::optional<std::string>> organizational_domain(std::string domain) {
  Tree tree;
  auto found = co_await tree.organization_of(std::move(domain));
  if (!found.failure.empty())
    co_return std::nullopt;
  co_return std::move(found.domain);
}

}  // namespace postrider::mailauth
