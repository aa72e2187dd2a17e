// `postrider trace`: what became of mail, from the trace and, of what is still here, the queue.
//
//   {"trace":{"id":"..."}}      a message begins
//   {"event":{...}}             a step of it; of refused mail, without such a beginning
//   {"message":{...}}           it is in the queue still: as a listing has it
//   {"more":true}               there is more than was asked for
#include "events/trace_reader.h"

#include "base/text.h"
#include "daemon/control/awaited.h"
#include "daemon/control/control_jobs.h"
#include "daemon/control/control_json.h"

#include <algorithm>
#include <optional>
#include <sysexits.h>
#include <unordered_set>

namespace postrider::daemon {

namespace {

using events::TraceLane;
using events::TraceQuery;
using events::TraceReader;
using events::TraceSearch;
using events::TraceStory;

constexpr std::uint64_t kUsualLimit = 100;
constexpr std::uint64_t kMostMessages = 100'000;
// A step of the job takes so long, about, and gives so much.
constexpr Duration kSlice{20};
constexpr std::size_t kMostSteps = 500;
constexpr std::size_t kPage = 25;

std::string trace_path(const JobContext& context) {
  return context.drop.spool + "/trace.db";
}

class TraceJob : public ControlJob {
 public:
  TraceJob(const JobContext& context, TraceQuery query, std::uint64_t limit)
      : context_(context), query_(std::move(query)), limit_(limit) {}

  bool step(std::string& out) override {
    if (!reader_)
      return begin(out);
    if (!stories_.empty())
      return tell_on(out);
    if (is_full() && !is_over_)
      return look_for_more(out);
    if (search_)
      return search_on(out);
    if (asks_queue_)
      return list_on(out);
    return end(out);
  }
  bool is_long() const override { return true; }

 private:
  // A message of the answer.
  struct Story {
    std::string id;
    bool is_whole = false;  // it was found by its Message-ID: all recipients belong to it
    std::optional<TraceStory> steps;
    std::optional<queue::ListedMessage> queued;
    bool is_listed = false;  // `queued` is what the queue says of it
    bool has_begun = false;
    bool is_found = false;  // a step of it is what is asked for
  };

  bool is_full() const { return told_ >= limit_; }

  bool begin(std::string& out) {
    if (context_.insight != nullptr && !context_.insight->keeps_trace())
      return fail(EX_UNAVAILABLE, "this daemon remembers no mail that is gone: [trace] keep is 0",
                  out);
    if (context_.insight != nullptr)
      context_.insight->settle_trace();
    auto reader = TraceReader::open(trace_path(context_));
    if (!reader)
      return failed(reader.error(), out);
    reader_.emplace(*std::move(reader));
    auto segments = reader_->segments(TraceLane::mail);
    if (!segments)
      return failed(segments.error(), out);
    segments_ = *std::move(segments);
    // Refused mail is in no queue, and the queue does not know a Message-ID.
    asks_queue_ = !query_.rejected && query_.id.empty() && (!query_.any || has_address());
    if (query_.id.empty())
      search_.emplace(*reader_, query_);
    else
      add_story(query_.id, true);
    return true;
  }

  bool has_address() const { return query_.any->find('@') != std::string::npos; }

  bool failed(const Error& error, std::string& out) {
    if (error.code() == Errc::not_found && context_.insight != nullptr)
      return fail(EX_NOINPUT, "no such mail is known; the trace is empty so far", out);
    if (error.code() == Errc::not_found)
      return fail(EX_UNAVAILABLE,
                  "nothing is remembered of mail that is gone: there is no " +
                      trace_path(context_) + " yet",
                  out);
    if (context_.insight != nullptr && events::is_damaged(error))
      context_.insight->suspect_trace();
    return fail(EX_IOERR, "the trace cannot be read: " + error.describe(), out);
  }

  void add_story(const std::string& id, bool is_whole) {
    Story story;
    story.id = id;
    story.is_whole = is_whole;
    stories_.push_back(std::move(story));
  }

