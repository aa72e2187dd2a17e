// Jobs over many messages: list, count, change, and the totals of status.
#include "base/text.h"
#include "base/version.h"
#include "daemon/control/awaited.h"
#include "daemon/control/control_filter.h"
#include "daemon/control/control_jobs.h"
#include "daemon/control/control_json.h"
#include "queue/listed_reasons.h"
#include "queue/queue_timings.h"

#include <boost/json/array.hpp>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <limits>
#include <optional>
#include <pwd.h>
#include <sysexits.h>
#include <tuple>
#include <unistd.h>
#include <unordered_map>

namespace postrider::daemon {

namespace {

namespace json = boost::json;

// The first page is short, so that it is on the screen at once.
constexpr std::size_t kFirstPage = 25;
constexpr std::size_t kPage = 200;
constexpr std::uint64_t kManyDeferrals = 20;  // in an hour, without a delivery

// 0 if there is no such folder.
std::ptrdiff_t files_in(const std::string& folder) {
  std::error_code failed;
  const std::filesystem::directory_iterator files(folder, failed);
  return failed ? 0 : std::distance(files, std::filesystem::directory_iterator());
}

// Messages that vanish between two pages are simply not in the next one.
class ListJob : public ControlJob {
 public:
  ListJob(const JobContext& context, queue::Filter filter)
      : context_(context),
        queue_(context.queue),
        insight_(context.insight),
        filter_(std::move(filter)) {}

  bool step(std::string& out) override {
    // As it is now: what is taken meanwhile is in the queue, or was.
    if (!dropped_)
      dropped_.emplace(context_.drop, queue_);
    if (is_queue_done_ || is_of_drop_folder(filter_))
      return step_dropped(out);
    auto page = queue_.list_on(filter_, after_, most_);
    if (!page)
      return fail(EX_IOERR, unreadable_queue(page.error()), out);
    add_reasons(insight_, page->messages);
    for (const auto& message : page->messages)
      add_message_line(message, out);
    is_queue_done_ = page->is_last;
    after_ = page->after;
    most_ = kPage;
    return true;
  }
  bool is_long() const override { return true; }

 private:
  bool step_dropped(std::string& out) {
    std::vector<DroppedMessage> messages;
    const bool more = dropped_->read_some(kPage, filter_, context_.clock.now(), messages);
    for (const auto& message : messages)
      add_dropped_line(message, out);
    return more ? true : finish(out);
  }

  JobContext context_;
  queue::Queue& queue_;
  StatusSource* insight_;
  queue::Filter filter_;
  std::optional<DropListing> dropped_;
  bool is_queue_done_ = false;
  mail::MessageId after_;
  std::size_t most_ = kFirstPage;
};

class CountJob : public ControlJob {
 public:
  CountJob(const JobContext& context, queue::Filter filter)
      : context_(context), queue_(context.queue) {
    counting_.filter = std::move(filter);
    counting_.is_done = is_of_drop_folder(counting_.filter);
  }

  bool step(std::string& out) override {
    if (!dropped_)
      dropped_.emplace(context_.drop, queue_);
    if (counting_.is_done)
      return step_dropped(out);
    if (auto counted = queue_.count_on(counting_); !counted)
      return fail(EX_IOERR, unreadable_queue(counted.error()), out);
    return true;
  }
  bool is_long() const override { return true; }
  bool may_be_cut_off() const override { return true; }

 private:
  bool step_dropped(std::string& out) {
    std::vector<DroppedMessage> messages;
    const bool more = dropped_->read_some(kPage, counting_.filter, context_.clock.now(), messages);
    counting_.counted.messages += messages.size();
    for (const auto& message : messages)
      counting_.counted.recipients += message.recipients.size();
    if (more)
      return true;
    add_line("count", to_json(counting_.counted), out);
    return finish(out);
  }

  JobContext context_;
  queue::Queue& queue_;
  std::optional<DropListing> dropped_;
  queue::Counting counting_;
};

// Waits for the queue thread in short turns, with a line of progress after each.
class ChangeJob : public ControlJob {
 public:
  ChangeJob(const JobContext& context, queue::Verb verb, queue::Filter filter, bool dry_run,
            std::string next_hop)
      : context_(context),
        verb_(verb),
        filter_(std::move(filter)),
        dry_run_(dry_run),
        next_hop_(std::move(next_hop)) {}

  bool step(std::string& out) override {
    if (!answer_) {
      answer_.emplace();
      look_at_named();
      context_.queue.change(verb_, filter_, dry_run_, answer_->setter(), actor_of(context_.uid),
                            next_hop_);
    }
    if (!answer_->wait())
      return answer_->add_progress(out);
    const auto& changed = answer_->get();
    if (!changed)
      return fail(EX_IOERR, changed.error().describe(), out);
    if (verb_ == queue::Verb::retry && !dry_run_ && context_.insight != nullptr)
      context_.insight->retried(filter_);
    auto object = to_json(*changed);
    object["dry_run"] = dry_run_;
    if (changed->paused.messages > 0)
      add_resumes(*changed, out);
    add_line("changed", std::move(object), out);
    for (const auto& named : named_)
      add_unchanged(named, out);
    return finish(out);
  }
  bool is_long() const override { return true; }

