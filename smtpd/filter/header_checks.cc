#include "smtpd/filter/header_checks.h"

#include "base/log.h"
#include "base/quoted.h"
#include "base/text.h"
#include "mail/header.h"
#include "mail/part_headers.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <optional>
#include <utility>

namespace postrider::smtpd::filter {

namespace {

using Action = HeaderRule::Action;

constexpr std::size_t kMostText = 200;
constexpr std::size_t kMostPending = 65536;  // octets of sections, before they are looked at
constexpr std::size_t kMostMatches = 100;    // of one message, that are logged
constexpr std::pair<std::string_view, Action> kActions[] = {
    {"reject", Action::reject}, {"hold", Action::hold},   {"discard", Action::discard},
    {"warn", Action::warn},     {"strip", Action::strip}, {"prepend", Action::prepend}};

std::string_view word_of(Action action) {
  for (const auto& [word, known] : kActions)
    if (known == action)
      return word;
  return {};
}

// What an administrator wrote is one line that breaks nothing.
bool is_plain(std::string_view text) {
  return text.size() <= kMostText &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; });
}

struct Match {
  std::size_t rule;  // from 0
  std::string field;
};

// What the rules say of some sections.
struct Looked {
  std::string section;  // as it becomes
  std::vector<Match> matches;
  std::optional<std::size_t> ends;  // the rule that refuses or discards the message
  std::optional<std::size_t> hold;
  bool is_put_off = false;
  bool is_too_long = false;  // a field
  std::string problem;
  std::chrono::steady_clock::duration spent{};
};

// A job for the pool; owns what it needs.
struct Look {
  std::shared_ptr<const HeaderCheckSettings> settings;
  std::string section;
  std::uint8_t mail = 0;
  bool of_parts = false;
  std::chrono::steady_clock::duration may_take{};

  Looked operator()() const;

 private:
  void judge(const mail::HeaderField& field, Looked& looked) const;
  std::optional<std::size_t> first_match(std::string_view text, Looked& looked) const;
};

// As readers see it. Line ends go, the white space behind them stays (RFC 5322 §2.2.3); white space
// before the colon goes (§4.5).
std::string unfolded(const mail::HeaderField& field) {
  std::string text(field.name);
  text += field.whole.starts_with(field.name) ? ":" : ": ";
  for (const char c : field.value)
    if (c != '\r' && c != '\n')
      text.push_back(c);
  return text;
}

// The fields that describe the content, which are read as those of parts are.
std::string content_fields(std::string_view section) {
  std::string fields;
  mail::HeaderScanner scanner(section);
  mail::HeaderField field;
  while (scanner.next(field))
    if (equals_ignoring_case(field.name.substr(0, 8), "Content-") ||
        equals_ignoring_case(field.name, "MIME-Version"))
      fields += field.whole;
  return fields;
}

Looked Look::operator()() const {
  const auto began = std::chrono::steady_clock::now();
  Looked looked;
  mail::HeaderScanner scanner(section);
  mail::HeaderField field;
  while (!looked.ends && !looked.is_put_off && scanner.next(field)) {
    looked.is_too_long = field.whole.size() > HeaderCheckSettings::kMostOfField;
    if (looked.is_too_long)
      break;
    if (std::chrono::steady_clock::now() - began > may_take) {
      looked.is_put_off = true;
      looked.problem = "header checks take too long";
      break;
    }
    judge(field, looked);
  }
  looked.spent = std::chrono::steady_clock::now() - began;
  return looked;
}

std::optional<std::size_t> Look::first_match(std::string_view text, Looked& looked) const {
  for (std::size_t i = 0; i < settings->rules.size(); ++i) {
    const auto& rule = settings->rules[i];
    if (rule.of_parts != of_parts || (rule.mail & mail) == 0)
      continue;
    const auto matched = rule.pattern.match(text, settings->limits);
    if (!matched) {
      looked.is_put_off = true;
      looked.problem = "header_check[" + std::to_string(i) + "]: " + matched.error().step();
      return std::nullopt;
    }
    if (*matched)
      return i;
  }
  return std::nullopt;
}

