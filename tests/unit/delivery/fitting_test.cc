#include "messages.h"

#include "delivery/smtp/compatibility.h"

#include <catch2/catch.hpp>

using namespace postrider;
using namespace postrider::delivery;

namespace {

mail::Reply ehlo(std::string text) {
  return mail::Reply(250, {}, std::move(text));
}

}  // namespace

TEST_CASE("capabilities are read from any spelling, and the first line is none",
          "[delivery][fitting]") {
  const auto found = parse_capabilities(
      ehlo("PIPELINING says hello\nsize 1000\n8bitmime\nDsn\nCHUNKING\nBINARYMIME\nSMTPUTF8\n"
           "LIMITS RCPTMAX=7 MAILMAX=3 FOO=1\nSTARTTLS\nX-UNKNOWN a b\n\nSIZE"));
  CHECK_FALSE(found.pipelining);
  CHECK(found.size);
  CHECK(found.eight_bit_mime);
  CHECK(found.dsn);
  CHECK(found.chunking);
  CHECK(found.binary_mime);
  CHECK(found.smtputf8);
  CHECK(found.starttls);
  CHECK(found.most_recipients == 7);
  CHECK(found.most_messages == 3);
  CHECK(parse_capabilities(ehlo("x\nSIZE 99999999999999999999999")).size_limit == 0);
  CHECK(parse_capabilities(ehlo("x\nLIMITS RCPTMAX=-1")).most_recipients == 0);
}

TEST_CASE("O01, O04: bare line ends are found in any splitting", "[delivery][fitting]") {
  const std::vector<std::pair<std::string, bool>> cases = {
      {"", false},
      {"a\r\n", false},
      {"a", false},
      {"\r\n\r\n", false},
      {"a\nb\r\n", true},
      {"a\rb\r\n", true},
      {"a\r\r\n", true},
      {"\n", true},
      {"\r", true},
      {"a\r\n.\n", true},
      {"\n.\r\n", true},
      {"x\r\n\r.\r", true},
      {"a\r\nb\r\nc\n", true},
      {"a\r\nb\r\n\rc\r\n", true},
  };
  for (const auto& [text, bare] : cases)
    for (std::size_t cut = 0; cut <= text.size(); ++cut) {
      LineScanner scanner;
      scanner.feed(text.substr(0, cut));
      scanner.feed(text.substr(cut));
      scanner.finish();
      INFO(text << " cut at " << cut);
      CHECK(scanner.has_bare_line_end() == bare);
    }
}

TEST_CASE("O05: a leading dot is found at the start, in the middle and at the end",
          "[delivery][fitting]") {
  for (const std::string text : {".a\r\n", "a\r\n.\r\n", "a\r\nb\r\n.", "."})
    for (std::size_t cut = 0; cut <= text.size(); ++cut) {
      LineScanner scanner;
      scanner.feed(text.substr(0, cut));
      scanner.feed(text.substr(cut));
      CHECK(scanner.has_leading_dot());
    }
  LineScanner none;
  none.feed("a.\r\n b.\r\n");
  CHECK_FALSE(none.has_leading_dot());
}

TEST_CASE("BINARYMIME is passed on where it is known, and converted elsewhere",
          "[delivery][fitting]") {
  auto message = make_message({"a@x.test"}, "A: b\r\n\r\nx\ny");
  message->envelope.body = mail::BodyType::binary_mime;
  Capabilities all;
  all.chunking = all.binary_mime = all.eight_bit_mime = true;
  CHECK(fit(*message, {0}, all, false, "mx").kind == Compatibility::Kind::fits);
  std::string line;
  append_mail(*message, all, false, 10, {}, line);
  CHECK(line == "MAIL FROM:<from@sender.test> BODY=BINARYMIME\r\n");
  all.binary_mime = false;
  CHECK(fit(*message, {0}, all, false, "mx").kind == Compatibility::Kind::needs_seven_bit);
}

TEST_CASE("E16: a message under REQUIRETLS goes only where that is offered",
          "[delivery][fitting]") {
  auto message = make_message({"a@x.test"});
  message->envelope.tls = mail::TlsWish::required;
  const auto capabilities = parse_capabilities(ehlo("x\nSTARTTLS\nSIZE 1000"));
  const auto fitting = fit(*message, {0}, capabilities, false, "mx");
  CHECK(fitting.kind == Compatibility::Kind::refused);
  CHECK(fitting.is_of_host);
  CHECK(mail::to_string(fitting.refusal.status) == "5.7.30");
  const auto offered = parse_capabilities(ehlo("x\nrequiretls"));
  CHECK(fit(*message, {0}, offered, false, "mx").kind == Compatibility::Kind::fits);
  std::string line;
  append_mail(*message, offered, false, 10, {}, line);
  CHECK(line == "MAIL FROM:<from@sender.test> REQUIRETLS\r\n");
  message->envelope.sender.clear();
  CHECK(fit(*message, {0}, capabilities, false, "mx").kind == Compatibility::Kind::fits);
  message->envelope.tls = mail::TlsWish::optional;
  line.clear();
  append_mail(*message, offered, false, 10, {}, line);
  CHECK(line == "MAIL FROM:<>\r\n");
}

