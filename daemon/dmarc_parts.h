// Composition of the aggregate reports of DMARC: from what sessions judge to mail. Made by Running;
// its parts live on the first loop.
#pragma once

#include "base/net/blocking_pool.h"
#include "daemon/config/config.h"
#include "daemon/daily_reports.h"
#include "daemon/own_mail.h"
#include "delivery/reports/dmarc_reporter.h"

#include <functional>
#include <memory>
#include <string>

namespace postrider::daemon {

class DmarcParts {
 public:
  // All references outlive this, and what it posted to the loop.
  DmarcParts(Loop& home, std::function<dns::Resolver&()> resolver, const Clock& clock, Log& log,
             BlockingPool& pool, const OwnMail& own_mail, const std::string& spool);

  std::function<void()> prepared(const Config& config);  // to be run on the loop, or before it runs
  void start();                                          // before the loop runs; reads the disk
  void stop();                                           // on the loop
  void save();                                           // when the loop has ended; blocking

  void add(const mailauth::PublishedPolicy& policy, mailauth::ReportRow row);  // any thread
  DailyReports reports() { return {home_, reporter_}; }

 private:
  Loop& home_;
  std::shared_ptr<delivery::DmarcReporter> reporter_;
};

}  // namespace postrider::daemon
