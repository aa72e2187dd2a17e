#include "daemon/log/log_postfix.h"

#include "base/log.h"

#include <catch2/catch.hpp>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <regex>
#include <unistd.h>

using namespace postrider;
using postrider::daemon::PostfixFormat;

namespace {

// What a format makes of an event, with the process id taken out.
std::string format(LogEvent event, bool with_stamp = false) {
  event.when = TimePoint(std::chrono::milliseconds(1795442462000));  // 2026-11-23 14:01:02 UTC
  const PostfixFormat postfix("mx.example.org");
  postrider::daemon::LogLines lines;
  postfix.write(event, lines);
  std::string all;
  for (const auto& line : lines) {
    if (!all.empty())
      all.push_back('\n');
    if (with_stamp)
      postfix.write_stamp(event, line.program, all);
    else
      all.append(line.program).append("[1]: ");
    all.append(line.text);
  }
  return std::regex_replace(all, std::regex("\\[" + std::to_string(getpid()) + "\\]"), "[1]");
}

LogEvent event(const char* name, std::string_view id = {}) {
  return LogEvent(Level::info, name, id);
}

struct Case {
  const char* name;
  LogEvent event;
  const char* want;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  const auto row = [&](const char* name, LogEvent&& made, const char* want) {
    all.push_back({name, std::move(made), want});
  };
  const auto changed = [](const char* verb, const char* messages) {
    return std::move(event("queue_changed")
                         .add("verb", verb)
                         .add("filter", "--all")
                         .add("messages", messages)
                         .add("user", "root"));
  };
  row("removed by an administrator", changed("remove", "2"),
      "postfix/postsuper[1]: Deleted: 2 messages\n"
      "postrider[1]: queue_changed verb=\"remove\" filter=\"--all\" messages=\"2\" user=\"root\"");
  row("held", changed("hold", "1"),
      "postfix/postsuper[1]: Placed on hold: 1 message\n"
      "postrider[1]: queue_changed verb=\"hold\" filter=\"--all\" messages=\"1\" user=\"root\"");
  row("released", changed("release", "0"),
      "postfix/postsuper[1]: Released from hold: 0 messages\n"
      "postrider[1]: queue_changed verb=\"release\" filter=\"--all\" messages=\"0\" user=\"root\"");
  row("tried again", changed("retry", "3"),
      "postfix/postsuper[1]: Requeued: 3 messages\n"
      "postrider[1]: queue_changed verb=\"retry\" filter=\"--all\" messages=\"3\" user=\"root\"");
  row("expired, for which it has no words", changed("expire", "3"),
      "postrider[1]: queue_changed verb=\"expire\" filter=\"--all\" messages=\"3\" user=\"root\"");
  row("rerouted, likewise", changed("reroute", "3"),
      "postrider[1]: queue_changed verb=\"reroute\" filter=\"--all\" messages=\"3\" user=\"root\"");
  row("a connection", event("connected", "S1").add("client", "192.0.2.1").add("port", "4711"),
      "postfix/smtpd[1]: connect from unknown[192.0.2.1]");
  row("one whose name leads back to it",
      event("connected", "S1").add("client", "192.0.2.1").add("client_name", "mx.src.test"),
      "postfix/smtpd[1]: connect from mx.src.test[192.0.2.1]");
  row("its end",
      event("disconnected", "S1")
          .add("client", "2001:db8::1")
          .add("reason", "quit")
          .add("commands", "5"),
      "postfix/smtpd[1]: disconnect from unknown[2001:db8::1]");
  row("a client that says nothing",
      event("disconnected", "S1")
          .add("client", "192.0.2.1")
          .add("reason", "timeout")
          .add("commands", "0"),
      "postfix/smtpd[1]: timeout after CONNECT from unknown[192.0.2.1]\n"
      "postfix/smtpd[1]: disconnect from unknown[192.0.2.1]");
  row("a refused relay",
      event("rejected", "S1")
          .add("stage", "RCPT")
          .add("reply", "550 5.7.1 Relaying denied")
          .add("client", "192.0.2.1")
          .add("helo", "spam.example")
          .add("from", "a@b.example")
          .add("to", "<c@d.example>")
          .add("protocol", "ESMTP"),
      "postfix/smtpd[1]: NOQUEUE: reject: RCPT from unknown[192.0.2.1]: 550 5.7.1 "
      "<c@d.example>: Relay access denied; from=<a@b.example> to=<c@d.example> proto=ESMTP "
      "helo=<spam.example>");
  row("an unknown user of the null sender",
      event("rejected", "S1")
          .add("stage", "RCPT")
          .add("reply", "550 5.1.1 No such user here")
          .add("client", "192.0.2.1")
          .add("from", "")
          .add("to", "<x@us.example>")
          .add("protocol", "SMTP"),
      "postfix/smtpd[1]: NOQUEUE: reject: RCPT from unknown[192.0.2.1]: 550 5.1.1 "
      "<x@us.example>: Recipient address rejected: User unknown in local recipient table; "
      "from=<> to=<x@us.example> proto=SMTP helo=<>");
  row("a recipient refused by a table, with the administrator's words",
      event("rejected", "S1")
          .add("stage", "RCPT")
          .add("reply", "550 5.7.1 closed")
          .add("client", "192.0.2.1")
          .add("from", "a@b.example")
          .add("to", "<x@us.example>")
          .add("protocol", "SMTP"),
      "postfix/smtpd[1]: NOQUEUE: reject: RCPT from unknown[192.0.2.1]: 550 5.7.1 "
      "<x@us.example>: Recipient address rejected: closed; from=<a@b.example> "
      "to=<x@us.example> proto=SMTP helo=<>");
  row("a sender refused by a table",
      event("rejected", "S1")
          .add("stage", "MAIL")
          .add("reply", "550 5.7.1 go away")
          .add("client", "192.0.2.1")
          .add("from", "a@b.example")
          .add("protocol", "SMTP"),
      "postfix/smtpd[1]: NOQUEUE: reject: MAIL from unknown[192.0.2.1]: 550 5.7.1 "
      "<a@b.example>: Sender address rejected: go away; from=<a@b.example> proto=SMTP helo=<>");
  row("a client on a list",
      event("rejected", "S1")
          .add("stage", "RCPT")
          .add("reply",
               "554 5.7.1 Service unavailable; client [192.0.2.1] is listed by zen.example: see us")
          .add("client", "192.0.2.1")
          .add("helo", "pc.example")
          .add("from", "a@b.example")
          .add("to", "<x@us.example>")
          .add("protocol", "ESMTP")
          .add("problem", "listed"),
      "postfix/smtpd[1]: NOQUEUE: reject: RCPT from unknown[192.0.2.1]: 554 5.7.1 Service "
      "unavailable; Client host [192.0.2.1] blocked using zen.example; see us; "
      "from=<a@b.example> to=<x@us.example> proto=ESMTP helo=<pc.example>");
  row("a sender's domain on a list",
      event("rejected", "S1")
          .add("stage", "RCPT")
          .add("reply",
               "554 5.7.1 Service unavailable; the sender's domain is listed by dbl.example")
          .add("client", "192.0.2.1")
          .add("helo", "pc.example")
          .add("from", "a@b.example")
          .add("to", "<x@us.example>")
          .add("protocol", "ESMTP")
          .add("problem", "listed"),
      "postfix/smtpd[1]: NOQUEUE: reject: RCPT from unknown[192.0.2.1]: 554 5.7.1 Service "
      "unavailable; Sender address [a@b.example] blocked using dbl.example; "
      "from=<a@b.example> to=<x@us.example> proto=ESMTP helo=<pc.example>");
  row("a name in EHLO on a list",
      event("rejected", "S1")
          .add("stage", "RCPT")
          .add("reply", "554 5.7.1 Service unavailable; the name in EHLO is listed by dbl.example")
          .add("client", "192.0.2.1")
          .add("helo", "pc.example")
          .add("from", "a@b.example")
          .add("to", "<x@us.example>")
          .add("protocol", "ESMTP")
          .add("problem", "listed"),
      "postfix/smtpd[1]: NOQUEUE: reject: RCPT from unknown[192.0.2.1]: 554 5.7.1 Service "
      "unavailable; Helo command [pc.example] blocked using dbl.example; "
      "from=<a@b.example> to=<x@us.example> proto=ESMTP helo=<pc.example>");
  row("a client that a table refuses",
      event("rejected", "S1")
          .add("stage", "RCPT")
          .add("reply", "550 5.7.1 go away")
          .add("client", "192.0.2.1")
          .add("helo", "pc.example")
          .add("from", "a@b.example")
          .add("to", "<x@us.example>")
          .add("protocol", "ESMTP")
          .add("problem", "table"),
      "postfix/smtpd[1]: NOQUEUE: reject: RCPT from unknown[192.0.2.1]: 550 5.7.1 "
      "<unknown[192.0.2.1]>: Client host rejected: go away; "
      "from=<a@b.example> to=<x@us.example> proto=ESMTP helo=<pc.example>");
  row("a client without a name",
      event("rejected", "S1")
          .add("stage", "RCPT")
          .add("reply", "550 5.7.25 Client [192.0.2.1] has no name in the DNS")
          .add("client", "192.0.2.1")
          .add("helo", "pc.example")
          .add("from", "a@b.example")
          .add("to", "<x@us.example>")
          .add("protocol", "ESMTP")
          .add("problem", "name"),
      "postfix/smtpd[1]: NOQUEUE: reject: RCPT from unknown[192.0.2.1]: 550 5.7.25 Client host "
      "rejected: cannot find your reverse hostname, [192.0.2.1]; "
      "from=<a@b.example> to=<x@us.example> proto=ESMTP helo=<pc.example>");
  row("a wrong name in EHLO",
      event("rejected", "S1")
          .add("stage", "RCPT")
          .add("reply", "550 5.7.1 EHLO refused: there is no such host")
          .add("client", "192.0.2.1")
          .add("helo", "pc.example")
          .add("from", "a@b.example")
          .add("to", "<x@us.example>")
          .add("protocol", "ESMTP")
          .add("problem", "helo"),
      "postfix/smtpd[1]: NOQUEUE: reject: RCPT from unknown[192.0.2.1]: 550 5.7.1 <pc.example>: "
      "Helo command rejected: EHLO refused: there is no such host; "
      "from=<a@b.example> to=<x@us.example> proto=ESMTP helo=<pc.example>");
  row("too many messages in an hour",
      event("rejected", "S1")
          .add("stage", "MAIL")
          .add("reply", "450 4.7.1 Too many messages in an hour, come again later")
          .add("client", "192.0.2.1")
          .add("helo", "pc.example")
          .add("from", "a@b.example")
          .add("protocol", "ESMTP")
          .add("problem", "messages_per_hour"),
      "postfix/smtpd[1]: NOQUEUE: reject: MAIL from unknown[192.0.2.1]: 450 4.7.1 "
      "<unknown[192.0.2.1]>: Client host rejected: Too many messages in an hour, come again later; "
      "from=<a@b.example> proto=ESMTP helo=<pc.example>");
  row("a greylisted recipient",
      event("rejected", "S1")
          .add("stage", "RCPT")
          .add("reply", "450 4.2.0 Greylisted, try again in 300 s")
          .add("client", "192.0.2.1")
          .add("helo", "pc.example")
          .add("from", "a@b.example")
          .add("to", "<x@us.example>")
          .add("protocol", "ESMTP")
          .add("problem", "greylisted"),
      "postfix/smtpd[1]: NOQUEUE: reject: RCPT from unknown[192.0.2.1]: 450 4.2.0 <x@us.example>: "
      "Recipient address rejected: Greylisted, try again in 300 s; "
      "from=<a@b.example> to=<x@us.example> proto=ESMTP helo=<pc.example>");
  row("a policy service at a recipient, with the code of an unknown user",
      event("rejected", "S1")
          .add("stage", "RCPT")
          .add("reply", "550 5.1.1 not you")
          .add("client", "192.0.2.1")
          .add("helo", "pc.example")
          .add("from", "a@b.example")
          .add("to", "<x@us.example>")
          .add("protocol", "ESMTP")
          .add("problem", "policy service"),
      "postfix/smtpd[1]: NOQUEUE: reject: RCPT from unknown[192.0.2.1]: 550 5.1.1 <x@us.example>: "
      "Recipient address rejected: not you; "
      "from=<a@b.example> to=<x@us.example> proto=ESMTP helo=<pc.example>");
  row("a policy service at DATA",
      event("rejected", "S1")
          .add("stage", "DATA")
          .add("reply", "554 5.7.1 no")
          .add("client", "192.0.2.1")
          .add("helo", "pc.example")
          .add("from", "a@b.example")
          .add("protocol", "ESMTP")
          .add("problem", "policy service"),
      "postfix/smtpd[1]: NOQUEUE: reject: DATA from unknown[192.0.2.1]: 554 5.7.1 <DATA>: Data "
      "command rejected: no; "
      "from=<a@b.example> proto=ESMTP helo=<pc.example>");
  row("a policy service at the end",
      event("rejected", "S1")
          .add("stage", "END-OF-MESSAGE")
          .add("reply", "554 5.7.1 no")
          .add("client", "192.0.2.1")
          .add("helo", "pc.example")
          .add("from", "a@b.example")
          .add("protocol", "ESMTP")
          .add("problem", "policy service"),
      "postfix/smtpd[1]: NOQUEUE: reject: END-OF-MESSAGE from unknown[192.0.2.1]: 554 5.7.1 "
      "<END-OF-MESSAGE>: End-of-data rejected: no; "
      "from=<a@b.example> proto=ESMTP helo=<pc.example>");
  row("a milter",
      event("rejected", "S1")
          .add("stage", "END-OF-MESSAGE")
          .add("reply", "550 5.7.1 Virus")
          .add("client", "192.0.2.1")
          .add("helo", "pc.example")
          .add("from", "a@b.example")
          .add("protocol", "ESMTP")
          .add("problem", "milter clamav"),
      "postfix/smtpd[1]: NOQUEUE: milter-reject: END-OF-MESSAGE from unknown[192.0.2.1]: 550 5.7.1 "
      "Virus; "
      "from=<a@b.example> proto=ESMTP helo=<pc.example>");
  row("a refusal that is about no address",
      event("rejected", "S1")
          .add("stage", "RCPT")
          .add("reply", "452 4.5.3 Too many recipients")
          .add("client", "192.0.2.1")
          .add("from", "")
          .add("to", "<x@us.example>")
          .add("protocol", "SMTP"),
      "postfix/smtpd[1]: NOQUEUE: reject: RCPT from unknown[192.0.2.1]: 452 4.5.3 "
      "Too many recipients; from=<> to=<x@us.example> proto=SMTP helo=<>");
  row("what was left in the drop folder",
      event("accepted", "01JDQ8V0002")
          .add("client", "local")
          .add("protocol", "drop")
          .add("from", "u@us.example")
          .add("nrcpt", 1)
          .add("size", 81)
          .add("message_id", "<2@us.example>")
          .add("uid", 1000),
      "postfix/pickup[1]: 01JDQ8V0002: uid=1000 from=<u@us.example>\n"
      "postfix/cleanup[1]: 01JDQ8V0002: message-id=<2@us.example>\n"
      "postfix/qmgr[1]: 01JDQ8V0002: from=<u@us.example>, size=81, nrcpt=1 (queue active)");
  row("a message over SMTP",
      event("accepted", "01JDQ8V0000")
          .add("session", "S1")
          .add("client", "192.0.2.1")
          .add("protocol", "ESMTP")
          .add("from", "a@b.example")
          .add("nrcpt", "2")
          .add("size", "812")
          .add("message_id", "<1@b.example>"),
      "postfix/smtpd[1]: 01JDQ8V0000: client=unknown[192.0.2.1]\n"
      "postfix/cleanup[1]: 01JDQ8V0000: message-id=<1@b.example>\n"
      "postfix/qmgr[1]: 01JDQ8V0000: from=<a@b.example>, size=812, nrcpt=2 (queue active)");
  row("a delivery",
      event("attempted", "01JDQ8V0000")
          .add("verdict", "sent")
          .add("from", "a@b.example")
          .add("to", "c@d.example")
          .add("relay", "mx.d.example[192.0.2.9]:25")
          .add("delay", "0.12")
          .add("delays", "0.01/0/0.05/0.06")
          .add("dsn", "2.0.0")
          .add("reason", "250 2.0.0 Ok"),
      "postfix/smtp[1]: 01JDQ8V0000: to=<c@d.example>, relay=mx.d.example[192.0.2.9]:25, "
      "delay=0.12, delays=0.01/0/0.05/0.06, dsn=2.0.0, status=sent (250 2.0.0 Ok)");
  row("a delivery here",
      event("attempted", "01JDQ8V0000")
          .add("verdict", "sent")
          .add("to", "u@us.example")
          .add("relay", "local")
          .add("dsn", "2.0.0")
          .add("reason", "delivered to maildir"),
      "postfix/local[1]: 01JDQ8V0000: to=<u@us.example>, relay=local, delay=0, delays=0/0/0/0, "
      "dsn=2.0.0, status=sent (delivered to maildir)");
  row("the end of the lifetime",
      event("bounced", "01JDQ8V0000")
          .add("to", "c@d.example")
          .add("dsn", "4.4.7")
          .add("reason", "lifetime exceeded"),
      "postfix/error[1]: 01JDQ8V0000: to=<c@d.example>, relay=none, delay=0, delays=0/0/0/0, "
      "dsn=4.4.7, status=bounced (lifetime exceeded)");
  row("a bounce",
      event("notice_created", "01JDQ8V0000")
          .add("notice", "01JDQ8V0001")
          .add("kind", "failure")
          .add("size", "2345"),
      "postfix/bounce[1]: 01JDQ8V0000: sender non-delivery notification: 01JDQ8V0001\n"
      "postfix/qmgr[1]: 01JDQ8V0001: from=<>, size=2345, nrcpt=1 (queue active)");
  row("an alias sends on",
      event("sent_on", "01JDQ8V0000")
          .add("message", "01JDQ8V0002")
          .add("from", "a@b.example")
          .add("nrcpt", "1")
          .add("to", "v@us.example")
          .add("size", "812"),
      "postfix/cleanup[1]: 01JDQ8V0002: message-id=<>\n"
      "postfix/qmgr[1]: 01JDQ8V0002: from=<a@b.example>, size=812, nrcpt=1 (queue active)");
  row("what was sent on by an alias",
      event("attempted", "01JDQ8V0000")
          .add("verdict", "sent")
          .add("to", "team@us.example")
          .add("relay", "local")
          .add("dsn", "2.0.0")
          .add("reason", "expanded to 1 recipient as 01JDQ8V0002"),
      "postfix/local[1]: 01JDQ8V0000: to=<team@us.example>, relay=local, delay=0, delays=0/0/0/0, "
      "dsn=2.0.0, status=sent (forwarded as 01JDQ8V0002)");
  row("its delivery",
      event("attempted", "01JDQ8V0002")
          .add("verdict", "sent")
          .add("to", "v@us.example")
          .add("orig_to", "team@us.example")
          .add("relay", "local")
          .add("dsn", "2.0.0")
          .add("reason", "delivered to maildir"),
      "postfix/local[1]: 01JDQ8V0002: to=<v@us.example>, orig_to=<team@us.example>, relay=local, "
      "delay=0, delays=0/0/0/0, dsn=2.0.0, status=sent (delivered to maildir)");
  const auto checked = [](const char* action) {
    return std::move(event("header_check", "01JDQ8V0003")
                         .add("session", "01JDQ8V0009")
                         .add("client", "192.0.2.1")
                         .add("from", "a@b.example")
                         .add("to", "u@us.example")
                         .add("protocol", "ESMTP")
                         .add("helo", "b.example")
                         .add("action", action)
                         .add("rule", "0")
                         .add("field", "Subject: x")
                         .add("text", "why"));
  };
  const char* const kRest =
      ": header Subject: x from unknown[192.0.2.1]; from=<a@b.example> to=<u@us.example> "
      "proto=ESMTP helo=<b.example>: why";
  static const std::string kHeld = std::string("postfix/cleanup[1]: 01JDQ8V0003: hold") + kRest;
  static const std::string kDiscarded =
      std::string("postfix/cleanup[1]: 01JDQ8V0003: discard") + kRest;
  static const std::string kWarned =
      std::string("postfix/cleanup[1]: 01JDQ8V0003: warning") + kRest;
  row("a rule on the header holds", checked("hold"), kHeld.c_str());
  row("a rule on the header discards", checked("discard"), kDiscarded.c_str());
  row("a rule on the header warns", checked("warn"), kWarned.c_str());
  row("a command at the wrong time is no refused mail",
      event("rejected")
          .add("stage", "DATA")
          .add("reply", "503 5.5.1 Send MAIL first")
          .add("client", "192.0.2.1")
          .add("protocol", "ESMTP"),
      "postrider[1]: rejected stage=\"DATA\" reply=\"503 5.5.1 Send MAIL first\" "
      "client=\"192.0.2.1\" protocol=\"ESMTP\"");
  row("the end", event("removed", "01JDQ8V0000"), "postfix/qmgr[1]: 01JDQ8V0000: removed");
  row("I06 line ends and escapes of others stay on their line",
      event("rejected", "S1")
          .add("stage", "EHLO")
          .add("reply", "501 5.5.2 a")
          .add("client", "192.0.2.1")
          .add("helo", "x\r\n2026 forged \x1b[2J")
          .add("protocol", "SMTP"),
      "postfix/smtpd[1]: NOQUEUE: reject: EHLO from unknown[192.0.2.1]: 501 5.5.2 a; proto=SMTP "
      "helo=<x\\x0d\\x0a2026 forged \\x1b[2J>");
  row("an event that Postfix does not know",
      LogEvent(Level::warn, "site_blocked").add("site", "mx.example"),
      "postrider[1]: warning: site_blocked site=\"mx.example\"");
  return all;
}

// A day in the life, in the order in which a log has it.
void write_sample(const std::string& path) {
  std::ofstream out(path);
  for (const auto& c : cases())
    out << format(c.event, true) << "\n";
}

std::string output_of(const std::string& command) {
  std::string out;
  std::array<char, 4096> room{};
  std::FILE* pipe = popen(command.c_str(), "r");
  REQUIRE(pipe != nullptr);
  while (const auto got = std::fread(room.data(), 1, room.size(), pipe))
    out.append(room.data(), got);
  pclose(pipe);
  return out;
}

bool has_program(const char* name) {
  return std::system((std::string("command -v ") + name + " >/dev/null 2>&1").c_str()) == 0;
}

struct SampleFile {
  SampleFile() {
    REQUIRE(mkstemp(path) >= 0);
    write_sample(path);
  }
  ~SampleFile() { unlink(path); }
  char path[32] = "/tmp/postrider-log-XXXXXX";
};

}  // namespace

