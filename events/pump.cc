#include "events/pump.h"

#include "events/event_schema.h"

#include <utility>

namespace postrider::events {

namespace {

// As long as there is more: what was taken in that time may come again after a crash.
constexpr Duration kBetweenSaves{250};

}  // namespace

Pump::Pump(PumpSettings settings, Sink& sink, const Clock& clock, Log& log)
    : settings_(std::move(settings)), sink_(sink), clock_(clock), log_(log) {}

Pump::Step Pump::step() {
  const auto page = read();
  if (!page && page.error().code() == Errc::not_found && !reader_)
    return Step::idle;  // the outbox is not made yet
  if (!page) {
    if (settings_.on_damage && is_damaged(page.error()))
      settings_.on_damage();
    return failed(page.error());
  }
  if (page->lost > 0)
    pass_over_lost(*page);
  if (page->events.empty()) {
    if (!reader_->is_replaced()) {
      if (auto saved = save(); !saved)
        return failed(saved.error());
      error_.clear();
      return Step::idle;
    }
    reader_.reset();
    return Step::moved;
  }
  const Position next{page->outbox, page->events.back().sequence};
  const auto events = wanted(*page);
  if (!events.empty()) {
    const auto id = page->outbox + "-" + std::to_string(page->events.front().sequence) + "-" +
                    std::to_string(next.sequence);
    if (auto taken = sink_.deliver(id, events); !taken)
      return failed(taken.error());
  }
  counters_.taken += events.size();
  if (!unsaved_) {
    unsaved_ = position_;
    next_save_ = clock_.steady() + kBetweenSaves;
  }
  // Known even if it cannot be saved: better once more after a crash than twice now.
  position_ = next;
  has_more_ = page->events.size() >= settings_.most;
  if (clock_.steady() >= next_save_)
    if (auto saved = save(); !saved)
      return failed(saved.error());
  error_.clear();
  if (std::exchange(is_failing_, false))
    log_.write(LogEvent(Level::info, "sink_works").add("sink", settings_.name));
  return Step::moved;
}

// A position that cannot be read is none: all that is kept comes again.
Result<OutboxReader::Page> Pump::read() {
  if (!position_) {
    const auto saved = read_position(settings_.position);
    if (!saved && saved.error().code() != Errc::not_found &&
        saved.error().code() != Errc::malformed && saved.error().code() != Errc::too_long)
      return saved.error();
    position_ = saved ? *saved : Position();
  }
  if (!reader_) {
    auto opened = OutboxReader::open(settings_.outbox);
    if (!opened)
      return opened.error();
    reader_.emplace(*std::move(opened));
  }
  auto page = reader_->after(*position_, settings_.most, settings_.most_bytes);
  // From now on what goes before it was taken is lost.
  if (page && position_->outbox != page->outbox && !page->events.empty()) {
    if (auto saved = save(); !saved)
      return saved.error();
    position_ = Position{page->outbox, page->events.front().sequence - 1};
    if (auto saved = save_position(settings_.position, *position_); !saved)
      return saved.error();
  }
  return page;
}

std::vector<std::string> Pump::wanted(const OutboxReader::Page& page) {
  std::vector<std::string> texts;
  for (const auto& stored : page.events) {
    const auto event = decode(stored.text);
    if (!event)
      ++counters_.broken;
    else if (fits(settings_.filter, *event))
      texts.push_back(settings_.view.shows_all() ? stored.text
                                                 : encode(seen_by(settings_.view, *event)));
    else
      ++counters_.passed;
  }
  return texts;
}

// Told once, however long the sink takes nothing of what follows.
void Pump::pass_over_lost(const OutboxReader::Page& page) {
  counters_.lost += page.lost;
  settle();
  position_->sequence += page.lost;
  (void)save_position(settings_.position, *position_);  // else told again after the next start
  log_.write(LogEvent(Level::error, "events_lost")
                 .add("sink", settings_.name)
                 .add("count", page.lost)
                 .add("reason", "too old or too much before the sink took them"));
}

Result<void> Pump::save() {
  if (!unsaved_)
    return {};
  if (auto synced = sink_.sync(); !synced) {
    position_ = std::exchange(unsaved_, std::nullopt);
    return synced;
  }
  if (auto saved = save_position(settings_.position, *position_); !saved)
    return saved;
  unsaved_.reset();
  return {};
}

void Pump::go_to(Position position) {
  settle();
  unsaved_.reset();
  position_ = std::move(position);
}

void Pump::settle() {
  (void)save();  // else it comes again
}

// The outbox may have been set aside for another one: it is opened again.
Pump::Step Pump::failed(const Error& error) {
  settle();
  reader_.reset();
  ++counters_.failures;
  error_ = error.describe();
  if (!std::exchange(is_failing_, true))
    log_.write(LogEvent(Level::error, "sink_failed")
                   .add("sink", settings_.name)
                   .add("reason", error.describe()));
  return Step::failed;
}

}  // namespace postrider::events