void Look::judge(const mail::HeaderField& field, Looked& looked) const {
  const auto text = unfolded(field);
  const auto found = first_match(text, looked);
  if (!found) {
    looked.section += field.whole;
    return;
  }
  const auto& rule = settings->rules[*found];
  if (looked.matches.size() < kMostMatches)
    looked.matches.push_back({*found, text.substr(0, kMostText)});
  if (rule.action == Action::reject || rule.action == Action::discard)
    looked.ends = found;
  if (rule.action == Action::hold && !looked.hold)
    looked.hold = found;
  if (rule.action == Action::prepend)
    looked.section += rule.text + "\r\n";
  if (rule.action != Action::strip)
    looked.section += field.whole;
}

std::uint8_t kind_of(const Facts& facts) {
  if (facts.is_sendmail)
    return HeaderRule::kSendmail;
  return facts.role == Role::mx ? HeaderRule::kMx : HeaderRule::kSubmission;
}

bool has_rules_for(const HeaderCheckSettings& settings, std::uint8_t mail) {
  return std::any_of(settings.rules.begin(), settings.rules.end(),
                     [&](const auto& rule) { return (rule.mail & mail) != 0; });
}

class HeaderCheck final : public Filter {
 public:
  HeaderCheck(std::shared_ptr<const HeaderCheckSettings> settings, BlockingPool& pool,
              HeaderCheckCounters& counters, const Facts& facts, const Surroundings& around)
      : settings_(std::move(settings)),
        pool_(pool),
        counters_(counters),
        facts_(facts),
        around_(around),
        mail_(kind_of(facts)) {}

  bool can_be_shown_again() const override { return true; }
  Task<Verdict> header(const mail::Envelope&, std::string& section) override;
  bool wants_body() const override { return parts_.has_value(); }
  Task<Verdict> body(std::string_view piece) override;
  Task<Verdict> end(Ending& ending) override;
  void abort() override;

 private:
  bool has_rules(bool of_parts) const {
    return std::any_of(settings_->rules.begin(), settings_->rules.end(), [&](const auto& rule) {
      return rule.of_parts == of_parts && (rule.mail & mail_) != 0;
    });
  }
  Task<Verdict> look(std::string section, bool of_parts, std::string* fresh);
  Task<Verdict> look_at_parts();
  Verdict beyond_limits(std::string_view problem) const;
  void tell(const Looked& looked) const;

  const std::shared_ptr<const HeaderCheckSettings> settings_;
  BlockingPool& pool_;
  HeaderCheckCounters& counters_;
  const Facts& facts_;
  const Surroundings around_;
  const std::uint8_t mail_;
  // Of the message at hand.
  std::optional<mail::PartHeaders> parts_;
  std::string pending_;  // sections of parts
  std::chrono::steady_clock::duration spent_{};
  std::string hold_;
  std::string from_, to_;  // for the log; the first recipient
};

void HeaderCheck::abort() {
  parts_.reset();
  pending_.clear();
  hold_.clear();
  spent_ = {};
}

void HeaderCheck::tell(const Looked& looked) const {
  for (const auto& match : looked.matches) {
    const auto& rule = settings_->rules[match.rule];
    LogEvent event(Level::info, "header_check", to_string(facts_.message));
    event.add("session", facts_.session).add("client", facts_.client.address.str());
    if (facts_.client.name)
      event.add("client_name", facts_.client.name->shown());
    event.add("from", from_).add("to", to_);
    event.add("protocol", facts_.protocol).add("helo", facts_.helo);
    event.add("action", word_of(rule.action));
    event.add("rule", std::to_string(match.rule)).add("field", match.field);
    if (!rule.text.empty())
      event.add("text", rule.text);
    around_.log.write(std::move(event));
  }
}

Task<Verdict> HeaderCheck::look(std::string section, bool of_parts, std::string* fresh) {
  const std::function<Looked()> job =
      Look{settings_, std::move(section), mail_, of_parts, settings_->time_limit - spent_};
  auto looked = co_await pool_.run<Looked>(around_.loop, job);
  spent_ += looked.spent;
  counters_.matched.fetch_add(looked.matches.size(), std::memory_order_relaxed);
  tell(looked);
  if (looked.hold && hold_.empty()) {
    const auto& text = settings_->rules[*looked.hold].text;
    hold_ = text.empty() ? "header_check" : "header_check: " + text;
  }
  if (looked.ends) {
    const auto& rule = settings_->rules[*looked.ends];
    if (rule.action == Action::discard)
      co_return Verdict{Verdict::Kind::discard, {}, {}};
    counters_.refused.fetch_add(1, std::memory_order_relaxed);
    co_return Verdict::refuse(
        {550, {5, 7, 1}, rule.text.empty() ? "Message refused by policy" : rule.text},
        "header_check[" + std::to_string(*looked.ends) + "]");
  }
  if (looked.is_too_long)
    co_return beyond_limits("a header field is too long");
  if (looked.is_put_off) {
    counters_.put_off.fetch_add(1, std::memory_order_relaxed);
    co_return Verdict::refuse({451, {4, 7, 1}, "Cannot check this message now"}, looked.problem);
  }
  if (fresh != nullptr)
    *fresh = std::move(looked.section);
  co_return Verdict{};
}