TEST_CASE("an event becomes Postfix's lines", "[log][postfix]") {
  for (const auto& c : cases())
    DYNAMIC_SECTION(c.name) {
      CHECK(format(c.event) == c.want);
    }
}

TEST_CASE("a line begins as syslog's lines do", "[log][postfix]") {
  setenv("TZ", "UTC", 1);
  tzset();
  CHECK(format(event("removed", "01JDQ8V0000"), true) ==
        "Nov 23 14:01:02 mx postfix/qmgr[1]: 01JDQ8V0000: removed");
  CHECK(format(event("site_open").add("site", "a"), true) ==
        "Nov 23 14:01:02 mx postrider[1]: site_open site=\"a\"");
}

TEST_CASE("pflogsumm counts what happened", "[log][postfix][programs]") {
  if (!has_program("pflogsumm")) {
    WARN("pflogsumm is not installed");
    return;
  }
  const SampleFile sample;
  const auto report = output_of("pflogsumm --smtpd-stats " + std::string(sample.path) + " 2>&1");
  INFO(report);
  CHECK(std::regex_search(report, std::regex("\n +2 +received\n")));
  CHECK(std::regex_search(report, std::regex("\n +3 +delivered\n")));
  CHECK(std::regex_search(report, std::regex("\n +1 +forwarded\n")));
  CHECK(std::regex_search(report, std::regex("\n +1 +held\n")));
  CHECK(std::regex_search(report, std::regex("\n +1 +discarded")));
  CHECK(std::regex_search(report, std::regex("\n +1 +reject warnings\n")));
  CHECK(report.find("01JDQ8V000") == std::string::npos);  // none without a size
  CHECK(std::regex_search(report, std::regex("\n +1 +bounced\n")));
  CHECK(std::regex_search(report, std::regex("\n +17 +rejected")));
  CHECK(report.find("Relay access denied") != std::string::npos);
  CHECK(std::regex_search(report,
                          std::regex("User unknown in local recipient table \\(total: 1\\)")));
  for (const char* row : {"cannot find your reverse hostname", "blocked using zen.example",
                          "blocked using dbl.example", "Client host rejected",
                          "Helo command rejected", "Data command rejected"}) {
    INFO(row);
    CHECK(report.find(row) != std::string::npos);
  }
}

TEST_CASE("a line that says that it is a warning has that priority", "[daemon][log]") {
  auto events = cases();
  for (const auto* name : {"auth_failed", "tls_failed", "turned_away"})  // which are info to us
    events.push_back({name, event(name, "S1").add("client", "192.0.2.1"), ""});
  std::size_t warnings = 0;
  for (const auto& c : events) {
    INFO(c.name);
    postrider::daemon::LogLines lines;
    PostfixFormat("mx.example.org").write(c.event, lines);
    for (const auto& line : lines) {
      const bool says_so = line.text.starts_with("warning: ");
      CHECK(line.level == (says_so ? Level::warn : c.event.level()));
      warnings += says_so ? 1 : 0;
    }
  }
  CHECK(warnings >= 4);
}

TEST_CASE("fail2ban's Postfix filter finds the refused client", "[log][postfix][programs]") {
  if (!has_program("fail2ban-regex")) {
    WARN("fail2ban is not installed");
    return;
  }
  const SampleFile sample;
  const auto report = output_of("fail2ban-regex " + std::string(sample.path) + " postfix 2>&1");
  INFO(report);
  CHECK(report.find("Failregex: 9 total") != std::string::npos);
}
