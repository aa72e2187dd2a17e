// Pause and resume: first how much that concerns is counted, then it is done.
#include "base/quoted.h"
#include "base/text.h"
#include "daemon/control/awaited.h"
#include "daemon/control/control_filter.h"
#include "daemon/control/control_jobs.h"
#include "daemon/control/control_json.h"

#include <optional>
#include <sysexits.h>

namespace postrider::daemon {

namespace {

namespace json = boost::json;

constexpr Duration kLongestPause{std::chrono::hours(24 * 365)};

struct PauseWish {
  queue::Pause pause;
  queue::Filter filter;  // of the mail that it concerns
  bool dry_run = false;
};

class PauseJob : public ControlJob {
 public:
  PauseJob(const JobContext& context, PauseWish wish) : context_(context), wish_(std::move(wish)) {
    counting_.filter = wish_.filter;
  }
  bool is_long() const override { return true; }

 protected:
  // False: the count goes on, or the answer has its end, which `more` says.
  bool has_counted(std::string& out, bool& more) {
    if (counting_.is_done)
      return true;
    const auto counted = context_.queue.count_on(counting_);
    more = counted ? true : fail(EX_IOERR, unreadable_queue(counted.error()), out);
    return false;
  }
  json::object answer() const {
    auto object = to_json(wish_.pause);
    object.erase("since");
    object["messages"] = counting_.counted.messages;
    object["recipients"] = counting_.counted.recipients;
    object["dry_run"] = wish_.dry_run;
    return object;
  }

  JobContext context_;
  PauseWish wish_;
  std::optional<Awaited<queue::PauseDone>> done_;

 private:
  queue::Counting counting_;
};

class BeginPauseJob : public PauseJob {
 public:
  using PauseJob::PauseJob;
  bool step(std::string& out) override {
    bool more = false;
    if (!has_counted(out, more))
      return more;
    if (wish_.dry_run)
      return give({}, out);
    if (!done_) {
      done_.emplace();
      context_.queue.pause(wish_.pause, done_->setter());
    }
    if (!done_->wait())
      return done_->add_progress(out);
    const auto& done = done_->get();
    if (!done)
      return fail(done.error().code() == Errc::too_long ? EX_UNAVAILABLE : EX_IOERR,
                  done.error().describe(), out);
    return give(*done, out);
  }

 private:
  bool give(const queue::PauseDone& done, std::string& out) {
    auto object = answer();
    if (done.under_way_messages > 0) {
      object["under_way_messages"] = done.under_way_messages;
      object["under_way_recipients"] = done.under_way_recipients;
    }
    add_line("paused", std::move(object), out);
    return finish(out);
  }
};

// What waits of a paused sender was put off, and is made due.
class EndPauseJob : public PauseJob {
 public:
  using PauseJob::PauseJob;
  bool step(std::string& out) override {
    bool more = false;
    if (!has_counted(out, more))
      return more;
    if (!senders_ && !find(out))
      return false;
    if (wish_.dry_run)
      return give(out);
    if (!done_) {
      done_.emplace();
      context_.queue.resume(wish_.pause, done_->setter());
    }
    if (!done_->wait())
      return done_->add_progress(out);
    if (!done_->get())
      return fail(EX_IOERR, done_->get().error().describe(), out);
    return wake(out);
  }

 private:
  // What of it is paused now.
  bool find(std::string& out) {
    const auto pauses = context_.queue.pauses();
    if (!pauses)
      return fail(EX_IOERR, unreadable_queue(pauses.error()), out);
    senders_.emplace();
    for (const auto& pause : *pauses) {
      if (wish_.pause.of != queue::Pause::Of::all &&
          (pause.of != wish_.pause.of || pause.name != wish_.pause.name))
        continue;
      ++ended_;
      if (pause.of == queue::Pause::Of::sender)
        senders_->push_back(pause.name);
    }
    return true;
  }

  bool wake(std::string& out) {
    while (!senders_->empty()) {
      if (!woken_) {
        woken_.emplace();
        queue::Filter filter;
        filter.from = senders_->back();
        context_.queue.change(queue::Verb::retry, std::move(filter), false, woken_->setter(),
                              actor_of(context_.uid));
      }
      if (!woken_->wait())
        return woken_->add_progress(out);
      if (!woken_->get())
        return fail(EX_IOERR, woken_->get().error().describe(), out);
      woken_.reset();
      senders_->pop_back();
    }
    ended_ = done_->get()->ended;
    return give(out);
  }

  bool give(std::string& out) {
    auto object = answer();
    object.erase("until");
    object["ended"] = ended_;
    add_line("resumed", std::move(object), out);
    return finish(out);
  }

  std::size_t ended_ = 0;
  std::optional<std::vector<std::string>> senders_;
  std::optional<Awaited<queue::Changed>> woken_;
};

// The error's step is a sentence.
Result<PauseWish> to_wish(const JobContext& context, const ControlRequest& request) {
  auto filter = to_filter(request.filter);
  if (!filter)
    return filter.error();
  const auto& text = request.filter;
  const int given = (text.domain ? 1 : 0) + (text.from ? 1 : 0) + (request.all ? 1 : 0);
  if (!text.ids.empty() || text.to || text.site || text.status || text.reply || text.older ||
      text.larger || given != 1)
    return Error(Errc::malformed, request.act +
                                      " takes a domain, or --from SENDER, or --all; single "
                                      "messages are held and released");
  PauseWish wish;
  wish.dry_run = request.dry_run;
  wish.pause.of = text.domain ? queue::Pause::Of::domain
                  : text.from ? queue::Pause::Of::sender
                              : queue::Pause::Of::all;
  const auto name = queue::canonical_name(wish.pause.of, text.domain ? *filter->domain
                                                         : text.from ? *filter->from
                                                                     : "");
  if (!name)
    return Error(Errc::malformed,
                 quote_value(text.domain.value_or(""), 100) + " is neither a domain nor a sender");
  wish.pause.name = *name;
  wish.pause.by = actor_of(context.uid);
  if (!request.span.empty()) {
    const auto span = parse_duration(request.span);
    if (!span || *span <= Duration(0) || *span > kLongestPause)
      return Error(Errc::malformed, "--for: " + quote_value(request.span, 40) +
                                        " is not a time such as 90m, 2h or 5d");
    wish.pause.until = context.clock.now() + *span;
  }
  wish.filter = *std::move(filter);
  return wish;
}

template <class Job>
std::unique_ptr<ControlJob> job_of(const JobContext& context, const ControlRequest& request) {
  auto wish = to_wish(context, request);
  if (!wish)
    return refused_job(EX_USAGE, wish.error().step());
  return std::make_unique<Job>(context, *std::move(wish));
}

}  // namespace

std::unique_ptr<ControlJob> pause_job(const JobContext& context, const ControlRequest& request) {
  return job_of<BeginPauseJob>(context, request);
}

std::unique_ptr<ControlJob> resume_job(const JobContext& context, const ControlRequest& request) {
  return job_of<EndPauseJob>(context, request);
}

}  // namespace postrider::daemon
