#include "daemon/control/control_service.h"

#include "base/text.h"
#include "daemon/control/control_jobs.h"
#include "daemon/control/reader_view.h"

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

class ForbiddenJob : public RefusedJob {
 public:
  explicit ForbiddenJob(std::string sentence) : RefusedJob(EX_NOPERM, std::move(sentence)) {}
  bool is_forbidden() const override { return true; }
};

// Another job, as readers see it.
class ReaderJob : public ControlJob {
 public:
  explicit ReaderJob(std::unique_ptr<ControlJob> job) : job_(std::move(job)) {}
  bool step(std::string& out) override {
    std::string lines;
    const bool more = job_->step(lines);
    out.append(for_reader(lines));
    return more;
  }
  bool is_long() const override { return job_->is_long(); }
  bool may_be_cut_off() const override { return job_->may_be_cut_off(); }
  bool is_forbidden() const override { return job_->is_forbidden(); }

 private:
  std::unique_ptr<ControlJob> job_;
};

std::unique_ptr<ControlJob> shown_to(Asker asker, std::unique_ptr<ControlJob> job) {
  if (asker == Asker::administrator)
    return job;
  return std::make_unique<ReaderJob>(std::move(job));
}

struct Row {
  ControlAct act;
  std::unique_ptr<ControlJob> (*make)(const JobContext&, const ControlRequest&);
};
// A trial run (--dry-run) of a change takes the place of one in the queue's own order, and is one.
constexpr Row kActs[] = {
    {{"list", "", ControlRight::read}, list_job},
    {{"count", "", ControlRight::read}, count_job},
    {{"summary", "", ControlRight::read}, summary_job},
    {{"change", "*", ControlRight::change}, change_job},
    {{"export", "", ControlRight::content}, export_job},
    {{"pause", "", ControlRight::change}, pause_job},
    {{"resume", "", ControlRight::change}, resume_job},
    {{"show", "", ControlRight::read}, show_job},  // to readers without header and body
    {{"explain", "", ControlRight::read}, explain_job},
    {{"reload", "", ControlRight::change}, reload_job},
    {{"sites", "", ControlRight::read}, sites_job},
    {{"status", "", ControlRight::read}, status_job},
    {{"tls_reports", "", ControlRight::read}, tls_reports_job},
    {{"tls_reports", "send", ControlRight::change}, tls_reports_job},
    {{"dmarc_reports", "", ControlRight::read}, dmarc_reports_job},
    {{"dmarc_reports", "send", ControlRight::change}, dmarc_reports_job},
    {{"events", "", ControlRight::read}, events_job},
    {{"events", "replay", ControlRight::change}, events_job},
    {{"trace", "", ControlRight::read}, trace_job},
};

const Row* find_row(const ControlRequest& request) {
  for (const auto& row : kActs)
    if (row.act.act == request.act && (row.act.takes_any_verb() || row.act.verb == request.verb))
      return &row;
  return nullptr;
}

}  // namespace

std::vector<ControlAct> control_acts() {
  std::vector<ControlAct> acts;
  for (const auto& row : kActs)
    acts.push_back(row.act);
  return acts;
}

std::unique_ptr<ControlJob> forbidden_job(ControlRight right) {
  return std::make_unique<ForbiddenJob>(
      std::string("members of the group of control.readers ") +
      (right == ControlRight::content ? "do not see the content of mail" : "change nothing") +
      ": only root, the daemon's user and its group may do this");
}

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

std::unique_ptr<ControlJob> ControlService::start(std::string_view line, unsigned uid,
                                                  Asker asker) {
  auto request = decode_control_request(line);
  if (!request)
    return shown_to(asker, refused_job(EX_PROTOCOL, "the request was not understood: " +
                                                        request.error().step()));
  return start(std::move(*request), uid, asker);
}

std::unique_ptr<ControlJob> ControlService::start(ControlRequest request, unsigned uid,
                                                  Asker asker) {
  if (request.as_reader)
    asker = Asker::reader;
  return shown_to(asker, job_for(request, uid, asker));
}

std::unique_ptr<ControlJob> ControlService::job_for(const ControlRequest& request, unsigned uid,
                                                    Asker asker) {
  const bool is_administrator = asker == Asker::administrator;
  const Row* const row = find_row(request);
  if (row == nullptr)
    return refused_job(EX_PROTOCOL,
                       "this daemon does not know the request \"" + escaped(request.act, 40) +
                           (request.verb.empty() ? "" : " ") + escaped(request.verb, 40) +
                           "\"; is it of another version?");
  if (!is_administrator && row->act.right != ControlRight::read)
    return forbidden_job(row->act.right);
  const JobContext context{queue_, clock_, insight_, started_, uid, drop_, is_administrator};
  return row->make(context, request);
}

}  // namespace postrider::daemon
