// Jobs over one message or address: show and explain.
#include "base/base64.h"
#include "base/text.h"
#include "daemon/control/content_reader.h"
#include "daemon/control/control_jobs.h"
#include "daemon/control/control_json.h"
#include "mail/address.h"
#include "mail/header.h"

#include <algorithm>
#include <optional>
#include <set>
#include <sysexits.h>
#include <tuple>

namespace postrider::daemon {

namespace {

namespace json = boost::json;
using MessagePtr = std::shared_ptr<const mail::Message>;

constexpr std::size_t kMostHeader = 1U << 20U;
constexpr std::size_t kMostExplained = 20;

std::string no_such_message(std::string_view target) {
  const auto id = escaped(target, 40);
  return "no message " + id + " in the queue; what became of it says `postrider trace " + id +
         "`, and the log: journalctl POSTRIDER_ID=" + id;
}

// The state of one message, as `list` gives it; empty when it has vanished.
Result<std::vector<queue::ListedMessage>> state_of(const JobContext& context, mail::MessageId id) {
  queue::Filter filter;
  filter.ids.push_back(id);
  auto state = context.queue.list(filter, mail::MessageId{}, 1);
  if (state)
    add_reasons(context.insight, *state);
  return state;
}

// The message and its content in chunks: the header section, or all of it.
class ShowJob : public ControlJob {
 public:
  ShowJob(const JobContext& context, mail::MessageId id, bool body)
      : context_(context), queue_(context.queue), id_(id), wants_body_(body) {}

  bool step(std::string& out) override {
    if (!message_)
      return begin(out);
    std::string chunk;
    if (auto read = next_chunk(chunk); !read)
      return fail(EX_IOERR, "read the content: " + read.error().describe(), out);
    if (chunk.empty())
      return finish(out);
    const bool more = wants_body_ || cut_behind_header(chunk);
    add_line("content", json::string(encode_base64(chunk)), out);
    return more ? true : finish(out);
  }

 private:
  bool begin(std::string& out) {
    auto message = queue_.load(id_);
    if (!message) {
      if (message.error().code() == Errc::not_found)
        return fail(EX_NOINPUT, no_such_message(to_string(id_)), out);
      return fail(EX_IOERR, message.error().describe(), out);
    }
    const auto state = state_of(context_, id_);
    if (!state)
      return fail(EX_IOERR, unreadable_queue(state.error()), out);
    if (state->empty())
      return fail(EX_NOINPUT, no_such_message(to_string(id_)), out);
    message_ = std::move(*message);
    add_message_line(state->front(), out);
    add_line("envelope", to_json(message_->envelope), out);
    return context_.shows_content ? true : finish(out);
  }

  Result<void> next_chunk(std::string& chunk) {
    if (!reader_) {
      reader_.emplace(queue_, message_);
      chunk = message_->content.trace;
      if (!chunk.empty())
        return {};
    }
    return reader_->next(chunk);
  }

  // True while the header section goes on behind this chunk. Looks for the empty line over the seam
  // of two chunks too.
  bool cut_behind_header(std::string& chunk) {
    header_seen_ += chunk.size();
    const std::string seam = tail_ + chunk;
    const auto end = seam.find("\r\n\r\n");
    if (end != std::string::npos) {
      chunk.resize(std::max(end + 2, tail_.size()) - tail_.size());
      return false;
    }
    tail_ = seam.substr(seam.size() - std::min<std::size_t>(seam.size(), 3));
    return header_seen_ < kMostHeader;
  }

