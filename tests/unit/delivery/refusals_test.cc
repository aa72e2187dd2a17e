#include "delivery/refusals.h"

#include <catch2/catch.hpp>

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

}  // namespace

TEST_CASE("refusals: the host of a remote", "[delivery][refusals]") {
  CHECK(host_of_remote("mx1.example.org[192.0.2.1]:25") == "mx1.example.org");
  CHECK(host_of_remote("[192.0.2.1]:25") == "");
  CHECK(host_of_remote("/run/lmtp") == "/run/lmtp");
  CHECK(host_of_remote("") == "");
}

TEST_CASE("refusals: the one that says most of the site counts", "[delivery][refusals]") {
  JobEnd end;
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
