#include "daemon/mail_trace.h"

namespace postrider::daemon {

namespace {

// As for events: mail is refused below one and a half of the largest message.
events::TraceLimits trace_limits_of(const Config& config) {
  events::TraceLimits limits;
  limits.keep = config.trace.keep;
  limits.size = config.trace.size;
  limits.room = 3 * config.accept.message_size;
  return limits;
}

}  // namespace

MailTrace::MailTrace(const Clock& clock, events::EventLog& told, std::string spool)
    : clock_(clock), told_(told), path_(std::move(spool) + "/trace.db") {}

MailTrace::~MailTrace() {
  stop();
}

// The thread is there even if nothing is to be remembered: it takes away what was.
void MailTrace::adopt(const Config& config) {
  const auto limits = trace_limits_of(config);
  const std::lock_guard lock(mutex_);
  is_on_ = limits.keep > Duration(0);
  if (!is_on_)
    told_.trace_into(nullptr);
  if (thread_) {
    thread_->reconfigure(limits);
  } else {
    events::TraceThreadSettings settings;
    settings.path = path_;
    settings.limits = limits;
    thread_ = std::make_shared<events::TraceThread>(std::move(settings), clock_, told_);
  }
  if (is_on_)
    told_.trace_into(thread_.get());
}

void MailTrace::stop() {
  told_.trace_into(nullptr);
  const std::lock_guard lock(mutex_);
  if (thread_)
    thread_->stop();
}

bool MailTrace::is_on() const {
  const std::lock_guard lock(mutex_);
  return is_on_;
}

void MailTrace::settle() const {
  constexpr Duration kMoment{1000};
  const auto thread = [this] {
    const std::lock_guard lock(mutex_);
    return thread_;
  }();
  if (thread)
    thread->flush(kMoment);
}

void MailTrace::suspect_damage() const {
  const std::lock_guard lock(mutex_);
  if (thread_)
    thread_->suspect_damage();
}

events::TraceThread::Counters MailTrace::counters() const {
  const std::lock_guard lock(mutex_);
  return thread_ ? thread_->counters() : events::TraceThread::Counters();
}

}  // namespace postrider::daemon
