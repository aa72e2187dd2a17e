#include "delivery/tls/reports/reporter.h"
#include "delivery/tls/tls_history.h"
#include "tests/support/sync_record.h"
#include "tests/support/zone_resolver.h"
#include "tests/unit/base/temporary_folder.h"

#include <catch2/catch.hpp>

using namespace postrider;
using namespace postrider::delivery;
using namespace std::chrono_literals;

namespace {

const Day kDay{std::chrono::days(20'780)};

class HandClock : public Clock {
 public:
  TimePoint now() const override { return time; }
  SteadyTime steady() const override { return SteadyTime(time.time_since_epoch()); }
  TimePoint time{TimePoint(kDay) + 12h};
};

struct Office {
  TemporaryFolder folder;
  HandClock clock;
  NullLog log;
  BlockingPool pool{1};
  tests::ZoneResolver dns{R"(
    _smtp._tls.example.test TXT "v=TLSRPTv1; rua=mailto:tls@example.test"
    silent.test             TXT "nothing about reports"
  )"};
  std::vector<ReportMail> mails;
  bool is_refused = false;
  std::vector<std::string> lines;

  std::shared_ptr<TlsReporter> open(Loop& loop) {
    ReportPost post;
    post.next_id = [] { return mail::MessageId{77}; };
    post.submit = [this](ReportMail mail) { return submit(this, std::move(mail)); };
    auto reporter = std::make_shared<TlsReporter>(
        loop, [this]() -> dns::Resolver& { return dns; }, clock, log, pool,
        folder.path() + "/results", std::move(post));
    TlsReportSettings settings;
    settings.enabled = true;
    settings.organisation = "Us";
    settings.contact = "tls@us.test";
    settings.submitter = "mx.us.test";
    reporter->load();
    reporter->configure(settings);
    return reporter;
  }
  static Task<Result<void>> submit(Office* office, ReportMail mail) {
    if (office->is_refused)
      co_return Error(Errc::storage, "store");
    office->mails.push_back(std::move(mail));
    co_return Result<void>{};
  }
  void send(TlsReporter& reporter, Loop& loop, bool today_too) {
    reporter.send(today_too, [this](auto result) { lines = std::move(result); });
    loop.finish();
    loop.run();
  }
  TlsReport success(const char* domain) {
    TlsReport report;
    report.when = clock.time;
    report.domain = domain;
    return report;
  }
};

}  // namespace

TEST_CASE("a day is reported when it is over, and results outlive a restart",
          "[delivery][tlsrpt]") {
  Office office;
  {
    Loop loop(0);
    auto reporter = office.open(loop);
    reporter->add(office.success("example.test"));
    reporter->add(office.success("silent.test"));
    office.send(*reporter, loop, false);
    CHECK(office.lines.empty());
    reporter->save_now();
  }
  office.clock.time += 24h;
  Loop loop(0);
  auto reporter = office.open(loop);
  reporter->add(office.success("example.test"));
  CHECK(reporter->collected().size() == 3);
  office.send(*reporter, loop, false);
  CHECK(office.lines == std::vector<std::string>{"example.test: sent to mailto:tls@example.test",
                                                 "silent.test: wants no reports"});
  REQUIRE(office.mails.size() == 1);
  CHECK(office.mails[0].sender == "tls@us.test");
  CHECK(office.mails[0].recipient == "tls@example.test");
  CHECK(reporter->collected() ==
        std::vector<std::string>{"2026-11-24 example.test: 1 sessions, 0 failed"});
}

TEST_CASE("results that were saved outlive a power cut", "[delivery][tlsrpt]") {
  Office office;
  Loop loop(0);
  auto reporter = office.open(loop);
  const SyncRecord record;
  reporter->add(office.success("example.test"));
  reporter->save_now();
  CHECK(SyncRecord::lack_of_renamed(office.folder / "results").empty());
  office.send(*reporter, loop, false);
}

TEST_CASE("what cannot be sent is kept", "[delivery][tlsrpt]") {
  Office office;
  Loop loop(0);
  auto reporter = office.open(loop);
  reporter->add(office.success("example.test"));
  office.is_refused = true;
  office.send(*reporter, loop, true);
  REQUIRE(office.lines.size() == 1);
  CHECK(office.lines[0].find("later: mailto:tls@example.test") != std::string::npos);
  CHECK(reporter->collected().size() == 1);
}

TEST_CASE("trouble with DNS puts a report off", "[delivery][tlsrpt]") {
  Office office;
  office.dns.servfail("_smtp._tls.example.test");
  Loop loop(0);
  auto reporter = office.open(loop);
  reporter->add(office.success("example.test"));
  office.send(*reporter, loop, true);
  CHECK(office.mails.empty());
  CHECK(reporter->collected().size() == 1);
}

TEST_CASE("the delivery of a report is not reported", "[delivery][tlsrpt]") {
  Office office;
  Loop loop(0);
  auto reporter = office.open(loop);
  auto report = office.success("example.test");
  report.source = TlsSource::message;
  reporter->add(report);
  CHECK(reporter->collected().empty());
}

TEST_CASE("the last handshakes of a domain are remembered, within bounds", "[delivery][tls]") {
  TlsHistory history(2, 2);
  Office office;
  for (int i = 0; i < 3; ++i) {
    office.clock.time += 1s;
    auto report = office.success("a.test");
    report.host = "mx" + std::to_string(i);
    report.address = "192.0.2.1";
    report.result = TlsResult::certificate_expired;
    report.went_in_clear = true;
    history.add(report);
  }
  CHECK(history.about("a.test") ==
        std::vector<std::string>{
            "2026-11-23T12:00:03.000Z mx2[192.0.2.1]: certificate-expired, in clear",
            "2026-11-23T12:00:02.000Z mx1[192.0.2.1]: certificate-expired, in clear"});
  office.clock.time += 1s;
  history.add(office.success("b.test"));
  history.add(office.success("c.test"));
  CHECK(history.about("a.test").empty());
  CHECK(history.about("c.test").size() == 1);
}
