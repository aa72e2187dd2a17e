#include "delivery/refusals.h"

#include <catch2/catch.hpp>

#include <memory>
#include <string>

using namespace postrider;
using namespace postrider::delivery;
using scheduler::ReplyClass;

namespace {

RecipientEnd refused(std::uint32_t index, int code, mail::EnhancedCode enhanced,
                     const std::string& text) {
  RecipientEnd end;
  end.index = index;
  end.outcome.stage = mail::Stage::rcpt;
  end.outcome.verdict = code / 100 == 5 ? mail::Verdict::bounce : mail::Verdict::retry;
  end.outcome.remote = "mx1.example.org[192.0.2.1]:25";
  end.outcome.reply = mail::Reply(code, enhanced, text);
  return end;
}

JobEnd end_of(std::size_t recipients) {
  mail::Message message;
  message.envelope.sender = "News@src.example";
  for (std::size_t i = 0; i < recipients; ++i)
    message.envelope.recipients.emplace_back().address = "u" + std::to_string(i) + "@far.example";
  JobEnd end;
  end.job.message = std::make_shared<const mail::Message>(std::move(message));
  return end;
}

}  // namespace

TEST_CASE("refusals: the host of a remote", "[delivery][refusals]") {
  CHECK(host_of_remote("mx1.example.org[192.0.2.1]:25") == "mx1.example.org");
  CHECK(host_of_remote("[192.0.2.1]:25") == "");
  CHECK(host_of_remote("/run/lmtp") == "/run/lmtp");
  CHECK(host_of_remote("") == "");
}

TEST_CASE("refusals: the one that says most of the site counts", "[delivery][refusals]") {
  auto end = end_of(6);
  CHECK(weightiest_refusal(end).outcome == nullptr);
  RecipientEnd taken;
  taken.outcome.verdict = mail::Verdict::delivered;
  end.results.push_back(taken);
  RecipientEnd lost;
  lost.outcome.stage = mail::Stage::body_end;
  end.results.push_back(lost);
  CHECK(weightiest_refusal(end).outcome == nullptr);
  end.results.push_back(refused(2, 550, {5, 1, 1}, "no such user"));
  CHECK(weightiest_refusal(end).meaning.klass == ReplyClass::no_mailbox);
  end.results.push_back(refused(3, 451, {4, 7, 1}, "rate limit exceeded"));
  end.results.push_back(refused(4, 451, {4, 7, 1}, "greylisted"));
  CHECK(weightiest_refusal(end).meaning.klass == ReplyClass::rate);
  CHECK(weightiest_refusal(end).outcome == &end.results[3].outcome);
  end.results.push_back(refused(5, 421, {4, 7, 0}, "very low reputation"));
  CHECK(weightiest_refusal(end).meaning.klass == ReplyClass::reputation);
}

TEST_CASE("refusals: what another host may take", "[delivery][refusals]") {
  using mail::Stage;
  struct Row {
    Stage stage;
    int code;
    mail::EnhancedCode enhanced;
    const char* text;
    bool may_pass;
  };
  const Row rows[] = {
      {Stage::mail, 451, {4, 3, 0}, "later", true},
      {Stage::rcpt, 450, {4, 2, 0}, "greylisted", true},
      {Stage::rcpt, 450, {}, "Empf\xc3\xa4nger zur Zeit nicht erreichbar", true},
      {Stage::rcpt, 452, {4, 2, 2}, "mailbox full", true},
      {Stage::data, 451, {4, 3, 1}, "disk full", true},
      {Stage::body_end, 452, {4, 3, 1}, "disk full", true},
      {Stage::greeting, 450, {}, "later", false},  // its connection has ended anyhow
      {Stage::mail, 421, {4, 3, 2}, "closing", false},
      {Stage::mail, 450, {4, 7, 28}, "x", false},
      {Stage::mail, 451, {4, 7, 1}, "rate limit exceeded", false},
      {Stage::rcpt, 451, {4, 7, 500}, "Access denied, please try again later", false},
      {Stage::rcpt, 550, {5, 1, 1}, "no such user", false},
      {Stage::body_end, 554, {5, 7, 1}, "spam", false},
      {Stage::rcpt, 550, {5, 7, 510}, "does not accept email over IPv6", true},
  };
  for (const auto& row : rows) {
    INFO(row.code << " " << row.text);
    auto outcome = refused(0, row.code, row.enhanced, row.text).outcome;
    outcome.stage = row.stage;
    CHECK(may_pass_elsewhere(outcome) == row.may_pass);
  }
  CHECK_FALSE(may_pass_elsewhere({}));  // nothing was said
  mail::Outcome ours;
  ours.stage = Stage::body;
  ours.status = {4, 3, 0};
  CHECK_FALSE(may_pass_elsewhere(ours));
}

