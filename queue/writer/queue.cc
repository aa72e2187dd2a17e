#include "queue/queue.h"

#include "base/text.h"
#include "queue/body_file.h"
#include "queue/row_codec.h"
#include "queue/writer/listing.h"
#include "queue/writer/writer.h"

namespace postrider::queue {

struct Queue::Impl {
  Impl(Spool spool_, QueueSettings settings, const Clock& clock_, Log& log)
      : spool(std::move(spool_)),
        clock(clock_),
        writer(spool, ids, std::move(settings), clock_, log),
        listing(writer.leases(), writer.time(), writer.lifetime()),
        scans(writer.leases(), writer.time(), writer.lifetime()) {}

  Result<void> open_readers(const char* vfs) {
    for (auto* each : {&listing, &scans})
      if (auto opened = each->open(spool.database(), vfs); !opened)
        return opened.error();
    return {};
  }

  Spool spool;
  const Clock& clock;
  mail::MessageIds ids;
  BlockingPool syncs{4};  // of large bodies; each waits for the disk
  Writer writer;
  Listing listing;  // of single messages and figures: never waits for the other
  Listing scans;    // of many messages
};

Queue::Queue(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Queue::~Queue() {
  stop();
}

Result<std::unique_ptr<Queue>> Queue::open(QueueSettings settings, const Clock& clock, Log& log) {
  return open_with(std::move(settings), clock, log, nullptr);
}

Result<std::unique_ptr<Queue>> Queue::open_with(QueueSettings settings, const Clock& clock,
                                                Log& log, const char* vfs) {
  auto spool = Spool::open(settings.spool);
  if (!spool)
    return spool.error();
  auto impl = std::make_unique<Impl>(*std::move(spool), std::move(settings), clock, log);
  if (auto opened = impl->writer.open(vfs); !opened)
    return opened.error();
  if (auto opened = impl->open_readers(vfs); !opened)
    return opened.error();
  impl->writer.use({[impl = impl.get()] {
                      impl->listing.close();
                      impl->scans.close();
                    },
                    [impl = impl.get(), vfs] { return impl->open_readers(vfs); }});
  return std::unique_ptr<Queue>(new Queue(std::move(impl)));
}

void Queue::start(Consumer* consumer, Witness* witness) {
  impl_->writer.start(consumer, witness);
}

bool Queue::keeps_facts() const {
  return impl_->writer.facts().are_wanted();
}

void Queue::settle_facts(std::int64_t number) {
  impl_->writer.facts().settle(number);
}

std::uint64_t Queue::waiting_facts() const {
  return impl_->writer.facts().waiting();
}

void Queue::stop() {
  impl_->writer.stop();
}

Admission Queue::admission() const {
  return impl_->writer.admission();
}

Admission Queue::ask_admission() {
  return impl_->writer.ask_admission();
}

mail::MessageId Queue::next_id() {
  return impl_->ids.next(impl_->clock.now());
}

Result<BodyFile> Queue::create_body(mail::MessageId id) {
  BodyFile body;
  body.name_ = to_string(id);
  BodyFolder::Handle folder;
  auto file = impl_->spool.create_body(body.name_, folder);
  if (!file) {
    impl_->writer.look_at_bodies();  // whether new mail can be taken at all
    return file.error().during("create body");
  }
  body.state_ = std::make_unique<BodyFile::State>(impl_->spool, std::move(folder), *std::move(file),
                                                  body.name_);
  return body;
}

Task<Result<void>> Queue::accept(Loop& loop, Submission submission) {
  auto accepted = co_await accept_dropped(loop, std::move(submission));
  if (!accepted)
    co_return accepted.error();
  co_return Result<void>();
}

Task<Result<mail::MessageId>> Queue::accept_dropped(Loop& loop, Submission submission) {
  if (admission() == Admission::stopping)
    co_return Error(Errc::stopped, "store message");
  const auto begun = impl_->clock.steady();
  if (auto whole =
          BodyFile::State::check_whole(submission.message->content, submission.body.state_.get());
      !whole)
    co_return whole.error().during("store message");
  if (submission.body.is_open()) {
    auto* const body = submission.body.state_.get();
    std::function<Result<void>()> sync = [body] { return body->sync(); };
    Result<void> synced = co_await impl_->syncs.run(loop, std::move(sync));
    if (!synced)
      co_return synced.error().during("store message");
  }
  Waiting waiting(loop);
  std::string head = encode_head(*submission.message, content_checksum(submission));
  impl_->writer.give([&](Inbox& inbox) {
    inbox.submissions.push_back({std::move(submission), std::move(head), &waiting, {}});
    return Urgency::now;
  });
  co_await waiting.done.wait();
  if (!waiting.result)
    co_return waiting.result.error();
  impl_->writer.timings().accept.add(impl_->clock.steady() - begun);
  co_return waiting.id;
}

Result<std::vector<std::string>> Queue::dropped() {
  return impl_->listing.dropped();
}

void Queue::forget_dropped(std::vector<std::string> drop_ids) {
  impl_->writer.give([&](Inbox& inbox) {
    std::move(drop_ids.begin(), drop_ids.end(), std::back_inserter(inbox.forgotten));
    return Urgency::soon;
  });
}

void Queue::record(std::vector<Record> records) {
  impl_->writer.give([&](Inbox& inbox) {
    std::move(records.begin(), records.end(), std::back_inserter(inbox.records));
    return Urgency::soon;
  });
}

void Queue::set_site(SiteState state) {
  impl_->writer.give([&](Inbox& inbox) {
    inbox.sites.push_back(std::move(state));
    return Urgency::soon;
  });
}

void Queue::assign_site(std::string domain, std::string site) {
  impl_->writer.give([&](Inbox& inbox) {
    inbox.assignments.push_back({std::move(domain), std::move(site)});
    return Urgency::soon;
  });
}

std::vector<SiteState> Queue::sites() {
  auto sites = impl_->listing.sites();
  return sites ? *std::move(sites) : std::vector<SiteState>();
}

std::string Queue::body_path(const std::string& name) const {
  return impl_->spool.body(name);
}

Result<FileDescriptor> Queue::open_body(const mail::Message& message) const {
  return impl_->spool.open_body(message);
}

void Queue::quarantine(mail::MessageId id, std::string why) {
  impl_->writer.give([&](Inbox& inbox) {
    inbox.quarantines.push_back({id, std::move(why)});
    return Urgency::soon;
  });
}

void Queue::change(Verb verb, Filter filter, bool dry_run,
                   std::function<void(Result<Changed>)> on_done, Actor actor,
                   std::string next_hop) {
  impl_->writer.give([&](Inbox& inbox) {
    inbox.changes.push_back({verb, std::move(filter), dry_run, std::move(on_done), std::move(actor),
                             std::move(next_hop)});
    return Urgency::now;
  });
}

void Queue::pause(Pause pause, OnPaused on_done) {
  order(std::move(pause), false, std::move(on_done));
}

void Queue::resume(Pause pause, OnPaused on_done) {
  order(std::move(pause), true, std::move(on_done));
}

void Queue::order(Pause pause, bool is_resume, OnPaused on_done) {
  auto name = canonical_name(pause.of, pause.name);
  if (!name) {
    on_done(Error(Errc::malformed, "\"" + escaped(pause.name, 100) + "\" cannot be paused"));
    return;
  }
  pause.name = *std::move(name);
  impl_->writer.give([&](Inbox& inbox) {
    inbox.pauses.push_back({std::move(pause), is_resume, std::move(on_done)});
    return Urgency::now;
  });
}

Result<std::vector<Pause>> Queue::pauses() {
  return impl_->listing.pauses(impl_->clock.now());
}

Result<std::vector<ListedMessage>> Queue::list(const Filter& filter, mail::MessageId after,
                                               std::size_t most) {
  std::vector<ListedMessage> listed;
  for (;;) {
    auto page = list_on(filter, after, most - listed.size());
    if (!page)
      return page.error();
    std::move(page->messages.begin(), page->messages.end(), std::back_inserter(listed));
    if (page->is_last || listed.size() >= most)
      return listed;
    after = page->after;
  }
}

Result<ListedPage> Queue::list_on(const Filter& filter, mail::MessageId after, std::size_t most) {
  constexpr std::size_t kFew = 16;
  auto& from = !filter.ids.empty() && filter.ids.size() <= kFew ? impl_->listing : impl_->scans;
  return from.list(filter, after, most, impl_->clock.now());
}

Result<Changed> Queue::count(const Filter& filter) {
  Counting counting;
  counting.filter = filter;
  while (!counting.is_done)
    if (auto counted = count_on(counting); !counted)
      return counted.error();
  return counting.counted;
}

Result<void> Queue::count_on(Counting& counting) {
  return impl_->scans.count_on(counting, impl_->clock.now());
}

Result<void> Queue::summarize_on(Summarizing& summarizing) {
  return impl_->scans.summarize_on(summarizing, impl_->clock.now());
}

Result<std::shared_ptr<const mail::Message>> Queue::load(mail::MessageId id) {
  return impl_->listing.load(id);
}

Result<std::vector<Attempt>> Queue::attempts(mail::MessageId id) {
  return impl_->listing.attempts(id);
}

// Status is true even if nothing has been stored for a while: a look at
// the folder of large content belongs to the figures.
Result<Totals> Queue::totals() {
  impl_->writer.look_at_bodies();
  return impl_->listing.totals(impl_->clock.now());
}

Queue::Counters Queue::counters() const {
  return impl_->writer.counters();
}

const QueueTimings& Queue::timings() const {
  return impl_->writer.timings();
}

Queue::Recent Queue::recent() const {
  return impl_->writer.recent();
}

bool Queue::is_lost() const {
  return impl_->writer.is_lost();
}

std::size_t Queue::unrecorded() const {
  return impl_->writer.unrecorded();
}

void Queue::reconfigure(QueueSettings settings) {
  impl_->writer.give([&](Inbox& inbox) {
    inbox.settings.push_back(std::move(settings));
    return Urgency::now;
  });
}

void Queue::wake() {
  impl_->writer.look_again();
}

}  // namespace postrider::queue
