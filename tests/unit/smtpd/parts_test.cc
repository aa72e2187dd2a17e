// The small parts on their own: PROXY headers, the header watch, the log's keys.
#include "support.h"

#include "smtpd/limited_log.h"
#include "smtpd/proxy_protocol.h"
#include "smtpd/reading_pace.h"
#include "smtpd/receiving_log.h"
#include "smtpd/session/header_watch.h"
#include "smtpd/session/incoming_content.h"
#include "smtpd/session/policy.h"
#include "smtpd/tls_wish.h"

#include <catch2/catch.hpp>

#include <algorithm>

using namespace postrider;
using namespace postrider::smtpd;
using namespace std::string_literals;

namespace {

const std::string kSignature("\r\n\r\n\0\r\nQUIT\n", 12);

// What the parser says of the whole, after each shorter start asked for more.
std::string proxy(const std::string& bytes) {
  for (std::size_t size = 0; size + 1 < bytes.size(); ++size) {
    std::size_t used = 0;
    const auto early = parse_proxy_header(std::string_view(bytes).substr(0, size), used);
    if (!early)
      return "malformed";
    if (*early)
      break;
  }
  std::size_t used = 0;
  const auto header = parse_proxy_header(bytes, used);
  if (!header)
    return "malformed";
  if (!*header)
    return "more";
  if ((*header)->is_local)
    return "local " + std::to_string(used);
  return (*header)->source.str() + " " + std::to_string((*header)->source_port) + " " +
         std::to_string(used);
}

std::string version_2(char command, char family, std::string body) {
  const auto size = body.size();
  return kSignature + command + family + static_cast<char>(size >> 8U) + static_cast<char>(size) +
         std::move(body);
}

}  // namespace

TEST_CASE("I16: PROXY headers of both versions, and what is none", "[smtpd][attacks]") {
  CHECK(proxy("PROXY TCP4 192.0.2.7 192.0.2.1 4711 25\r\n") == "192.0.2.7 4711 40");
  CHECK(proxy("PROXY TCP6 2001:db8::7 2001:db8::1 4711 25\r\n") == "2001:db8::7 4711 44");
  CHECK(proxy("PROXY UNKNOWN\r\n") == "local 15");
  CHECK(proxy("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n") == "local 35");
  CHECK(proxy("PROXY TCP4 192.0.2.7 192.0.2.1 4711 25") == "more");
  CHECK(proxy("PROXY TCP4 192.0.2.7 192.0.2.1 4711 65536\r\n") == "malformed");
  CHECK(proxy("PROXY TCP4 192.0.2.7 192.0.2.1 4711\r\n") == "malformed");
  CHECK(proxy("PROXY TCP6 192.0.2.7 192.0.2.1 4711 25\r\n") == "malformed");
  CHECK(proxy("PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n") == "malformed");
  CHECK(proxy("PROXY TCP4 192.0.2.7  192.0.2.1 1 2\r\n") == "malformed");
  CHECK(proxy("PROXY UDP4 192.0.2.7 192.0.2.1 1 2\r\n") == "malformed");
  CHECK(proxy("PROXY " + std::string(200, 'x')) == "malformed");
  CHECK(proxy("EHLO x\r\n") == "malformed");
  CHECK(proxy(version_2('\x21', '\x11', "\xc0\x00\x02\x07\xc0\x00\x02\x01\x12\x67\x00\x19"s)) ==
        "192.0.2.7 4711 28");
  CHECK(proxy(version_2('\x21', '\x21',
                        "\x20\x01\x0d\xb8"s + std::string(11, '\0') + "\x07" +
                            std::string(16, '\1') + "\x12\x67\x00\x19"s + "tlv")) ==
        "2001:db8::7 4711 55");
  CHECK(proxy(version_2('\x20', '\x00', "")) == "local 16");
  CHECK(proxy(version_2('\x21', '\x00', "abc")) == "local 19");
  CHECK(proxy(version_2('\x21', '\x11', "short")) == "malformed");
  CHECK(proxy(version_2('\x21', '\x12', std::string(12, 'x'))) == "malformed");
  CHECK(proxy(version_2('\x31', '\x11', std::string(12, 'x'))) == "malformed");
  CHECK(proxy(version_2('\x22', '\x11', std::string(12, 'x'))) == "malformed");
  CHECK(proxy(version_2('\x21', '\x11', std::string(60000, 'x'))) == "malformed");
}

