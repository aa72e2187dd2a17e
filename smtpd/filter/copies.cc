#include "smtpd/filter/copies.h"

#include "base/log.h"
#include "base/memory_only.h"
#include "base/quoted.h"
#include "base/text.h"
#include "mail/address.h"
#include "mail/smtp_command.h"

#include <algorithm>
#include <optional>
#include <unordered_set>
#include <utility>

namespace postrider::smtpd::filter {

namespace {

std::vector<std::string_view> addresses_in(std::string_view value) {
  std::vector<std::string_view> all;
  while (!value.empty()) {
    const auto comma = std::min(value.find(','), value.size());
    if (const auto one = trim(value.substr(0, comma)); !one.empty())
      all.push_back(one);
    value.remove_prefix(std::min(comma + 1, value.size()));
  }
  return all;
}

std::optional<mail::Recipient> as_recipient(std::string_view address, bool smtputf8) {
  auto parsed = mail::parse_rcpt("TO:<" + std::string(address) + ">",
                                 {.smtputf8 = smtputf8, .lenient = true, .origin = {}});
  if (!parsed)
    return std::nullopt;
  parsed->notify.bits = mail::Notify::kNever;
  return *std::move(parsed);
}

// The most special key first. Patterns are asked once, for the address.
std::vector<std::string> keys_of(std::string_view address, std::string_view separator,
                                 bool has_patterns) {
  const auto domain = mail::domain_of(address);
  const std::string local_part(mail::local_part_of(address));
  std::vector<std::string> keys = {local_part + "@" + domain};
  if (has_patterns)
    return keys;
  const auto at = separator.empty() ? local_part.npos : local_part.find_first_of(separator, 1);
  if (at != local_part.npos)
    keys.push_back(local_part.substr(0, at) + "@" + domain);
  keys.push_back("@" + domain);
  return keys;
}

class Finder {
 public:
  Finder(const CopySettings& settings, const mail::Envelope& envelope) : settings_(settings) {
    for (const auto& recipient : envelope.recipients)
      known_.insert(mail::mailbox_key(recipient.address));
  }

  void add(std::string_view address) {
    if (known_.insert(mail::mailbox_key(address)).second)
      found.emplace_back(address);
  }

  // The first table with an entry decides.
  Result<void> ask(const std::vector<TablePtr>& tables, std::string_view address) {
    for (const auto& table : tables)
      for (const auto& key : keys_of(address, settings_.separator, table->has_patterns())) {
        const auto entry = table->find(key);
        if (!entry)
          return entry.error();
        if (!*entry)
          continue;
        for (const auto one : addresses_in((*entry)->value))
          add(one);
        return {};
      }
    return {};
  }

  std::vector<std::string> found;

 private:
  const CopySettings& settings_;
  std::unordered_set<std::string> known_;
};

class CopyFilter final : public Filter {
 public:
  CopyFilter(std::shared_ptr<const CopySettings> settings, BlockingPool& pool, const Facts& facts,
             const Surroundings& around)
      : settings_(std::move(settings)), pool_(pool), facts_(facts), around_(around) {}

  Task<Verdict> header(const mail::Envelope&, std::string&) override { co_return Verdict{}; }
  bool wants_body() const override { return false; }
  Task<Verdict> body(std::string_view) override { co_return Verdict{}; }
  Task<Verdict> end(Ending& ending) override;

 private:
  using Found = std::optional<Result<std::vector<std::string>>>;

  Task<Found> find(const mail::Envelope& envelope) const;
  Verdict put_off(const std::string& why) const {
    return Verdict::refuse({451, {4, 3, 0}, "Cannot take this message now"}, "copies: " + why);
  }

  const std::shared_ptr<const CopySettings> settings_;
  BlockingPool& pool_;
  const Facts& facts_;
  const Surroundings around_;
};

Task<CopyFilter::Found> CopyFilter::find(const mail::Envelope& envelope) const {
  struct Job {
    std::shared_ptr<const CopySettings> settings;
    mail::Envelope envelope;
    Found found;
  };
  const auto job = std::make_shared<Job>(Job{settings_, envelope, {}});
  {
    const MemoryOnly memory;
    job->found = copies_of(*job->settings, job->envelope);
    if (!memory.was_not_enough())
      co_return std::move(job->found);
  }
  const auto aside = std::make_shared<Job>(Job{settings_, envelope, {}});
  const std::function<void()> ask = [aside] {
    aside->found = copies_of(*aside->settings, aside->envelope);
  };
  if (around_.aside) {
    const bool is_answered = co_await around_.aside("copies", ask);
    co_return is_answered ? std::move(aside->found) : std::nullopt;
  }
  const std::function<bool()> ask_there = [ask] {
    ask();
    return true;
  };
  co_await pool_.run<bool>(around_.loop, ask_there);
  co_return std::move(aside->found);
}

Task<Verdict> CopyFilter::end(Ending& ending) {
  auto& envelope = ending.envelope;
  // Without a recipient there is no message, and nothing of it is kept.
  if (envelope.recipients.empty())
    co_return Verdict{};
  const auto found = co_await find(envelope);
  if (!found)
    co_return put_off("the tables do not answer");
  if (!*found)
    co_return put_off(found->error().describe());
  std::size_t added = 0;
  for (const auto& address : **found) {
    auto recipient = as_recipient(address, envelope.smtputf8);
    if (!recipient)
      co_return put_off(quote_value(address, 80) + " is not an address that this mail can go to");
    if (++added > CopySettings::kMost)
      break;
    envelope.recipients.push_back(*std::move(recipient));
  }
  if (added > CopySettings::kMost)
    around_.log.write(LogEvent(Level::warn, "copies_left_out", to_string(ending.id))
                          .add("session", facts_.session)
                          .add("from", envelope.sender)
                          .add("wanted", std::to_string((*found)->size())));
  co_return Verdict{};
}

}  // namespace

std::string check_copy_value(std::string_view value) {
  const auto all = addresses_in(value);
  if (all.empty())
    return "is no address";
  for (const auto one : all)
    if (!as_recipient(one, true) || mail::domain_of(one).empty())
      return quote_value(one, 80) + " is not an address; expected ann@example.org";
  return {};
}

Result<std::vector<std::string>> copies_of(const CopySettings& settings,
                                           const mail::Envelope& envelope) {
  Finder finder(settings, envelope);
  for (const auto& address : settings.always)
    finder.add(address);
  if (!envelope.sender.empty())
    if (auto asked = finder.ask(settings.by_sender, envelope.sender); !asked)
      return asked.error();
  for (const auto& recipient : envelope.recipients)
    if (auto asked = finder.ask(settings.by_recipient, recipient.address); !asked)
      return asked.error();
  return std::move(finder.found);
}

std::unique_ptr<Filter> Copies::make(const Facts& facts, const Surroundings& around) const {
  if (facts.is_on_its_way)
    return nullptr;
  return std::make_unique<CopyFilter>(settings_, pool_, facts, around);
}

}  // namespace postrider::smtpd::filter
