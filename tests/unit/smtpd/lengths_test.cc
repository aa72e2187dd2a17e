// attacks.md 2.6: lengths, numbers, octets.
#include "support.h"

#include "tests/support/cpu_time.h"

#include <catch2/catch.hpp>

#include <algorithm>

using namespace postrider;
using namespace postrider::tests;
using namespace std::string_literals;

namespace {

const std::string kEhlo = "EHLO client.test\r\n";

std::string of_length(const std::string& start, std::size_t octets) {
  return start + std::string(octets - start.size() - 2, 'x') + "\r\n";
}

std::string reply_to_mail(const std::string& argument) {
  return play({kEhlo, "MAIL " + argument + "\r\n"}).last_codes();
}

std::string reply_to_rcpt(const std::string& argument, const std::string& mail = "FROM:<>") {
  return play({kEhlo, "MAIL " + mail + "\r\n", "RCPT " + argument + "\r\n"}).last_codes();
}

}  // namespace

TEST_CASE("L01: command lines of 512 octets and more", "[smtpd][attacks]") {
  CHECK(play({kEhlo, of_length("NOOP ", 512)}).last_codes() == "250");
  CHECK(play({kEhlo, of_length("NOOP ", 513)}).last_codes() == "250");
  CHECK(play({kEhlo, of_length("NOOP ", 4096)}).last_codes() == "250");
  CHECK(play({kEhlo, of_length("NOOP ", 4097)}).last_codes() == "500");
  CHECK(play({kEhlo, of_length("NOOP ", 40000)}).last_codes() == "500");
  for (const std::size_t piece : {1U, 7U, 4095U, 4096U}) {
    PlayOptions options;
    options.piece = piece;
    CHECK(play_in_memory({kEhlo, of_length("NOOP ", 4096)}, options).last_codes() == "250");
    CHECK(play_in_memory({kEhlo, of_length("NOOP ", 4098)}, options).last_codes() == "500");
    CHECK(play_in_memory({kEhlo, of_length("NOOP ", 9000) + "NOOP\r\n"}, options).last_codes() ==
          "500 250");
  }
}

TEST_CASE("L02: a command without end is cut off", "[smtpd][attacks]") {
  const auto result = play({kEhlo, std::string(1U << 20U, 'x')});
  CHECK(result.last_codes() == "500");
  CHECK(result.closed);
}

TEST_CASE("L03: text lines of any length are kept as they are", "[smtpd][attacks]") {
  for (const std::size_t size : {998U, 999U, 1001U, 20000U}) {
    const auto content = "Subject: x\r\n\r\n" + std::string(size, 'l') + "\r\n";
    CHECK(play(with_data(content + ".\r\n")).kept.at(0).content == content);
  }
}

TEST_CASE("L04: limits of the parts of a path", "[smtpd][attacks]") {
  const auto address = [](std::size_t local, const std::string& domain) {
    return "TO:<" + std::string(local, 'a') + "@" + domain + ">";
  };
  std::string domain;
  while (domain.size() < 180)
    domain += std::string(59, 'd') + ".";
  domain += "test";
  CHECK(reply_to_rcpt(address(64, domain)) == "550");
  CHECK(reply_to_rcpt(address(65, "us.test")) == "550");
  CHECK(reply_to_rcpt(address(246, "us.test")) == "550");
  CHECK(reply_to_rcpt(address(247, "us.test")) == "501");
  CHECK(reply_to_rcpt(address(1, std::string(63, 'd') + ".test")) == "550");
  CHECK(reply_to_rcpt(address(1, std::string(64, 'd') + ".test")) == "501");
  CHECK(reply_to_rcpt(address(60, domain + "." + std::string(60, 'x') + ".test")) == "501");
}

TEST_CASE("L05: a hundred recipients are always accepted", "[smtpd][attacks]") {
  PlayOptions options;
  options.settings.recipients = 3;  // cannot mean what it says
  std::string group;
  for (int i = 0; i < 100; ++i)
    group += "RCPT TO:<y@us.test>\r\n";
  const auto result = play({kEhlo, "MAIL FROM:<>\r\n", group}, options);
  CHECK(result.last_codes().find('4') == std::string::npos);
  CHECK(result.last_codes().size() == 399);
}

TEST_CASE("L06: beyond the limit 452, and far beyond it 421", "[smtpd][attacks]") {
  PlayOptions options;
  options.settings.recipients = 100;
  std::string group;
  for (int i = 0; i < 1300; ++i)
    group += "RCPT TO:<y@us.test>\r\n";
  const auto result = play({kEhlo, "MAIL FROM:<>\r\n", group}, options);
  const auto codes = result.last_codes();
  CHECK(codes.substr(396, 11) == "250 452 452");
  CHECK(codes.size() == 1101 * 4 - 1);
  CHECK(codes.ends_with("452 421"));
  CHECK(result.closed);
}

TEST_CASE("L07: sizes that are none, and sizes that are too much", "[smtpd][attacks]") {
  for (const auto* size :
       {"SIZE=-1", "SIZE=1e9", "SIZE=", "SIZE", "SIZE=1 SIZE=1", "SIZE=123456789012345678901"})
    CHECK(reply_to_mail("FROM:<> "s + size) == "501");
  for (const auto* size : {"18446744073709551616", "99999999999999999999"})
    CHECK(reply_to_mail("FROM:<> SIZE="s + size) == "552");
  CHECK(reply_to_mail("FROM:<> SIZE=52428801") == "552");
  CHECK(reply_to_mail("FROM:<> SIZE=52428800") == "250");
}