  bool search_on(std::string& out) {
    std::vector<queue::FactLine> found;
    // The first page is short, so that it is on the screen at once.
    const auto more = search_->next(seen_.empty() ? kPage : kMostSteps, kSlice, found);
    if (!more)
      return failed(more.error(), out);
    for (const auto& step : found) {
      if (query_.rejected)
        tell_refused(step, out);
      else if (seen_.size() < kMostMessages && seen_.insert(step.id).second)
        add_story(step.id, has_message_id(query_, step));
    }
    if (!*more)
      search_.reset();
    // The next in line is printed first.
    std::reverse(stories_.begin(), stories_.end());
    return true;
  }

  void tell_refused(const queue::FactLine& step, std::string& out) {
    if (is_full()) {
      is_cut_ = true;
      return;
    }
    ++told_;
    add_event(step, out);
  }

  static void add_event(const queue::FactLine& step, std::string& out) {
    out.append("{\"event\":").append(events::trace_json(step)).append("}\n");
  }

  // What the queue has of all that are to be told, at once.
  Result<void> ask_queue() {
    queue::Filter filter;
    filter.to = query_.to;
    for (auto& story : stories_)
      if (!std::exchange(story.is_listed, true))
        if (const auto id = mail::parse_message_id(story.id))
          filter.ids.push_back(*id);
    if (filter.ids.empty())
      return {};
    auto listed = context_.queue.list(filter, mail::MessageId{}, filter.ids.size());
    if (!listed)
      return listed.error();
    add_reasons(context_.insight, *listed);
    for (auto& message : *listed)
      for (auto& story : stories_)
        if (equals_ignoring_case(story.id, to_string(message.id)))
          story.queued = std::move(message);
    return {};
  }

  bool tell_on(std::string& out) {
    if (is_full()) {
      stories_.clear();
      is_cut_ = true;
      return true;
    }
    if (auto asked = ask_queue(); !asked)
      return fail(EX_IOERR, unreadable_queue(asked.error()), out);
    const auto before = out.size();
    constexpr std::size_t kMostOctets = 64U << 10U;
    while (!stories_.empty() && !is_full() && out.size() - before < kMostOctets) {
      const auto more = tell(stories_.back(), out);
      if (!more)
        return failed(more.error(), out);
      if (*more)
        break;
      stories_.pop_back();
    }
    return true;
  }

  // True: it goes on.
  Result<bool> tell(Story& story, std::string& out) {
    if (!story.steps) {
      auto found = is_asked_for(story);
      if (!found)
        return found.error();
      if (!*found)
        return false;
      story.steps.emplace(*reader_, story.id, segments_);
    }
    std::vector<queue::FactLine> steps;
    const auto more = story.steps->next(kMostSteps, steps);
    if (!more)
      return more.error();
    if (!story.has_begun && (!steps.empty() || story.queued)) {
      story.has_begun = true;
      // A quick delivery may be told before its client has been answered.
      const auto accepted = std::find_if(steps.begin(), steps.end(),
                                         [](const auto& step) { return step.name == "accepted"; });
      if (accepted != steps.end())
        std::rotate(steps.begin(), accepted, accepted + 1);
      add_line("trace", boost::json::object{{"id", json_text(story.id)}}, out);
    }
    for (const auto& step : steps)
      if (shows(story, step))
        add_event(step, out);
    if (*more)
      return true;
    if (story.queued)
      add_message_line(*story.queued, out);
    told_ += story.has_begun ? 1 : 0;
    return false;
  }

  // With a queue id whatever else is given must hold of a step, or of what is in the queue; a
  // Message-ID stands in one step, an address in another.
  Result<bool> is_asked_for(Story& story) {
    if (query_.id.empty() && !story.is_whole)
      return true;
    auto wanted = query_;
    wanted.any.reset();
    const bool is_waiting =
        story.queued && (!wanted.from || events::is_meant(*wanted.from, story.queued->sender));
    if (is_waiting || (!wanted.from && !wanted.to && !wanted.since))
      return true;
    TraceStory steps(*reader_, story.id, segments_);
    for (bool more = true; more;) {
      std::vector<queue::FactLine> some;
      const auto next = steps.next(kMostSteps, some);
      if (!next)
        return next.error();
      more = *next;
      for (const auto& step : some)
        if (is_match(wanted, step))
          return true;
    }
    return false;
  }

  bool shows(const Story& story, const queue::FactLine& step) const {
    if (!story.is_whole)
      return is_shown(query_, step);
    auto wanted = query_;
    wanted.any.reset();
    return is_shown(wanted, step);
  }

