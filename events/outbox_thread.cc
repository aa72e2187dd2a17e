#include "events/outbox_thread.h"

#include "events/backlog.h"
#include "events/event_fields.h"
#include "events/from_log.h"

#include <algorithm>
#include <iterator>
#include <mutex>
#include <optional>
#include <pthread.h>
#include <thread>
#include <utility>

namespace postrider::events {

namespace {

constexpr std::size_t kMostInBatch = 1024;
constexpr std::uint64_t kBytesBeforeCheckpoint = 4U << 20U;
constexpr std::size_t kMostOwn = 64;

// An event takes a kilobyte of fields, most of them empty; a fact is what it says.
struct Posted {
  std::unique_ptr<CloudEvent> event;
  queue::Fact fact;

  // About what it takes.
  std::size_t size() const {
    if (!event)
      return sizeof *this + fact.bytes.size();
    std::size_t size = sizeof *this + sizeof *event;
    for (const auto& field : fields())
      size += ((*event).*field.value).size();
    return size + event->from.size();
  }
};

}  // namespace

struct OutboxThread::State {
  State(OutboxThreadSettings settings_, const Clock& clock_, Log& log_)
      : settings(std::move(settings_)),
        clock(clock_),
        log(log_),
        backlog(settings.most_waiting, settings.most_bytes) {}

  OutboxThreadSettings settings;  // limits and readers: under the lock
  const Clock& clock;
  Log& log;
  Backlog<Posted> backlog;

  mutable std::mutex mutex;
  bool is_suspected = false;  // somebody has seen damage
  Counters counters;

  // Of the thread alone, the outbox too.
  std::optional<Outbox> outbox;
  std::vector<CloudEvent> batch;
  std::size_t taken = 0;        // into the batch: some become no event
  std::int64_t batch_fact = 0;  // the newest in it
  std::vector<CloudEvent> own;  // of the outbox itself: losses, and its alarm
  std::uint64_t lost_told = 0;
  bool is_failing = false;
  std::uint64_t unsettled = 0;
  std::uint64_t unread = 0;  // by somebody, when the outbox was closed
  SteadyTime next_trim;
  std::thread thread;

  void run();
  bool take_batch();
  void take(Posted one);
  void tell(LogEvent line);
  void look_at_outbox();
  void close_if_suspected();
  void close();
  bool write_batch();
  bool open();
  void failed(const Error& error);
  void succeeded();
  void tell_losses(bool is_end);
  void trim();
  std::uint64_t read_by_all() const;
  void end_batch(std::size_t written, std::size_t lost);
};

OutboxThread::OutboxThread(OutboxThreadSettings settings, const Clock& clock, Log& log)
    : state_(std::make_unique<State>(std::move(settings), clock, log)) {
  state_->thread = std::thread([state = state_.get()] { state->run(); });
  pthread_setname_np(state_->thread.native_handle(), "events");
}

OutboxThread::~OutboxThread() {
  stop();
}

void OutboxThread::post(CloudEvent event) {
  Posted one{std::make_unique<CloudEvent>(std::move(event)), {}};
  const auto size = one.size();
  state_->backlog.post(std::move(one), size);
}

// After a stop they come again from the queue, at the next start.
void OutboxThread::post(std::vector<queue::Fact> facts) {
  for (auto& fact : facts) {
    Posted one{nullptr, std::move(fact)};
    const auto size = one.size();
    state_->backlog.post(std::move(one), size, Backlog<Posted>::AfterStop::left);
  }
}

void OutboxThread::suspect_damage() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->is_suspected = true;
  }
  state_->backlog.wake();
}

void OutboxThread::reconfigure(OutboxLimits limits, std::vector<std::string> readers) {
  const std::lock_guard lock(state_->mutex);
  state_->settings.limits = limits;
  state_->settings.readers = std::move(readers);
}

bool OutboxThread::flush(Duration limit) {
  return state_->backlog.flush(limit);
}

void OutboxThread::stop() {
  state_->backlog.stop();
  if (state_->thread.joinable())
    state_->thread.join();
}

OutboxThread::Counters OutboxThread::counters() const {
  const std::lock_guard lock(state_->mutex);
  auto counters = state_->counters;
  counters.waiting = state_->backlog.waiting();
  counters.lost = state_->backlog.lost();
  return counters;
}

void OutboxThread::State::run() {
  while (take_batch()) {
    close_if_suspected();
    const bool done = write_batch();
    tell_losses(false);
    if (done && outbox && clock.steady() >= next_trim)
      trim();
    if (done)
      continue;
    if (backlog.is_stopping())
      break;
    backlog.pause(settings.again);
  }
  // Facts are not lost: the queue has them still.
  taken += backlog.take(SIZE_MAX, [this](Posted one) {
    if (one.event)
      batch.push_back(std::move(*one.event));
  });
  std::erase_if(batch, [](const auto& event) { return event.fact != 0; });
  end_batch(0, batch.size());
  tell_losses(true);
}

// False: all is written, and it is time to go.
bool OutboxThread::State::take_batch() {
  if (batch.empty())
    backlog.wait(1, settings.trim_every);
  backlog.take(kMostInBatch - std::min(kMostInBatch, taken),
               [this](Posted one) { take(std::move(one)); });
  return taken > 0 || !backlog.is_stopping();
}

// A fact that cannot be read is passed over: the queue's database counts as hostile.
void OutboxThread::State::take(Posted one) {
  ++taken;
  if (one.event)
    return batch.push_back(std::move(*one.event));
  batch_fact = one.fact.number;
  if (auto event = event_of(one.fact))
    batch.push_back(*std::move(event));
}