TEST_CASE("L08: what is sent counts, not what was declared", "[smtpd][attacks]") {
  PlayOptions options;
  options.settings.message_size = 1000;
  auto script = with_data(std::string(5000, 'x') + "\r\n.\r\n");
  script[1] = "MAIL FROM:<> SIZE=10\r\n";
  const auto result = play(script, options);
  CHECK(result.replies.back() == "552 5.3.4 Message too large\r\n");
  CHECK(result.kept.empty());
}

TEST_CASE("L09: NUL is refused wherever it stands", "[smtpd][attacks]") {
  CHECK(play({"EHLO a\0b\r\n"s}).last_codes() == "500");
  CHECK(play({kEhlo, "MAIL FROM:<a\0@ext.test>\r\n"s}).last_codes() == "500");
  CHECK(play({kEhlo, "\0\r\n"s}).last_codes() == "500");
  CHECK(play(with_data("Subject: a\0b\r\n\r\n.\r\n"s)).last_codes() == "550");
  CHECK(play(with_data("\r\na\0b\r\n.\r\n"s)).last_codes() == "550");
}

TEST_CASE("L10: octets above 127 in commands need SMTPUTF8", "[smtpd][attacks]") {
  CHECK(play({"EHLO b\xc3\xbcro.test\r\n"}).last_codes() == "501");
  CHECK(reply_to_mail("FROM:<\xc3\xa9@ext.test>") == "553");
  CHECK(reply_to_rcpt("TO:<\xc3\xa9@us.test>") == "553");
  CHECK(play({kEhlo, "NOOP \xff\r\n"}).last_codes() == "500");
  CHECK(play({kEhlo, "\xff\xff\r\n"}).last_codes() == "500");
}

TEST_CASE("L11: octets above 127 in content are kept as they are", "[smtpd][attacks]") {
  const std::string content = "Subject: x\r\n\r\n\xc3\xa9\xff\x80\r\n";
  CHECK(play(with_data(content + ".\r\n")).kept.at(0).content == content);
}

TEST_CASE("L12: addresses with SMTPUTF8 are valid UTF-8", "[smtpd][attacks]") {
  CHECK(reply_to_mail("FROM:<\xc3\xa9@ext.test> SMTPUTF8") == "250");
  for (const auto* broken : {"\xc3", "\xc0\xaf", "\xed\xa0\x80", "\xff"}) {
    const auto code = reply_to_mail("FROM:<"s + broken + "@ext.test> SMTPUTF8");
    CHECK((code == "501" || code == "553"));
  }
}

TEST_CASE("L13: white space and case", "[smtpd][attacks]") {
  CHECK(reply_to_mail("FROM:<a@ext.test>  ") == "250");
  CHECK(play({kEhlo, "mail from:<a@ext.test>\t\r\n"}).last_codes() == "250");
  // A space behind the colon is tolerated: Outlook and many scripts write one.
  CHECK(reply_to_mail("FROM: <a@ext.test>") == "250");
}

TEST_CASE("L14: parameters that are unknown or repeated", "[smtpd][attacks]") {
  CHECK(reply_to_mail("FROM:<a@ext.test> FOO=BAR") == "555");
  CHECK(reply_to_rcpt("TO:<y@us.test> X") == "555");
  CHECK(reply_to_mail("FROM:<a@ext.test> RET=FULL RET=FULL") == "501");
  CHECK(reply_to_rcpt("TO:<y@us.test> NOTIFY=NEVER NOTIFY=NEVER") == "501");
}

TEST_CASE("L16: a header section has its limit, and every octet below it is kept",
          "[smtpd][attacks]") {
  PlayOptions options;
  options.settings.limits.header_size = 20000;
  const auto fields = [](std::size_t count) {
    std::string text;
    for (std::size_t i = 0; i < count; ++i)
      text += "X: y\r\n";
    return text;
  };
  CHECK(play(with_data(fields(3000) + "\r\n.\r\n"), options).last_codes() == "250");
  const auto many = play(with_data(fields(4000) + "\r\n.\r\n"), options);
  CHECK(many.replies.back() == "554 5.6.0 Header section too large\r\n");
  CHECK(many.kept.empty());
  CHECK(play(with_data("X: " + std::string(30000, 'y') + "\r\n\r\n.\r\n"), options).last_codes() ==
        "554");
  std::string folded = "X: y\r\n";
  for (int i = 0; i < 10000; ++i)
    folded += " z\r\n";
  CHECK(play(with_data(folded + "\r\n.\r\n"), options).last_codes() == "554");
  CHECK(play(with_data("X: y\r\n\r\n" + folded + ".\r\n"), options).last_codes() == "250");
}

TEST_CASE("L17, L18: addresses, comments and MIME in content are not looked at",
          "[smtpd][attacks]") {
  std::string to = "To: ";
  for (int i = 0; i < 5000; ++i)
    to += i % 3 == 0 ? "((((" : i % 3 == 1 ? "a:;," : "\\(,";
  const auto content = to + "\r\n\r\n--x\r\n--x\r\n";
  CHECK(play(with_data(content + ".\r\n")).kept.at(0).content == content);
}

TEST_CASE("L19: twice the header takes about twice the time", "[smtpd][attacks]") {
  const auto time_for = [](std::size_t lines) {
    smtpd::HeaderWatch watch(1U << 30U);
    std::string content;
    for (std::size_t i = 0; i < lines; ++i)
      content += "Received: from a by b\r\n more of it\r\n";
    return test::cpu_seconds([&] {
      for (std::size_t at = 0; at < content.size(); at += 37)
        watch.feed(std::string_view(content).substr(at, 37));
    });
  };
  // Quadratic behaviour would give a factor of sixteen; the machine may be busy.
  auto best_small = time_for(20000), best_large = time_for(80000);
  for (int i = 0; i < 3; ++i) {
    best_small = std::min(best_small, time_for(20000));
    best_large = std::min(best_large, time_for(80000));
  }
  CHECK(best_large < best_small * 9);
}