  JobContext context_;
  queue::Queue& queue_;
  mail::MessageId id_;
  bool wants_body_;
  MessagePtr message_;
  std::optional<ContentReader> reader_;
  std::size_t header_seen_ = 0;
  std::string tail_;
};

// What repeats tables and users' .forward files, with the arguments of their commands, is for those
// who may read these anyway.
bool is_private(const ExplainedFact& fact) {
  return fact.what == "step" || fact.what == "problem" || fact.what == "ends at";
}

void add_fact_lines(const JobContext& context, const std::vector<ExplainedFact>& facts,
                    const std::string& address, std::string& out) {
  for (const auto& fact : facts) {
    if (!context.shows_content && is_private(fact))
      continue;
    json::object object;
    if (!address.empty())
      object["address"] = json_text(address);
    object["what"] = json_text(fact.what);
    object["text"] = json_text(fact.text);
    add_line("fact", std::move(object), out);
  }
}

// As SMTP reads it, which passes over a dot at the end of its domain; a domain without one elsewhere
// is none that a person means. nullopt: it is neither.
std::optional<std::string> address_or_domain(std::string_view text) {
  if (text.find('@') != text.npos) {
    auto mailbox = mail::parse_mailbox(text, true);
    return mailbox ? std::optional(*std::move(mailbox)) : std::nullopt;
  }
  if (text.ends_with('.'))
    text.remove_suffix(1);
  if (mail::is_address_literal(text) || text == "postmaster")
    return std::string(text);
  const auto domain = mail::to_ascii_domain(text);
  if (!domain || text.find('.') == text.npos || !mail::is_host_name(*domain))
    return std::nullopt;
  return std::string(text);
}

// What keeps mail for it from being tried; of a sender only where one is known.
void add_pause_facts(const JobContext& context, const std::string& address, const char* sender,
                     std::vector<ExplainedFact>& facts) {
  const auto pauses = context.queue.pauses();
  if (!pauses)
    return;
  const auto domain = mail::domain_of(address.find('@') == address.npos ? "@" + address : address);
  for (const auto& pause : *pauses) {
    if (!queue::concerns(pause, sender == nullptr ? "" : sender, domain) ||
        (pause.of == queue::Pause::Of::sender && sender == nullptr))
      continue;
    auto text = pause_sentence(pause);
    if (pause.until != TimePoint())
      text.append(", or it ends at ").append(format_rfc3339(pause.until));
    facts.push_back({"paused", std::move(text)});
  }
}

bool has_pause(const std::vector<ExplainedFact>& facts) {
  return std::any_of(facts.begin(), facts.end(),
                     [](const ExplainedFact& fact) { return fact.what == "paused"; });
}

// In delivery's hands; empty: they do not know.
std::string conclusion_in_hand(StatusSource& insight, mail::MessageId id,
                               const queue::ListedRecipient& recipient) {
  const auto found = insight.in_hand(
      id, recipient.index, recipient.next_hop.empty() ? recipient.address : recipient.next_hop);
  if (found.is_under_way)
    return "is being tried now";
  return found.waits_for.empty() ? "waits for its turn" : "waits: " + found.waits_for;
}

// What becomes of a recipient of a message that is in the queue, where that is not what would
// become of new mail for the address; else empty.
std::string conclusion_of(const queue::ListedRecipient& recipient, TimePoint now) {
  if (recipient.state == queue::RecipientState::held)
    return "is held, until `postrider queue release` lets it go";
  if (recipient.state == queue::RecipientState::bouncing)
    return "is returned to its sender";
  if (recipient.paused)
    return recipient.last ? "waits until it is resumed: " + recipient.last->reason()
                          : "waits until it is resumed";
  if (recipient.next_attempt <= now)
    return {};
  auto text = "is tried again at " + format_rfc3339(recipient.next_attempt);
  return recipient.last ? text + ": " + recipient.last->reason() : text;
}

void set_conclusion(const std::string& text, std::vector<ExplainedFact>& facts) {
  if (text.empty())
    return;
  std::erase_if(facts, [](const ExplainedFact& fact) { return fact.what == "conclusion"; });
  facts.push_back({"conclusion", text});
}

// An administrator chose the host, whatever is known of the address.
std::vector<ExplainedFact> facts_of_hop(const queue::ListedRecipient& recipient) {
  std::vector<ExplainedFact> facts{{"route", "rerouted to " + recipient.next_hop}};
  if (!recipient.site.empty())
    facts.push_back({"site", recipient.site});
  facts.push_back({"conclusion", "is tried at once, at " + recipient.next_hop});
  return facts;
}

// recipient: of a message that is in the queue, with that sender.
void add_facts_of(const JobContext& context, mail::MessageId id,
                  const queue::ListedRecipient& recipient, const std::string& sender,
                  std::string& out) {
  std::vector<ExplainedFact> facts;
  add_pause_facts(context, recipient.next_hop.empty() ? recipient.address : "", sender.c_str(),
                  facts);
  if (context.insight == nullptr) {
    facts.push_back({"daemon", "not running; nothing moves until it is started"});
  } else {
    auto known = recipient.next_hop.empty() ? context.insight->explain(recipient.address, true)
                                            : facts_of_hop(recipient);
    std::move(known.begin(), known.end(), std::back_inserter(facts));
    set_conclusion(recipient.active ? conclusion_in_hand(*context.insight, id, recipient)
                                    : conclusion_of(recipient, context.clock.now()),
                   facts);
  }
  add_fact_lines(context, facts, recipient.address, out);
}

void add_facts(const JobContext& context, const std::string& address, std::string& out) {
  std::vector<ExplainedFact> facts;
  add_pause_facts(context, address, nullptr, facts);
  if (context.insight != nullptr) {
    auto known = context.insight->explain(address, false);
    // Whom the tables of receiving refuse, no pause concerns.
    const bool is_let_in = std::none_of(known.begin(), known.end(), [](const auto& fact) {
      return fact.what == "conclusion" && (fact.text.starts_with("is refused by accept.") ||
                                           fact.text.starts_with("is not taken"));
    });
    const bool is_paused = has_pause(facts) && is_let_in;
    std::move(known.begin(), known.end(), std::back_inserter(facts));
    if (is_paused)
      set_conclusion("waits until it is resumed", facts);
  } else {
    facts.push_back({"daemon", "not running; nothing moves until it is started"});
  }
  add_fact_lines(context, facts, address, out);
}

class ExplainAddressJob : public ControlJob {
 public:
  ExplainAddressJob(const JobContext& context, std::string address)
      : context_(context), address_(std::move(address)) {}
  bool step(std::string& out) override {
    add_facts(context_, address_, out);
    return context_.insight == nullptr ? fail(EX_UNAVAILABLE, kIsDown, out) : finish(out);
  }

