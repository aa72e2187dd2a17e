#include "smtpd/filter/client_checks.h"

#include "base/list_keys.h"
#include "base/log.h"
#include "base/memory_only.h"
#include "base/text.h"
#include "mail/address.h"
#include "mail/smtp_command.h"
#include "mailauth/dns_name.h"
#include "smtpd/filter/questioner.h"
#include "smtpd/session/access.h"

#include <algorithm>
#include <utility>

namespace postrider::smtpd::filter {

namespace {

constexpr std::size_t kMostPrepended = 50;  // fields of one message

bool takes_complaints(const std::string& recipient) {
  const auto user = mail::local_part_of(recipient);
  return equals_ignoring_case(user, "postmaster") || equals_ignoring_case(user, "abuse") ||
         equals_ignoring_case(recipient, "postmaster");
}

bool is_address_literal(std::string_view helo) {
  return helo.size() > 2 && helo.starts_with('[') && helo.ends_with(']');
}

std::string sentence_of(const mailauth::ListVerdict& verdict, const std::string& what) {
  std::string sentence = "Service unavailable; " + what + " is listed";
  for (const auto& hit : verdict.hits)
    if (hit.weight > 0)
      return sentence + " by " + without_list_keys(hit.zone) +
             (hit.text.empty() ? "" : ": " + escaped(hit.text, 200));
  return sentence;
}

// "one.example two.example"; lists: may be null.
std::string zones_of(const mailauth::ListVerdict* lists) {
  std::string zones;
  if (lists != nullptr)
    for (const auto& hit : lists->hits)
      zones.append(zones.empty() ? "" : " ").append(without_list_keys(hit.zone));
  return zones;
}

mail::Reply refusal_of(const Access& access) {
  if (access.kind == Access::Kind::reject)
    return {550, {5, 7, 1}, access.text.empty() ? "Client refused by policy" : access.text};
  if (access.kind == Access::Kind::defer)
    return {450, {4, 7, 1}, access.text.empty() ? "Not now, by policy" : access.text};
  return {451, {4, 3, 0}, "Cannot check this client now"};
}

void count_one(std::atomic<std::uint64_t>& counter) {
  counter.fetch_add(1, std::memory_order_relaxed);
}

class StrangerChecks final : public Filter {
 public:
  StrangerChecks(std::shared_ptr<const ClientCheckSettings> settings, ClientCheckState& state,
                 const Facts& facts, const Surroundings& around);

  Stages stages() const override {
    const Stages at_data = asks_at(PolicyService::at_data) ? bit(Stage::data) : 0;
    return bit(Stage::connect) | bit(Stage::helo) | bit(Stage::mail) | bit(Stage::recipient) |
           at_data;
  }
  bool changes_at_end() const override { return !services_.empty(); }
  Task<Verdict> connect() override;
  Task<Verdict> helo() override;
  Task<Verdict> mail(const mail::Envelope& envelope) override;
  Task<Verdict> recipient(const mail::Recipient& recipient) override;
  Task<Verdict> data(const mail::Envelope& envelope) override;
  Task<Verdict> header(const mail::Envelope&, std::string& section) override;
  bool wants_body() const override { return asks_at(PolicyService::at_end); }
  Task<Verdict> body(std::string_view piece) override;
  Task<Verdict> end(Ending& ending) override;
  void abort() override { message_ = Message(); }
  void give_up() override;

 private:
  template <class T>
  using Run = std::shared_ptr<Questioner::RunOf<T>>;
  // The answer of lists about one thing, from memory or on its way.
  struct Lookup {
    std::string key;
    std::vector<std::string> asked;  // zones
    Run<mailauth::ListVerdict> run;
    std::optional<mailauth::ListVerdict> verdict;
  };
  struct Message {
    std::string sender;
    std::uint64_t number = 0;
    std::uint64_t size = 0;  // of its content, as far as it was seen
    std::vector<std::string> prepended;
    std::string hold;
    std::optional<std::string> redirect;
    std::vector<std::string> bcc;
  };
  struct Service {
    const PolicyService* settings;
    std::shared_ptr<milter::Gate> gate;
    std::unique_ptr<policy::PolicyClient> client;
  };

