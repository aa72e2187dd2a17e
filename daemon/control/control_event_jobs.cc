// `postrider events`.
#include "base/text.h"
#include "daemon/control/control_jobs.h"

#include <sysexits.h>
#include <utility>

namespace postrider::daemon {

namespace {

// What is kept, a page a step; the last line says from where to go on.
class EventsJob : public ControlJob {
 public:
  EventsJob(const JobContext& context, const ControlRequest& request)
      : insight_(context.insight),
        after_(request.target),
        last_(parse_unsigned(request.last).value_or(0)) {}

  bool step(std::string& out) override {
    if (insight_ == nullptr)
      return fail(EX_UNAVAILABLE, kIsDown, out);
    const auto page = insight_->events(after_, std::exchange(last_, 0));
    if (!page && page.error().code() == Errc::unsupported)
      return fail(EX_UNAVAILABLE, page.error().step(), out);
    if (!page)
      return fail(EX_NOINPUT, page.error().describe(), out);
    if (page->lost > 0)
      out.append("{\"lost\":").append(std::to_string(page->lost)).append("}\n");
    for (const auto& event : page->events)
      out.append("{\"event\":").append(event).append("}\n");
    after_ = page->position;
    if (!page->events.empty())
      return true;
    out.append("{\"position\":\"").append(page->position).append("\"}\n");
    return finish(out);
  }
  bool is_long() const override { return true; }

 private:
  StatusSource* insight_;
  std::string after_;
  std::uint64_t last_;
};

class ReplayJob : public ControlJob {
 public:
  ReplayJob(const JobContext& context, const ControlRequest& request)
      : insight_(context.insight),
        sink_(request.target),
        id_(request.filter.ids.empty() ? std::string() : request.filter.ids.front()) {}

  bool step(std::string& out) override {
    if (insight_ == nullptr)
      return fail(EX_UNAVAILABLE, kIsDown, out);
    if (auto done = insight_->replay_events(sink_, id_); !done)
      return fail(EX_NOINPUT, done.error().describe(), out);
    return finish(out);
  }

 private:
  StatusSource* insight_;
  std::string sink_, id_;
};

}  // namespace

std::unique_ptr<ControlJob> events_job(const JobContext& context, const ControlRequest& request) {
  if (request.verb == "replay")
    return std::make_unique<ReplayJob>(context, request);
  return std::make_unique<EventsJob>(context, request);
}

}  // namespace postrider::daemon
