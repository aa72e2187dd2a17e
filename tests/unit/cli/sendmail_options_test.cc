#include "cli/sendmail_options.h"

#include "tests/support/results.h"

#include <catch2/catch.hpp>

namespace postrider::cli {
namespace {

using Mode = SendmailOptions::Mode;

SendmailOptions parsed(const std::vector<std::string>& arguments) {
  auto options = parse_sendmail_options(arguments);
  REQUIRE(options);
  return std::move(*options);
}

TEST_CASE("sendmail takes the command lines of the programs that call it", "[cli][unit]") {
  struct Case {
    const char* name;
    std::vector<std::string> arguments;
    bool header_recipients;
    bool dots_are_content;
    std::optional<std::string> sender;
    std::string full_name;
    std::vector<std::string> recipients;
  };
  const Case cases[] = {
      {"cron",
       {"-FCronDaemon", "-i", "-B8BITMIME", "-oem", "root"},
       false,
       true,
       {},
       "CronDaemon",
       {"root"}},
      {"mdadm", {"-t"}, true, false, {}, "", {}},
      {"PHP", {"-t", "-i"}, true, true, {}, "", {}},
      {"PHP, grouped", {"-ti"}, true, true, {}, "", {}},
      {"mutt",
       {"-oem", "-oi", "-f", "a@b", "--", "c@d", "e@f"},
       false,
       true,
       "a@b",
       "",
       {"c@d", "e@f"}},
      {"git", {"-i", "-f", "a@b", "c@d"}, false, true, "a@b", "", {"c@d"}},
      {"fail2ban", {"-f", "sender@x", "dest@x"}, false, false, "sender@x", "", {"dest@x"}},
      {"mailx", {"-i", "-m", "c@d"}, false, true, {}, "", {"c@d"}},
      {"glued sender", {"-fa@b", "c@d"}, false, false, "a@b", "", {"c@d"}},
      {"old name of -f", {"-ra@b", "c@d"}, false, false, "a@b", "", {"c@d"}},
      {"empty sender", {"-f", "", "c@d"}, false, false, "", "", {"c@d"}},
      {"null sender", {"-f<>", "c@d"}, false, false, "<>", "", {"c@d"}},
      {"letters grouped with a value", {"-tiFA B", "c@d"}, true, true, {}, "A B", {"c@d"}},
      {"options behind recipients", {"c@d", "-i"}, false, true, {}, "", {"c@d"}},
      {"a lone hyphen is not an option", {"-"}, false, false, {}, "", {"-"}},
  };
  for (const auto& c : cases) {
    DYNAMIC_SECTION(c.name) {
      const auto options = parsed(c.arguments);
      CHECK(options.mode == Mode::deliver);
      CHECK(options.header_recipients == c.header_recipients);
      CHECK(options.dots_are_content == c.dots_are_content);
      CHECK(options.sender == c.sender);
      CHECK(options.full_name == c.full_name);
      CHECK(options.recipients == c.recipients);
    }
  }
}

TEST_CASE("I02: behind -- nothing is an option", "[cli][unit]") {
  const auto options = parsed({"-i", "--", "-Cx@us", "--help@us", "-@us", "--"});
  CHECK(options.mode == Mode::deliver);
  CHECK(options.config.empty());
  CHECK(options.recipients == std::vector<std::string>{"-Cx@us", "--help@us", "-@us", "--"});
}

TEST_CASE("sendmail accepts and ignores what has no meaning here", "[cli][unit]") {
  for (const std::vector<std::string>& ignored :
       std::vector<std::vector<std::string>>{{"-odb"},
                                             {"-odi"},
                                             {"-oee"},
                                             {"-oep"},
                                             {"-oeq"},
                                             {"-oew"},
                                             {"-o7"},
                                             {"-o8"},
                                             {"-om"},
                                             {"-oXanything"},
                                             {"-o", "x"},
                                             {"-O", "DeliveryMode=b"},
                                             {"-OIgnoreDots=true"},
                                             {"-L", "tag"},
                                             {"-Ltag"},
                                             {"-h", "5"},
                                             {"-pESMTP:host"},
                                             {"-Am"},
                                             {"-Ac"},
                                             {"-X", "/tmp/never-written"},
                                             {"-x"},
                                             {"-n"},
                                             {"-m"},
                                             {"-U"},
                                             {"-G"},
                                             {"-v"},
                                             {"-em"},
                                             {"-e", "m"},
                                             {"-oMr", "local"},
                                             {"-oMs", "host.test"},
                                             {"-oMrlocal"},
                                             {"-oe", "m"},
                                             {"-d0.1"},
                                             {"-bm"}}) {
    auto arguments = ignored;
    arguments.push_back("c@d");
    INFO(ignored.front());
    const auto options = parsed(arguments);
    CHECK(options.mode == Mode::deliver);
    CHECK(options.recipients == std::vector<std::string>{"c@d"});
    CHECK_FALSE(options.sender);
  }
}

TEST_CASE("sendmail knows its modes", "[cli][unit]") {
  CHECK(parsed({"-bs"}).mode == Mode::smtp);
  CHECK(parsed({"-bp"}).mode == Mode::list);
  CHECK(parsed({"-b", "p"}).mode == Mode::list);
  CHECK(parsed({"-bi"}).mode == Mode::aliases);
  CHECK(parsed({"-I"}).mode == Mode::aliases);
  CHECK(parsed({"-bv", "a@b"}).mode == Mode::verify);
  CHECK(parsed({"-q"}).mode == Mode::flush);
  CHECK(parsed({"-q15m"}).mode == Mode::flush);
  CHECK(parsed({"-qI06ABC"}).flush_id == "06ABC");
  CHECK(parsed({"-qRexample.org"}).flush_recipient == "example.org");
  CHECK(parsed({"-qSa@b"}).flush_sender == "a@b");
  CHECK(parsed({"--version"}).mode == Mode::version);
}

TEST_CASE("sendmail reads DSN options", "[cli][unit]") {
  CHECK(parsed({"-N", "never"}).notify.bits == mail::Notify::kNever);
  CHECK(parsed({"-Nsuccess,delay"}).notify.bits == (mail::Notify::kSuccess | mail::Notify::kDelay));
  CHECK(parsed({"-R", "hdrs"}).ret == mail::Return::headers);
  CHECK(parsed({"-Rfull"}).ret == mail::Return::full);
  CHECK(parsed({"-V", "a+b=c"}).envelope_id == "a+2Bb+3Dc");
  CHECK(parsed({"-B", "8bitmime"}).body == mail::BodyType::eight_bit_mime);
  CHECK(parsed({"-C", "/x"}).config == "/x");
}

TEST_CASE("sendmail refuses what it cannot do, in a sentence", "[cli][unit]") {
  for (const std::vector<std::string>& wrong :
       std::vector<std::vector<std::string>>{{"-bd"},
                                             {"-bt"},
                                             {"-N", "sometimes"},
                                             {"-Nnever,delay"},
                                             {"-R", "half"},
                                             {"-B9BIT"},
                                             {"-f"},
                                             {"-F"},
                                             {"-z"},
                                             {"--force"},
                                             {"-V", std::string(200, 'x')},
                                             {"-N", ""}}) {
    const auto options = parse_sendmail_options(wrong);
    REQUIRE_FALSE(options);
    CHECK(options.error().step().find(':') != std::string::npos);
  }
}

}  // namespace
}  // namespace postrider::cli
