#include "dns/lookup.h"

#include "base/log.h"

#include <algorithm>

namespace postrider::dns {

namespace {

constexpr Duration kPreferFor{30000};
constexpr Duration kComplainEvery{60000};
constexpr Duration kWithoutEdnsFor{900000};

// What one server had to say.
struct Verdict {
  Finding finding;
  bool authentic = false;
  bool silent = false;  // worth asking again
};

// The state of one lookup, owned by its coroutine.
class Lookup {
 public:
  Lookup(std::shared_ptr<Network> network, std::shared_ptr<Plan> plan, Question question,
         SteadyTime deadline)
      : network_(std::move(network)),
        plan_(std::move(plan)),
        asked_(question),
        question_(std::move(question)),
        deadline_(deadline) {}

  Task<std::shared_ptr<const Found>> run();

 private:
  Task<Verdict> ask_servers();
  Task<Verdict> ask_server(Server server, Duration limit);
  Task<Verdict> ask_over_tcp(Server server, bool edns, Duration limit);
  bool knows_edns(const Server& server) const;
  void note_without_edns(const Server& server);
  Verdict judge(const Message& message, const Server& server, bool edns) const;
  Verdict no_reply(const Reply& reply, const Server& server);
  void note_silence(const Server& server);
  void prefer(std::size_t server);
  Duration time_left() const;
  std::shared_ptr<const Found> conclude(Finding finding, bool secure, bool was_silent) const;