 private:
  static constexpr std::size_t kFew = 16;
  struct Named {
    mail::MessageId id;
    std::optional<queue::ListedMessage> message;  // as it was before; none: not in the queue
    bool matches = false;
  };

  // What the administrator thinks of, if these are not too many to say something of each.
  void look_at_named() {
    queue::Filter named;
    named.ids = filter_.ids;
    if (named.ids.empty() || named.ids.size() > kFew)
      return;
    auto found = context_.queue.list(named, {}, kFew);
    const auto matching = context_.queue.list(filter_, {}, kFew);
    if (!found || !matching)
      return;
    for (const auto id : filter_.ids)
      named_.push_back({id, std::nullopt, false});
    for (auto& named_one : named_) {
      const auto is_it = [&](const auto& message) { return message.id == named_one.id; };
      if (const auto at = std::find_if(found->begin(), found->end(), is_it); at != found->end())
        named_one.message = *at;
      named_one.matches = std::any_of(matching->begin(), matching->end(), is_it);
    }
  }

  // Why the verb has nothing to do there; empty: it has.
  const char* reason_of(const Named& named) const {
    if (!named.message)
      return "gone";
    if (!named.matches)
      return "no match";
    const auto& recipients = named.message->recipients;
    const auto all = [&](queue::RecipientState state) {
      return std::all_of(recipients.begin(), recipients.end(),
                         [&](const auto& one) { return one.state == state; });
    };
    const bool is_active = named.message->status == "active";
    if (verb_ != queue::Verb::remove && all(queue::RecipientState::bouncing))
      return is_active ? "bouncing and active" : "bouncing";
    if (verb_ == queue::Verb::hold && all(queue::RecipientState::held))
      return is_active ? "held and active" : "held";
    if (verb_ == queue::Verb::hold)
      return "";
    if (verb_ == queue::Verb::retry && is_active && all(queue::RecipientState::held))
      return "held and active";
    if (verb_ != queue::Verb::remove && is_damaged(*named.message))
      return "damaged";
    const bool waits_for_release =
        std::any_of(recipients.begin(), recipients.end(), [](const auto& one) {
          return one.state == queue::RecipientState::held || one.paused || is_unreleased(one);
        });
    if (verb_ != queue::Verb::release || waits_for_release)
      return "";
    return named.message->status == "active" ? "active" : "not held";
  }
  static bool is_damaged(const queue::ListedMessage& message) {
    return std::any_of(message.recipients.begin(), message.recipients.end(), [](const auto& one) {
      return one.state == queue::RecipientState::held && one.last &&
             one.last->text.starts_with(queue::kQuarantined);
    });
  }
  static bool is_unreleased(const queue::ListedRecipient& recipient) {
    return recipient.attempts == 0 && recipient.last &&
           recipient.last->text.starts_with(queue::kKeptForSender);
  }

  void add_unchanged(const Named& named, std::string& out) const {
    const std::string why = reason_of(named);
    if (why.empty())
      return;
    json::object object;
    object["queue_id"] = to_string(named.id);
    object["status"] = named.message ? named.message->status : "";
    object["why"] = why;
    if (why == "damaged")
      for (const auto& recipient : named.message->recipients)
        if (recipient.last)
          object["reason"] = json_text(recipient.last->text);
    add_line("unchanged", std::move(object), out);
  }

  // Which orders end the pauses that keep what was picked.
  static void add_resumes(const queue::Changed& changed, std::string& out) {
    auto pauses = changed.pauses;
    std::sort(pauses.begin(), pauses.end(), [](const auto& a, const auto& b) {
      return std::tie(a.of, a.name) < std::tie(b.of, b.name);
    });
    json::array orders;
    for (const auto& pause : pauses)
      orders.emplace_back(json_text(resume_order(pause)));
    json::object object;
    object["orders"] = std::move(orders);
    add_line("resume", std::move(object), out);
  }

  JobContext context_;
  queue::Verb verb_;
  queue::Filter filter_;
  bool dry_run_;
  std::string next_hop_;
  std::vector<Named> named_;
  std::optional<Awaited<queue::Changed>> answer_;
};

class StatusJob : public ControlJob {
 public:
  StatusJob(const JobContext& context, std::size_t most_sites)
      : context_(context), most_sites_(most_sites) {}