  // Whether there is anything behind the last that was wanted.
  bool look_for_more(std::string& out) {
    std::vector<queue::FactLine> found;
    bool more = false;
    if (search_ && !is_cut_) {
      const auto next = search_->next(kPage, kSlice, found);
      if (!next)
        return failed(next.error(), out);
      more = *next;
    }
    is_cut_ = is_cut_ || std::any_of(found.begin(), found.end(), [&](const auto& step) {
                return query_.rejected || seen_.count(step.id) == 0;
              });
    if (more && !is_cut_)
      return true;
    search_.reset();
    asks_queue_ = false;
    is_over_ = true;
    return true;
  }

  // Mail in the queue of which the trace has no step that matches: nobody has tried it for that
  // recipient yet, or it is older than the trace.
  bool list_on(std::string& out) {
    queue::Filter filter;
    filter.from = query_.from ? std::optional(pattern_for_queue(*query_.from)) : std::nullopt;
    filter.to = query_.to;
    if (query_.any && !is_second_list_)
      filter.to = filter.to ? filter.to : query_.any;
    else if (query_.any)
      filter.from = filter.from ? filter.from : pattern_for_queue(*query_.any);
    auto page = context_.queue.list_on(filter, after_, kPage);
    if (!page)
      return fail(EX_IOERR, unreadable_queue(page.error()), out);
    add_reasons(context_.insight, page->messages);
    for (auto& message : page->messages) {
      const auto id = to_string(message.id);
      if ((query_.since && message.received < *query_.since) || seen_.size() >= kMostMessages ||
          !seen_.insert(id).second)
        continue;
      add_story(id, false);
      stories_.back().queued = std::move(message);
      stories_.back().is_listed = true;
    }
    std::reverse(stories_.begin(), stories_.end());
    after_ = page->after;
    if (!page->is_last)
      return true;
    after_ = mail::MessageId{};
    asks_queue_ = query_.any.has_value() && !std::exchange(is_second_list_, true);
    return true;
  }

  static std::string pattern_for_queue(const std::string& pattern) {
    return pattern.empty() ? "<>" : pattern;
  }

  bool end(std::string& out) {
    if (is_cut_)
      out.append("{\"more\":true}\n");
    if (told_ > 0)
      return finish(out);
    const auto begin = reader_->begin();
    if (!begin)
      return failed(begin.error(), out);
    const std::string what = query_.rejected ? "no such mail was refused" : "no such mail is known";
    return fail(EX_NOINPUT,
                *begin ? what + "; the trace goes back to " + format_rfc3339(**begin)
                       : what + "; the trace is empty so far",
                out);
  }

  JobContext context_;
  TraceQuery query_;
  std::uint64_t limit_;
  std::optional<TraceReader> reader_;
  std::vector<events::TraceSegment> segments_;  // of messages
  std::optional<TraceSearch> search_;           // not at its end
  std::vector<Story> stories_;                  // to be told, the next behind
  std::unordered_set<std::string> seen_;        // queue ids
  std::uint64_t told_ = 0;
  bool is_over_ = false;  // no more is wanted
  bool is_cut_ = false;   // there would be more
  bool asks_queue_ = false;
  bool is_second_list_ = false;  // by sender, where an address may be either
  mail::MessageId after_;
};

Result<std::uint64_t> message_limit_of(const std::string& text) {
  if (text.empty())
    return kUsualLimit;
  const auto limit = parse_unsigned(text);
  if (!limit)
    return Error(Errc::malformed, "--limit: \"" + escaped(text, 40) + "\" is not a number");
  return *limit == 0 ? kMostMessages : std::min(*limit, kMostMessages);
}

}  // namespace

std::unique_ptr<ControlJob> trace_job(const JobContext& context, const ControlRequest& request) {
  events::TraceWords words;
  words.target = request.target;
  words.from = request.filter.from;
  words.to = request.filter.to;
  words.since = request.since;
  words.rejected = request.rejected;
  auto query = events::parse_trace_query(words, context.clock.now());
  if (!query)
    return refused_job(EX_USAGE, query.error().step());
  const auto limit = message_limit_of(request.limit);
  if (!limit)
    return refused_job(EX_USAGE, limit.error().step());
  return std::make_unique<TraceJob>(context, *std::move(query), *limit);
}

}  // namespace postrider::daemon
