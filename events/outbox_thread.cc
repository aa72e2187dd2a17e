#include "events/outbox_thread.h"

#include "events/event_fields.h"
#include "events/from_log.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace postrider::events {

namespace {

constexpr std::size_t kMostInBatch = 1024;
constexpr std::uint64_t kBytesBeforeCheckpoint = 4U << 20U;
constexpr std::size_t kMostOwn = 64;
// Behind a batch, so that under load the next one is larger: each costs a sync, which the queue's own
// would wait for. The queue keeps the facts until they are here.
constexpr Duration kGather{25};

}  // namespace

std::size_t WaitingEvent::size() const {
  if (!event)
    return sizeof *this + fact.bytes.size();
  std::size_t size = sizeof *this + sizeof *event;
  for (const auto& field : fields())
    size += ((*event).*field.value).size();
  return size + event->from.size();
}

OutboxThread::OutboxThread(OutboxThreadSettings settings, const Clock& clock, Log& log)
    : StoreThread({settings.path, settings.most_waiting, settings.most_bytes, settings.again,
                   settings.trim_every, kBytesBeforeCheckpoint},
                  clock, log),
      settings_(std::move(settings)) {
  begin("events", 0);
}

OutboxThread::~OutboxThread() {
  stop();
}

void OutboxThread::post(CloudEvent event) {
  WaitingEvent one{std::make_unique<CloudEvent>(std::move(event)), {}};
  const auto size = one.size();
  backlog_.post(std::move(one), size);
}

// After a stop they come again from the queue, at the next start.
void OutboxThread::post(std::vector<queue::Fact> facts) {
  for (auto& fact : facts) {
    WaitingEvent one{nullptr, std::move(fact)};
    const auto size = one.size();
    backlog_.post(std::move(one), size, Backlog<WaitingEvent>::AfterStop::left);
  }
}

void OutboxThread::reconfigure(OutboxLimits limits, std::vector<std::string> readers) {
  const std::lock_guard lock(mutex_);
  settings_.limits = limits;
  settings_.readers = std::move(readers);
}

OutboxThread::Counters OutboxThread::counters() const {
  Counters counters;
  {
    const std::lock_guard lock(mutex_);
    counters = of_outbox_;
  }
  static_cast<StoreCounters&>(counters) = store_counters();
  return counters;
}

// Facts are not lost: the queue has them still.
void OutboxThread::give_up() {
  taken_ += backlog_.take(SIZE_MAX, [this](WaitingEvent one) {
    if (one.event)
      batch_.push_back(std::move(*one.event));
  });
  const auto lost = std::count_if(batch_.begin(), batch_.end(),
                                  [](const auto& event) { return event.fact == 0; });
  backlog_.end(std::exchange(taken_, 0), static_cast<std::size_t>(lost));
  batch_.clear();
}

bool OutboxThread::take_batch() {
  if (batch_.empty()) {
    const bool is_urgent = backlog_.wait(1, settings_.trim_every);
    if (const auto now = clock_.steady(); !is_urgent && now < next_batch_)
      backlog_.wait(kMostInBatch, std::chrono::ceil<Duration>(next_batch_ - now));
  }
  backlog_.take(kMostInBatch - std::min(kMostInBatch, taken_),
                [this](WaitingEvent one) { take(std::move(one)); });
  return taken_ > 0 || !backlog_.is_stopping();
}

// A fact that cannot be read is passed over: the queue's database counts as hostile.
void OutboxThread::take(WaitingEvent one) {
  ++taken_;
  if (one.event)
    return batch_.push_back(std::move(*one.event));
  batch_fact_ = one.fact.number;
  if (auto event = event_of(one.fact))
    batch_.push_back(*std::move(event));
}

// To the log, and as an event, behind what is being written.
void OutboxThread::report(LogEvent line) {
  line.when = clock_.now();
  if (auto event = event_of(line); event && own_.size() < kMostOwn)
    own_.push_back(*std::move(event));
  log_.write(std::move(line));
}