TEST_CASE("the header watch sees the same however the header is cut", "[smtpd]") {
  const std::string content =
      "Received: one\r\n by two\r\nrECEIVED: three\r\nReceived-SPF: none\r\nMessage-ID:\r\n"
      " <id@x>\r\nPrecedence:\r\n list\r\nPrecedence: junk\r\nDate: "
      "now\r\nTLS-required:no\r\n\r\nReceived: body\r\n";
  for (std::size_t piece = 1; piece <= content.size(); ++piece) {
    HeaderWatch watch(1000);
    for (std::size_t at = 0; at < content.size(); at += piece)
      watch.feed(std::string_view(content).substr(at, piece));
    CHECK(watch.has_ended());
    CHECK(watch.received_fields() == 2);
    CHECK(watch.has_date());
    CHECK(watch.has_message_id());
    CHECK(watch.tls_not_required());
    CHECK(watch.message_id() == "<id@x>");
    CHECK(watch.precedence() == mail::Precedence::bulk);
    CHECK_FALSE(watch.is_too_large());
  }
}

TEST_CASE("the header watch finds the traceparent that the whole section has", "[smtpd]") {
  const std::string good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  const auto field = "traceparent: " + good + "\r\n";
  const std::string sections[] = {field,
                                  "To: a@b.test\r\n" + field + "X: y\r\n z\r\n",
                                  "TRACEPARENT:" + good + " \t\r\n",
                                  field + field,
                                  "traceparent: x\r\n" + field,
                                  "traceparent:\r\n " + good + "\r\n",
                                  "traceparent: " + good + "\r\n more\r\n",
                                  "traceparent: " + good + "\r\n \r\n",
                                  "traceparent: " + good + std::string(2000, ' ') + "x\r\n",
                                  "traceparent: " + good + std::string(2000, ' ') + "\r\n",
                                  "traceparent: " + good + std::string(2000, '1') + "\r\n",
                                  "TLS-Required: No\r\n " + good + "\r\n"};
  for (const auto& section : sections) {
    const auto content = section + "\r\n" + field;  // what stands in the body does not count
    for (const std::size_t piece : {std::size_t{1}, std::size_t{7}, content.size()}) {
      INFO(content << piece);
      HeaderWatch watch(100000);
      for (std::size_t at = 0; at < content.size(); at += piece)
        watch.feed(std::string_view(content).substr(at, piece));
      watch.finish();
      CHECK(watch.trace_parent() == mail::trace_parent_of(section));
    }
  }
  CHECK(mail::trace_parent_of(sections[0]) == good);
}

TEST_CASE("a client does not pay for the time that we take over its content", "[smtpd]") {
  Client client;
  client.address = IpAddress::parse("127.0.0.1").value();
  SessionFramer talk(Session(std::make_shared<const Policy>(
                                 std::make_shared<const ServerSettings>(tests::strict_settings())),
                             client, Role::mx, "c1", nullptr));
  std::string replies;
  (void)talk.open(replies);
  const std::string said = "EHLO c.test\r\n";
  std::size_t used = 0;
  (void)talk.take(said, used, replies);
  for (const std::string line :
       {"MAIL FROM:<a@b.test>\r\n", "RCPT TO:<y@us.test>\r\n", "DATA\r\n"}) {
    CHECK_FALSE(talk.reads_content());
    if (talk.take(line, used, replies) == SessionFramer::Need::look_up) {
      auto& session = talk.session();
      (void)talk.looked_up(session.facts().policy->judge(session.transaction().question()),
                           replies);
    }
  }
  REQUIRE(talk.reads_content());
  const Timeouts times;
  const SteadyTime began{std::chrono::hours(1)};
  ReadingPace pace(began);
  CHECK(pace.deadline(talk, began, times, {}) == times.data);
  // A filter takes twice the time that there is.
  const auto later = began + times.data * 2;
  pace.excuse(began, later);
  CHECK(pace.deadline(talk, later, times, {}) == times.data);
  // The client itself does not.
  CHECK(pace.deadline(talk, later + times.data / 2, times, {}) == times.data / 2);
  CHECK(pace.deadline(talk, later + times.data * 2, times, {}) == Duration(0));
}