// To the log, and as an event, behind what is being written.
void OutboxThread::State::tell(LogEvent line) {
  line.when = clock.now();
  if (auto event = event_of(line); event && own.size() < kMostOwn)
    own.push_back(*std::move(event));
  log.write(std::move(line));
}

// For status.
void OutboxThread::State::look_at_outbox() {
  const std::lock_guard lock(mutex);
  counters.last = outbox->last();
  counters.outbox = outbox->name();
  counters.error.clear();
}

// A connection keeps pages in its cache that are damaged on the disk: a new one sees them.
void OutboxThread::State::close_if_suspected() {
  const bool is_doubtful = [&] {
    const std::lock_guard lock(mutex);
    return is_suspected;
  }();
  if (is_doubtful)
    close();
}

void OutboxThread::State::close() {
  if (outbox)
    unread = outbox->last() - std::min(outbox->last(), read_by_all());
  outbox.reset();
}

bool OutboxThread::State::write_batch() {
  if (outbox && outbox->is_replaced())
    failed(Error(Errc::corrupt, settings.path + " is gone, or another file"));
  if (!outbox && !open())
    return false;
  std::move(own.begin(), own.end(), std::back_inserter(batch));
  own.clear();
  const auto before = outbox->bytes();
  if (!batch.empty()) {
    if (auto written = outbox->append(batch); !written) {
      failed(written.error());
      return false;
    }
    succeeded();
    look_at_outbox();
  }
  unsettled += outbox->bytes() - before;
  if (batch_fact != 0 && settings.on_settled)
    settings.on_settled(batch_fact);
  if (!batch.empty() && settings.on_written)
    settings.on_written();
  end_batch(taken, 0);
  if (unsettled < kBytesBeforeCheckpoint)
    return true;
  unsettled = 0;
  if (auto done = outbox->checkpoint(); !done)
    failed(done.error());
  return true;
}

void OutboxThread::State::end_batch(std::size_t written, std::size_t lost) {
  {
    const std::lock_guard lock(mutex);
    counters.written += written;
  }
  backlog.end(std::exchange(taken, 0), lost);
  batch_fact = 0;
  batch.clear();
}

bool OutboxThread::State::open() {
  bool is_doubtful = false;
  const auto limits = [&] {
    const std::lock_guard lock(mutex);
    is_doubtful = std::exchange(is_suspected, false);
    return settings.limits;
  }();
  auto opened = Outbox::open(settings.path, settings.source, limits, settings.vfs,
                             is_doubtful ? Outbox::Check::all : Outbox::Check::some);
  if (!opened) {
    failed(opened.error());
    return false;
  }
  outbox.emplace(*std::move(opened));
  look_at_outbox();
  return true;
}

// Once in a row of failures it is logged. The connection is made again: what SQLite thinks of a
// file after an error of the disk may be wrong.
void OutboxThread::State::failed(const Error& error) {
  {
    const std::lock_guard lock(mutex);
    ++counters.failures;
    counters.error = error.describe();
  }
  close();
  if (is_damaged(error)) {
    const auto aside = KeptDatabase::set_aside(settings.path);
    log.write(LogEvent(Level::error, "events_damaged")
                  .add("reason", error.describe())
                  .add("kept", aside ? settings.path + ".damaged" : aside.error().describe()));
    LogEvent gap(Level::error, "events_lost");
    if (unread > 0)
      gap.add("count", std::to_string(std::exchange(unread, 0)));
    tell(std::move(gap.add("reason", "the outbox was damaged; what sinks had not taken is gone")));
  } else if (!is_failing) {
    tell(LogEvent(Level::error, "events_not_written").add("reason", error.describe()));
  }
  is_failing = true;
}

void OutboxThread::State::succeeded() {
  if (std::exchange(is_failing, false))
    tell(LogEvent(Level::info, "events_written_again"));
}

// All that were lost in a row of failures, once it is over.
void OutboxThread::State::tell_losses(bool is_end) {
  if (is_failing && !is_end)
    return;
  const auto lost = backlog.lost();
  if (lost == lost_told)
    return;
  tell(LogEvent(Level::error, "events_lost")
           .add("count", lost - lost_told)
           .add("reason", "they could not be written in time"));
  lost_told = lost;
}

// A reader that has not begun holds all back.
std::uint64_t OutboxThread::State::read_by_all() const {
  std::uint64_t least = outbox->last();
  const auto readers = [&] {
    const std::lock_guard lock(mutex);
    return settings.readers;
  }();
  for (const auto& path : readers) {
    const auto position = read_position(path);
    const bool counts = position && position->outbox == outbox->name();
    least = std::min(least, counts ? position->sequence : 0);
  }
  return readers.empty() ? 0 : least;
}

void OutboxThread::State::trim() {
  next_trim = clock.steady() + settings.trim_every;
  {
    const std::lock_guard lock(mutex);
    outbox->limit(settings.limits);
  }
  const auto lost = outbox->trim(read_by_all(), clock.now());
  if (!lost)
    return failed(lost.error());
  if (*lost == 0)
    return;
  {
    const std::lock_guard lock(mutex);
    counters.trimmed += *lost;
  }
  tell(LogEvent(Level::error, "events_lost")
           .add("count", *lost)
           .add("reason",
                "too old, too much, or more than a nearly full disk has room for; not yet read by "
                "all"));
}

}  // namespace postrider::events