// For status.
void OutboxThread::look_at_outbox() {
  {
    const std::lock_guard lock(mutex_);
    of_outbox_.last = outbox_->last();
    of_outbox_.outbox = outbox_->name();
  }
  clear_error();
}

void OutboxThread::close_store() {
  if (outbox_)
    unread_ = outbox_->last() - std::min(outbox_->last(), read_by_all());
  outbox_.reset();
}

bool OutboxThread::write_batch() {
  // A connection keeps pages in its cache that are damaged on the disk: a new one sees them.
  if (is_suspected())
    close_store();
  if (outbox_ && outbox_->is_replaced())
    failed(Error(Errc::corrupt, settings_.path + " is gone, or another file"));
  if (!outbox_ && !open_store())
    return false;
  std::move(own_.begin(), own_.end(), std::back_inserter(batch_));
  own_.clear();
  const auto before = outbox_->bytes();
  if (!batch_.empty()) {
    if (auto written = outbox_->append(batch_); !written) {
      failed(written.error());
      return false;
    }
    succeeded();
    look_at_outbox();
  }
  const auto bytes = outbox_->bytes() - before;
  if (batch_fact_ != 0 && settings_.on_settled)
    settings_.on_settled(batch_fact_);
  if (!batch_.empty() && settings_.on_written)
    settings_.on_written();
  end_batch(taken_, taken_);
  taken_ = 0;
  batch_fact_ = 0;
  batch_.clear();
  next_batch_ = clock_.steady() + kGather;
  settle(bytes);
  return true;
}

bool OutboxThread::open_store() {
  const bool is_doubtful = take_suspicion();
  const auto limits = [&] {
    const std::lock_guard lock(mutex_);
    return settings_.limits;
  }();
  auto opened = Outbox::open(settings_.path, settings_.source, limits, settings_.vfs,
                             is_doubtful ? Outbox::Check::all : Outbox::Check::some);
  if (!opened) {
    failed(opened.error());
    return false;
  }
  outbox_.emplace(*std::move(opened));
  look_at_outbox();
  return true;
}

void OutboxThread::report_damage(const Error& error, const Result<void>& set_aside) {
  log_.write(
      LogEvent(Level::error, "events_damaged")
          .add("reason", error.describe())
          .add("kept", set_aside ? settings_.path + ".damaged" : set_aside.error().describe()));
  LogEvent gap(Level::error, "events_lost");
  if (unread_ > 0)
    gap.add("count", std::to_string(std::exchange(unread_, 0)));
  report(std::move(gap.add("reason", "the outbox was damaged; what sinks had not taken is gone")));
}

void OutboxThread::report_failure(const Error& error) {
  report(LogEvent(Level::error, "events_not_written").add("reason", error.describe()));
}

void OutboxThread::report_recovery() {
  report(LogEvent(Level::info, "events_written_again"));
}

void OutboxThread::report_lost(std::uint64_t count) {
  report(LogEvent(Level::error, "events_lost")
             .add("count", count)
             .add("reason", "they could not be written in time"));
}

// A reader that has not begun holds all back.
std::uint64_t OutboxThread::read_by_all() const {
  std::uint64_t least = outbox_->last();
  const auto readers = [&] {
    const std::lock_guard lock(mutex_);
    return settings_.readers;
  }();
  for (const auto& path : readers) {
    const auto position = read_position(path);
    const bool counts = position && position->outbox == outbox_->name();
    least = std::min(least, counts ? position->sequence : 0);
  }
  return readers.empty() ? 0 : least;
}

void OutboxThread::trim() {
  next_trim_ = clock_.steady() + settings_.trim_every;
  {
    const std::lock_guard lock(mutex_);
    outbox_->limit(settings_.limits);
  }
  const auto lost = outbox_->trim(read_by_all(), clock_.now());
  if (!lost)
    return failed(lost.error());
  if (*lost == 0)
    return;
  {
    const std::lock_guard lock(mutex_);
    of_outbox_.trimmed += *lost;
  }
  report(
      LogEvent(Level::error, "events_lost")
          .add("count", *lost)
          .add("reason",
               "too old, too much, or more than a nearly full disk has room for; not yet read by "
               "all"));
}

}  // namespace postrider::events