  bool step(std::string& out) override {
    const auto totals = context_.queue.totals();
    json::object status;
    if (context_.insight != nullptr)
      status = context_.insight->status();
    status["version"] = version();
    status["running"] = context_.insight != nullptr;
    status["now"] = json_time(context_.clock.now());
    status["started"] = json_time(context_.started);
    status["admission"] = admission();
    if (totals)
      status["queue"] = to_json(*totals);
    else
      add_alarm(status, unreadable_queue(totals.error()));
    if (takes_none())
      add_alarm(status,
                "no new mail is taken: the storage failed, or the folder body of the spool "
                "is gone or not the daemon's; the log has more of it (storage_failed)");
    const DropListing dropped(context_.drop, context_.queue);
    auto drop = to_json(dropped.totals());
    if (const auto why = dropped.why_all_wait(); !why.empty())
      drop["reason"] = why;
    status["drop_folder"] = std::move(drop);
    if (context_.insight != nullptr)
      add_counters(status, totals ? totals->deferred : 0);
    if (totals)  // else what delivery knows must do
      add_sites(status);
    add_pauses(status);
    add_lost(status);
    add_line("status", std::move(status), out);
    return finish(out);
  }

 private:
  // Where the whole spool is gone, the figures say so as soon as its files are let go.
  bool takes_none() const {
    return context_.insight != nullptr && context_.queue.admission() == queue::Admission::failed &&
           ::access((context_.drop.spool + "/queue.db").c_str(), F_OK) == 0;
  }

  const char* admission() const {
    if (context_.insight == nullptr)
      return "not running";
    switch (context_.queue.ask_admission()) {
      case queue::Admission::open:
        return "open";
      case queue::Admission::disk_low:
        return "no new mail: the disk is nearly full";
      case queue::Admission::failed:
        return "no new mail: the storage failed";
      case queue::Admission::stopping:
        return "no new mail: stopping";
    }
    return "unknown";
  }

  // The one screen that tells what is wrong comes whatever is wrong.
  static void add_alarm(json::object& status, const std::string& sentence) {
    auto& alarms = status["alarms"];
    if (!alarms.is_array())
      alarms = json::array();
    alarms.as_array().emplace_back("ALARM: " + sentence);
  }

  // Until somebody has read the files and taken them away.
  void add_lost(json::object& status) const {
    const auto folder = context_.drop.spool + "/lost";
    const auto files = context_.drop.spool.empty() ? 0 : files_in(folder);
    if (files > 0)
      add_alarm(status, std::to_string(files) + (files == 1 ? " file" : " files") + " in " +
                            folder +
                            ", with mail that damage of the queue made nobody's, or word of what "
                            "is gone: read them, then remove them");
  }

  void add_pauses(json::object& status) {
    const auto pauses = context_.queue.pauses();
    json::array paused;
    for (const auto& pause : pauses ? *pauses : std::vector<queue::Pause>()) {
      paused.push_back(to_json(pause));
      add_alarm(status, pause_sentence(pause));
    }
    status["paused"] = std::move(paused);
  }

  void add_counters(json::object& status, std::uint64_t deferred) {
    status["since_start"] = counters(context_.queue.counters());
    const auto& timings = context_.queue.timings();
    add_histogram(status, "accept_seconds", timings.accept);
    add_histogram(status, "commit_seconds", timings.commit);
    add_histogram(status, "commit_changes", timings.batch);
    add_log(status);
    const auto recent = context_.queue.recent();
    status["last_minute"] = counters(recent.minute);
    status["last_hour"] = counters(recent.hour);
    const auto& hour = recent.hour;
    if (deferred > 0 && hour.delivered == 0 && hour.deferrals + hour.untried >= kManyDeferrals)
      add_alarm(status, "everything is deferred: nothing was delivered in the last hour, " +
                            std::to_string(hour.deferrals) + " attempts failed, and " +
                            std::to_string(hour.untried) +
                            " recipients came to wait untried for a site in trouble: "
                            "`postrider queue summary --by reason`");
  }

  void add_log(json::object& status) {
    const auto& figures = context_.queue.timings().log;
    add_histogram(status, "checkpoint_seconds", figures.checkpoint);
    json::object log;
    log["pages"] = figures.pages.load(std::memory_order_relaxed);
    log["pages_written"] = figures.written.load(std::memory_order_relaxed);
    log["checkpoints_unfinished"] = figures.unfinished.load(std::memory_order_relaxed);
    std::error_code none;
    const auto size = std::filesystem::file_size(context_.drop.spool + "/queue.db-wal", none);
    log["bytes"] = none ? 0 : size;
    status["database_log"] = std::move(log);
  }

  static json::object counters(const queue::Queue::Counters& counted) {
    json::object object;
    object["accepted"] = counted.accepted;
    object["delivered"] = counted.delivered;
    object["bounced"] = counted.bounced;
    object["removed"] = counted.removed;
    object["deferrals"] = counted.deferrals;
    object["untried"] = counted.untried;
    object["commits"] = counted.commits;
    return object;
  }

