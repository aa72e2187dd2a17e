#include "cli/smtp_dialog.h"

#include "tests/support/results.h"

#include <catch2/catch.hpp>

#include <sysexits.h>

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

TEST_CASE("sendmail -bs refuses a message with bare line ends at its true end", "[cli][unit]") {
  Fixture f;
  const auto out = f.say("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nx\n.\ny\r\n.\r\nNOOP\r\n");
  CHECK(out.find("550 5.5.2") != std::string::npos);
  CHECK(out.find("250 2.0.0 OK\r\n", out.find("550 5.5.2")) != std::string::npos);
  CHECK(f.handed.empty());
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
