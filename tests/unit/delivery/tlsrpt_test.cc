#include "base/base64.h"
#include "delivery/tls/reports/record.h"
#include "delivery/tls/reports/report.h"

#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>
#include <catch2/catch.hpp>

#include <zlib.h>

using namespace postrider;
using namespace postrider::delivery;
using namespace std::chrono_literals;

namespace {

const Day kDay{std::chrono::days(20'780)};  // 2026-11-23

TlsReport report(TlsResult result, std::string domain = "example.test") {
  TlsReport one;
  one.when = TimePoint(kDay) + 3h;
  one.domain = std::move(domain);
  one.result = result;
  one.host = "mx.example.test";
  one.address = "192.0.2.1";
  return one;
}

std::shared_ptr<StsPolicy> policy() {
  auto made = std::make_shared<StsPolicy>();
  made->mode = StsPolicy::Mode::enforce;
  made->mx = {"*.example.test"};
  made->lines = {"version: STSv1", "mode: enforce"};
  return made;
}

std::string unzipped(std::string_view bytes) {
  z_stream stream{};
  REQUIRE(inflateInit2(&stream, 15 + 16) == Z_OK);
  std::string in(bytes), out(100'000, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(in.data());
  stream.avail_in = static_cast<uInt>(in.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  CHECK(inflate(&stream, Z_FINISH) == Z_STREAM_END);
  out.resize(stream.total_out);
  inflateEnd(&stream);
  return out;
}

TlsReportHead head() {
  return {"Example Org", "tls@us.test", "mx.us.test", "example.test", "4F2", kDay};
}

}  // namespace

TEST_CASE("a record says where reports go (RFC 8460 3)", "[delivery][tlsrpt]") {
  struct Case {
    std::string name;
    std::string record;
    std::vector<std::string> want;
  };
  const std::vector<Case> cases = {
      {"mail", "v=TLSRPTv1; rua=mailto:reports@example.test", {"mailto:reports@example.test"}},
      {"HTTPS",
       "v=TLSRPTv1;rua=https://Report.example.test/v1/tlsrpt;",
       {"https://report.example.test/v1/tlsrpt"}},
      {"both",
       "v=TLSRPTv1; rua=mailto:a@b.test , https://c.test:8443?x",
       {"mailto:a@b.test", "https://c.test:8443/?x"}},
      {"encoded", "v=TLSRPTv1; rua=mailto:a%2Bb@c.test", {"mailto:a+b@c.test"}},
      {"six, of which five count",
       "v=TLSRPTv1; rua=mailto:a@b.test,mailto:a@c.test,mailto:a@d.test,mailto:a@e.test,"
       "mailto:a@f.test,mailto:a@g.test",
       {"mailto:a@b.test", "mailto:a@c.test", "mailto:a@d.test", "mailto:a@e.test",
        "mailto:a@f.test"}},
      {"neither", "v=TLSRPTv1; rua=http://a.test/,ftp://a.test,a@b.test", {}},
      {"no version", "rua=mailto:a@b.test", {}},
      {"no rua", "v=TLSRPTv1; x=y", {}},
      {"a hidden line end", "v=TLSRPTv1; rua=mailto:a%0D%0Ab@c.test,https://a%0d.test/", {}},
      {"a space in a URI", "v=TLSRPTv1; rua=https://a.test/ HTTP/1.1", {}},
      {"a broken escape", "v=TLSRPTv1; rua=mailto:a%2@c.test", {}},
      {"no port", "v=TLSRPTv1; rua=https://a.test:0/,https://a.test:x/,https://a.test:65536/", {}},
      {"an address as a host, or a user", "v=TLSRPTv1; rua=https://[::1]/,https://u@a.test/", {}},
      {"a host of one label", "v=TLSRPTv1; rua=https://localhost/", {}},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.name) {
      std::vector<std::string> found;
      for (const auto& target : parse_tlsrpt_record({c.record}))
        found.push_back(target.describe());
      CHECK(found == c.want);
    }
  CHECK(parse_tlsrpt_record({"v=TLSRPTv1; rua=mailto:a@b.test", "v=TLSRPTv1; rua=mailto:a@c.test"})
            .empty());
}

TEST_CASE("E18: handshakes are counted by day, domain, policy and failure", "[delivery][tlsrpt]") {
  TlsTally tally;
  tally.add(report(TlsResult::success));
  tally.add(report(TlsResult::certificate_expired));
  tally.add(report(TlsResult::certificate_expired));
  auto sts = report(TlsResult::certificate_host_mismatch);
  sts.source = TlsSource::mta_sts;
  sts.sts = policy();
  tally.add(sts);
  auto dane = report(TlsResult::success);
  dane.source = TlsSource::dane;
  dane.tlsa = {{3, 1, 1, {0xab}}};
  tally.add(dane);
  auto tomorrow = report(TlsResult::success);
  tomorrow.when += 24h;
  tally.add(tomorrow);
  REQUIRE(tally.days().size() == 2);
  const auto& policies = tally.days().at(kDay).at("example.test");
  REQUIRE(policies.size() == 3);
  CHECK(policies[0].type == "no-policy-found");
  CHECK(policies[0].successes == 1);
  CHECK(policies[0].failures == 2);
  REQUIRE(policies[0].details.size() == 1);
  CHECK(policies[0].details[0].count == 2);
  CHECK(policies[1].type == "sts");
  CHECK(policies[1].hosts == std::vector<std::string>{"*.example.test"});
  CHECK(policies[2].type == "tlsa");
  CHECK(policies[2].strings == std::vector<std::string>{"3 1 1 ab"});
  tally.remove(kDay, "example.test");
  CHECK(tally.days().size() == 1);
}

TEST_CASE("the tally is bounded, and its totals stay true", "[delivery][tlsrpt]") {
  TlsTally tally({2, 2, 3});
  for (int i = 0; i < 10; ++i) {
    auto one = report(TlsResult::validation_failure);
    one.detail = std::to_string(i) + std::string(10'000, 'x');
    tally.add(one);
    tally.add(report(TlsResult::success, std::to_string(i) + ".test"));
  }
  CHECK(tally.days().at(kDay).size() == 2);
  const auto& only = tally.days().at(kDay).at("example.test").at(0);
  CHECK(only.failures == 10);
  CHECK(only.details.size() == 3);
  CHECK(only.details[0].detail.size() < 300);
}

TEST_CASE("results outlive a restart, and damage is noticed", "[delivery][tlsrpt]") {
  TlsTally tally;
  auto one = report(TlsResult::validation_failure);
  one.detail = "said \"no\" \\ \x01";
  tally.add(one);
  tally.add(report(TlsResult::success));
  const auto text = tally.encode();
  const auto back = TlsTally::decode(text);
  REQUIRE(back.has_value());
  CHECK(back->encode() == text);
  for (const char* damaged : {"", "[]", "{\"x\":{}}", "{\"99999999999\":{}}", "{\"1\":1}"})
    CHECK_FALSE(TlsTally::decode(damaged).has_value());
  const auto odd = TlsTally::decode(
      "{\"1\":{\"a.test\":[{\"successes\":-1,\"details\":[{\"count\":\"x\"},7]}]}}");
  CHECK(odd.has_value());
}

TEST_CASE("a report is the JSON of RFC 8460 4.4", "[delivery][tlsrpt]") {
  TlsTally tally;
  auto one = report(TlsResult::certificate_host_mismatch);
  one.source = TlsSource::mta_sts;
  one.sts = policy();
  one.from_address = "198.51.100.1";
  tally.add(one);
  const auto text = tls_report_json(head(), tally.days().at(kDay).at("example.test"));
  const auto json = boost::json::parse(text);
  CHECK(json.at("organization-name") == "Example Org");
  CHECK(json.at("date-range").at("start-datetime") == "2026-11-23T00:00:00Z");
  CHECK(json.at("date-range").at("end-datetime") == "2026-11-23T23:59:59Z");
  CHECK(json.at("contact-info") == "tls@us.test");
  CHECK(json.at("report-id") == "4F2");
  const auto& about = json.at("policies").at(0);
  CHECK(about.at("policy").at("policy-type") == "sts");
  CHECK(about.at("policy").at("policy-string").at(1) == "mode: enforce");
  CHECK(about.at("policy").at("policy-domain") == "example.test");
  CHECK(about.at("policy").at("mx-host").at(0) == "*.example.test");
  CHECK(about.at("summary").at("total-successful-session-count") == 0);
  CHECK(about.at("summary").at("total-failure-session-count") == 1);
  const auto& failure = about.at("failure-details").at(0);
  CHECK(failure.at("result-type") == "certificate-host-mismatch");
  CHECK(failure.at("sending-mta-ip") == "198.51.100.1");
  CHECK(failure.at("receiving-mx-hostname") == "mx.example.test");
  CHECK(failure.at("failed-session-count") == 1);
}

TEST_CASE("a report travels compressed in a mail of its own form (RFC 8460 5.3)",
          "[delivery][tlsrpt]") {
  const std::string json(5000, 'j');
  const auto mail = tls_report_mail(head(), gzip(json), "reports@example.test", mail::MessageId{77},
                                    TimePoint(kDay) + 25h);
  const auto has = [&](const char* text) { return mail.find(text) != mail.npos; };
  CHECK(has("From: <tls@us.test>\r\nTo: <reports@example.test>\r\n"));
  CHECK(has("Subject: Report Domain: example.test\r\n\tSubmitter: mx.us.test\r\n"));
  CHECK(has("\r\nTLS-Report-Domain: example.test\r\nTLS-Report-Submitter: mx.us.test\r\n"));
  CHECK(has("\r\nTLS-Required: No\r\n"));
  CHECK(has("multipart/report; report-type=\"tlsrpt\""));
  CHECK(has("application/tlsrpt+gzip"));
  CHECK(has("filename=\"mx.us.test!example.test!1795392000!1795478399!4F2.json.gz\""));
  const auto begin = mail.find("\r\n\r\n", mail.find("base64\r\n")) + 4;
  auto encoded = mail.substr(begin, mail.find("\r\n\r\n--", begin) - begin);
  std::erase_if(encoded, [](char c) { return c == '\r' || c == '\n'; });
  CHECK(unzipped(decode_base64(encoded).value()) == json);
}