  // All, or those with most recipients: who asks each second for figures needs no thousands of
  // sentences.
  void add_sites(json::object& status) {
    auto troubled = context_.queue.sites();
    std::erase_if(troubled, [](const queue::SiteState& site) { return site.failures == 0; });
    status["sites_in_trouble_count"] = troubled.size();
    if (troubled.size() > most_sites_) {
      std::partial_sort(
          troubled.begin(), troubled.begin() + static_cast<std::ptrdiff_t>(most_sites_),
          troubled.end(), [](const queue::SiteState& a, const queue::SiteState& b) {
            return a.recipients != b.recipients ? a.recipients > b.recipients : a.site < b.site;
          });
      troubled.resize(most_sites_);
    }
    json::array listed;
    for (const auto& site : troubled) {
      auto object = to_json(site);
      object["recipients"] = site.recipients;
      listed.push_back(std::move(object));
    }
    status["sites_in_trouble"] = std::move(listed);
  }

  JobContext context_;
  const std::size_t most_sites_;
};

}  // namespace

queue::Actor actor_of(unsigned uid) {
  passwd entry{};
  passwd* found = nullptr;
  std::string room(16384, '\0');
  const bool is_known =
      ::getpwuid_r(uid, &entry, room.data(), room.size(), &found) == 0 && found != nullptr;
  return {uid, is_known ? found->pw_name : ""};
}

void add_reasons(StatusSource* insight, std::vector<queue::ListedMessage>& messages) {
  if (insight == nullptr)
    return;
  const auto lacks_one = [](const queue::ListedRecipient& recipient) {
    return !recipient.last && recipient.state == queue::RecipientState::queued;
  };
  std::unordered_map<std::string, std::size_t> asked;  // domains, and hosts mail was rerouted to
  const auto key_of = [](const queue::ListedRecipient& recipient) {
    return recipient.next_hop.empty() ? recipient.domain : recipient.next_hop;
  };
  std::vector<std::string> addresses;
  for (const auto& message : messages)
    for (const auto& recipient : message.recipients)
      if (lacks_one(recipient) && asked.try_emplace(key_of(recipient), addresses.size()).second)
        addresses.push_back(recipient.next_hop.empty() ? recipient.address : recipient.next_hop);
  if (addresses.empty())
    return;
  const auto reasons = insight->reasons(addresses);
  for (auto& message : messages)
    for (auto& recipient : message.recipients) {
      if (!lacks_one(recipient))
        continue;
      const auto& reason = reasons.at(asked.at(key_of(recipient)));
      if (reason.empty())
        continue;
      recipient.last.emplace();
      recipient.last->status = {4, 4, 7};
      recipient.last->text = reason;
    }
}

std::unique_ptr<ControlJob> list_job(const JobContext& context, const ControlRequest& request) {
  auto filter = to_filter(request.filter);
  if (!filter)
    return refused_job(EX_USAGE, filter.error().step());
  return std::make_unique<ListJob>(context, std::move(*filter));
}

std::unique_ptr<ControlJob> count_job(const JobContext& context, const ControlRequest& request) {
  auto filter = to_filter(request.filter);
  if (!filter)
    return refused_job(EX_USAGE, filter.error().step());
  return std::make_unique<CountJob>(context, std::move(*filter));
}

std::unique_ptr<ControlJob> change_job(const JobContext& context, const ControlRequest& request) {
  const auto verb = to_verb(request.verb);
  if (!verb)
    return refused_job(EX_USAGE, "\"" + escaped(request.verb, 40) + "\" is not a change");
  auto filter = to_filter(request.filter);
  if (!filter)
    return refused_job(EX_USAGE, filter.error().step());
  if (is_of_drop_folder(*filter))
    return refused_job(EX_USAGE, "what lies in the drop folder is not in the queue yet");
  // A forgotten filter must not empty the queue.
  if (request.filter.matches_all() && !request.all && *verb != queue::Verb::retry)
    return refused_job(EX_USAGE, request.verb + " without a filter needs --all");
  std::string next_hop;
  if (*verb == queue::Verb::reroute) {
    auto host = to_next_hop(request.next_hop);
    if (!host)
      return refused_job(EX_USAGE, host.error().step());
    next_hop = *std::move(host);
  }
  return std::make_unique<ChangeJob>(context, *verb, std::move(*filter), request.dry_run,
                                     std::move(next_hop));
}

std::unique_ptr<ControlJob> status_job(const JobContext& context, const ControlRequest& request) {
  const auto most = parse_unsigned(request.limit);
  return std::make_unique<StatusJob>(context,
                                     most ? *most : std::numeric_limits<std::size_t>::max());
}

}  // namespace postrider::daemon