TEST_CASE("TLS-Required: No counts only where the client did not demand TLS", "[smtpd]") {
  using mail::TlsWish;
  CHECK(tls_wish(TlsWish::unspecified, true) == TlsWish::optional);
  CHECK(tls_wish(TlsWish::required, true) == TlsWish::required);
  CHECK(tls_wish(TlsWish::unspecified, false) == TlsWish::unspecified);
  CHECK(tls_wish(TlsWish::required, false) == TlsWish::required);
}

TEST_CASE("the header watch keeps no long line and stops at its limit", "[smtpd]") {
  HeaderWatch watch(10000);
  for (int i = 0; i < 200; ++i)
    watch.feed(std::string(100, 'x'));
  CHECK(watch.has_ended());
  CHECK(watch.is_too_large());
  HeaderWatch bodyless(1000);
  bodyless.feed("no header at all\r\nReceived: x\r\n");
  CHECK(bodyless.has_ended());
  CHECK(bodyless.received_fields() == 0);
}

TEST_CASE("the header watch ends where the walk over the whole ends", "[smtpd]") {
  const std::string starts[] = {"",
                                " x: y\r\n",
                                "not a field\r\n",
                                "From a@b Mon 10:00\r\n",
                                ">From a@b 10:00\r\n",
                                "X-G r: y\r\n",
                                ": y\r\n",
                                std::string(997, 'x') + ": y\r\n",
                                std::string(998, 'x') + ": y\r\n"};
  const std::string middles[] = {"", "A: b\r\n", "A: b\r\n\tc\r\nD : e\r\n"};
  const std::string ends[] = {"Date: now", "Date: now\r\n", "text\r\nDate: now\r\n",
                              "From x 10:00\r\nDate: now\r\n", "\r\nDate: now\r\n"};
  for (const auto& start : starts)
    for (const auto& middle : middles)
      for (const auto& end : ends) {
        const auto content = start + middle + end;
        const auto facts = mail::header_facts(content);
        for (const std::size_t piece : {std::size_t{1}, std::size_t{7}, content.size()}) {
          INFO(content << piece);
          HeaderWatch watch(100000);
          for (std::size_t at = 0; at < content.size(); at += piece)
            watch.feed(std::string_view(content).substr(at, piece));
          watch.finish();
          CHECK(watch.first_line() == facts.first_line);
          CHECK(watch.has_date() == facts.has_date);
        }
      }
}

namespace {

class SteadyClock : public Clock {
 public:
  TimePoint now() const override { return {}; }
  SteadyTime steady() const override { return at; }
  SteadyTime at{std::chrono::hours(1)};
};

}  // namespace

TEST_CASE("X15: a flood of connections is counted, not written", "[smtpd][attacks]") {
  tests::RecordingLog log;
  SteadyClock clock;
  Loop loop(0);
  smtpd::LimitedLog limited(log, clock, loop.deadlines());
  const auto write = [&](const char* name, std::uint64_t times) {
    for (std::uint64_t i = 0; i < times; ++i)
      limited.write(LogEvent(Level::info, name));
  };
  constexpr auto kBurst = smtpd::LimitedLog::kBurst;
  write("connected", kBurst + 500);
  write("rejected", 10);
  CHECK(log.named("connected").size() == kBurst);
  CHECK(log.named("rejected").size() == 10);
  limited.report();
  REQUIRE(log.named("log_limited").size() == 1);
  CHECK(log.named("log_limited")[0].value("of") == "connected");
  CHECK(log.named("log_limited")[0].value("suppressed") == "500");
  clock.at += std::chrono::seconds(2);
  write("connected", 500);
  CHECK(log.named("connected").size() == kBurst + 2 * smtpd::LimitedLog::kRate);
  limited.report();
  limited.report();
  CHECK(log.named("log_limited").size() == 2);
}

