#include "cli/smtp_dialog.h"

#include "tests/support/results.h"

#include <catch2/catch.hpp>

#include <sysexits.h>
#include <tuple>

namespace postrider::cli {
namespace {

struct Handed {
  daemon::SubmitHeader header;
  std::string content;
};

struct Fixture {
  std::vector<Handed> handed;
  int exit_code = 0;
  SmtpDialog dialog{"mx.test", "me@mx.test", 1U << 20U,
                    [this](daemon::SubmitHeader header, const ContentStore& content) {
                      Handed one;
                      one.header = std::move(header);
                      (void)content.read([&](std::string_view piece) -> Result<void> {
                        one.content.append(piece);
                        return {};
                      });
                      handed.push_back(std::move(one));
                      daemon::SubmitAnswer answer;
                      answer.exit_code = exit_code;
                      (exit_code == 0 ? answer.id : answer.error) = "X";
                      return answer;
                    }};
  std::string say(const std::string& in, std::size_t step = 1000) {
    std::string out;
    for (std::size_t at = 0; at < in.size(); at += step)
      if (!dialog.feed(std::string_view(in).substr(at, step), out))
        break;
    return out;
  }
};

constexpr const char* kWhole =
    "EHLO me\r\nMAIL FROM:<a@b> BODY=8BITMIME\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@f>\r\nDATA\r\n"
    "Subject: s\r\n\r\n..dot\r\n.\r\nQUIT\r\n";

TEST_CASE("sendmail -bs takes a message by SMTP, however the bytes are split", "[cli][unit]") {
  for (const std::size_t step : {1U, 7U, 1000U}) {
    Fixture f;
    const auto out = f.say(kWhole, step);
    REQUIRE(f.handed.size() == 1);
    CHECK(f.handed[0].header.sender == "a@b");
    CHECK(f.handed[0].header.recipients == std::vector<std::string>{"c@d", "e@f"});
    CHECK(f.handed[0].header.body == mail::BodyType::eight_bit_mime);
    CHECK(f.handed[0].content == "Subject: s\r\n\r\n.dot\r\n");
    CHECK(out.find("250 2.0.0 Queued as X\r\n221 2.0.0 Bye\r\n") != std::string::npos);
  }
}

TEST_CASE("sendmail -bs keeps what is asked for each recipient", "[cli][unit]") {
  Fixture f;
  const auto out = f.say(
      "EHLO me\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d> NOTIFY=NEVER\r\n"
      "RCPT TO:<e@f> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;x@y\r\nRCPT TO:<g@h>\r\n"
      "RCPT TO:<e@f> NOTIFY=NEVER\r\nDATA\r\nx\r\n.\r\n");
  CHECK(out.find("250-DSN\r\n") != std::string::npos);
  REQUIRE(f.handed.size() == 1);
  const auto& header = f.handed[0].header;
  using Notify = mail::Notify;
  CHECK(daemon::dsn_of(header, "c@d") == daemon::SubmitDsn{{Notify::kNever}, {}});
  CHECK(daemon::dsn_of(header, "e@f") ==
        daemon::SubmitDsn{{Notify::kSuccess | Notify::kDelay}, "rfc822;x@y"});
  CHECK(daemon::dsn_of(header, "g@h") == daemon::SubmitDsn{});
}

TEST_CASE("sendmail -bs refuses commands out of order and changes nothing", "[cli][unit]") {
  Fixture f;
  CHECK(f.say("DATA\r\n").substr(0, 3) == "503");
  CHECK(f.say("RCPT TO:<a@b>\r\n").substr(0, 3) == "503");
  CHECK(f.say("MAIL FROM:<a@b>\r\n").substr(0, 3) == "250");
  CHECK(f.say("MAIL FROM:<c@d>\r\n").substr(0, 3) == "503");
  CHECK(f.say("DATA\r\n").substr(0, 3) == "503");
  CHECK(f.say("FROB\r\n").substr(0, 3) == "500");
  CHECK(f.say(std::string(5000, 'x') + "\r\n").substr(0, 3) == "500");
  CHECK(f.say("RCPT TO:<c@d>\r\nRSET\r\nDATA\r\n").find("503") != std::string::npos);
  CHECK(f.handed.empty());
}

TEST_CASE("sendmail -bs takes LF for a line end, in commands and content", "[cli][unit]") {
  constexpr const char* kLines =
      "EHLO x\nMAIL FROM:<a@b>\nRCPT TO:<c@d>\nDATA\nSubject: s\n\n..dot\n.\nQUIT\n";
  for (const std::size_t step : {1U, 2U, 5U, 1000U}) {
    Fixture f;
    const auto out = f.say(kLines, step);
    REQUIRE(f.handed.size() == 1);
    CHECK(f.handed[0].content == "Subject: s\n\n.dot\n");
    CHECK(out.find("250 2.0.0 Queued as X\r\n221 2.0.0 Bye\r\n") != std::string::npos);
  }
  // Commands by the book, content as it lay in a file.
  Fixture mixed;
  mixed.say("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nx\ny\n.\r\n");
  REQUIRE(mixed.handed.size() == 1);
  CHECK(mixed.handed[0].content == "x\ny\n");
}

TEST_CASE("sendmail -bs takes a lone dot with LF where no line of the content has CRLF",
          "[cli][unit]") {
  const std::string strict = "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n";
  for (const std::size_t step : {1U, 1000U}) {
    Fixture f;
    const auto out = f.say(strict + "Subject: s\n\nx\n..\n.\nQUIT\r\n", step);
    REQUIRE(f.handed.size() == 1);
    CHECK(f.handed[0].content == "Subject: s\n\nx\n.\n");
    CHECK(out.ends_with("221 2.0.0 Bye\r\n"));
    Fixture other;
    other.say(strict + "Subject: s\r\n\r\nx\n.\ny\r\n.\r\n" + strict + "a\n.\nNOOP\r\n", step);
    REQUIRE(other.handed.size() == 2);
    CHECK(other.handed[0].content == "Subject: s\r\n\r\nx\n\ny\r\n");
    CHECK(other.handed[1].content == "a\n");
  }
}

TEST_CASE("sendmail -bs is not led by a bare LF of somebody else's content", "[cli][unit]") {
  for (const std::size_t step : {1U, 1000U}) {
    Fixture f;
    const auto out = f.say(
        "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nw\r\nx\n.\nMAIL FROM:<e@f>\n\r\n.\r\nNOOP\r\n",
        step);
    REQUIRE(f.handed.size() == 1);
    CHECK(f.handed[0].content == "w\r\nx\n\nMAIL FROM:<e@f>\n\r\n");
    CHECK(out.ends_with("250 2.0.0 Queued as X\r\n250 2.0.0 OK\r\n"));
  }
}

TEST_CASE("sendmail -bs tells an end of input in the middle from one at the end", "[cli][unit]") {
  const std::string begun = "MAIL FROM:<a@b>\nRCPT TO:<c@d>\nDATA\n";
  const std::string strict = "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n";
  const std::tuple<std::string, bool, std::size_t> cases[] = {
      {"", true, 0},
      {"EHLO x\r\n", true, 0},
      {"EHLO x\r\nQUIT", true, 0},
      {"MAIL FROM:<a@b>\r\n", false, 0},
      {"MAIL FROM:<a@b>\r\nRSET", true, 0},
      {"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n", false, 0},
      {begun, false, 0},
      {begun + "x\n", false, 0},
      {begun + "x\n.\n", true, 1},
      {begun + "x\n.", true, 1},
      {begun + "x.", false, 0},
      {strict + "x\r\n.", false, 0},
      {strict + "x\n.", true, 1},
      {strict + "x\r\n.\r\n", true, 1},
      {strict + "x\r\n.\r\nMAIL FROM:<a@b>\r\n", false, 1},
  };
  for (const auto& [input, is_whole, handed] : cases) {
    INFO(input);
    Fixture f;
    auto out = f.say(input);
    CHECK(f.dialog.finish(out) == is_whole);
    CHECK(f.handed.size() == handed);
    const auto last = out.find_last_of('\n', out.size() - 2);
    CHECK(out.substr(last == std::string::npos ? 0 : last + 1, 3) ==
          (input.ends_with("QUIT") ? "221" : "421"));
  }
}

TEST_CASE("sendmail -bs passes the answer of the daemon on", "[cli][unit]") {
  for (const auto& [exit_code, code] :
       {std::pair(EX_TEMPFAIL, "451"), std::pair(EX_DATAERR, "554")}) {
    Fixture f;
    f.exit_code = exit_code;
    CHECK(f.say(kWhole).find(std::string("\r\n") + code) != std::string::npos);
  }
}

}  // namespace
}  // namespace postrider::cli
