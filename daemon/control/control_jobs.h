// The jobs behind daemon/control/control_service.h, one for each thing that may be asked.
#pragma once

#include "daemon/control/control_service.h"

#include <memory>
#include <string>

namespace postrider::daemon {

struct JobContext {
  queue::Queue& queue;
  const Clock& clock;
  StatusSource* insight;  // null: the daemon does not run
  TimePoint started;
  unsigned uid;  // of who asks
  const DropPlace& drop;
  bool shows_content;  // of mail, to who asks
};

std::unique_ptr<ControlJob> refused_job(int exit_code, std::string sentence);
// For what a member of control.readers may not do.
std::unique_ptr<ControlJob> forbidden_job(ControlRight right);
std::unique_ptr<ControlJob> list_job(const JobContext& context, const ControlRequest& request);
std::unique_ptr<ControlJob> count_job(const JobContext& context, const ControlRequest& request);
std::unique_ptr<ControlJob> summary_job(const JobContext& context, const ControlRequest& request);
std::unique_ptr<ControlJob> change_job(const JobContext& context, const ControlRequest& request);
std::unique_ptr<ControlJob> export_job(const JobContext& context, const ControlRequest& request);
std::unique_ptr<ControlJob> pause_job(const JobContext& context, const ControlRequest& request);
std::unique_ptr<ControlJob> resume_job(const JobContext& context, const ControlRequest& request);
std::unique_ptr<ControlJob> show_job(const JobContext& context, const ControlRequest& request);
std::unique_ptr<ControlJob> explain_job(const JobContext& context, const ControlRequest& request);
std::unique_ptr<ControlJob> tls_reports_job(const JobContext& context,
                                            const ControlRequest& request);
std::unique_ptr<ControlJob> dmarc_reports_job(const JobContext& context,
                                              const ControlRequest& request);
std::unique_ptr<ControlJob> reload_job(const JobContext& context, const ControlRequest& request);
std::unique_ptr<ControlJob> sites_job(const JobContext& context, const ControlRequest& request);
std::unique_ptr<ControlJob> events_job(const JobContext& context, const ControlRequest& request);
std::unique_ptr<ControlJob> trace_job(const JobContext& context, const ControlRequest& request);
std::unique_ptr<ControlJob> status_job(const JobContext& context, const ControlRequest& request);

// For the jobs: why those wait of whom the queue does not know it, because they are being tried, or
// their turn has not come.
void add_reasons(StatusSource* insight, std::vector<queue::ListedMessage>& messages);

// For the jobs: who asks, by name where it is known, for the log.
queue::Actor actor_of(unsigned uid);

// For the jobs: what needs the daemon, which is down.
constexpr const char* kIsDown =
    "the mail system is down; start it, by `systemctl start postrider` or `postrider run`";

// For the jobs: the end of an answer, appended; always false, as step() gives it.
bool finish(std::string& out);
bool fail(int exit_code, std::string sentence, std::string& out);
// What an administrator reads when the queue of a running daemon cannot be read: one sentence
// about what is wrong and one about what to do.
std::string unreadable_queue(const Error& error);

}  // namespace postrider::daemon
