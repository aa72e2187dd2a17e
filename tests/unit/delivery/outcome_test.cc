#include "delivery/job/job_outcome.h"

#include <boost/system/errc.hpp>
#include <catch2/catch.hpp>

using namespace postrider;
using namespace postrider::delivery;
using mail::EnhancedCode;
using mail::Reply;
using mail::Stage;
using mail::Verdict;

TEST_CASE("what this machine lacks is no word of the remote", "[delivery][outcome]") {
  namespace errc = boost::system::errc;
  struct Row {
    errc::errc_t code;
    bool is_ours;
  };
  const Row rows[] = {
      {errc::too_many_files_open, true},     {errc::too_many_files_open_in_system, true},
      {errc::no_buffer_space, true},         {errc::not_enough_memory, true},
      {errc::address_not_available, true},   {errc::connection_refused, false},
      {errc::connection_reset, false},       {errc::timed_out, false},
      {errc::network_unreachable, false},    {errc::host_unreachable, false},
      {errc::device_or_resource_busy, false}};
  for (const auto& row : rows)
    for (const auto stage : {Stage::connect, Stage::mail, Stage::body, Stage::body_end}) {
      const auto outcome = judge(stage, Error(errc::make_error_code(row.code), "write"), "mx:25");
      INFO(outcome.text);
      CHECK(outcome.verdict == Verdict::retry);
      CHECK(is_our_fault(outcome) == row.is_ours);
      CHECK((outcome.status == EnhancedCode{4, 3, 0}) == row.is_ours);
    }
  // A host that says so of itself has said it.
  CHECK_FALSE(is_our_fault(judge(Stage::rcpt, Reply(452, {4, 3, 1}, "no space"), "mx:25")));
  CHECK_FALSE(is_our_fault(judge(Stage::auth, Reply(454, {4, 7, 0}, "later"), "mx:25")));
}