  template <class Subject>
  Lookup look_up(const std::string& what, Subject subject,
                 const std::vector<mailauth::DnsList>& lists);
  Task<const mailauth::ListVerdict*> answer(Lookup& lookup);
  void note_troubles(const Lookup& lookup);
  template <class T>
  Task<std::optional<T>> result_of(Run<T>& run);
  Task<Verdict> judge_client();
  Task<Verdict> judge_domains();
  Task<Access> ask_tables();
  bool is_over(ClientRates::Item item);
  Verdict judge_name() const;
  Verdict judge_helo() const;
  Verdict refused(mail::Reply reply, const char* why);
  Verdict greylisted(const std::string& recipient);
  bool asks_at(PolicyService::Moment moment) const { return !settings_->asked_at[moment].empty(); }
  Task<Verdict> ask_services(PolicyService::Moment moment, std::string recipient,
                             std::size_t recipients);
  Task<Verdict> ask_services(PolicyService::Moment moment, const mail::Envelope& envelope);
  Verdict carry_out(policy::Action action);
  Verdict lead_elsewhere(mail::Envelope& envelope);
  Verdict unreachable(const std::string& address);
  void note(const policy::Action& action, const PolicyService& service);
  policy::Attributes attributes(PolicyService::Moment moment, const std::string& recipient,
                                std::size_t recipients) const;