TEST_CASE("refusals: a code of an address or a mailbox says nothing of the site",
          "[delivery][refusals]") {
  using mail::Stage;
  struct Row {
    Stage stage;
    int code;
    mail::EnhancedCode enhanced;
    const char* text;
    bool is_of_site;
  };
  const Row rows[] = {
      {Stage::rcpt, 452, {4, 2, 2}, "<u0@far.example>: mailbox is full, too many messages", false},
      {Stage::rcpt, 450, {4, 2, 1}, "rate limit exceeded", false},
      {Stage::mail, 450, {4, 1, 8}, "rate limit exceeded", false},
      {Stage::mail, 450, {4, 7, 1}, "rate limit exceeded", true},
      {Stage::rcpt, 421, {4, 2, 0}, "Service refuse. Veuillez essayer plus tard. OFR_103", true},
      {Stage::mail, 550, {}, "IP frequency limited", true},
      {Stage::greeting, 421, {4, 2, 1}, "too many messages", true},
  };
  for (const auto& row : rows) {
    INFO(row.code << " " << row.text);
    auto end = end_of(1);
    end.results.push_back(refused(0, row.code, row.enhanced, row.text));
    end.results[0].outcome.stage = row.stage;
    const auto found = weightiest_refusal(end);
    CHECK((found.outcome != nullptr) == row.is_of_site);
    if (row.is_of_site)
      CHECK((found.meaning.limits_rate || found.meaning.suspend > Duration{0}));
    CHECK(found.may_be_of_one() == (row.is_of_site && row.stage != Stage::greeting));
  }
}

// What a text says of whom decides nothing: neither that it names somebody nor that it does not.
TEST_CASE("refusals: whom they met is noted, by the stage and the kind", "[delivery][refusals]") {
  using mail::Stage;
  struct Row {
    const char* name;
    Stage stage;
    int code;
    mail::EnhancedCode enhanced;
    const char* text;
    bool is_of_all;  // where three senders meet it, with mail for three mailboxes
  };
  const Row rows[] = {
      {"rate", Stage::mail, 450, {4, 7, 1}, "rate limit exceeded", true},
      {"by code, in another language", Stage::mail, 450, {4, 7, 28}, "Zu viele Nachrichten", true},
      {"that names a sender", Stage::mail, 450, {4, 7, 28}, "<s1@src.example>: zu viel", true},
      {"at RCPT", Stage::rcpt, 450, {4, 7, 28}, "trop", true},
      {"of a mailbox by its code", Stage::rcpt, 450, {4, 2, 1}, "rate limit exceeded", false},
      {"greylisting", Stage::rcpt, 451, {4, 7, 1}, "greylisted", false},
      {"no such user", Stage::rcpt, 550, {5, 1, 1}, "unbekannt", false},
  };
  for (const auto& row : rows)
    DYNAMIC_SECTION(row.name) {
      Evidence evidence, of_one_sender;
      const SteadyTime now{std::chrono::hours(1)};
      auto widest = Evidence::Scope::one;
      for (std::uint32_t i = 0; i < 3; ++i) {
        auto end = end_of(3);
        auto message = *end.job.message;
        message.envelope.sender = "s" + std::to_string(i) + "@src.example";
        end.job.message = std::make_shared<const mail::Message>(std::move(message));
        end.results.push_back(refused(i, row.code, row.enhanced, row.text));
        end.results[0].outcome.stage = row.stage;
        widest = weigh_evidence(evidence, end, now);
        auto of_one = end_of(3);
        of_one.results = end.results;
        CHECK(weigh_evidence(of_one_sender, of_one, now) == Evidence::Scope::one);
      }
      CHECK((widest == Evidence::Scope::site) == row.is_of_all);
    }
}