TEST_CASE("M14: one table says what a reply means at each stage", "[delivery][outcome]") {
  struct Case {
    std::string name;
    Stage stage;
    int code;
    EnhancedCode enhanced;
    Verdict verdict;
    std::string status;
    bool about_host;
  };
  const std::vector<Case> cases = {
      {"220 is not an end, 554 greeting is the host's",
       Stage::greeting,
       554,
       {},
       Verdict::retry,
       "4.0.0",
       true},
      {"521 greeting", Stage::greeting, 521, {}, Verdict::retry, "4.0.0", true},
      {"5xx to EHLO", Stage::ehlo, 550, {5, 7, 1}, Verdict::retry, "4.7.1", true},
      {"4xx to EHLO", Stage::ehlo, 451, {}, Verdict::retry, "4.0.0", true},
      {"5xx to AUTH", Stage::auth, 535, {5, 7, 8}, Verdict::retry, "4.7.8", true},
      {"5xx to MAIL", Stage::mail, 550, {5, 1, 8}, Verdict::bounce, "5.1.8", false},
      {"4xx to MAIL", Stage::mail, 451, {4, 3, 0}, Verdict::retry, "4.3.0", false},
      {"421 to MAIL", Stage::mail, 421, {4, 3, 2}, Verdict::retry, "4.3.2", true},
      {"not accepting now", Stage::mail, 451, {4, 3, 2}, Verdict::retry, "4.3.2", true},
      {"congestion", Stage::mail, 451, {4, 4, 5}, Verdict::retry, "4.4.5", true},
      {"too many messages", Stage::mail, 452, {4, 5, 3}, Verdict::retry, "4.5.3", true},
      {"we come too often", Stage::mail, 450, {4, 7, 0}, Verdict::retry, "4.7.0", true},
      {"a full disk", Stage::mail, 452, {4, 3, 1}, Verdict::retry, "4.3.1", false},
      {"greylisted at MAIL", Stage::mail, 451, {4, 7, 1}, Verdict::retry, "4.7.1", false},
      {"503 to MAIL", Stage::mail, 503, {5, 5, 1}, Verdict::retry, "4.5.1", true},
      {"530 to MAIL", Stage::mail, 530, {5, 7, 0}, Verdict::retry, "4.7.0", true},
      {"530 to RCPT", Stage::rcpt, 530, {5, 7, 0}, Verdict::retry, "4.7.0", true},
      {"538 to MAIL", Stage::mail, 538, {5, 7, 11}, Verdict::retry, "4.7.11", true},
      {"503 to RCPT may be a refusal", Stage::rcpt, 503, {}, Verdict::bounce, "5.0.0", false},
      {"503 to DATA", Stage::data, 503, {5, 5, 1}, Verdict::retry, "4.5.1", true},
      {"503 to a chunk", Stage::body_end, 503, {5, 5, 1}, Verdict::retry, "4.5.1", true},
      {"5xx to HELO", Stage::ehlo, 503, {5, 5, 1}, Verdict::retry, "4.5.1", true},
      {"454 to AUTH", Stage::auth, 454, {4, 7, 0}, Verdict::retry, "4.7.0", true},
      {"530 to AUTH", Stage::auth, 530, {5, 7, 0}, Verdict::retry, "4.7.0", true},
      {"550 to RCPT", Stage::rcpt, 550, {5, 1, 1}, Verdict::bounce, "5.1.1", false},
      {"552 5.5.3 to RCPT is 452", Stage::rcpt, 552, {5, 5, 3}, Verdict::retry, "4.5.3", false},
      {"552 5.2.2 is a full mailbox", Stage::rcpt, 552, {5, 2, 2}, Verdict::bounce, "5.2.2", false},
      {"552 5.3.4 is a limit", Stage::rcpt, 552, {5, 3, 4}, Verdict::bounce, "5.3.4", false},
      {"552 for the first one", Stage::rcpt, 552, {}, Verdict::bounce, "5.0.0", false},
      {"452 to RCPT", Stage::rcpt, 452, {4, 5, 3}, Verdict::retry, "4.5.3", false},
      {"551 to RCPT", Stage::rcpt, 551, {}, Verdict::bounce, "5.0.0", false},
      {"556 to RCPT", Stage::rcpt, 556, {5, 1, 10}, Verdict::bounce, "5.1.10", false},
      {"no reverse name", Stage::rcpt, 550, {5, 7, 25}, Verdict::bounce, "5.7.25", true},
      {"554 to DATA", Stage::data, 554, {}, Verdict::bounce, "5.0.0", false},
      {"421 to DATA", Stage::data, 421, {}, Verdict::retry, "4.0.0", true},
      {"250 to the end", Stage::body_end, 250, {2, 6, 0}, Verdict::delivered, "2.6.0", false},
      {"552 to the end", Stage::body_end, 552, {5, 3, 4}, Verdict::bounce, "5.3.4", false},
      {"452 to the end", Stage::body_end, 452, {4, 3, 1}, Verdict::retry, "4.3.1", false},
      {"421 to the end", Stage::body_end, 421, {4, 4, 2}, Verdict::retry, "4.4.2", true},
      {"I08: 2.0.0 on a 550", Stage::rcpt, 550, {2, 0, 0}, Verdict::bounce, "5.0.0", false},
      {"I08: 5.1.1 on a 450", Stage::rcpt, 450, {5, 1, 1}, Verdict::retry, "4.0.0", false},
      {"I08: 4.0.0 on a 250", Stage::body_end, 250, {4, 0, 0}, Verdict::delivered, "2.0.0", false},
  };
  for (const auto& c : cases) {
    DYNAMIC_SECTION(c.name) {
      const Reply reply(c.code, c.enhanced, "text");
      const auto outcome = judge(c.stage, reply, "mx[192.0.2.1]:25");
      CHECK(outcome.verdict == c.verdict);
      CHECK(mail::to_string(outcome.status) == c.status);
      CHECK(outcome.stage == c.stage);
      CHECK(outcome.reply == reply);
      CHECK(is_about_host(c.stage, reply) == c.about_host);
    }
  }
}

TEST_CASE("what may be about a connection that has carried messages", "[delivery][outcome]") {
  struct Case {
    std::string name;
    Stage stage;
    int code;
    EnhancedCode enhanced;
    bool about_connection;
  };
  const std::vector<Case> cases = {
      {"OpenSMTPD after a hundred", Stage::mail, 452, {4, 5, 3}, true},
      {"others after some", Stage::mail, 451, {}, true},
      {"out of order", Stage::mail, 503, {5, 5, 1}, true},
      {"too many, for good", Stage::mail, 550, {5, 5, 3}, true},
      {"the sender is refused", Stage::mail, 550, {5, 1, 8}, false},
      {"too large", Stage::mail, 552, {5, 3, 4}, false},
      {"too many recipients in all", Stage::rcpt, 452, {4, 5, 3}, true},
      {"MAIL was forgotten", Stage::rcpt, 503, {5, 5, 1}, true},
      {"greylisted", Stage::rcpt, 451, {4, 7, 1}, false},
      {"no such user", Stage::rcpt, 550, {5, 1, 1}, false},
      {"congestion", Stage::data, 451, {4, 4, 5}, true},
      {"later", Stage::data, 451, {4, 3, 0}, false},
      {"the content is judged", Stage::body_end, 452, {4, 5, 3}, false},
  };
  for (const auto& c : cases) {
    DYNAMIC_SECTION(c.name) {
      CHECK(is_about_connection(c.stage, Reply(c.code, c.enhanced, "text")) == c.about_connection);
    }
  }
}