  const std::shared_ptr<const ClientCheckSettings> settings_;
  ClientCheckState& state_;
  const Facts& facts_;
  const Surroundings around_;
  std::vector<Service> services_;
  bool has_given_up_ = false;
  Lookup client_, helo_domain_, sender_domain_;
  Run<bool> helo_run_;
  std::optional<bool> helo_is_missing_;
  std::string asked_helo_;
  std::optional<Verdict> of_client_;  // once judged
  bool is_welcome_ = false;
  std::uint64_t messages_ = 0;
  Message message_;
};

StrangerChecks::StrangerChecks(std::shared_ptr<const ClientCheckSettings> settings,
                               ClientCheckState& state, const Facts& facts,
                               const Surroundings& around)
    : settings_(std::move(settings)), state_(state), facts_(facts), around_(around) {
  for (const auto& service : settings_->services) {
    auto gate = state_.gate(service.address.str());
    auto client = std::make_unique<policy::PolicyClient>(around_.loop, around_.clock, *gate,
                                                         service.address, service.patience);
    services_.push_back({&service, std::move(gate), std::move(client)});
  }
}

template <class Subject>
StrangerChecks::Lookup StrangerChecks::look_up(const std::string& what, Subject subject,
                                               const std::vector<mailauth::DnsList>& lists) {
  Lookup lookup;
  const auto now = around_.clock.steady();
  const auto asked = state_.lists.without_broken(lists, now);
  if (asked.empty() || around_.dns == nullptr || has_given_up_)
    return lookup;
  lookup.key = what;
  lookup.verdict = state_.lists.find(what, now);
  for (const auto& list : asked)
    lookup.asked.push_back(list.zone());
  if (!lookup.verdict)
    lookup.run =
        around_.dns->start(mailauth::check_lists(std::move(subject), asked), settings_->time_limit);
  return lookup;
}

// Null: nobody was asked.
Task<const mailauth::ListVerdict*> StrangerChecks::answer(Lookup& lookup) {
  if (lookup.run) {
    co_await lookup.run->wait();
    lookup.verdict = lookup.run->result();
    lookup.run.reset();
    note_troubles(lookup);
  }
  co_return lookup.verdict ? &*lookup.verdict : nullptr;
}

void StrangerChecks::note_troubles(const Lookup& lookup) {
  if (has_given_up_)
    return;
  const auto now = around_.clock.steady();
  const auto& verdict = *lookup.verdict;
  const auto tell = [&](const std::string& zone, const std::string& reason) {
    around_.log.write(LogEvent(Level::warn, "list_broken")
                          .add("zone", without_list_keys(zone))
                          .add("reason", reason));
  };
  for (const auto& [zone, reason] : verdict.broken)
    if (state_.lists.note_broken(zone, now))
      tell(zone, reason);
  for (const auto& zone : verdict.silent)
    if (state_.lists.note_silent(zone, now))
      tell(zone, "it does not answer");
  for (const auto& list : lookup.asked)
    if (std::find(verdict.silent.begin(), verdict.silent.end(), list) == verdict.silent.end())
      state_.lists.note_answered(list);
  if (verdict.silent.empty())
    state_.lists.keep(lookup.key, verdict, now);
}

template <class T>
Task<std::optional<T>> StrangerChecks::result_of(Run<T>& run) {
  if (!run)
    co_return std::nullopt;
  co_await run->wait();
  auto result = run->result();
  run.reset();
  co_return std::optional<T>(std::move(result));
}

Task<Verdict> StrangerChecks::connect() {
  if (facts_.is_ours())
    co_return Verdict{Verdict::Kind::done, {}, {}};
  const auto& client = facts_.client.address;
  if (is_over(ClientRates::failures))
    co_return refused({421, {4, 7, 0}, "Too many refusals in an hour, come again later"},
                      "failures_per_hour");
  client_ = look_up("client " + client.str(), client, settings_->client_lists);
  co_return Verdict{};
}

Task<Verdict> StrangerChecks::helo() {
  of_client_.reset();
  helo_is_missing_.reset();
  helo_run_.reset();
  const auto domain = mailauth::claimed_domain(facts_.helo);
  helo_domain_ = Lookup();
  if (domain) {
    helo_domain_ = look_up("domain " + *domain, *domain, settings_->domain_lists);
    if (settings_->helo == ClientCheckSettings::Helo::present && around_.dns != nullptr)
      helo_run_ = around_.dns->start(is_name_missing(*domain), settings_->time_limit);
  }
  co_return Verdict{};
}

Task<Verdict> StrangerChecks::mail(const mail::Envelope& envelope) {
  message_ = Message();
  message_.sender = envelope.sender;
  message_.number = ++messages_;
  if (facts_.is_ours())  // by a certificate
    co_return Verdict{Verdict::Kind::done, {}, {}};
  if (is_over(ClientRates::messages))
    co_return refused({450, {4, 7, 1}, "Too many messages in an hour, come again later"},
                      "messages_per_hour");
  sender_domain_ = Lookup();
  if (const auto domain = mailauth::claimed_domain(mailauth::domain_of(envelope.sender)))
    sender_domain_ = look_up("domain " + *domain, *domain, settings_->domain_lists);
  co_return Verdict{};
}

Verdict StrangerChecks::refused(mail::Reply reply, const char* why) {
  if (!settings_->reports_only)
    return Verdict::refuse(std::move(reply), why);
  around_.log.write(LogEvent(Level::info, "would_reject")
                        .add("session", facts_.session)
                        .add("client", facts_.client.address.str())
                        .add("reply", reply.str())
                        .add("problem", why));
  return {};
}

// All that is known of the client, once for each EHLO.
Task<Verdict> StrangerChecks::judge_client() {
  count_one(state_.checked);
  const auto* lists = co_await answer(client_);
  if (around_.client_name)
    co_await around_.client_name();
  if (auto missing = co_await result_of(helo_run_))
    helo_is_missing_ = missing;
  const int score = lists != nullptr ? lists->score : 0;
  is_welcome_ = score <= settings_->welcome_from && lists != nullptr && !lists->hits.empty();
  if (around_.log.enabled(Level::info)) {
    LogEvent event(Level::info, "client_checked", {});
    event.add("session", facts_.session).add("client", facts_.client.address.str());
    event.add("score", std::to_string(score));
    if (const auto zones = zones_of(lists); !zones.empty())
      event.add("listed", zones);
    if (const auto& name = facts_.client.name)
      event.add("name", name->name);
    around_.log.write(std::move(event));
  }
  const auto access = co_await ask_tables();
  if (access.kind == Access::Kind::ok)
    is_welcome_ = true;
  else if (access.kind != Access::Kind::none) {
    count_one(state_.in_table);
    co_return refused(refusal_of(access), "table");
  }
  if (is_welcome_) {
    count_one(state_.welcome);
    co_return Verdict{};
  }
  if (score >= settings_->refused_from) {
    count_one(state_.listed);
    co_return refused(
        {554, {5, 7, 1}, sentence_of(*lists, "client [" + facts_.client.address.str() + "]")},
        "listed");
  }
  auto verdict = judge_name();
  if (verdict.refuses()) {
    count_one(state_.unnamed);
    co_return refused(std::move(verdict.reply), "name");
  }
  verdict = judge_helo();
  if (verdict.refuses()) {
    count_one(state_.bad_helo);
    co_return refused(std::move(verdict.reply), "helo");
  }
  co_return Verdict{};
}

bool StrangerChecks::is_over(ClientRates::Item item) {
  const auto most = settings_->most_per_hour[item];
  if (most == 0 || state_.rates.count(facts_.client.address, item, around_.clock.steady()) < most)
    return false;
  count_one(state_.over_rate);
  return true;
}

// From memory where that is enough, else aside.
Task<Access> StrangerChecks::ask_tables() {
  if (settings_->clients.empty())
    co_return Access();
  struct Job {
    std::shared_ptr<const ClientCheckSettings> settings;
    IpAddress address;
    std::optional<ClientName> name;
    Access found = {Access::Kind::cannot_tell, {}, {}};
    void run() { found = look_up_client(settings->clients, address, name ? &*name : nullptr); }
  };
  Job job{settings_, facts_.client.address, facts_.client.name};
  {
    const MemoryOnly memory;
    job.run();
    if (!memory.was_not_enough())
      co_return job.found;
  }
  const auto aside = std::make_shared<Job>(Job{settings_, job.address, job.name});
  if (!around_.aside || !co_await around_.aside("clients", [aside] { aside->run(); }))
    co_return Access{Access::Kind::cannot_tell, {}, {}};
  co_return aside->found;
}

Verdict StrangerChecks::judge_name() const {
  using Name = ClientCheckSettings::Name;
  using Status = ClientName::Status;
  const auto& name = facts_.client.name;
  if (settings_->name == Name::off || !name || name->status == Status::unknown)
    return {};
  const auto client = "[" + facts_.client.address.str() + "]";
  if (name->status == Status::none)
    return Verdict::refuse({550, {5, 7, 25}, "Client " + client + " has no name in the DNS"});
  if (settings_->name == Name::confirmed && name->status == Status::unconfirmed)
    return Verdict::refuse(
        {550, {5, 7, 25}, "The name of client " + client + " does not lead back to it"});
  return {};
}

Verdict StrangerChecks::judge_helo() const {
  using Helo = ClientCheckSettings::Helo;
  if (settings_->helo == Helo::off || is_address_literal(facts_.helo))
    return {};
  if (equals_ignoring_case(facts_.helo, facts_.hostname))
    return Verdict::refuse({550, {5, 7, 1}, "EHLO refused: that is the name of this server"});
  if (!mailauth::claimed_domain(facts_.helo))
    return Verdict::refuse({550, {5, 5, 2}, "EHLO refused: a host name with its domain is needed"});
  if (helo_is_missing_.value_or(false))
    return Verdict::refuse({550, {5, 7, 1}, "EHLO refused: there is no such host"});
  return {};
}

Task<Verdict> StrangerChecks::judge_domains() {
  const auto* of_helo = co_await answer(helo_domain_);
  const auto* of_sender = co_await answer(sender_domain_);
  for (const auto& [verdict, what] :
       {std::pair(of_sender, "the sender's domain"), std::pair(of_helo, "the name in EHLO")})
    if (verdict != nullptr && verdict->score >= settings_->refused_from) {
      count_one(state_.listed);
      co_return refused({554, {5, 7, 1}, sentence_of(*verdict, what)}, "listed");
    }
  co_return Verdict{};
}

Task<Verdict> StrangerChecks::recipient(const mail::Recipient& recipient) {
  const bool complains = takes_complaints(recipient.address);
  if (!complains && is_over(ClientRates::recipients))
    co_return refused({450, {4, 7, 1}, "Too many recipients in an hour, come again later"},
                      "recipients_per_hour");
  state_.rates.note(facts_.client.address, ClientRates::recipients, around_.clock.steady());
  if (!complains) {
    if (!of_client_)
      of_client_ = co_await judge_client();
    if (of_client_->refuses())
      co_return *of_client_;
    if (!is_welcome_)
      if (auto verdict = co_await judge_domains(); verdict.refuses())
        co_return verdict;
  }
  auto verdict = co_await ask_services(PolicyService::at_recipient, recipient.address, 0);
  if (verdict.kind != Verdict::Kind::go_on || complains || is_welcome_)
    co_return verdict;
  co_return greylisted(recipient.address);
}

Verdict StrangerChecks::greylisted(const std::string& recipient) {
  if (!settings_->greylists)
    return {};
  const auto wait =
      state_.greylist.check(facts_.client.address, message_.sender, recipient, around_.clock.now());
  if (wait.count() == 0)
    return {};
  count_one(state_.greylisted);
  const auto seconds = (wait.count() + 999) / 1000;
  return refused({450, {4, 2, 0}, "Greylisted, try again in " + std::to_string(seconds) + " s"},
                 "greylisted");
}

// As SMTPD_POLICY_README has them: the recipient, if there is one alone; how many there are, and the
// id, once all are known; the size as it was announced, and at the end as it is.
policy::Attributes StrangerChecks::attributes(PolicyService::Moment moment,
                                              const std::string& recipient,
                                              std::size_t recipients) const {
  static constexpr std::array<const char*, PolicyService::kMoments> kStates = {"RCPT", "DATA",
                                                                               "END-OF-MESSAGE"};
  const bool is_at_end = moment == PolicyService::at_end;
  const auto& client = facts_.client;
  const auto name = client.name.value_or(ClientName());
  return {{"request", "smtpd_access_policy"},
          {"protocol_state", kStates[moment]},
          {"protocol_name", facts_.protocol.starts_with("E") ? "ESMTP" : "SMTP"},
          {"client_address", client.address.str()},
          {"client_name", std::string(name.shown())},
          {"client_port", std::to_string(client.port)},
          {"reverse_client_name", std::string(name.reverse())},
          {"helo_name", facts_.helo},
          {"sender", message_.sender},
          {"recipient", recipient},
          {"recipient_count", std::to_string(recipients)},
          {"queue_id", recipients > 0 ? to_string(facts_.message) : std::string()},
          {"instance", facts_.session + "." + std::to_string(message_.number)},
          {"size", std::to_string(is_at_end ? message_.size : facts_.declared_size)},
          {"etrn_domain", ""},
          {"stress", ""},
          {"sasl_method", client.mechanism},
          {"sasl_username", client.authenticated},
          {"sasl_sender", ""},
          {"ccert_subject", ""},
          {"ccert_issuer", ""},
          {"ccert_fingerprint", ""},
          {"policy_context", ""}};
}

Task<Verdict> StrangerChecks::ask_services(PolicyService::Moment moment,
                                           const mail::Envelope& envelope) {
  const auto& recipients = envelope.recipients;
  co_return co_await ask_services(
      moment, recipients.size() == 1 ? recipients.front().address : std::string(),
      recipients.size());
}

Task<Verdict> StrangerChecks::ask_services(PolicyService::Moment moment, std::string recipient,
                                           std::size_t recipients) {
  std::optional<mail::Reply> if_permit, if_reject;
  for (const auto place : settings_->asked_at[moment]) {
    auto& service = services_[place];
    count_one(state_.policy_asked);
    auto action = co_await service.client->ask(
        policy::encode_request(attributes(moment, recipient, recipients)));
    if (!action) {
      if (action.error().code() != Errc::stopped) {
        count_one(state_.policy_failed);
        around_.log.write(LogEvent(Level::warn, "policy_failed")
                              .add("session", facts_.session)
                              .add("service", service.settings->address.str())
                              .add("error", action.error().describe()));
      }
      if (settings_->refuses_without_service)
        co_return Verdict::refuse({451, {4, 7, 1}, "Service unavailable - try again later"},
                                  action.error().describe());
      continue;
    }
    using Kind = policy::Action::Kind;
    if (action->kind == Kind::defer_if_permit && !if_permit)
      if_permit = std::move(action->reply);
    else if (action->kind == Kind::defer_if_reject && !if_reject)
      if_reject = std::move(action->reply);
    else if (action->kind == Kind::refuse && action->reply.code >= 500 && if_reject)
      action->reply = *if_reject;
    if (action->kind == Kind::note || action->kind == Kind::not_done)
      note(*action, *service.settings);
    auto verdict = carry_out(*std::move(action));
    if (verdict.refuses())
      count_one(state_.policy_refused);
    if (verdict.kind != Verdict::Kind::go_on)
      co_return verdict;
  }
  if (!if_permit)
    co_return Verdict{};
  count_one(state_.policy_refused);
  co_return refused(*std::move(if_permit), "policy service");
}

void StrangerChecks::note(const policy::Action& action, const PolicyService& service) {
  if (action.kind == policy::Action::Kind::note) {
    around_.log.write(LogEvent(Level::info, "policy_said")
                          .add("session", facts_.session)
                          .add("service", service.address.str())
                          .add("text", action.text));
    return;
  }
  count_one(state_.policy_failed);
  around_.log.write(LogEvent(Level::warn, "policy_failed")
                        .add("session", facts_.session)
                        .add("service", service.address.str())
                        .add("error", action.text));
}

Verdict StrangerChecks::carry_out(policy::Action action) {
  using Kind = policy::Action::Kind;
  switch (action.kind) {
    case Kind::none:
    case Kind::note:
    case Kind::defer_if_permit:
    case Kind::defer_if_reject:
      break;
    case Kind::not_done:  // as Postfix has it of a word that it does not know
      return Verdict::refuse({451, {4, 3, 5}, "Server configuration error - try again later"},
                             "policy service: " + action.text);
    case Kind::refuse:
      return refused(std::move(action.reply), "policy service");
    case Kind::discard:
      return {Verdict::Kind::discard, {}, {}};
    case Kind::hold:
      message_.hold = action.text.empty() ? "policy service" : "policy service: " + action.text;
      break;
    case Kind::prepend:
      if (message_.prepended.size() < kMostPrepended &&
          std::find(message_.prepended.begin(), message_.prepended.end(), action.text) ==
              message_.prepended.end())
        message_.prepended.push_back(std::move(action.text));
      break;
    case Kind::redirect:
      message_.redirect = std::move(action.text);
      break;
    case Kind::bcc:
      message_.bcc.push_back(std::move(action.text));
      break;
  }
  return {};
}

std::optional<mail::Recipient> recipient_of(const std::string& address,
                                            const mail::Envelope& envelope) {
  auto parsed = mail::parse_rcpt("TO:<" + address + ">",
                                 {.smtputf8 = envelope.smtputf8, .lenient = true, .origin = {}});
  return parsed ? std::optional(*std::move(parsed)) : std::nullopt;
}

Task<Verdict> StrangerChecks::data(const mail::Envelope& envelope) {
  co_return co_await ask_services(PolicyService::at_data, envelope);
}

Task<Verdict> StrangerChecks::header(const mail::Envelope&, std::string& section) {
  message_.size = section.size() + 2;  // with the empty line
  co_return Verdict{};
}

Task<Verdict> StrangerChecks::body(std::string_view piece) {
  message_.size += piece.size();
  co_return Verdict{};
}

Task<Verdict> StrangerChecks::end(Ending& ending) {
  if (auto verdict = co_await ask_services(PolicyService::at_end, ending.envelope);
      verdict.kind != Verdict::Kind::go_on)
    co_return verdict;
  state_.rates.note(facts_.client.address, ClientRates::messages, around_.clock.steady());
  auto& envelope = ending.envelope;
  std::string fields;
  for (const auto& field : message_.prepended)
    fields += field + "\r\n";
  ending.on_top.insert(0, fields);
  if (!message_.hold.empty() && ending.hold.empty())
    ending.hold = message_.hold;
  co_return lead_elsewhere(envelope);
}

// To all or nobody: an address that this message cannot go to is not passed over.
Verdict StrangerChecks::lead_elsewhere(mail::Envelope& envelope) {
  std::vector<mail::Recipient> more;
  for (const auto& address : message_.bcc)
    if (auto one = recipient_of(address, envelope))
      more.push_back(*std::move(one));
    else
      return unreachable(address);
  if (message_.redirect) {
    auto only = recipient_of(*message_.redirect, envelope);
    if (!only)
      return unreachable(*message_.redirect);
    envelope.recipients = {*std::move(only)};
  }
  for (auto& one : more)
    if (!mail::has_recipient(envelope, one.address))
      envelope.recipients.push_back(std::move(one));
  return {};
}

Verdict StrangerChecks::unreachable(const std::string& address) {
  const auto why =
      "\"" + escaped(address, 80) + "\" needs SMTPUTF8, which this message was not sent with";
  count_one(state_.policy_failed);
  around_.log.write(LogEvent(Level::warn, "policy_failed")
                        .add("session", facts_.session)
                        .add("service", "REDIRECT or BCC")
                        .add("error", why));
  return Verdict::refuse({451, {4, 3, 5}, "Server configuration error - try again later"},
                         "policy service: " + why);
}

void StrangerChecks::give_up() {
  has_given_up_ = true;
  for (auto& service : services_)
    service.client->give_up();
  for (auto* lookup : {&client_, &helo_domain_, &sender_domain_})
    if (lookup->run)
      lookup->run->give_up("the session ends");
  if (helo_run_)
    helo_run_->give_up("the session ends");
}

}  // namespace

mailauth::Asking<bool> is_name_missing(std::string name) {
  using mailauth::Question;
  using mailauth::Type;
  const auto answers = co_await mailauth::ask_all({{name, Type::a}, {name, Type::mx}});
  co_return std::all_of(answers.begin(), answers.end(), [](const auto& answer) {
    return answer.status == mailauth::Answer::Status::no_name;
  });
}

std::optional<mailauth::ListVerdict> ListCache::find(const std::string& key, SteadyTime now) {
  const std::lock_guard lock(mutex_);
  const auto found = kept_.find(key);
  if (found == kept_.end() || found->second.until < now)
    return std::nullopt;
  return found->second.verdict;
}

void ListCache::keep(const std::string& key, const mailauth::ListVerdict& verdict, SteadyTime now) {
  const std::lock_guard lock(mutex_);
  if (const auto found = kept_.find(key); found != kept_.end()) {
    order_.erase(found->second.place);
    kept_.erase(found);
  }
  while (kept_.size() >= kMost) {
    kept_.erase(order_.front());
    order_.pop_front();
  }
  kept_[key] = {verdict, now + kKept, order_.insert(order_.end(), key)};
}

void ListCache::clear() {
  const std::lock_guard lock(mutex_);
  kept_.clear();
  order_.clear();
  troubles_.clear();
}

bool ListCache::note_broken(const std::string& zone, SteadyTime now) {
  const std::lock_guard lock(mutex_);
  auto& trouble = troubles_[zone];
  const bool is_new = trouble.until < now;
  trouble.until = now + kBrokenFor;
  return is_new;
}

bool ListCache::note_silent(const std::string& zone, SteadyTime now) {
  const std::lock_guard lock(mutex_);
  auto& trouble = troubles_[zone];
  if (++trouble.silences < kMostSilences)
    return false;
  const bool is_new = trouble.until < now;
  trouble.until = std::max(trouble.until, now + kSilentFor);
  return is_new;
}

void ListCache::note_answered(const std::string& zone) {
  const std::lock_guard lock(mutex_);
  if (const auto found = troubles_.find(zone); found != troubles_.end())
    found->second.silences = 0;
}

std::vector<mailauth::DnsList> ListCache::without_broken(
    const std::vector<mailauth::DnsList>& lists, SteadyTime now) {
  const std::lock_guard lock(mutex_);
  std::vector<mailauth::DnsList> asked;
  for (const auto& list : lists)
    if (const auto found = troubles_.find(list.zone());
        found == troubles_.end() || found->second.until <= now)
      asked.push_back(list);
  return asked;
}

std::shared_ptr<milter::Gate> ClientCheckState::gate(const std::string& address) {
  const std::lock_guard lock(mutex_);
  auto& gate = gates_[address];
  if (!gate)
    gate = std::make_shared<milter::Gate>(milter::Gate::Limits(), &total);
  return gate;
}

ClientChecks::ClientChecks(ClientCheckSettings settings, ClientCheckState& state)
    : settings_(std::make_shared<const ClientCheckSettings>(std::move(settings))), state_(state) {
  state_.lists.clear();
}

std::unique_ptr<Filter> ClientChecks::make(const Facts& facts, const Surroundings& around) const {
  const auto& client = facts.client.address;
  const auto& excepted = settings_->except_clients;
  if (facts.role != Role::mx || facts.is_sendmail || facts.is_ours() || client.is_none() ||
      std::any_of(excepted.begin(), excepted.end(),
                  [&](const auto& network) { return network.contains(client); }))
    return nullptr;
  return std::make_unique<StrangerChecks>(settings_, state_, facts, around);
}

}  // namespace postrider::smtpd::filter