TEST_CASE("X15: the flood of one network hides no lines of another that are few",
          "[smtpd][attacks]") {
  tests::RecordingLog log;
  SteadyClock clock;
  Loop loop(0);
  smtpd::LimitedLog limited(log, clock, loop.deadlines());
  const auto fail = [&](const std::string& client) {
    limited.write(LogEvent(Level::info, "auth_failed").add("client", client));
  };
  const auto lines_of = [&](std::string_view network) {
    const auto all = log.named("auth_failed");
    return std::count_if(all.begin(), all.end(), [&](const auto& event) {
      return event.value("client").starts_with(network);
    });
  };
  // A minute of it: 500 a second of two networks, one every second of a third, and of one by IPv6.
  for (unsigned second = 0; second < 60; ++second) {
    for (unsigned i = 0; i < 500; ++i)
      fail("192.0." + std::to_string(2 + i % 2) + "." + std::to_string(1 + i % 200));
    fail("198.51.100." + std::to_string(1 + second));
    fail("2001:db8:0:" + std::to_string(second) + "::1");
    clock.at += std::chrono::seconds(1);
  }
  CHECK(lines_of("198.51.100.") == 60);
  CHECK(lines_of("2001:db8:") == 60);
  constexpr auto kFew = smtpd::LimitedLog::kFew;
  CHECK(lines_of("192.0.") <= std::ptrdiff_t{2000 + 60 * 100 + 2 * 160 + 2 * (kFew + 1)});
  // However many networks there are, the lines are not.
  const auto before = log.named("auth_failed").size();
  for (unsigned i = 0; i < 50'000; ++i)
    fail("10." + std::to_string(i / 256) + "." + std::to_string(i % 256) + ".1");
  CHECK(log.named("auth_failed").size() - before <=
        5000 + 2000 + 2 * smtpd::LimitedLog::kFewBurstOfAll);
}

TEST_CASE("X15: the flood of a thousand networks hides no lines of another that are few",
          "[smtpd][attacks]") {
  tests::RecordingLog log;
  SteadyClock clock;
  Loop loop(0);
  smtpd::LimitedLog limited(log, clock, loop.deadlines());
  const auto fail = [&](const std::string& client) {
    limited.write(LogEvent(Level::info, "auth_failed").add("client", client));
  };
  // Each of them less than once a second, so that none of them has more than its own share.
  unsigned next = 0;
  for (unsigned second = 0; second < 120; ++second) {
    for (unsigned i = 0; i < 700; ++i, ++next)
      fail("10." + std::to_string(next % 1000 / 256) + "." + std::to_string(next % 1000 % 256) +
           ".1");
    if (second % 6 == 5)
      fail("198.51.100.7");
    clock.at += std::chrono::seconds(1);
  }
  const auto all = log.named("auth_failed");
  CHECK(std::count_if(all.begin(), all.end(), [](const auto& event) {
          return event.value("client") == "198.51.100.7";
        }) == 20);
  constexpr auto kFewOfAll =
      smtpd::LimitedLog::kFewBurstOfAll + 120 * smtpd::LimitedLog::kFewRateOfAll;
  CHECK(all.size() <= 2 * kFewOfAll + 5000 + 120 * 50 + 2000 + 120 * 100);
}

TEST_CASE("B13: what is declared reserves 64 KiB at most", "[smtpd][attacks]") {
  IncomingContent::Rules rules;
  rules.size_limit = rules.expected_size = 1ULL << 40U;
  rules.header_limit = 1000;
  rules.received_limit = 100;
  IncomingContent intake(rules);
  CHECK(intake.bytes().capacity() <= IncomingContent::kMostInMemory + 64);
}

TEST_CASE("a refusal is logged with its stage and addresses, once", "[smtpd][maillog]") {
  tests::RunningServer server;
  tests::Peer peer(server.port());
  peer.reply();
  for (const auto* line :
       {"EHLO c.test\r\n", "MAIL FROM:<a b@ext.test>\r\n", "MAIL FROM:<a@ext.test>\r\n",
        "RCPT TO:<\x1b@us.test>\r\n", "RCPT TO:<nobody@us.test> NOTIFY=NEVER\r\n", "QUIT\r\n"})
    peer.say(line);
  const auto ended = server.log().wait_for("disconnected");
  CHECK(ended.at(0).value("reason") == "quit");
  CHECK(ended.at(0).value("commands") == "6");
  const auto rejected = server.log().named("rejected");
  REQUIRE(rejected.size() == 3);
  CHECK(rejected[0].value("stage") == "MAIL");
  CHECK(rejected[0].value("from") == "a b@ext.test");
  CHECK(rejected[1].value("stage") == "UNKNOWN");
  CHECK(rejected[2].value("stage") == "RCPT");
  CHECK(rejected[2].value("reply") == "550 5.1.1 No such user here");
  CHECK(rejected[2].value("from") == "a@ext.test");
  CHECK(rejected[2].value("to") == "nobody@us.test");
  CHECK(rejected[2].value("helo") == "c.test");
  CHECK(rejected[2].value("client") == "127.0.0.1");
  CHECK(rejected[2].id() == ended.at(0).id());
}
