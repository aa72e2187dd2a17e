// What waits in groups, with the drop folder.
#include "base/text.h"
#include "daemon/control/awaited.h"
#include "daemon/control/control_filter.h"
#include "daemon/control/control_jobs.h"
#include "daemon/control/control_json.h"

#include <limits>
#include <optional>
#include <sysexits.h>

namespace postrider::daemon {

namespace {

namespace json = boost::json;

constexpr std::size_t kGroupsShown = 20;
constexpr std::size_t kGroupsAtOnce = 500;  // in a part of the answer
constexpr std::size_t kDroppedAtOnce = 200;

class SummaryJob : public ControlJob {
 public:
  SummaryJob(const JobContext& context, queue::Filter filter, queue::SummaryKey by,
             std::size_t limit)
      : context_(context),
        summarizing_(std::move(filter), by, context.clock.now()),
        limit_(limit),
        begun_(std::chrono::steady_clock::now()) {
    summarizing_.is_done = is_of_drop_folder(summarizing_.filter);
  }

  bool step(std::string& out) override {
    if (!dropped_)
      dropped_.emplace(context_.drop, context_.queue);
    if (!summarizing_.is_done) {
      if (auto done = context_.queue.summarize_on(summarizing_); !done)
        return fail(EX_IOERR, unreadable_queue(done.error()), out);
      return say_how_long(out);
    }
    if (hear_of_waits())
      return say_how_long(out);
    if (!has_dropped_) {
      has_dropped_ = !add_dropped();
      return true;
    }
    if (!largest_)
      largest_ = summarizing_.summary.largest(limit_);
    return give_groups(out);
  }
  bool is_long() const override { return true; }
  bool may_be_cut_off() const override { return true; }

 private:
  // Of what nothing was heard yet, delivery may know what it waits for: then all is summed up again.
  bool hear_of_waits() {
    auto& known = summarizing_;
    if (context_.insight == nullptr || known.unheard.empty() || !known.waits.empty())
      return false;
    std::vector<std::string> places, addresses;
    for (auto& [place, address] : known.unheard) {
      places.push_back(place);
      addresses.push_back(std::move(address));
    }
    const auto reasons = context_.insight->reasons(addresses);
    queue::Summarizing again(known.filter, known.summary.by(), context_.clock.now());
    for (std::size_t i = 0; i < places.size(); ++i)
      if (!reasons[i].empty())
        again.waits.emplace(places[i], queue::reason_pattern(reasons[i]));
    known.unheard.clear();
    if (again.waits.empty())
      return false;
    summarizing_ = std::move(again);
    return true;
  }

  bool add_dropped() {
    std::vector<DroppedMessage> messages;
    const bool more =
        dropped_->read_some(kDroppedAtOnce, summarizing_.filter, context_.clock.now(), messages);
    for (const auto& message : messages) {
      --last_dropped_;
      const auto client = "local uid " + std::to_string(message.uid);
      const auto reason = summarizing_.summary.by() == queue::SummaryKey::reason
                              ? queue::reason_pattern(message.reason)
                              : std::string();
      for (const auto& address : message.recipients)
        summarizing_.summary.add({{last_dropped_},
                                  message.received,
                                  message.size,
                                  mail::domain_of(address),
                                  "",
                                  message.sender,
                                  client,
                                  reason});
    }
    return more;
  }

  // Not in each step: nobody reads that fast.
  bool say_how_long(std::string& out) {
    const auto passed = std::chrono::duration_cast<std::chrono::milliseconds>(
        std::chrono::steady_clock::now() - begun_);
    if (passed < next_progress_)
      return true;
    next_progress_ = passed + std::chrono::milliseconds(500);
    return add_progress_line(passed, out);
  }

  bool give_groups(std::string& out) {
    const auto end = std::min(largest_->size(), next_ + kGroupsAtOnce);
    for (; next_ < end; ++next_)
      add_line("group", to_json(*(*largest_)[next_]), out);
    if (next_ < largest_->size())
      return true;
    const auto& summary = summarizing_.summary;
    auto object = to_json(summary.total());
    object.erase("key");
    object["by"] = queue::name_of(summary.by());
    object["groups"] = summary.groups();
    object["shown"] = largest_->size();
    if (summary.others().recipients > 0)
      object["beyond"] = to_json(summary.others());
    add_line("summary", std::move(object), out);
    return finish(out);
  }

  JobContext context_;
  queue::Summarizing summarizing_;
  const std::size_t limit_;
  const std::chrono::steady_clock::time_point begun_;
  std::chrono::milliseconds next_progress_{1000};
  std::optional<DropListing> dropped_;
  bool has_dropped_ = false;
  std::int64_t last_dropped_ = 0;  // numbers that no id of the queue has
  std::optional<std::vector<const queue::Summary::Group*>> largest_;
  std::size_t next_ = 0;
};

// nullopt: it is not a number.
std::optional<std::size_t> limit_of(const std::string& text) {
  if (text.empty())
    return kGroupsShown;
  const auto number = parse_unsigned(text);
  if (!number || *number > queue::Summary::kMostGroups)
    return std::nullopt;
  return *number == 0 ? std::numeric_limits<std::size_t>::max() : static_cast<std::size_t>(*number);
}

}  // namespace

bool add_progress_line(std::chrono::milliseconds passed, std::string& out) {
  json::object progress;
  progress["milliseconds"] = static_cast<std::int64_t>(passed.count());
  add_line("progress", std::move(progress), out);
  return true;
}

std::unique_ptr<ControlJob> summary_job(const JobContext& context, const ControlRequest& request) {
  auto filter = to_filter(request.filter);
  if (!filter)
    return refused_job(EX_USAGE, filter.error().step());
  const auto by = queue::parse_summary_key(request.by.empty() ? "domain" : request.by);
  if (!by)
    return refused_job(EX_USAGE, "--by: \"" + escaped(request.by, 40) +
                                     "\" is not domain, site, sender, client, reason or age");
  const auto limit = limit_of(request.limit);
  if (!limit)
    return refused_job(EX_USAGE, "--limit: \"" + escaped(request.limit, 40) +
                                     "\" is not a number from 0 (all) to 100000");
  return std::make_unique<SummaryJob>(context, std::move(*filter), *by, *limit);
}

}  // namespace postrider::daemon
