#include "daemon/tls_parts.h"

#include "daemon/settings.h"

namespace postrider::daemon {

TlsParts::TlsParts(Loop& home, std::function<dns::Resolver&()> resolver, const Clock& clock,
                   Log& log, BlockingPool& pool, const OwnMail& own_mail, const std::string& spool)
    : home_(home),
      sts_(
          std::make_shared<delivery::MtaSts>(home, resolver, clock, log, pool, spool + "/mta-sts")),
      history_(std::make_shared<delivery::TlsHistory>()) {
  reporter_ = std::make_shared<delivery::TlsReporter>(
      home, resolver, clock, log, pool, spool + "/tls-results.json", report_post(own_mail, clock));
}

Result<std::function<void()>> TlsParts::prepared(const Config& config) {
  TlsClientSettings trust;
  trust.roots = config.delivery.tls_ca;
  auto tls = TlsContext::client(trust);
  if (!tls)
    return tls.error().during("delivery.tls_ca");
  delivery::MtaStsSettings sts;
  sts.enabled = config.mta_sts.enabled;
  sts.port = static_cast<std::uint16_t>(config.mta_sts.port);
  sts.timeout = config.mta_sts.timeout;
  sts.families = families(config.delivery.family);
  sts.tls = *tls;
  delivery::TlsReportSettings report;
  report.enabled = config.tls_report.enabled && !config.tls_report.contact.empty();
  report.contact = config.tls_report.contact;
  report.organisation = config.tls_report.organisation;
  if (report.organisation.empty())
    report.organisation = config.hostname;
  report.submitter = config.hostname;
  report.delay = config.tls_report.delay;
  report.families = sts.families;
  report.tls = *tls;
  return std::function<void()>([policies = sts_, reporter = reporter_, sts, report] {
    policies->configure(sts);
    reporter->configure(report);
  });
}

Result<void> TlsParts::configure(const Config& config) {
  auto apply = prepared(config);
  if (!apply)
    return apply.error();
  (*apply)();
  return {};
}

void TlsParts::start() {
  sts_->load();
  reporter_->load();
  reporter_->start();
}

void TlsParts::stop() {
  sts_->stop();
  reporter_->stop();
}

void TlsParts::save() {
  reporter_->save_now();
}

delivery::TlsObserver TlsParts::observer() {
  return [&home = home_, reporter = reporter_, history = history_](delivery::TlsReport report) {
    home.post([reporter, history, report = std::move(report)] {
      history->add(report);
      reporter->add(report);
    });
  };
}

void TlsParts::last_handshakes(std::string domain,
                               std::function<void(std::vector<std::string>)> answer) {
  home_.post([history = history_, domain = std::move(domain), answer = std::move(answer)] {
    answer(history->about(domain));
  });
}

}  // namespace postrider::daemon
