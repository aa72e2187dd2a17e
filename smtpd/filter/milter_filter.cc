#include "smtpd/filter/milter_filter.h"

#include "base/log.h"
#include "base/net/tls/tls.h"
#include "base/text.h"
#include "mail/header.h"
#include "smtpd/filter/milter_edits.h"

#include <algorithm>
#include <utility>

namespace postrider::smtpd::filter::milter {

namespace {

// Of a header section, as of what clients send; of fields above it, so that they stay with the
// message's own record in the queue.
constexpr std::size_t kMostHeader = 1U << 20U;
constexpr std::size_t kMostOnTop = 256U << 10U;

std::string bracketed_address(std::string_view address) {
  return "<" + std::string(address) + ">";
}

std::vector<std::string> mail_arguments(const mail::Envelope& envelope) {
  std::vector<std::string> arguments;
  if (envelope.body == mail::BodyType::eight_bit_mime)
    arguments.emplace_back("BODY=8BITMIME");
  if (envelope.body == mail::BodyType::binary_mime)
    arguments.emplace_back("BODY=BINARYMIME");
  if (envelope.smtputf8)
    arguments.emplace_back("SMTPUTF8");
  if (envelope.ret != mail::Return::unspecified)
    arguments.emplace_back(envelope.ret == mail::Return::full ? "RET=FULL" : "RET=HDRS");
  if (!envelope.envelope_id.empty())
    arguments.push_back("ENVID=" + envelope.envelope_id);
  return arguments;
}

std::vector<std::string> recipient_arguments(const mail::Recipient& recipient) {
  std::vector<std::string> arguments;
  const auto bits = recipient.notify.bits;
  if ((bits & mail::Notify::kNever) != 0) {
    arguments.emplace_back("NOTIFY=NEVER");
  } else if (bits != 0) {
    std::string words;
    const auto add = [&](std::uint8_t bit, const char* word) {
      if ((bits & bit) != 0)
        words.append(words.empty() ? "" : ",").append(word);
    };
    add(mail::Notify::kSuccess, "SUCCESS");
    add(mail::Notify::kFailure, "FAILURE");
    add(mail::Notify::kDelay, "DELAY");
    arguments.push_back("NOTIFY=" + words);
  }
  if (!recipient.original_recipient.empty())
    arguments.push_back("ORCPT=" + recipient.original_recipient);
  return arguments;
}

// sendmail's form where there is no name that leads back.
std::string connected_name(const Facts& facts) {
  const auto& client = facts.client;
  if (client.address.is_none() || facts.is_sendmail)
    return "localhost";
  if (client.name && client.name->status == ClientName::Status::confirmed)
    return client.name->name;
  return "[" + client.address.str() + "]";
}

// In kAnswerNames.
std::size_t kind_of(const Verdict& verdict) {
  if (verdict.refuses())
    return verdict.reply.code >= 500 ? 3 : 4;
  return static_cast<std::size_t>(verdict.kind);
}

class MilterFilter final : public Filter {
 public:
  MilterFilter(std::shared_ptr<const MilterSettings> settings, std::shared_ptr<MilterPeer> peer,
               const Facts& facts, const Surroundings& around)
      : settings_(std::move(settings)),
        peer_(std::move(peer)),
        facts_(facts),
        log_(around.log),
        clock_(around.clock),
        await_name_(around.client_name),
        client_(around.loop, around.clock, peer_->gate, settings_->address, settings_->timeouts,
                limits(*settings_)) {}

  Stages stages() const override {
    return bit(Stage::connect) | bit(Stage::helo) | bit(Stage::mail) | bit(Stage::recipient) |
           bit(Stage::data);
  }
  bool changes_at_end() const override { return true; }

  Task<Verdict> connect() override;
  Task<Verdict> helo() override;
  Task<Verdict> mail(const mail::Envelope& envelope) override;
  Task<Verdict> recipient(const mail::Recipient& recipient) override;
  Task<Verdict> data(const mail::Envelope&) override;
  void on_top(std::string_view fields) override { on_top_ = fields; }
  Task<Verdict> header(const mail::Envelope&, std::string& section) override;
  bool wants_body() const override {
    return !is_passed_over_ && client_.is_open() && client_.session().wants_body();
  }
  Task<Verdict> body(std::string_view piece) override;
  Task<Verdict> end(Ending& ending) override;
  void abort() override;
  void give_up() override { client_.give_up(); }

