#include "daemon/dmarc_parts.h"

#include "daemon/settings.h"

namespace postrider::daemon {

DmarcParts::DmarcParts(Loop& home, std::function<dns::Resolver&()> resolver, const Clock& clock,
                       Log& log, BlockingPool& pool, const OwnMail& own_mail,
                       const std::string& spool)
    : home_(home),
      reporter_(std::make_shared<delivery::DmarcReporter>(home, std::move(resolver), clock, log,
                                                          pool, spool + "/dmarc-reports",
                                                          report_post(own_mail, clock))) {}

std::function<void()> DmarcParts::prepared(const Config& config) {
  delivery::DmarcReportSettings settings;
  settings.enabled = sends_dmarc_reports(config);
  settings.contact = config.dmarc_report.contact;
  settings.organisation = config.dmarc_report.organisation;
  if (settings.organisation.empty())
    settings.organisation = config.hostname;
  settings.submitter = config.hostname;
  settings.delay = config.dmarc_report.delay;
  return [reporter = reporter_, settings] { reporter->configure(settings); };
}

void DmarcParts::start() {
  reporter_->load();
  reporter_->start();
}

void DmarcParts::stop() {
  reporter_->stop();
}

void DmarcParts::save() {
  reporter_->save_now();
}

void DmarcParts::add(const mailauth::PublishedPolicy& policy, mailauth::ReportRow row) {
  home_.post([reporter = reporter_, policy, row = std::move(row)]() mutable {
    reporter->add(policy, std::move(row));
  });
}

}  // namespace postrider::daemon
