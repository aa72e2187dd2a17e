#include "queue/writer/writer.h"

#include "queue/body_file.h"

#include <algorithm>
#include <pthread.h>

namespace postrider::queue {

namespace {

constexpr Duration kLook = std::chrono::seconds(1);  // at the clock, while mail or a line waits
constexpr Duration kIdle = std::chrono::milliseconds(100);  // then maintenance
constexpr auto kSettled = std::chrono::minutes(1);  // until the log hears that there is room again

Error no_room() {
  return Error(make_error_code(boost::system::errc::no_space_on_device), "store message");
}

}  // namespace

Writer::Writer(Spool& spool, mail::MessageIds& ids, QueueSettings settings, const Clock& clock,
               Log& log)
    : spool_(spool),
      clock_(clock),
      log_(log),
      ledger_(spool, ids, std::move(settings), log),
      keeper_(spool, ids, ledger_, clock, log),
      room_(spool, clock),
      batch_(ledger_, keeper_, ids, clock, log,
             [](const Record& record) { return is_misplaced(record); }),
      lifetime_(ledger_.settings().lifetime.count()),
      bodies_(spool, inbox_, log) {}

Writer::~Writer() {
  stop();
}

Result<void> Writer::open(const char* vfs) {
  keeper_.upkeep().report_to(timings_.log);
  if (auto opened = keeper_.open(vfs); !opened)
    return opened.error();
  if (keeper_.owes_recovery())
    room_.found_full();
  check_room();
  return {};
}

// On the brink it changes with each check: the log hears of it once a minute.
void Writer::check_room() {
  room_.check(ledger_.settings().room_needed, can_store());
  const bool is_low = room_.admission() == Admission::disk_low;
  const auto now = clock_.steady();
  if (is_low == is_low_ || (!is_low && now < low_since_ + kSettled))
    return;
  is_low_ = is_low;
  low_since_ = now;
  if (is_low)
    log_.write(LogEvent(Level::warn, "disk_low")
                   .add("spool", ledger_.settings().spool)
                   .add("needed", ledger_.settings().room_needed));
  else
    log_.write(LogEvent(Level::info, "disk_has_room").add("spool", ledger_.settings().spool));
}

void Writer::start(Consumer* consumer, Witness* witness) {
  consumer_ = consumer;
  witness_ = witness;
  bear_witness(keeper_.take_facts());
  // The tools, while the daemon is down: what they change is reported at its next start.
  if (consumer == nullptr)
    ledger_.facts().want(keeper_.were_facts_wanted());
  ledger_.set_consumer(consumer != nullptr);
  bodies_.start(consumer);
  thread_ = std::thread([this] { run(); });
}

void Writer::stop() {
  room_.set(Admission::stopping);
  if (thread_.joinable()) {
    inbox_.stop();
    thread_.join();
  }
  bodies_.stop();
  // Once more: perhaps there is room now. And again for what one transaction does not take.
  if (keeper_.is_open() && !batch_.kept().is_empty())
    do
      process();
    while (keeper_.is_open() && batch_.has_more_records());
  batch_.end_changes(Error(Errc::stopped, "change the queue"));
  if (keeper_.is_open())
    keeper_.close(bodies_.finish_removals());
  witness_ = nullptr;
}

void Writer::run() {
  pthread_setname_np(::pthread_self(), "queue");
  while (wait())
    process();
}

Duration Writer::most_sleep() const {
  if (!can_store() || !room_.has_room())
    return RoomWatch::kEvery;
  if (keeper_.upkeep().is_wanted())
    return kIdle;
  const auto due = ledger_.next_due();
  if (!ledger_.has_consumer() || due == kNever)
    return is_low_ ? kLook : Duration::max();
  return std::clamp(Duration(due - ledger_.now()), Duration(1), kLook);
}

Admission Writer::ask_admission() {
  const auto admission = room_.ask();
  if (room_.is_check_wanted())
    look_again();
  return admission;
}

bool Writer::wait() {
  using Busy = SharedInbox::Busy;
  batch_.work().clear();
  const bool is_due = keeper_.is_open() && ledger_.is_work_due();
  const auto busy = batch_.has_more() && keeper_.is_open() ? Busy::with_more
                    : is_due                               ? Busy::with_due_work
                                                           : Busy::no;
  const auto taken = inbox_.take(batch_.work(), most_sleep(), busy);
  is_idle_ = taken.is_idle;
  if (taken.look_again)
    ledger_.look_again();
  return !taken.is_stopping || !batch_.work().is_empty();
}

void Writer::process() {
  ledger_.observe(clock_);
  take_settings();
  follow_bodies();
  check_room();
  if (!keeper_.is_open() && keeper_.reopen(batch_.kept().records.size()))
    room_.check_at_once(ledger_.settings().room_needed, can_store());
  bear_witness(keeper_.take_facts());
  if (!keeper_.is_open() || !room_.has_room())
    batch_.refuse_submissions(keeper_.is_open() ? no_room()
                                                : Error(Errc::storage, "store message"));
  refuse_misplaced();
  if (keeper_.is_open() && !room_.has_room())
    keeper_.upkeep().reuse_log();
  const bool is_stored = store_all();
  batch_.answer_submissions();
  batch_.answer_changes(consumer_ == nullptr ? nullptr : &bodies_);
  maintain(is_stored);
}

bool Writer::store_all() {
  if (!keeper_.is_open()) {
    batch_.keep_for_later();
    batch_.end_changes(Error(Errc::storage, "change the queue"));
    return false;
  }
  Effects effects;
  auto done = keeper_.store().check_files();
  if (done)
    done = sync_notices();
  if (done)
    done = batch_.store(effects, room_.is_full());
  if (done)
    committed(effects);
  else
    failed(done.error(), effects);
  keeper_.salvage_if_damaged();
  return done.has_value();
}

void Writer::maintain(bool is_stored) {
  if (!keeper_.is_open())
    return;
  auto& upkeep = keeper_.upkeep();
  if (is_stored)
    upkeep.after_commit();
  if (is_idle_)
    upkeep.idle();
  upkeep.give_back_room();
}

void Writer::take_settings() {
  for (auto& settings : batch_.work().settings) {
    ledger_.adopt(std::move(settings));
    lifetime_ = ledger_.settings().lifetime.count();
  }
  batch_.work().settings.clear();
}

// The large body of a notice has nobody who awaits its sync: rare, so done here. Without a folder
// for it the record waits, and with it what came of the mail that it is about.
Result<void> Writer::sync_notices() {
  for (auto* inbox : {&batch_.kept(), &batch_.work()})
    for (auto& record : inbox->records)
      for (auto& notice : record.notices)
        if (notice.body.is_open() && body_trouble_.empty())
          if (auto done = notice.body.state_->sync(); !done)
            return done.error();
  return {};
}

void Writer::look_at_bodies() {
  if (spool_.body_folder().follow())
    return;
  room_.set(Admission::failed);
  inbox_.look_again();  // and the log says why
}

// As the tools and the clients are to see it: who has no folder for large content takes no mail.
void Writer::follow_bodies() {
  const auto found = spool_.body_folder().follow();
  spool_.body_folder().settle(clock_.steady());
  const auto trouble = found ? std::string() : found.error().describe();
  if (trouble == body_trouble_)
    return;
  body_trouble_ = trouble;
  if (!trouble.empty()) {
    log_.write(LogEvent(Level::error, "storage_failed").add("reason", trouble));
    room_.set(Admission::failed);
    return;
  }
  log_.write(
      LogEvent(Level::info, "storage_reopened").add("records", batch_.kept().records.size()));
  room_.check_at_once(ledger_.settings().room_needed, can_store());
}

bool Writer::is_misplaced(const Record& record) {
  return std::any_of(record.notices.begin(), record.notices.end(), [](const Submission& notice) {
    return notice.body.is_open() && !notice.body.state_->check_place();
  });
}

// What was synced in a folder that is not the spool's any more is not promised.
void Writer::refuse_misplaced() {
  batch_.refuse_submissions_if([](const Submission& submission) -> Result<void> {
    return submission.body.is_open() ? submission.body.state_->check_place() : Result<void>();
  });
}

void Writer::committed(Effects& effects) {
  if (effects.counted.commits > 0)
    keeper_.stored();
  for (auto& record : batch_.take_stored())
    for (auto& notice : record.notices)
      if (notice.body.is_open())
        notice.body.state_->keep();
  for (auto& each : batch_.work().submissions)
    if (each.refused && each.waiting->id == each.submission.message->id &&
        each.submission.body.is_open())
      each.submission.body.state_->keep();
  count(effects.counted);
  note_timings(effects.counted);
  ledger_.facts().committed(effects.facts);
  if (room_.has_written())
    check_room();
  // Lines of level debug too: who stands before the log may want what it leaves out.
  for (auto& event : effects.told)
    if (log_.enabled(event.level()) || event.level() == Level::debug)
      log_.write(std::move(event));
  bear_witness(std::move(effects.facts));
  bodies_.hand_out(effects);
  if (!effects.overdue.empty() && consumer_ != nullptr)
    bodies_.expire(std::move(effects.overdue));
  if (!effects.files.empty())
    bodies_.remove(std::move(effects.files));
  if (log_.enabled(Level::info))
    for (const auto id : effects.gone)
      log_.write(LogEvent(Level::info, "removed", to_string(id)).add("by", "administrator"));
}

void Writer::note_timings(const Queue::Counters& counted) {
  if (counted.commits == 0)
    return;
  timings_.commit.add(batch_.commit_took());
  timings_.batch.add(static_cast<double>(counted.accepted + counted.delivered + counted.bounced +
                                         counted.removed + counted.deferrals));
}

void Writer::bear_witness(std::vector<Fact> facts) {
  if (witness_ != nullptr && !facts.empty())
    witness_->witness(std::move(facts));
}

void Writer::count(const Queue::Counters& counted) {
  recent_.add(clock_.steady(), counted);
  counted_.accepted += counted.accepted;
  counted_.delivered += counted.delivered;
  counted_.bounced += counted.bounced;
  counted_.removed += counted.removed;
  counted_.deferrals += counted.deferrals;
  counted_.untried += counted.untried;
  counted_.commits += counted.commits;
}

void Writer::failed(const Error& error, Effects& effects) {
  const bool full = is_full(error);
  if (!full || !room_.is_full())
    log_.write(LogEvent(Level::error, full ? "disk_full" : "storage_failed")
                   .add("reason", error.describe()));
  // Known before anybody hears of the failure.
  room_.set(full ? Admission::disk_low : Admission::failed);
  if (full)
    room_.found_full();
  else
    keeper_.note_failure(error, effects.made);
  ledger_.undo(effects);
  batch_.refuse_submissions(full ? no_room() : Error(Errc::storage, "store message"));
  batch_.end_changes(error);
  batch_.keep_for_later();
  if (!full)
    keeper_.failed();
}

Queue::Counters Writer::counters() const {
  Queue::Counters counters;
  counters.accepted = counted_.accepted;
  counters.delivered = counted_.delivered;
  counters.bounced = counted_.bounced;
  counters.removed = counted_.removed;
  counters.deferrals = counted_.deferrals;
  counters.untried = counted_.untried;
  counters.commits = counted_.commits;
  return counters;
}

}  // namespace postrider::queue