 private:
  static EditLimits limits(const MilterSettings& settings) {
    EditLimits limits;
    limits.body = settings.message_size;
    return limits;
  }
  Task<Verdict> begin(bool with_helo);
  Task<Verdict> ask(Session::Step step);
  Task<Verdict> show_fields(std::string_view fields);
  Verdict trouble(const Error& error);
  Verdict carry_out(Edits edits, Ending& ending);
  void tell_edits(const Edits& edits, mail::MessageId id) const;
  Macros macros() const { return known_macros(facts_, *settings_); }
  static void count(std::atomic<std::uint64_t>& counter) {
    counter.fetch_add(1, std::memory_order_relaxed);
  }

  const std::shared_ptr<const MilterSettings> settings_;
  const std::shared_ptr<MilterPeer> peer_;  // outlives client_
  const Facts& facts_;
  Log& log_;
  const Clock& clock_;
  const std::function<Task<void>()> await_name_;
  Client client_;
  std::string on_top_;
  std::string sender_, recipient_;
  // Of the message at hand, or of the session before there is one: it could not be asked, and this
  // is what happens instead.
  bool is_passed_over_ = false;
  Verdict instead_;
  std::string hold_;
};

// What it can't be asked about is decided once, and stays so for the message.
Verdict MilterFilter::trouble(const Error& error) {
  is_passed_over_ = true;
  auto problem = settings_->name + ": " + error.describe();
  instead_ = verdict_of(settings_->default_action, problem);
  if (settings_->default_action == DefaultAction::quarantine)
    hold_ = "milter " + settings_->name + " could not be asked";
  if (error.code() != Errc::stopped) {
    count(peer_->failed);
    constexpr const char* kActions[] = {"tempfail", "accept", "reject", "quarantine"};
    LogEvent event(Level::warn, "milter_failed",
                   facts_.message.value != 0 ? to_string(facts_.message) : std::string());
    event.add("session", facts_.session).add("milter", settings_->name);
    event.add("error", error.describe());
    event.add("action", kActions[static_cast<std::size_t>(settings_->default_action)]);
    log_.write(std::move(event));
  }
  if (!instead_.refuses())
    instead_ = Verdict{};
  return instead_;
}

Task<Verdict> MilterFilter::ask(Session::Step step) {
  if (is_passed_over_)
    co_return instead_;
  if (!client_.is_open())
    co_return trouble(Error(Errc::truncated, "ask the milter: it has hung up"));
  const bool is_awaited = step.waits;
  const auto begun = clock_.steady();
  auto verdict = co_await client_.perform(std::move(step));
  if (!verdict)
    co_return trouble(verdict.error());
  if (is_awaited) {
    peer_->answer_time.add(clock_.steady() - begun);
    count(peer_->answers[kind_of(*verdict)]);
  }
  if (verdict->refuses()) {
    count(peer_->refused);
    verdict->problem =
        "milter " + settings_->name + (verdict->problem.empty() ? "" : ": ") + verdict->problem;
  }
  if (verdict->kind == Verdict::Kind::discard)
    count(peer_->discarded);
  co_return *std::move(verdict);
}

// There, and told of the session.
Task<Verdict> MilterFilter::begin(bool with_helo) {
  auto opened = co_await client_.open();
  if (!opened)
    co_return trouble(opened.error());
  if (!*opened)
    co_return Verdict{};
  count(peer_->conversations);
  if (await_name_)
    co_await await_name_();
  const auto& client = facts_.client;
  auto verdict = co_await ask(
      client_.session().connect(connected_name(facts_), client.address, client.port, macros()));
  if (is_passed_over_ || verdict.kind != Verdict::Kind::go_on || !with_helo || facts_.helo.empty())
    co_return verdict;
  co_return co_await ask(client_.session().helo(facts_.helo, macros()));
}

// Without a message nothing is lost yet: each will try again.
Task<Verdict> MilterFilter::connect() {
  auto verdict = co_await begin(false);
  if (std::exchange(is_passed_over_, false))
    co_return Verdict{};
  co_return verdict;
}

Task<Verdict> MilterFilter::helo() {
  if (!client_.is_open())
    co_return Verdict{};
  auto verdict = co_await ask(client_.session().helo(facts_.helo, macros()));
  if (std::exchange(is_passed_over_, false))
    co_return Verdict{};
  co_return verdict;
}

Task<Verdict> MilterFilter::mail(const mail::Envelope& envelope) {
  auto verdict = co_await begin(true);
  if (is_passed_over_ || verdict.kind != Verdict::Kind::go_on)
    co_return verdict;
  sender_ = envelope.sender;
  auto known = macros();
  known.emplace_back("{mail_addr}", envelope.sender);
  co_return co_await ask(
      client_.session().mail(bracketed_address(envelope.sender), mail_arguments(envelope), known));
}

Task<Verdict> MilterFilter::recipient(const mail::Recipient& recipient) {
  if (is_passed_over_)
    co_return instead_;
  auto known = macros();
  known.emplace_back("{mail_addr}", sender_);
  known.emplace_back("{rcpt_addr}", recipient.address);
  co_return co_await ask(client_.session().recipient(bracketed_address(recipient.address),
                                                     recipient_arguments(recipient), known));
}

Task<Verdict> MilterFilter::data(const mail::Envelope&) {
  if (is_passed_over_)
    co_return instead_;
  co_return co_await ask(client_.session().data(macros()));
}

Task<Verdict> MilterFilter::show_fields(std::string_view fields) {
  mail::HeaderScanner scanner(fields);
  mail::HeaderField field;
  while (!is_passed_over_ && scanner.next(field)) {
    if (!client_.is_open() || !client_.session().wants_header())
      break;
    auto verdict = co_await ask(client_.session().header(field.name, field.value));
    if (verdict.kind != Verdict::Kind::go_on)
      co_return verdict;
  }
  co_return is_passed_over_ ? instead_ : Verdict{};
}

Task<Verdict> MilterFilter::header(const mail::Envelope&, std::string& section) {
  if (is_passed_over_)
    co_return instead_;
  const auto above = std::exchange(on_top_, {});
  auto verdict = co_await show_fields(above);
  if (verdict.kind == Verdict::Kind::go_on)
    verdict = co_await show_fields(section);
  if (verdict.kind != Verdict::Kind::go_on || is_passed_over_)
    co_return verdict;
  co_return co_await ask(client_.session().end_of_header(macros()));
}

Task<Verdict> MilterFilter::body(std::string_view piece) {
  while (!piece.empty() && wants_body()) {
    const auto part = piece.substr(0, kMostBodyInFrame);
    piece.remove_prefix(part.size());
    auto verdict = co_await ask(client_.session().body(part));
    if (verdict.kind != Verdict::Kind::go_on)
      co_return verdict;
  }
  co_return Verdict{};
}

Task<Verdict> MilterFilter::end(Ending& ending) {
  Verdict verdict = instead_;
  if (!is_passed_over_) {
    client_.set_body_sink([&](std::string_view piece) { return ending.body.append(piece); });
    verdict = co_await ask(client_.session().end(macros()));
    client_.set_body_sink({});
  }
  if (!is_passed_over_ && verdict.kind == Verdict::Kind::go_on) {
    count(peer_->asked);
    verdict = carry_out(client_.session().take_edits(), ending);
  }
  ending.body.drop();
  if (!hold_.empty() && ending.hold.empty())
    ending.hold = hold_;
  co_return verdict;
}

// All of them, or none.
Verdict MilterFilter::carry_out(Edits edits, Ending& ending) {
  if (edits.is_empty())
    return {};
  Fields fields{ending.on_top, ending.header};
  auto envelope = ending.envelope;
  const AddressRules rules{settings_->most_recipients, true, settings_->origin};
  auto done = apply_header_edits(edits.header, client_.session().has_leading_space(), fields);
  if (done && (fields.section.size() > kMostHeader || fields.on_top.size() > kMostOnTop))
    done = Error(Errc::too_long, "milter: the header section is too large now");
  if (done)
    done = apply_envelope_edits(edits.envelope, rules, envelope);
  if (done && edits.body)
    done = ending.body.adopt();
  if (!done)
    return trouble(done.error());
  ending.has_changed |= edits.body.has_value() || fields.section != ending.header;
  ending.header = std::move(fields.section);
  ending.on_top = std::move(fields.on_top);
  ending.envelope = std::move(envelope);
  if (edits.quarantine) {
    count(peer_->held);
    const auto reason = escaped(*edits.quarantine, 200);
    hold_ = "milter " + settings_->name + (reason.empty() ? "" : ": ") + reason;
  }
  if (!edits.header.empty() || !edits.envelope.empty() || edits.body)
    count(peer_->edited);
  tell_edits(edits, ending.id);
  return {};
}

void MilterFilter::tell_edits(const Edits& edits, mail::MessageId id) const {
  if (!log_.enabled(Level::info))
    return;
  LogEvent event(Level::info, "milter_edited", to_string(id));
  event.add("session", facts_.session).add("milter", settings_->name);
  event.add("header", std::to_string(edits.header.size()));
  event.add("envelope", std::to_string(edits.envelope.size()));
  event.add("body", edits.body ? "new" : "same");
  if (edits.quarantine)
    event.add("hold", *edits.quarantine);
  log_.write(std::move(event));
}

void MilterFilter::abort() {
  if (client_.is_open())
    client_.tell(client_.session().abort());
  is_passed_over_ = false;
  instead_ = Verdict{};
  hold_.clear();
  on_top_.clear();
}

void add_tls(const Facts& facts, Macros& macros) {
  if (facts.tls == nullptr)
    return;
  macros.emplace_back("{tls_version}", facts.tls->protocol);
  macros.emplace_back("{cipher}", facts.tls->cipher);
  macros.emplace_back("{cipher_bits}", std::to_string(facts.tls->bits));
  if (!facts.tls->peer_subject.empty())
    macros.emplace_back("{cert_subject}", facts.tls->peer_subject);
}

void add_client(const Facts& facts, Macros& macros) {
  const auto& client = facts.client;
  const auto address = client.address.is_none() ? "127.0.0.1" : client.address.str();
  const bool is_here = client.address.is_none() || facts.is_sendmail;
  const auto known = client.name.value_or(ClientName());
  const std::string name(is_here ? "localhost" : known.shown());
  macros.emplace_back("_", is_here ? "localhost [127.0.0.1]" : name + " [" + address + "]");
  macros.emplace_back("{client_addr}", address);
  macros.emplace_back("{client_name}", name);
  macros.emplace_back("{client_ptr}", is_here ? "localhost" : known.reverse());
  macros.emplace_back("{client_port}", std::to_string(client.port));
  if (client.authenticated.empty())
    return;
  macros.emplace_back("{auth_authen}", client.authenticated);
  macros.emplace_back("{auth_type}", client.mechanism);
}

}  // namespace

Macros known_macros(const Facts& facts, const MilterSettings& settings) {
  Macros macros = settings.macros;  // the first of a name is the one that counts
  macros.emplace_back("j", facts.hostname);
  macros.emplace_back("v", "Postrider");
  macros.emplace_back("{daemon_name}", facts.is_sendmail ? "sendmail" : facts.hostname);
  if (const auto colon = facts.listener.rfind(':'); colon != std::string::npos) {
    macros.emplace_back("{daemon_addr}", facts.listener.substr(0, colon));
    macros.emplace_back("{daemon_port}", facts.listener.substr(colon + 1));
  }
  if (facts.message.value != 0)
    macros.emplace_back("i", to_string(facts.message));
  add_client(facts, macros);
  add_tls(facts, macros);
  return macros;
}

std::shared_ptr<MilterPeer> MilterPeers::peer(const MilterSettings& settings) {
  const std::lock_guard lock(mutex_);
  auto& known = known_[settings.address.str() + " " + std::to_string(settings.connections)];
  auto peer = known.peer.lock();
  if (!peer) {
    Gate::Limits limits;
    limits.connections = settings.connections;
    peer = std::make_shared<MilterPeer>(limits, total_);
    known.peer = peer;
  }
  known.name = settings.name;
  std::erase_if(known_, [](const auto& each) { return each.second.peer.expired(); });
  return peer;
}

std::map<std::string, std::shared_ptr<const MilterPeer>> MilterPeers::in_use() const {
  const std::lock_guard lock(mutex_);
  std::map<std::string, std::shared_ptr<const MilterPeer>> peers;
  for (const auto& [key, known] : known_)
    if (auto peer = known.peer.lock())
      peers[known.name] = std::move(peer);
  return peers;
}

Milter::Milter(MilterSettings settings, std::shared_ptr<MilterPeer> peer)
    : settings_(std::make_shared<const MilterSettings>(std::move(settings))),
      peer_(std::move(peer)) {}

bool Milter::concerns(const Facts& facts) const {
  const auto& wanted = *settings_;
  if (facts.is_sendmail)
    return wanted.on_sendmail;
  if (facts.role == Role::mx ? !wanted.on_mx : !wanted.on_submission)
    return false;
  if (!wanted.listeners.empty() && std::find(wanted.listeners.begin(), wanted.listeners.end(),
                                             facts.listener) == wanted.listeners.end())
    return false;
  return std::none_of(wanted.except_clients.begin(), wanted.except_clients.end(),
                      [&](const auto& network) { return network.contains(facts.client.address); });
}

std::unique_ptr<Filter> Milter::make(const Facts& facts, const Surroundings& around) const {
  if (!concerns(facts))
    return nullptr;
  return std::make_unique<MilterFilter>(settings_, peer_, facts, around);
}

}  // namespace postrider::smtpd::filter::milter
