#include "daemon/control/control_jobs.h"
#include "daemon/control/control_json.h"

#include <sysexits.h>

namespace postrider::daemon {

namespace {

constexpr std::size_t kMostProblemText = 2000;

class ReloadJob : public ControlJob {
 public:
  explicit ReloadJob(StatusSource& insight)
      : insight_(insight), number_(insight.ask_for_reload()) {}

  bool is_long() const override { return true; }

  bool step(std::string& out) override {
    const auto verdict = insight_.reload_verdict(number_);
    if (!verdict)
      return true;
    for (const auto& problem : verdict->problems)
      add("problem", problem, out);
    for (const auto& note : verdict->notes)
      add("note", note, out);
    if (verdict->problems.empty())
      return finish(out);
    return fail(EX_CONFIG, "the configuration was refused, and the one before stays in use", out);
  }

 private:
  static void add(const char* what, const std::string& text, std::string& out) {
    boost::json::object line;
    line["text"] = json_text(std::string_view(text).substr(0, kMostProblemText));
    add_line(what, std::move(line), out);
  }

  StatusSource& insight_;
  const std::uint64_t number_;
};

}  // namespace

std::unique_ptr<ControlJob> reload_job(const JobContext& context, const ControlRequest&) {
  if (context.insight == nullptr)
    return refused_job(EX_UNAVAILABLE, kIsDown);
  return std::make_unique<ReloadJob>(*context.insight);
}

}  // namespace postrider::daemon