TEST_CASE("SMTPUTF8 is asked for only where it is needed", "[delivery][fitting]") {
  auto message = make_message({"a@\xc3\xbc.test"});
  message->envelope.smtputf8 = true;
  CHECK(fit(*message, {0}, {}, false, "mx").kind == Compatibility::Kind::fits);
  std::string line;
  append_rcpt(*message, 0, {}, line);
  CHECK(line == "RCPT TO:<a@xn--tda.test>\r\n");
  Capabilities utf8;
  utf8.smtputf8 = true;
  line.clear();
  append_mail(*message, utf8, false, 0, {}, line);
  CHECK(line == "MAIL FROM:<from@sender.test> SMTPUTF8\r\n");
}

namespace {

const TimePoint kNow{std::chrono::hours(500000)};

std::shared_ptr<mail::Message> wanted_within(std::int64_t seconds, bool returns,
                                             bool traces = false) {
  auto message = make_message({"a@x.test"});
  message->envelope.deliver_by = mail::DeliverBy{
      .time = kNow + std::chrono::seconds(seconds), .returns = returns, .traces = traces};
  return message;
}

std::string mail_line(const mail::Message& message, const std::string& extensions,
                      Duration passed = {}) {
  std::string line;
  append_mail(message, parse_capabilities(ehlo("x\n" + extensions)), false, 10, kNow + passed,
              line);
  return line;
}

}  // namespace

TEST_CASE("RFC 2852: what is left of the time is passed on to who knows it",
          "[delivery][fitting]") {
  using std::chrono::milliseconds;
  CHECK(mail_line(*wanted_within(120, true, true), "DELIVERBY") ==
        "MAIL FROM:<from@sender.test> BY=120;RT\r\n");
  CHECK(mail_line(*wanted_within(120, false), "deliverby 60", milliseconds(20001)) ==
        "MAIL FROM:<from@sender.test> BY=99;N\r\n");
  CHECK(mail_line(*wanted_within(-5, false, true), "DELIVERBY") ==
        "MAIL FROM:<from@sender.test> BY=-5;NT\r\n");
  CHECK(mail_line(*wanted_within(10'000'000'000, false), "DELIVERBY") ==
        "MAIL FROM:<from@sender.test> BY=999999999;N\r\n");
  CHECK(mail_line(*wanted_within(120, false), "DSN") == "MAIL FROM:<from@sender.test>\r\n");
}

TEST_CASE("RFC 2852: mode R goes only where it may come in time", "[delivery][fitting]") {
  const auto fitting_of = [](const mail::Message& message, const std::string& extensions,
                             bool is_mailbox = false) {
    auto capabilities = parse_capabilities(ehlo("x\n" + extensions));
    capabilities.is_mailbox = is_mailbox;
    return fit(message, {0}, capabilities, false, "mx", kNow);
  };
  const auto refused = Compatibility::Kind::refused;
  const auto fits = Compatibility::Kind::fits;
  const auto without = fitting_of(*wanted_within(120, true), "DSN");
  CHECK(without.kind == refused);
  CHECK(without.is_of_host);
  CHECK(mail::to_string(without.refusal.status) == "5.4.7");
  CHECK(without.refusal.text.find("DELIVERBY") != std::string::npos);
  CHECK(fitting_of(*wanted_within(120, true), "DELIVERBY").kind == fits);
  CHECK(fitting_of(*wanted_within(120, true), "DELIVERBY 120").kind == fits);
  const auto slow = fitting_of(*wanted_within(120, true), "DELIVERBY 121,FUTURE=1");
  CHECK(slow.kind == refused);
  CHECK(slow.is_of_host);
  CHECK(fitting_of(*wanted_within(120, true), "DELIVERBY 99999999999999999999").kind == fits);
  CHECK(fitting_of(*wanted_within(120, true), "DELIVERBY -5").kind == fits);
  CHECK(fitting_of(*wanted_within(120, true), "DSN", true).kind == fits);
  for (const bool is_mailbox : {false, true}) {
    const auto late = fitting_of(*wanted_within(0, true), "DELIVERBY", is_mailbox);
    CHECK(late.kind == refused);
    CHECK_FALSE(late.is_of_host);
  }
  CHECK(fitting_of(*wanted_within(120, false), "DSN").kind == fits);
  CHECK(fitting_of(*wanted_within(-120, false), "DELIVERBY 60").kind == fits);
}

TEST_CASE("RFC 6710: a priority is passed on to who knows it", "[delivery][fitting]") {
  auto message = make_message({"a@x.test"});
  message->envelope.priority = -4;
  CHECK(mail_line(*message, "MT-PRIORITY MIXER") ==
        "MAIL FROM:<from@sender.test> MT-PRIORITY=-4\r\n");
  CHECK(mail_line(*message, "DSN") == "MAIL FROM:<from@sender.test>\r\n");
  message->envelope.priority = 0;
  CHECK(mail_line(*message, "MT-PRIORITY") == "MAIL FROM:<from@sender.test>\r\n");
}