TEST_CASE("a broken connection never rejects mail", "[delivery][outcome]") {
  struct Case {
    Stage stage;
    boost::system::errc::errc_t code;
    std::string status, text;
  };
  const std::vector<Case> cases = {
      {Stage::connect, boost::system::errc::connection_refused, "4.4.1",
       "connect to mx:25: Connection refused"},
      {Stage::connect, boost::system::errc::timed_out, "4.4.1",
       "connect to mx:25: Connection timed out"},
      {Stage::rcpt, boost::system::errc::connection_reset, "4.4.2", "lost connection with mx:25"},
      {Stage::body_end, boost::system::errc::timed_out, "4.4.2",
       "conversation with mx:25 timed out"},
  };
  for (const auto& c : cases) {
    const auto outcome =
        judge(c.stage, Error(boost::system::errc::make_error_code(c.code), "read"), "mx:25");
    CHECK(outcome.verdict == Verdict::retry);
    CHECK(mail::to_string(outcome.status) == c.status);
    CHECK(outcome.text.starts_with(c.text));
  }
  const auto out_of_step = judge(Stage::mail, malformed("a reply to nothing"), "mx:25");
  CHECK(out_of_step.text.starts_with("unexpected reply from mx:25 (a reply to nothing)"));
  CHECK(out_of_step.verdict == Verdict::retry);
}

TEST_CASE("no more than the beginning of a reply is kept", "[delivery][outcome]") {
  const Reply reply(550, {5, 1, 1}, "why " + std::string(16000, 'x'));
  const auto outcome = judge(Stage::rcpt, reply, "mx[192.0.2.1]:25");
  CHECK(outcome.reply.code == 550);
  CHECK(outcome.reply.text.starts_with("why xxx"));
  CHECK(outcome.reply.text.ends_with("x..."));
  CHECK(outcome.reply.text.size() < 2010);
}

TEST_CASE("the last real word of two hosts is recorded", "[delivery][outcome]") {
  const auto said = [](Stage stage, int code, EnhancedCode enhanced) {
    return judge(stage, Reply(code, enhanced, "words"), "mx:25");
  };
  const auto lost = [](Stage stage) {
    return judge(
        stage,
        Error(boost::system::errc::make_error_code(boost::system::errc::connection_reset), "read"),
        "backup:25");
  };
  const auto first = said(Stage::rcpt, 450, {4, 2, 0});
  struct Case {
    std::string name;
    mail::Outcome last;
    bool is_last;
  };
  const std::vector<Case> cases = {
      {"taken", said(Stage::body_end, 250, {2, 0, 0}), true},
      {"refused for now", said(Stage::mail, 451, {4, 3, 0}), true},
      {"refused for good", said(Stage::rcpt, 550, {5, 1, 1}), true},
      {"may have arrived", lost(Stage::body_end), true},
      {"no connection", lost(Stage::connect), false},
      {"lost at MAIL", lost(Stage::mail), false},
      {"lost in the content", lost(Stage::body), false},
      {"not tried", {}, false},
  };
  for (const auto& c : cases) {
    INFO(c.name);
    CHECK(&last_word(first, c.last) == (c.is_last ? &c.last : &first));
  }
  const auto none = lost(Stage::connect);
  const auto later = lost(Stage::mail);
  CHECK(&last_word(none, later) == &later);
}

TEST_CASE("too many recipients is told from a full mailbox", "[delivery][outcome]") {
  CHECK(is_too_many_recipients(Reply(452, {}, "")));
  CHECK(is_too_many_recipients(Reply(452, {4, 5, 3}, "")));
  CHECK(is_too_many_recipients(Reply(552, {5, 5, 3}, "")));
  CHECK_FALSE(is_too_many_recipients(Reply(452, {4, 2, 2}, "")));
  CHECK_FALSE(is_too_many_recipients(Reply(450, {}, "")));
}