// It would be no less if it came again.
Verdict HeaderCheck::beyond_limits(std::string_view problem) const {
  counters_.refused.fetch_add(1, std::memory_order_relaxed);
  return Verdict::refuse({550, {5, 6, 0}, "Cannot check this message: " + std::string(problem)},
                         "header_check: " + std::string(problem));
}

Task<Verdict> HeaderCheck::header(const mail::Envelope& envelope, std::string& section) {
  abort();
  from_ = envelope.sender;
  to_ = envelope.recipients.empty() ? std::string() : envelope.recipients.front().address;
  if (has_rules(true)) {
    pending_ = content_fields(section);
    parts_.emplace(section);
    auto verdict = co_await look_at_parts();
    if (verdict.kind != Verdict::Kind::go_on)
      co_return verdict;
    if (!parts_->has_parts())
      parts_.reset();
  }
  if (!has_rules(false))
    co_return Verdict{};
  std::string fresh;
  auto verdict = co_await look(section, false, &fresh);
  if (verdict.kind == Verdict::Kind::go_on)
    section = std::move(fresh);
  co_return verdict;
}

Task<Verdict> HeaderCheck::body(std::string_view piece) {
  parts_->feed(piece, [this](std::string_view section) { pending_ += section; });
  if (pending_.size() < kMostPending && parts_->unseen().empty())
    co_return Verdict{};
  co_return co_await look_at_parts();
}

// Those that were kept. Rules decide first, as they would without a limit.
Task<Verdict> HeaderCheck::look_at_parts() {
  auto verdict = co_await look(std::exchange(pending_, {}), true, nullptr);
  if (verdict.kind == Verdict::Kind::go_on && !parts_->unseen().empty())
    co_return beyond_limits(parts_->unseen());
  co_return verdict;
}

Task<Verdict> HeaderCheck::end(Ending& ending) {
  if (parts_) {
    parts_->finish([this](std::string_view section) { pending_ += section; });
    auto verdict = co_await look_at_parts();
    if (verdict.kind != Verdict::Kind::go_on)
      co_return verdict;
  }
  if (!hold_.empty() && ending.hold.empty())
    ending.hold = hold_;
  co_return Verdict{};
}

}  // namespace

Result<HeaderRule> parse_header_rule(std::string_view pattern, std::string_view action,
                                     bool of_parts) {
  HeaderRule rule;
  rule.of_parts = of_parts;
  if (const auto problem = rule.pattern.take(pattern); !problem.empty())
    return malformed(problem);
  if (!pattern.empty())
    return malformed("nothing may follow the pattern and its flags");
  const auto space = action.find(' ');
  const auto* known = std::find_if(std::begin(kActions), std::end(kActions), [&](const auto& each) {
    return each.first == action.substr(0, space);
  });
  if (known == std::end(kActions))
    return malformed(
        quote_value(action, 80) +
        " is not an action; expected reject TEXT, hold TEXT, discard, warn TEXT, strip or "
        "prepend FIELD");
  rule.action = known->second;
  if (space != action.npos)
    rule.text = trim(action.substr(space));
  if (!is_plain(rule.text))
    return malformed("the text is too long, or not printable ASCII");
  const bool changes = rule.action == Action::strip || rule.action == Action::prepend;
  if (changes && of_parts)
    return malformed("the header of a part is not changed: it may be signed");
  if (rule.action == Action::prepend && mail::field_name(rule.text).empty())
    return malformed("prepend needs a header field, as in \"prepend X-Seen: yes\"");
  return rule;
}

bool HeaderChecks::is_for_sendmail() const {
  return has_rules_for(*settings_, HeaderRule::kSendmail);
}

std::unique_ptr<Filter> HeaderChecks::make(const Facts& facts, const Surroundings& around) const {
  if (!has_rules_for(*settings_, kind_of(facts)))
    return nullptr;
  return std::make_unique<HeaderCheck>(settings_, pool_, counters_, facts, around);
}

}  // namespace postrider::smtpd::filter
