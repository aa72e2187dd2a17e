#include "delivery/reports/dmarc_reporter.h"

#include "base/base64.h"
#include "base/file.h"
#include "tests/support/sync_record.h"
#include "tests/support/zone_resolver.h"
#include "tests/unit/base/temporary_folder.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <filesystem>
#include <zlib.h>

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

mailauth::PublishedPolicy policy(const std::string& domain,
                                 std::vector<std::string> rua = {"mailto:dmarc@example.test"}) {
  mailauth::PublishedPolicy policy;
  policy.domain = domain;
  policy.p = "reject";
  policy.adkim = policy.aspf = "r";
  policy.fo = "0";
  policy.testing = "n";
  policy.rua = std::move(rua);
  return policy;
}

mailauth::ReportRow row(const std::string& source) {
  mailauth::ReportRow row;
  row.source = source;
  row.header_from = row.envelope_from = "example.test";
  row.disposition = "reject";
  row.spf_result = "fail";
  row.signatures.push_back({"example.test", "s1", "fail"});
  return row;
}

std::string gunzipped(const std::string& compressed) {
  std::string out(4U << 20U, '\0');
  z_stream stream{};
  inflateInit2(&stream, 15 + 16);
  std::string in = compressed;
  stream.next_in = reinterpret_cast<Bytef*>(in.data());
  stream.avail_in = static_cast<uInt>(in.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  CHECK(inflate(&stream, Z_FINISH) == Z_STREAM_END);
  out.resize(stream.total_out);
  inflateEnd(&stream);
  return out;
}

// The XML in a mail.
std::string report_in(const std::string& mail) {
  const auto head = mail.find("\r\n\r\n", mail.find("Content-Disposition"));
  const auto end = mail.find("\r\n--", head);
  auto text = mail.substr(head + 4, end - head - 4);
  text.erase(
      std::remove_if(text.begin(), text.end(), [](char c) { return c == '\r' || c == '\n'; }),
      text.end());
  return gunzipped(decode_base64(text).value());
}

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

struct Office {
  TemporaryFolder folder;
  HandClock clock;
  NullLog log;
  BlockingPool pool{1};
  tests::ZoneResolver dns{R"(
    _dmarc.example.test  TXT "v=DMARC1; p=reject; rua=mailto:dmarc@example.test"
    _dmarc.other.test    TXT "v=DMARC1; p=none"
    example.test._report._dmarc.other.test TXT "v=DMARC1"
  )"};
  mailauth::ReportTally::Limits limits;
  std::vector<ReportMail> mails;
  bool is_refused = false;
  std::vector<std::string> lines;

  std::string journals() const { return folder.path() + "/dmarc"; }
  std::shared_ptr<DmarcReporter> open(Loop& loop, bool is_enabled = true) {
    ReportPost post;
    post.next_id = [] { return mail::MessageId{77}; };
    post.submit = [this](ReportMail mail) { return submit(this, std::move(mail)); };
    auto reporter = std::make_shared<DmarcReporter>(
        loop, [this]() -> dns::Resolver& { return dns; }, clock, log, pool, journals(),
        std::move(post), limits);
    DmarcReportSettings settings;
    settings.enabled = is_enabled;
    settings.organisation = "Us & others";
    settings.contact = "dmarc@us.test";
    settings.submitter = "mx.us.test";
    settings.delay = 0s;
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
  void send(DmarcReporter& reporter, Loop& loop, bool today_too) {
    lines.clear();
    reporter.send(today_too, [&](auto result) {
      lines = std::move(result);
      loop.finish();
    });
    loop.run();
  }
};

}  // namespace

TEST_CASE("a day of DMARC is reported when it is over, and outlives a restart",
          "[delivery][dmarc]") {
  Office office;
  {
    Loop loop(0);
    auto reporter = office.open(loop);
    reporter->add(policy("example.test"), row("192.0.2.1"));
    reporter->add(policy("example.test"), row("192.0.2.1"));
    auto passed = row("2001:db8::1");
    passed.spf_aligned = true;
    passed.spf_result = "pass";
    passed.disposition = "pass";
    reporter->add(policy("example.test"), passed);
    office.send(*reporter, loop, false);
    CHECK(office.lines.empty());
    reporter->save_now();
  }
  office.clock.time += 24h;
  Loop loop(0);
  auto reporter = office.open(loop);
  reporter->add(policy("example.test"), row("192.0.2.9"));
  CHECK(reporter->collected() ==
        std::vector<std::string>{"2026-11-23 example.test: 3 messages, 2 failed",
                                 "2026-11-24 example.test: 1 messages, 1 failed"});
  office.send(*reporter, loop, false);
  CHECK(office.lines == std::vector<std::string>{"example.test: sent to dmarc@example.test"});
  REQUIRE(office.mails.size() == 1);
  const auto& mail = office.mails[0];
  CHECK(mail.sender == "dmarc@us.test");
  CHECK(mail.recipient == "dmarc@example.test");
  CHECK_FALSE(mail.needs_no_tls);
  CHECK(has(mail.text, "\r\nSubject: Report Domain: example.test\r\n\tSubmitter: mx.us.test\r\n"));
  CHECK(has(mail.text, "\r\nContent-Type: application/gzip;\r\n"));
  CHECK(has(mail.text, "filename=\"mx.us.test!example.test!1795392000!1795478399!"));
  const auto xml = report_in(mail.text);
  CHECK(has(xml, "<org_name>Us &amp; others</org_name>"));
  CHECK(has(xml, "<begin>1795392000</begin>"));
  CHECK(has(xml, "<source_ip>192.0.2.1</source_ip>\n      <count>2</count>"));
  CHECK(has(xml, "<source_ip>2001:db8::1</source_ip>\n      <count>1</count>"));
  CHECK_FALSE(has(xml, "192.0.2.9"));
  CHECK(reporter->collected() ==
        std::vector<std::string>{"2026-11-24 example.test: 1 messages, 1 failed"});
  reporter->save_now();
  CHECK_FALSE(std::filesystem::exists(office.journals() + "/20780.journal"));
}

TEST_CASE("without a contact nothing is collected", "[delivery][dmarc]") {
  Office office;
  Loop loop(0);
  auto reporter = office.open(loop, false);
  reporter->add(policy("example.test"), row("192.0.2.1"));
  CHECK(reporter->collected().empty());
  office.send(*reporter, loop, true);
  CHECK(office.lines == std::vector<std::string>{"dmarc_report.contact is not set"});
  reporter->save_now();
  CHECK_FALSE(std::filesystem::exists(office.journals()));
}

TEST_CASE("a journal that was cut or damaged loses those lines alone", "[delivery][dmarc]") {
  Office office;
  Loop loop(0);
  {
    auto reporter = office.open(loop);
    const SyncRecord record;
    for (int i = 1; i <= 9; ++i) {
      reporter->add(policy("example.test"), row("192.0.2." + std::to_string(i)));
      reporter->save_now();
    }
    CHECK(SyncRecord::lack(office.journals() + "/20780.journal").empty());
  }
  const auto file = office.journals() + "/20780.journal";
  auto text = read_file(file).value();
  const auto third = text.find("192.0.2.3");
  text.replace(third, 4, "\xff\xff\xff\xff");
  text.resize(text.size() - 5);
  REQUIRE(replace_file(file, text, 0600));
  {
    auto reporter = office.open(loop);
    CHECK(reporter->collected() ==
          std::vector<std::string>{"2026-11-23 example.test: 7 messages, 7 failed"});
    reporter->add(policy("example.test"), row("192.0.2.77"));
    reporter->save_now();  // anew
  }
  auto reporter = office.open(loop);
  CHECK(reporter->collected() ==
        std::vector<std::string>{"2026-11-23 example.test: 8 messages, 8 failed"});
  office.send(*reporter, loop, false);
}

TEST_CASE("reports go to those who may have them, and stay within what they want",
          "[delivery][dmarc]") {
  Office office;
  Loop loop(0);
  auto reporter = office.open(loop);
  reporter->add(policy("example.test", {"mailto:a@example.test!10", "mailto:b@other.test",
                                        "mailto:c@victim.test", "https://example.test/"}),
                row("192.0.2.1"));
  reporter->add(policy("greedy.test", {"mailto:c@victim.test"}), row("192.0.2.1"));
  office.send(*reporter, loop, true);
  CHECK(office.lines == std::vector<std::string>{"example.test: sent to b@other.test",
                                                 "greedy.test: nobody may have it"});
  REQUIRE(office.mails.size() == 1);
  CHECK(office.mails[0].recipient == "b@other.test");
  CHECK(reporter->collected().empty());
}

TEST_CASE("trouble with DNS puts a report off, and who has it does not get it twice",
          "[delivery][dmarc]") {
  Office office;
  const auto both = policy("example.test", {"mailto:a@example.test", "mailto:b@other.test"});
  Loop first(0);
  auto reporter = office.open(first);
  reporter->add(both, row("192.0.2.1"));
  office.clock.time += 24h;
  office.dns.servfail("example.test._report._dmarc.other.test");
  office.send(*reporter, first, false);
  REQUIRE(office.lines.size() == 1);
  CHECK(has(office.lines[0], "sent to a@example.test; later: b@other.test"));
  CHECK(reporter->collected().size() == 1);
  reporter->save_now();

  // The next daemon goes on.
  Loop second(0);
  reporter = office.open(second);
  office.dns.heal("example.test._report._dmarc.other.test");
  office.send(*reporter, second, false);
  CHECK(office.lines == std::vector<std::string>{"example.test: sent to b@other.test"});
  REQUIRE(office.mails.size() == 2);
  const auto file = [](const std::string& mail) {
    const auto at = mail.find("filename=");
    return mail.substr(at, mail.find('\r', at) - at);
  };
  CHECK(file(office.mails[0].text) == file(office.mails[1].text));
  CHECK(reporter->collected().empty());
}

TEST_CASE("what cannot be given to the queue is kept", "[delivery][dmarc]") {
  Office office;
  Loop loop(0);
  auto reporter = office.open(loop);
  reporter->add(policy("example.test"), row("192.0.2.1"));
  office.is_refused = true;
  office.send(*reporter, loop, true);
  REQUIRE(office.lines.size() == 1);
  CHECK(has(office.lines[0], "later: dmarc@example.test"));
  CHECK(reporter->collected().size() == 1);
}

TEST_CASE("a domain whose name servers are slow is given up for now", "[delivery][dmarc]") {
  class Slow : public tests::ZoneResolver {
   public:
    explicit Slow(HandClock& clock) : clock_(clock) {}
    Task<dns::Answer<std::string>> txt(std::string) override {
      clock_.time += 15s;
      ++questions;
      co_return dns::Answer<std::string>{};
    }
    int questions = 0;

   private:
    HandClock& clock_;
  };
  Office office;
  Slow slow(office.clock);
  Loop loop(0);
  auto reporter = std::make_shared<DmarcReporter>(
      loop, [&]() -> dns::Resolver& { return slow; }, office.clock, office.log, office.pool,
      office.journals(), ReportPost{[] { return mail::MessageId{1}; }, {}});
  DmarcReportSettings settings;
  settings.enabled = true;
  reporter->configure(settings);
  std::vector<std::string> many;
  for (int i = 0; i < 10; ++i)
    many.push_back("mailto:a@d" + std::to_string(i) + ".test");
  reporter->add(policy("example.test", many), row("192.0.2.1"));
  office.send(*reporter, loop, true);
  CHECK(slow.questions <= 3);
  REQUIRE(office.lines.size() == 1);
  CHECK(has(office.lines[0], "later: "));
}

TEST_CASE("what strangers send fills neither memory nor disk", "[delivery][dmarc]") {
  Office office;
  office.limits = {100, 1000, 2000, 1U << 20U};
  Loop loop(0);
  auto reporter = office.open(loop);
  for (int i = 0; i < 100'000; ++i)
    reporter->add(policy("example.test"), row("2001:db8::" + std::to_string(i)));
  for (int i = 0; i < 10'000; ++i)
    reporter->add(policy("d" + std::to_string(i) + ".test"), row("192.0.2.1"));
  reporter->save_now();
  CHECK(std::filesystem::file_size(office.journals() + "/20780.journal") < (1U << 20U));
  const auto lines = reporter->collected();
  CHECK(lines.size() == 101);
  CHECK(lines.back() == "2026-11-23 other domains: 9901 messages, not to be reported");
  CHECK(std::count(lines.begin(), lines.end(),
                   "2026-11-23 example.test: 500 messages, 500 failed, 99500 more without "
                   "details") == 1);
  const auto again = office.open(loop);
  CHECK(again->collected() == lines);
  office.send(*again, loop, true);
  const auto report =
      std::find_if(office.mails.begin(), office.mails.end(),
                   [](const ReportMail& mail) { return mail.recipient == "dmarc@example.test"; });
  REQUIRE(report != office.mails.end());
  CHECK(has(report_in(report->text), "<error>99500 messages are left out of this report</error>"));
}

TEST_CASE("a journal does not grow for ever", "[delivery][dmarc]") {
  int ids = 0;
  DmarcLedger ledger([&] { return "id" + std::to_string(++ids); });
  for (int i = 0; i < 50; ++i) {
    ledger.add(kDay, policy("example.test"), row("192.0.2.1"));
    CHECK(ledger.take_journal(kDay).size() < 400);
  }
  CHECK(ledger.take_journal(kDay).empty());
  CHECK(ledger.whole_journal(kDay).size() < 400);
  CHECK(has(ledger.whole_journal(kDay), "[\"r\",1,50,"));
}

TEST_CASE("a journal is written anew in parts, whatever happens between them",
          "[delivery][dmarc]") {
  int ids = 0;
  const auto new_id = [&] { return "id" + std::to_string(++ids); };
  DmarcLedger ledger(new_id);
  const auto add = [&](const std::string& domain, const std::string& source) {
    ledger.add(kDay, policy(domain), row(source));
  };
  const auto key = [](const std::string& domain) {
    return mailauth::ReportTally::key_of(policy(domain));
  };
  for (const char* domain : {"b.test", "c.test", "d.test", "e.test"})
    add(domain, "192.0.2.1");
  const bool is_written = GENERATE(false, true);
  if (is_written)
    (void)ledger.take_journal(kDay);
  std::string text;
  DmarcLedger::Whole whole;
  text += ledger.next_of(kDay, whole, 1).text();
  add("b.test", "192.0.2.1");  // of a part that is over
  add("b.test", "192.0.2.2");
  add("a.test", "192.0.2.1");
  add("d.test", "192.0.2.1");  // of one to come
  ledger.note_reached(kDay, key("b.test"), "dmarc@b.test");
  ledger.finish(kDay, key("c.test"), *ledger.tally(kDay)->find(key("c.test")));
  ledger.finish(kDay, key("e.test"), {});
  while (!whole.is_done())
    text += ledger.next_of(kDay, whole, 1).text();
  text += ledger.take_journal(kDay);
  DmarcLedger again(new_id);
  CHECK(again.read_journal(kDay, text) == 0);
  REQUIRE(again.tally(kDay) != nullptr);
  CHECK(again.tally(kDay)->policies().size() == ledger.tally(kDay)->policies().size());
  for (const auto& [name, known] : ledger.tally(kDay)->policies()) {
    INFO(known.published.domain);
    const auto* found = again.tally(kDay)->find(name);
    REQUIRE(found != nullptr);
    CHECK(found->rows == known.rows);
    CHECK(again.report(kDay, name)->id == ledger.report(kDay, name)->id);
    CHECK(again.report(kDay, name)->reached == ledger.report(kDay, name)->reached);
  }
}

TEST_CASE("an organisation has a quarter of a day, however many domains it makes",
          "[delivery][dmarc]") {
  mailauth::ReportTally tally({100, 1000, 2000, 10U << 20U});
  for (int i = 0; i < 1000; ++i)
    tally.add(policy("d" + std::to_string(i) + ".psd.evil.test"), row("192.0.2.1"));
  CHECK(tally.policies().size() == 25);
  for (int i = 0; i < 1000; ++i)
    tally.add(policy("d0.psd.evil.test"), row("2001:db8::" + std::to_string(i)));
  CHECK(tally.find(mailauth::ReportTally::key_of(policy("d0.psd.evil.test")))->rows.size() ==
        500 - 24);
  CHECK(tally.add(policy("good.test"), row("192.0.2.1")));
  tally.remove(mailauth::ReportTally::key_of(policy("d1.psd.evil.test")));
  CHECK(tally.add(policy("d1.psd.evil.test"), row("192.0.2.1")));
}

TEST_CASE("what comes while today is reported is in the next report", "[delivery][dmarc]") {
  int ids = 0;
  const auto make_id = [&] { return "id" + std::to_string(++ids); };
  DmarcLedger ledger(make_id);
  const auto key = mailauth::ReportTally::key_of(policy("example.test"));
  ledger.add(kDay, policy("example.test"), row("192.0.2.1"));
  auto journal = ledger.take_journal(kDay);
  const auto reported = *ledger.tally(kDay)->find(key);
  ledger.add(kDay, policy("example.test"), row("192.0.2.1"));
  ledger.add(kDay, policy("example.test"), row("192.0.2.2"));
  CHECK(ledger.report(kDay, key)->id == "id1");
  ledger.finish(kDay, key, reported);
  CHECK(ledger.report(kDay, key)->id == "id2");
  CHECK(ledger.tally(kDay)->find(key)->rows.size() == 2);
  journal += ledger.take_journal(kDay);

  DmarcLedger read(make_id);
  CHECK(read.read_journal(kDay, journal) == 0);
  CHECK(read.report(kDay, key)->id == "id2");
  CHECK(read.tally(kDay)->find(key)->rows == ledger.tally(kDay)->find(key)->rows);
  ledger.finish(kDay, key, *ledger.tally(kDay)->find(key));
  CHECK(ledger.is_empty());
}

TEST_CASE("lines of a journal count as outside bytes", "[delivery][dmarc]") {
  int ids = 0;
  const auto make_id = [&] { return "id" + std::to_string(++ids); };
  const std::string good =
      R"(["p",1,"abc","example.test","reject","","","r","r","0","n","",["mailto:a@example.test"]])"
      "\n";
  const std::vector<std::string> bad = {
      "nonsense\n",
      "{}\n",
      "[]\n",
      R"(["r"])"
      "\n",
      R"(["r",1,-1,"192.0.2.1","a","b","none",true,true,"","","pass",[]])"
      "\n",
      R"(["r",1,1,"192.0.2.1","a","b","none",1,true,"","","pass",[]])"
      "\n",
      R"(["r",1,1,"192.0.2.1","a","b","none",true,true,"","","pass",[["d"]]])"
      "\n",
      R"(["r",2,1,"192.0.2.1","a","b","none",true,true,"","","pass",[]])"
      "\n",
      R"(["p",3,"../../x","example.test","reject","","","r","r","0","n","",[]])"
      "\n",
      R"(["p",1,"twice","example.test","reject","","","r","r","0","n","",[]])"
      "\n",
      "[\"l\",1,\"" + std::string(300'000, 'x') + "\"]\n",
      std::string(100'000, '[') + "\n",
  };
  for (const auto& line : bad) {
    DmarcLedger ledger(make_id);
    CHECK(ledger.read_journal(kDay, good + line) == 1);
    CHECK(ledger.is_empty());
  }
}

TEST_CASE("days that a wrong clock made are not kept for ever", "[delivery][dmarc]") {
  Office office;
  Loop loop(0);
  auto reporter = office.open(loop);
  reporter->add(policy("example.test"), row("192.0.2.1"));
  office.clock.time += 24h * 365;
  reporter->add(policy("example.test"), row("192.0.2.1"));
  reporter->save_now();
  office.clock.time -= 24h * 365;
  // As the clock of the daemon's loop does each minute.
  class Ticking : public DailyReporter {
   public:
    static void tick(DailyReporter& reporter) { (reporter.*(&Ticking::end_days))(); }
  };
  Ticking::tick(*reporter);
  CHECK(reporter->collected() ==
        std::vector<std::string>{"2026-11-23 example.test: 1 messages, 1 failed"});
  office.clock.time += 24h * 3;
  Ticking::tick(*reporter);
  CHECK(reporter->collected().empty());
  reporter->save_now();
  CHECK(std::filesystem::is_empty(office.journals()));
  office.send(*reporter, loop, true);
}
