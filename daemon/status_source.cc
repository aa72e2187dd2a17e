#include "daemon/status_source.h"

#include "base/text.h"
#include "base/version.h"
#include "daemon/control/control_json.h"
#include "daemon/named_few.h"
#include "delivery/delivery_timings.h"
#include "smtpd/session/policy.h"

#include <boost/json/array.hpp>

#include <array>
#include <future>
#include <optional>
#include <unistd.h>

namespace postrider::daemon {

namespace {

constexpr Duration kPatience{60000};  // a lookup may take 20 s, several follow
constexpr Duration kSlice{50};
constexpr Duration kLongDeferring = std::chrono::hours(1);

// Calls ask(answer), where answer may be called once on any thread, at any later time.
template <class T, class Ask>
std::optional<T> wait_for_answer(const std::atomic<bool>& stopping, Ask ask) {
  auto promise = std::make_shared<std::promise<T>>();
  auto answer = promise->get_future();
  ask([promise](T value) { promise->set_value(std::move(value)); });
  for (auto waited = kSlice; waited <= kPatience && !stopping; waited += kSlice)
    if (answer.wait_for(kSlice) == std::future_status::ready)
      return answer.get();
  return std::nullopt;
}

// Of a domain, whose owner can name a hundred.
constexpr std::size_t kMostHostsNamed = 16;

std::string host_text(const delivery::Explanation::Host& host) {
  auto text = host.name + " (preference " + std::to_string(host.preference) + ")";
  if (!host.addresses.empty())
    text += ": " + named_few(host.addresses, 8);
  if (!host.tls.empty())
    text += "; TLS: " + host.tls;
  return host.note.empty() ? text : text + "; " + host.note;
}

std::string site_text(const delivery::SiteStatus& site) {
  auto text = site.name + ": " + site.state;
  if (!site.alarm.empty())
    text += ", ALARM: " + site.alarm;
  if (site.failures > 0)
    text += ", " + std::to_string(site.failures) + (site.failures == 1 ? " failure" : " failures") +
            " since " + format_rfc3339(site.since);
  if (site.blocked_until > TimePoint())
    text += ", next attempt " + format_rfc3339(site.blocked_until);
  if (const auto reason = site.last.reason(); site.failures > 0 && !reason.empty())
    text += ", " + reason;
  if (!site.limits.empty())
    text += "; " + site.limits;
  return text;
}

boost::json::object site_object(const delivery::SiteStatus& site) {
  boost::json::object object;
  object["site"] = json_text(site.name);
  object["state"] = site.state;
  if (!site.alarm.empty())
    object["alarm"] = json_text(site.alarm);
  object["connections"] = site.connections;
  object["idle"] = site.idle;
  object["limit"] = site.limit;
  if (site.rate > 0)
    object["rate"] = site.rate;
  object["in_hand"] = site.waiting;
  object["limits"] = json_text(site.limits);
  if (site.only_deferred > 0) {
    object["only_deferred"] = site.only_deferred;
    object["only_deferred_since"] = json_time(site.only_deferred_since);
    object["reason"] = json_text(site.last_deferral.reason());
  }
  if (site.failures == 0)
    return object;
  object["failures"] = site.failures;
  object["since"] = json_time(site.since);
  object["blocked_until"] = json_time(site.blocked_until);
  object["reason"] = json_text(site.last.reason());
  return object;
}

void add_timings(boost::json::object& out, const delivery::DeliveryTimings& timings) {
  add_histogram(out, "first_attempt_seconds", timings.first_attempt);
  add_histogram(out, "delivery_seconds", timings.delivery);
  boost::json::object deferred;
  for (std::size_t i = 0; i < timings.deferred.size(); ++i)
    deferred[scheduler::name(static_cast<scheduler::ReplyClass>(i))] =
        timings.deferred[i].load(std::memory_order_relaxed);
  out["deferred_by_class"] = std::move(deferred);
  out["delivered_by_tls"] = {{"TLSv1.3", timings.tls_1_3.load(std::memory_order_relaxed)},
                             {"TLSv1.2", timings.tls_1_2.load(std::memory_order_relaxed)},
                             {"older", timings.tls_older.load(std::memory_order_relaxed)},
                             {"none", timings.in_clear.load(std::memory_order_relaxed)}};
}

// RFC 3463 section 3.
constexpr std::array<const char*, 8> kSubjects = {"other",   "address",  "mailbox", "system",
                                                  "network", "protocol", "content", "policy"};

boost::json::object milter_figures(const smtpd::filter::milter::MilterPeer& peer) {
  using smtpd::filter::milter::kAnswerNames;
  const auto count = [](const std::atomic<std::uint64_t>& counter) {
    return counter.load(std::memory_order_relaxed);
  };
  boost::json::object object, answers;
  object["well"] = peer.gate.is_well();
  object["connections"] = peer.gate.connections();
  object["conversations"] = count(peer.conversations);
  object["messages"] = count(peer.asked);
  object["edited"] = count(peer.edited);
  object["held"] = count(peer.held);
  object["failures"] = count(peer.failed);
  for (std::size_t i = 0; i < kAnswerNames.size(); ++i)
    answers[kAnswerNames[i]] = count(peer.answers[i]);
  object["replies"] = std::move(answers);
  add_histogram(object, "answer_seconds", peer.answer_time);
  return object;
}

std::string milter_text(const std::string& name, const smtpd::filter::milter::MilterPeer& peer) {
  const auto count = [](const std::atomic<std::uint64_t>& counter) {
    return std::to_string(counter.load(std::memory_order_relaxed));
  };
  return name + ": " + (peer.gate.is_well() ? "answers" : "DOES NOT ANSWER") + ", connections " +
         std::to_string(peer.gate.connections()) + ", messages " + count(peer.asked) + ", edited " +
         count(peer.edited) + ", refused " + count(peer.refused) + ", discarded " +
         count(peer.discarded) + ", held " + count(peer.held) + ", failures " + count(peer.failed);
}

}  // namespace

RunningStatus::RunningStatus(Asked asked) : asked_(std::move(asked)) {}

// What receiving does with an address, before delivery is asked. The address that goes on; empty:
// the conclusion is drawn.
std::string RunningStatus::explain_receiving(const std::string& address,
                                             std::vector<ExplainedFact>& facts) {
  ReceivingTables tables;
  {
    const std::lock_guard lock(mutex_);
    tables = tables_;
  }
  if (address.find('@') == address.npos)
    return address;
  const auto access = smtpd::look_up_access(tables.recipient_map, address);
  if (access.kind == smtpd::Access::Kind::ok)
    facts.push_back(
        {"step", address + " is let in by accept.recipient_map (" + access.where + ")"});
  if (const auto refusal = smtpd::Policy::refusal(access); !refusal.empty()) {
    const auto where = access.where.empty() ? "which cannot be read now" : access.where;
    facts.push_back({"conclusion", "is refused by accept.recipient_map (" + where +
                                       "): " + std::string(trim(refusal))});
    return {};
  }
  if (!tables.rewriter)
    return address;
  auto step = tables.rewriter->recipient(address);
  if (!step) {
    facts.push_back({"conclusion", "is not taken now: " + tables::told(step.error())});
    return {};
  }
  if (!step->where.empty())
    facts.push_back({"step", address + " -> " + step->address + " (" + step->where + ")"});
  return std::move(step->address);
}

std::vector<ExplainedFact> RunningStatus::explain(const std::string& given, bool is_queued) {
  std::vector<ExplainedFact> facts;
  const auto address = is_queued ? given : explain_receiving(given, facts);
  if (address.empty())
    return facts;
  const auto answer = wait_for_answer<delivery::Explanation>(
      stopping_, [&](auto on_answer) { asked_.dispatcher.explain(address, std::move(on_answer)); });
  if (!answer) {
    facts.push_back({"conclusion", "delivery did not answer in time"});
    return facts;
  }
  const auto add = [&](const char* what, std::string text) {
    if (!text.empty())
      facts.push_back({what, std::move(text)});
  };
  for (const auto& step : answer->steps)
    add("step", step);
  for (const auto& problem : answer->problems)
    add("problem", problem);
  add("domain", answer->domain);
  add("route", answer->route);
  add("dns", answer->dns);
  const auto named = std::min(answer->hosts.size(), kMostHostsNamed);
  for (std::size_t i = 0; i < named; ++i)
    add("host", host_text(answer->hosts[i]));
  if (named < answer->hosts.size())
    add("host", "and " + std::to_string(answer->hosts.size() - named) + " more");
  const auto handshakes = wait_for_answer<std::vector<std::string>>(stopping_, [&](auto on_answer) {
    asked_.tls.last_handshakes(answer->domain, std::move(on_answer));
  });
  for (const auto& handshake : handshakes.value_or(std::vector<std::string>()))
    add("handshake", handshake);
  if (!answer->site.name.empty())
    add("site", site_text(answer->site));
  for (const auto& end : answer->ends)
    add("ends at", end);
  add("conclusion", answer->conclusion);
  return facts;
}

std::vector<std::string> RunningStatus::reasons(const std::vector<std::string>& addresses) {
  auto answer = wait_for_answer<std::vector<std::string>>(stopping_, [&](auto on_answer) {
    asked_.dispatcher.reasons(addresses, std::move(on_answer));
  });
  return answer ? *std::move(answer) : std::vector<std::string>(addresses.size());
}

// Why it waits is asked first: where it begins between the two, it is under way.
StatusSource::InHand RunningStatus::in_hand(mail::MessageId id, std::uint32_t recipient,
                                            const std::string& to) {
  const auto reasons = wait_for_answer<std::vector<std::string>>(stopping_, [&](auto on_answer) {
    asked_.dispatcher.reasons({to}, std::move(on_answer), Duration(0));
  });
  const auto under_way =
      wait_for_answer<std::vector<queue::Revocation>>(stopping_, [&](auto on_answer) {
        asked_.dispatcher.ask({{id, {recipient}}}, std::move(on_answer));
      });
  InHand answer;
  answer.is_under_way =
      !under_way || std::any_of(under_way->begin(), under_way->end(),
                                [](const auto& one) { return !one.recipients.empty(); });
  if (!answer.is_under_way && reasons)
    answer.waits_for = reasons->front();
  return answer;
}

std::uint64_t RunningStatus::ask_for_reload() {
  return asked_.reloads.ask();
}

std::optional<ReloadVerdict> RunningStatus::reload_verdict(std::uint64_t number) {
  return asked_.reloads.verdict(number);
}

void RunningStatus::stop() {
  stopping_ = true;
  asked_.reloads.stop();
}

boost::json::object RunningStatus::status() {
  boost::json::object out;
  out["version"] = version();
  out["hostname"] = asked_.hostname;
  out["pid"] = static_cast<std::int64_t>(getpid());
  out["config"] = asked_.config_file;
  boost::json::array listeners;
  const auto refused = asked_.reloads.problem();
  {
    const std::lock_guard lock(mutex_);
    for (const auto& address : listeners_)
      listeners.emplace_back(address);
  }
  if (!refused.empty())
    out["config_refused"] = refused;
  out["listeners"] = std::move(listeners);
  const auto& [calls_held, files_held, calls, files, users] = confinement_;
  out["system_calls"] = (calls_held ? "restricted by " : "NOT restricted: ") + calls;
  out["files"] = (files_held ? "restricted by " : "NOT restricted: ") + files;
  out["local_delivery"] = users;
  {
    const std::lock_guard lock(mutex_);
    if (pam_ends_ > 0)
      out["pam_helper"] = "ended and started again, times: " + std::to_string(pam_ends_) +
                          ", the last time by " + pam_end_;
  }
  const auto receiving = asked_.server.counters();
  out["sessions"] = receiving.open;
  out["sessions_so_far"] = receiving.connections;
  out["messages_received"] = receiving.messages;
  out["rejected"] = receiving.rejected;
  out["turned_away"] = receiving.turned_away;
  boost::json::object rejected;
  for (const auto& [code, count] : receiving.rejected_with)
    rejected[std::to_string(code)] = count;
  out["rejected_with"] = std::move(rejected);
  boost::json::object about;
  for (std::size_t i = 0; i < kSubjects.size(); ++i)
    about[kSubjects[i]] = receiving.rejected_about[i];
  out["rejected_about"] = std::move(about);
  out["tls_handshakes"] = {{"TLSv1.3", receiving.tls_1_3},
                           {"TLSv1.2", receiving.tls_1_2},
                           {"older", receiving.tls_older},
                           {"failed", receiving.tls_failed}};
  if (const auto checked = asked_.checks.checked.load(); checked > 0) {
    out["authentication_checked"] = checked;
    out["authentication_spf_passed"] = asked_.checks.spf_passed.load();
    out["authentication_dkim_passed"] = asked_.checks.dkim_passed.load();
    out["authentication_dmarc_passed"] = asked_.checks.dmarc_passed.load();
    out["authentication_dmarc_failed"] = asked_.checks.dmarc_failed.load();
    out["authentication_dns_trouble"] = asked_.checks.troubled.load();
    out["authentication_excepted"] = asked_.checks.excepted.load();
    out["authentication_quarantined"] = asked_.checks.quarantined.load();
    out["authentication_refused"] = asked_.checks.refused.load();
    out["authentication_questions"] = receiving.asked;
    out["authentication_questions_open"] = receiving.asking + receiving.waiting_to_ask;
  }
  if (const auto checked = asked_.client_checks.checked.load(); checked > 0) {
    out["clients_checked"] = checked;
    out["clients_in_table"] = asked_.client_checks.in_table.load();
    out["clients_over_rate"] = asked_.client_checks.over_rate.load();
    out["clients_listed"] = asked_.client_checks.listed.load();
    out["clients_welcome"] = asked_.client_checks.welcome.load();
    out["clients_without_name"] = asked_.client_checks.unnamed.load();
    out["clients_bad_helo"] = asked_.client_checks.bad_helo.load();
    out["greylisted"] = asked_.client_checks.greylisted.load();
    out["greylist_entries"] = asked_.client_checks.greylist.size();
    out["policy_asked"] = asked_.client_checks.policy_asked.load();
    out["policy_refused"] = asked_.client_checks.policy_refused.load();
    out["policy_failed"] = asked_.client_checks.policy_failed.load();
  }
  boost::json::array milters;
  boost::json::object figures;
  for (const auto& [name, peer] : asked_.milters.in_use()) {
    milters.emplace_back(milter_text(name, *peer));
    figures[json_text(name)] = milter_figures(*peer);
  }
  if (!milters.empty()) {
    out["milters"] = std::move(milters);
    out["milter_figures"] = std::move(figures);
  }
  boost::json::array alarms;
  if (!refused.empty())
    alarms.emplace_back("ALARM: the configuration was refused, the one before is in use: " +
                        refused);
  add_certificates(alarms);
  if (const auto lost = asked_.log.lost(); lost > 0)
    alarms.emplace_back("ALARM: the log is not written: lines lost so far " + std::to_string(lost) +
                        "; look at log.target, and at the room there");
  for (const auto& [name, peer] : asked_.milters.in_use())
    if (!peer->gate.is_well())
      alarms.emplace_back("ALARM: the milter " + name +
                          " does not answer; mail gets its milter.default_action meanwhile");
  boost::json::array limited;
  auto at_limit = asked_.auth.limited();
  for (auto& user : asked_.local_limits.limited())
    at_limit.push_back(std::move(user));
  for (const auto& user : at_limit) {
    const auto limit = std::to_string(user.most) + " " + std::string(user.limit);
    limited.emplace_back(user.user + ": " + limit + ", since " + format_rfc3339(user.since));
    alarms.emplace_back("ALARM: " + user.user + " is at the limit of " + limit + " since " +
                        format_rfc3339(user.since));
  }
  out["users_at_their_limit"] = std::move(limited);
  add_events(out, alarms);
  add_dns(out);
  add_trace(out);
  auto sending = wait_for_answer<delivery::Status>(
      stopping_, [&](auto on_answer) { asked_.dispatcher.status(std::move(on_answer)); });
  if (!sending) {
    if (!stopping_)
      alarms.emplace_back("ALARM: delivery did not answer in time");
    out["alarms"] = std::move(alarms);
    return out;
  }
  out["connections"] = sending->connections;
  out["connections_idle"] = sending->idle;
  out["delivered"] = sending->delivered;
  out["deferred"] = sending->deferred;
  out["bounced"] = sending->bounced;
  out["sites"] = sending->sites;
  out["sites_by_state"] = {{"open", sending->sites_open},
                           {"probing", sending->sites_probing},
                           {"blocked", sending->sites_blocked}};
  boost::json::array busiest;
  for (const auto& site : sending->busiest)
    busiest.emplace_back(site_object(site));
  out["busiest_sites"] = std::move(busiest);
  add_timings(out, *sending->timings);
  boost::json::array trouble;
  if (const auto* trouble_of_trace = out.if_contains("trace_not_written"))
    alarms.emplace_back("ALARM: the trace is not written: " +
                        std::string(trouble_of_trace->as_string()));
  for (const auto& problem : asked_.watcher.not_read())
    alarms.emplace_back("ALARM: " + problem);
  for (const auto& site : sending->in_trouble) {
    trouble.emplace_back(site_text(site));
    if (!site.alarm.empty())
      alarms.emplace_back("ALARM: " + site.alarm);
  }
  out["sites_in_trouble"] = std::move(trouble);
  add_deferring(*sending, out, alarms);
  out["alarms"] = std::move(alarms);
  return out;
}

// Who was removed, held or returned since does not wait for it; what is left may be too few to tell of.
void RunningStatus::look_at_deferred(delivery::SiteStatus& site) {
  auto& ones = site.deferred_ones;
  if (ones.empty())
    return;
  queue::Filter of_these;
  for (const auto& [id, index] : ones)
    if (of_these.ids.empty() || of_these.ids.back() != id)
      of_these.ids.push_back(id);
  std::uint64_t left = 0;
  mail::MessageId after;
  for (bool more = true; more;) {
    const auto page = asked_.queue.list(of_these, after, of_these.ids.size());
    if (!page)
      return;
    for (const auto& message : *page)
      for (const auto& recipient : message.recipients)
        left += recipient.state == queue::RecipientState::queued &&
                        std::binary_search(ones.begin(), ones.end(),
                                           std::pair(message.id, recipient.index))
                    ? 1
                    : 0;
    more = !page->empty();
    if (more)
      after = page->back().id;
  }
  site.only_deferred = left < delivery::kManyDeferred ? 0 : left;
}

// They take connections, so nothing of theirs is blocked: what they say is all there is to see.
void RunningStatus::add_deferring(delivery::Status& sending, boost::json::object& out,
                                  boost::json::array& alarms) {
  constexpr std::size_t kMostSites = 100;
  const auto now = SystemClock().now();
  boost::json::array deferring;
  for (auto& site : sending.deferring) {
    look_at_deferred(site);
    if (site.only_deferred == 0)
      continue;
    if (deferring.size() < kMostSites)
      deferring.emplace_back(site_object(site));
    if (now - site.only_deferred_since >= kLongDeferring && alarms.size() < kMostSites)
      alarms.emplace_back("ALARM: " + site.name + " takes no mail since " +
                          format_rfc3339(site.only_deferred_since) + ", " +
                          std::to_string(site.only_deferred) +
                          " recipients were only deferred: " + site.last_deferral.reason());
  }
  out["deferring_sites"] = std::move(deferring);
}

std::vector<boost::json::object> RunningStatus::sites() {
  std::vector<boost::json::object> all;
  auto known = wait_for_answer<std::vector<delivery::SiteStatus>>(
      stopping_, [&](auto on_answer) { asked_.dispatcher.sites(std::move(on_answer)); });
  if (!known)
    return all;
  for (auto& site : *known) {
    look_at_deferred(site);
    all.push_back(site_object(site));
  }
  return all;
}

namespace {

std::string sink_text(const SinkStatus& sink) {
  auto text = sink.name + ": " + sink.place + ", ";
  text += sink.waiting == 0 ? "up to date" : std::to_string(sink.waiting) + " events behind";
  text += ", " + std::to_string(sink.state.counters.taken) + " taken";
  if (sink.state.counters.lost > 0)
    text += ", " + std::to_string(sink.state.counters.lost) + " lost";
  if (!sink.state.error.empty())
    text += "; FAILS since " + format_rfc3339(sink.state.failing_since) + ": " +
            escaped(sink.state.error, 400) + "; next attempt " +
            format_rfc3339(sink.state.next_attempt);
  return text;
}

}  // namespace

void RunningStatus::add_certificates(boost::json::array& alarms) const {
  const auto now = SystemClock().now();
  const std::lock_guard lock(mutex_);
  for (const auto& identity : certificates_)
    if (const auto text = out_of_time(*identity, now); !text.empty())
      alarms.emplace_back(
          "ALARM: the certificate of " +
          (identity->names().empty() ? "no name" : escaped(identity->names().front())) + " " +
          text + ": who verifies us will not send; renew it");
}

void RunningStatus::add_dns(boost::json::object& out) const {
  std::uint64_t lookups = 0, cached = 0, queries = 0, over_tcp = 0, timeouts = 0, failures = 0;
  for (const auto* resolver : asked_.resolvers) {
    const auto& counters = resolver->counters();
    lookups += counters.lookups;
    cached += counters.cached;
    queries += counters.queries;
    over_tcp += counters.over_tcp;
    timeouts += counters.timeouts;
    failures += counters.failures;
  }
  out["dns"] = {{"lookups", lookups},   {"from_memory", cached}, {"queries", queries},
                {"over_tcp", over_tcp}, {"timeouts", timeouts},  {"failures", failures}};
}

void RunningStatus::add_events(boost::json::object& out, boost::json::array& alarms) const {
  const auto status = asked_.sinks.status();
  if (!status.is_on)
    return;
  boost::json::array sinks;
  boost::json::object behind;
  for (const auto& sink : status.sinks) {
    sinks.emplace_back(sink_text(sink));
    behind[sink.name] = sink.waiting;
    if (!sink.state.error.empty())
      alarms.emplace_back("ALARM: " + sink.name + " takes no events since " +
                          format_rfc3339(sink.state.failing_since) + ": " +
                          escaped(sink.state.error, 400));
  }
  out["event_sinks"] = std::move(sinks);
  out["events_behind"] = std::move(behind);
  out["events_written"] = status.outbox.written;
  out["events_waiting"] = status.outbox.waiting;
  out["events_lost"] = status.outbox.lost + status.outbox.trimmed;
  out["events_in_the_queue"] = status.facts;
  if (!status.outbox.error.empty()) {
    out["events_not_written"] = escaped(status.outbox.error, 200);
    alarms.emplace_back("ALARM: events are not written: " + escaped(status.outbox.error, 200));
  }
}

void RunningStatus::add_trace(boost::json::object& out) const {
  if (!asked_.trace.is_on())
    return;
  const auto counters = asked_.trace.counters();
  out["trace_written"] = counters.written;
  out["trace_waiting"] = counters.waiting;
  out["trace_lost"] = counters.lost;
  if (!counters.error.empty())
    out["trace_not_written"] = escaped(counters.error, 200);
}

Result<StatusSource::EventPage> RunningStatus::events(const std::string& after,
                                                      std::uint64_t last) {
  constexpr std::size_t kPage = 200;
  if (!asked_.sinks.status().is_on)
    return Error(Errc::unsupported,
                 "this daemon keeps no events; name a sink of them in [[events]]");
  auto from = after;
  if (last > 0) {
    auto position = asked_.sinks.position_before_last(last);
    if (!position)
      return position.error();
    from = *std::move(position);
  }
  auto kept = asked_.sinks.kept(from, kPage);
  if (!kept)
    return kept.error();
  return EventPage{std::move(kept->position), std::move(kept->events), kept->lost};
}

Result<void> RunningStatus::replay_events(const std::string& sink, const std::string& id) {
  return asked_.sinks.replay(sink, id);
}

std::vector<ExplainedFact> RunningStatus::reports(ReportKind kind, bool send, bool today_too) {
  auto reports = kind == ReportKind::tls ? asked_.tls.reports() : asked_.dmarc.reports();
  const auto lines = wait_for_answer<std::vector<std::string>>(stopping_, [&](auto on_answer) {
    if (send)
      reports.send(today_too, std::move(on_answer));
    else
      reports.collected(std::move(on_answer));
  });
  if (!lines)
    return {{"reports", "are still being sent"}};
  std::vector<ExplainedFact> facts;
  for (const auto& line : *lines)
    facts.push_back({send ? "report" : "collected", line});
  if (facts.empty())
    facts.push_back({"reports", send ? "there is nothing to send" : "nothing is collected"});
  return facts;
}

void RunningStatus::set_confinement(Confinement confinement) {
  confinement_ = std::move(confinement);
}

void RunningStatus::note_pam_ended(const std::string& how, TimePoint when) {
  const std::lock_guard lock(mutex_);
  ++pam_ends_;
  pam_end_ = how + " at " + format_rfc3339(when);
}

void RunningStatus::set_tables(ReceivingTables tables) {
  const std::lock_guard lock(mutex_);
  tables_ = std::move(tables);
}

void RunningStatus::set_certificates(std::vector<std::shared_ptr<const TlsIdentity>> identities) {
  const std::lock_guard lock(mutex_);
  certificates_ = std::move(identities);
}

void RunningStatus::set_listeners(std::vector<std::string> addresses) {
  const std::lock_guard lock(mutex_);
  listeners_ = std::move(addresses);
}

// A filter by domain or site opens just that; any other may concern every site.
void RunningStatus::retried(const queue::Filter& filter) {
  asked_.dispatcher.unblock(filter.site ? *filter.site : filter.domain.value_or(""));
}

}  // namespace postrider::daemon
