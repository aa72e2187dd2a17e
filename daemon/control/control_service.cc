#include "daemon/control/control_service.h"

#include "base/text.h"
#include "daemon/control/control_jobs.h"

#include <sysexits.h>

namespace postrider::daemon {

namespace {

class RefusedJob : public ControlJob {
 public:
  RefusedJob(int exit_code, std::string sentence)
      : exit_code_(exit_code), sentence_(std::move(sentence)) {}
  bool step(std::string& out) override { return fail(exit_code_, sentence_, out); }

 private:
  int exit_code_;
  std::string sentence_;
};

struct Row {
  std::string_view act;
  std::unique_ptr<ControlJob> (*make)(const JobContext&, const ControlRequest&);
};
constexpr Row kActs[] = {
    {"list", list_job},
    {"count", count_job},
    {"summary", summary_job},
    {"change", change_job},
    {"export", export_job},
    {"pause", pause_job},
    {"resume", resume_job},
    {"show", show_job},
    {"explain", explain_job},
    {"reload", reload_job},
    {"sites", sites_job},
    {"status", status_job},
    {"tls_reports", tls_reports_job},
    {"dmarc_reports", dmarc_reports_job},
    {"events", events_job},
    {"trace", trace_job},
};

}  // namespace

bool finish(std::string& out) {
  out.append(encode(ControlEnd{}));
  return false;
}

bool fail(int exit_code, std::string sentence, std::string& out) {
  ControlEnd end;
  end.exit_code = exit_code;
  end.error = std::move(sentence);
  out.append(encode(end));
  return false;
}

std::string unreadable_queue(const Error& error) {
  return "the queue cannot be read, for its files are missing, damaged or not readable (" +
         error.describe() +
         "); the log has more of it (storage_failed): put the spool back in order, which the "
         "daemon "
         "notices by itself, or stop the daemon and see A DAMAGED QUEUE in postrider-queue(8)";
}

std::unique_ptr<ControlJob> refused_job(int exit_code, std::string sentence) {
  return std::make_unique<RefusedJob>(exit_code, std::move(sentence));
}

ControlService::ControlService(queue::Queue& queue, const Clock& clock, StatusSource* insight,
                               DropPlace drop)
    : queue_(queue),
      clock_(clock),
      insight_(insight),
      drop_(std::move(drop)),
      started_(clock.now()) {}

std::unique_ptr<ControlJob> ControlService::start(std::string_view line, unsigned uid) {
  auto request = decode_control_request(line);
  if (!request)
    return refused_job(EX_PROTOCOL, "the request was not understood: " + request.error().step());
  return start(std::move(*request), uid);
}

std::unique_ptr<ControlJob> ControlService::start(ControlRequest request, unsigned uid) {
  const JobContext context{queue_, clock_, insight_, started_, uid, drop_};
  for (const auto& row : kActs)
    if (row.act == request.act)
      return row.make(context, request);
  return refused_job(EX_PROTOCOL, "this daemon does not know the request \"" +
                                      escaped(request.act, 40) + "\"; is it of another version?");
}

}  // namespace postrider::daemon