  std::shared_ptr<Network> network_;
  std::shared_ptr<Plan> plan_;
  const Question asked_;
  Question question_;  // behind aliases
  SteadyTime deadline_;
  const SteadyTime began_ = std::chrono::steady_clock::now();
  unsigned links_ = 0;
};

Verdict failure(std::string reason) {
  Verdict verdict;
  verdict.finding.reason = std::move(reason);
  return verdict;
}

Result<Message> read(const Reply& reply) {
  if (reply.end != Reply::End::answered)
    return malformed("no reply");
  return decode(reply.packet);
}

// RFC 6891 section 7: servers that do not know EDNS may say so. Some do with the OPT that they got,
// which they send back with the rest of the question.
bool lacks_edns(const Message& message) {
  return message.rcode == Rcode::format_error || message.rcode == Rcode::not_implemented;
}

Duration Lookup::time_left() const {
  return std::chrono::duration_cast<Duration>(deadline_ - std::chrono::steady_clock::now());
}

Verdict Lookup::judge(const Message& message, const Server& server, bool edns) const {
  network_->heard = std::chrono::steady_clock::now();
  Verdict verdict;
  verdict.finding = read_answer(message, question_, kMostLinks - links_);
  verdict.authentic = edns && message.authentic;
  if (!verdict.finding.reason.empty())
    verdict.finding.reason += " from " + to_string(server);
  return verdict;
}

Verdict Lookup::no_reply(const Reply& reply, const Server& server) {
  if (reply.end == Reply::End::stopped)
    return failure("the resolver was stopped");
  if (reply.end == Reply::End::unreachable)
    return failure(to_string(server) + ": " + reply.trouble);
  note_silence(server);
  Verdict verdict = failure("no answer from " + to_string(server));
  verdict.silent = true;
  return verdict;
}

void Lookup::note_silence(const Server& server) {
  ++network_->counters.timeouts;
  const auto now = std::chrono::steady_clock::now();
  if (plan_->complained != SteadyTime{} && now - plan_->complained < kComplainEvery)
    return;
  plan_->complained = now;
  network_->log.write(LogEvent(Level::warn, "dns_server_silent")
                          .add("server", to_string(server))
                          .add("question", describe(question_)));
}

void Lookup::prefer(std::size_t server) {
  plan_->preferred = server;
  plan_->preferred_until = std::chrono::steady_clock::now() + kPreferFor;
}

bool Lookup::knows_edns(const Server& server) const {
  const auto now = std::chrono::steady_clock::now();
  for (const auto& [known, until] : plan_->without_edns)
    if (known == server && now < until)
      return false;
  return true;
}

// Without EDNS there is no DNSSEC, and what needs it is not looked at.
void Lookup::note_without_edns(const Server& server) {
  const auto until = std::chrono::steady_clock::now() + kWithoutEdnsFor;
  std::erase_if(plan_->without_edns, [&](const auto& known) { return known.first == server; });
  plan_->without_edns.emplace_back(server, until);
  network_->log.write(
      LogEvent(Level::warn, "dns_server_without_edns").add("server", to_string(server)));
}

Task<Verdict> Lookup::ask_server(Server server, Duration limit) {
  bool edns = knows_edns(server);
  auto reply = co_await network_->udp.ask(server, question_, edns, limit);
  auto message = read(reply);
  if (edns && message && lacks_edns(*message)) {
    edns = false;
    limit = std::clamp(time_left(), Duration(1), limit);
    reply = co_await network_->udp.ask(server, question_, edns, limit);
    message = read(reply);
    if (message && !lacks_edns(*message) && !network_->stopped)
      note_without_edns(server);
  }
  // Malformed may mean mangled on the way: TCP is worth one question. So are guesses that somebody
  // sent us: they shall not win by patience (attack D10).
  const bool over_tcp = reply.end == Reply::End::answered
                            ? reply.cut || !message || message->truncated
                            : reply.end == Reply::End::timed_out && reply.saw_strays;
  if (over_tcp) {
    limit = std::min(limit, time_left());
    auto verdict = co_await ask_over_tcp(std::move(server), edns, limit);
    co_return verdict;
  }
  if (reply.end != Reply::End::answered)
    co_return no_reply(reply, server);
  co_return judge(*message, server, edns);
}

Task<Verdict> Lookup::ask_over_tcp(Server server, bool edns, Duration limit) {
  if (limit <= Duration(0))
    co_return failure("no time left to ask " + to_string(server) + " over TCP");
  auto reply = co_await network_->tcp.ask(server, question_, edns, limit);
  if (const auto first = read(reply); edns && first && lacks_edns(*first)) {
    edns = false;
    limit = std::clamp(time_left(), Duration(1), limit);
    reply = co_await network_->tcp.ask(server, question_, edns, limit);
  }
  if (reply.end != Reply::End::answered)
    co_return no_reply(reply, server);
  const auto message = read(reply);
  if (!message)
    co_return failure(message.error().describe() + " from " + to_string(server));
  if (message->truncated)
    co_return failure("a truncated answer over TCP from " + to_string(server));
  co_return judge(*message, server, edns);
}

Task<Verdict> Lookup::ask_servers() {
  const std::size_t count = plan_->servers.size();
  std::vector<bool> hopeless(count);
  Verdict worst =
      failure(count == 0 ? "no server is configured" : "no time was left to ask a server");
  worst.silent = true;
  bool was_silent = false;
  const auto now = std::chrono::steady_clock::now();
  const std::size_t first = plan_->preferred_until > now ? plan_->preferred : 0;
  for (const auto timeout : plan_->timeouts) {
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t which = (first + i) % count;
      if (hopeless[which])
        continue;
      const auto limit = std::min(timeout, time_left());
      if (limit <= Duration(0))
        co_return worst;
      auto verdict = co_await ask_server(plan_->servers[which], limit);
      if (verdict.finding.status != Status::temporary_failure || verdict.finding.unfinished) {
        if (was_silent)
          prefer(which);
        co_return verdict;
      }
      if (network_->stopped)
        co_return verdict;
      was_silent = was_silent || verdict.silent;
      hopeless[which] = !verdict.silent;
      // What a server said tells more than that another said nothing.
      if (!verdict.silent || worst.silent)
        worst = std::move(verdict);
    }
  }
  co_return worst;
}

std::shared_ptr<const Found> Lookup::conclude(Finding finding, bool secure, bool was_silent) const {
  auto found = std::make_shared<Found>();
  found->status = finding.status;
  found->records = to_records(asked_.type, finding.records);
  found->secure = secure;
  found->canonical_name = finding.canonical.text();
  found->reason = std::move(finding.reason);
  Duration keep = std::chrono::seconds(finding.ttl);
  if (found->status == Status::records && is_empty(found->records)) {
    found->status = Status::temporary_failure;
    found->reason = "no record with a usable name";
  }
  if (found->status == Status::temporary_failure) {
    found->secure = false;
    found->canonical_name = asked_.name.text();
    found->reason = describe(asked_) + ": " + found->reason;
    // Where others were answered meanwhile, it is the name's own servers that are silent.
    keep = was_silent && network_->heard >= began_ ? plan_->silence_ttl : plan_->failure_ttl;
  }
  found->expires = std::chrono::steady_clock::now() + keep;
  return found;
}

Task<std::shared_ptr<const Found>> Lookup::run() {
  bool secure = plan_->trust_ad;
  std::uint32_t ttl = kMostTtl;
  for (;;) {
    auto verdict = co_await ask_servers();
    Finding& finding = verdict.finding;
    secure = secure && verdict.authentic;
    ttl = std::min(ttl, finding.ttl);
    links_ += finding.links;
    if (finding.unfinished && links_ < kMostLinks) {
      question_.name = finding.canonical;
      continue;
    }
    if (finding.unfinished)
      finding.reason = "a chain of more than " + std::to_string(kMostLinks) + " aliases";
    finding.ttl = ttl;
    co_return conclude(std::move(finding), secure, verdict.silent);
  }
}

}  // namespace

Task<std::shared_ptr<const Found>> look_up(std::shared_ptr<Network> network,
                                           std::shared_ptr<Plan> plan, Question question,
                                           SteadyTime deadline) {
  Lookup lookup(std::move(network), std::move(plan), std::move(question), deadline);
  auto found = co_await lookup.run();
  co_return found;
}

std::shared_ptr<const Found> failed_lookup(const Question& question, std::string_view reason) {
  auto found = std::make_shared<Found>();
  found->canonical_name = question.name.text();
  found->reason = describe(question).append(": ").append(reason);
  return found;
}

}  // namespace postrider::dns