 private:
  JobContext context_;
  std::string address_;
};

class ReportsJob : public ControlJob {
 public:
  ReportsJob(const JobContext& context, ReportKind kind, bool send, bool today_too)
      : context_(context), kind_(kind), send_(send), today_too_(today_too) {}
  bool step(std::string& out) override {
    if (context_.insight == nullptr)
      return fail(EX_UNAVAILABLE, kIsDown, out);
    add_fact_lines(context_, context_.insight->reports(kind_, send_, today_too_), {}, out);
    return finish(out);
  }

 private:
  JobContext context_;
  ReportKind kind_;
  bool send_;
  bool today_too_;
};

class ExplainMessageJob : public ControlJob {
 public:
  ExplainMessageJob(const JobContext& context, mail::MessageId id) : context_(context), id_(id) {}

  bool step(std::string& out) override {
    const auto state = state_of(context_, id_);
    if (!state)
      return fail(EX_IOERR, unreadable_queue(state.error()), out);
    if (state->empty())
      return fail(EX_NOINPUT, no_such_message(to_string(id_)), out);
    const auto& message = state->front();
    add_message_line(message, out);
    if (auto added = add_attempts(out); !added)
      return fail(EX_IOERR, added.error().describe(), out);
    std::set<std::tuple<std::string, std::string, queue::RecipientState, bool>> explained;
    for (const auto& recipient : message.recipients)
      if (explained.size() < kMostExplained &&
          explained.emplace(recipient.domain, recipient.next_hop, recipient.state, recipient.active)
              .second)
        add_facts_of(context_, id_, recipient, message.sender, out);
    return finish(out);
  }

 private:
  Result<void> add_attempts(std::string& out) {
    const auto attempts = context_.queue.attempts(id_);
    if (!attempts)
      return attempts.error();
    const auto message = context_.queue.load(id_);
    for (const auto& attempt : *attempts) {
      auto object = to_json(attempt.outcome);
      object["when"] = json_time(attempt.when);
      if (message && attempt.recipient < (*message)->envelope.recipients.size())
        object["recipient"] = json_text((*message)->envelope.recipients[attempt.recipient].address);
      add_line("attempt", std::move(object), out);
    }
    return {};
  }

  JobContext context_;
  mail::MessageId id_;
};

}  // namespace

std::unique_ptr<ControlJob> show_job(const JobContext& context, const ControlRequest& request) {
  const auto id = mail::parse_message_id(request.target);
  if (!id)
    return refused_job(EX_USAGE, "\"" + escaped(request.target, 40) +
                                     "\" is not a queue id (11 letters and digits)");
  if (request.body && !context.shows_content)
    return forbidden_job(ControlRight::content);
  return std::make_unique<ShowJob>(context, *id, request.body);
}

std::unique_ptr<ControlJob> explain_job(const JobContext& context, const ControlRequest& request) {
  const auto id = mail::parse_message_id(request.target);
  if (id)
    return std::make_unique<ExplainMessageJob>(context, *id);
  if (request.target.size() > 512)
    return refused_job(EX_USAGE, "the address is too long");
  auto address = address_or_domain(request.target);
  if (!address)
    return refused_job(EX_USAGE, "\"" + escaped(request.target, 100) +
                                     "\" is neither a queue id nor an address nor a domain");
  return std::make_unique<ExplainAddressJob>(context, *std::move(address));
}

std::unique_ptr<ControlJob> tls_reports_job(const JobContext& context,
                                            const ControlRequest& request) {
  return std::make_unique<ReportsJob>(context, ReportKind::tls, request.verb == "send",
                                      request.all);
}

std::unique_ptr<ControlJob> dmarc_reports_job(const JobContext& context,
                                              const ControlRequest& request) {
  return std::make_unique<ReportsJob>(context, ReportKind::dmarc, request.verb == "send",
                                      request.all);
}

}  // namespace postrider::daemon
