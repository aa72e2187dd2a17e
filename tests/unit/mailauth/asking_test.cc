#include "mailauth/asking.h"

#include "tests/support/fake_zones.h"

#include <catch2/catch.hpp>

#include <stdexcept>

namespace postrider::mailauth {
namespace {

using tests::FakeZones;

Answer text(std::string value) {
  Answer answer;
  answer.status = Answer::Status::found;
  answer.texts.push_back(std::move(value));
  return answer;
}

Question txt(std::string name) {
  return Question{std::move(name), Type::txt};
}

Asking<std::string> text_at(std::string name) {
  auto answer = co_await ask(txt(std::move(name)));
  if (!answer.is_found())
    throw std::runtime_error("nothing found: " + answer.reason);
  co_return answer.texts.front();
}

// Each record names where to look next.
Asking<std::string> follow(std::string name, int links) {
  if (links == 0)
    co_return name;
  auto next = co_await text_at(name);
  co_return co_await follow(std::move(next), links - 1);
}

Asking<int> answer_without_question() {
  co_return 42;
}

Asking<void> touch(bool& touched) {
  (void)co_await ask(txt("touched"));
  touched = true;
}

Asking<std::vector<std::string>> texts_at(std::vector<std::string> names) {
  std::vector<Asking<std::string>> askings;
  for (auto& name : names)
    askings.push_back(text_at(std::move(name)));
  co_return co_await all(std::move(askings));
}

Asking<std::string> both() {
  std::vector<Question> questions;
  questions.push_back(txt("a"));
  questions.push_back(txt("b"));
  const auto answers = co_await ask_all(std::move(questions));
  co_return answers[0].texts.front() + answers[1].texts.front();
}

TEST_CASE("an inquiry poses each question once and goes on with its answer", "[mailauth][asking]") {
  Inquiry<std::string> inquiry(follow("a", 2));
  auto posed = inquiry.take();
  REQUIRE(posed.size() == 1);
  CHECK(posed[0].question == txt("a"));
  CHECK(inquiry.take().empty());
  CHECK_FALSE(inquiry.done());
  inquiry.answer(posed[0].id + 1, text("an id that is not open"));
  CHECK(inquiry.take().empty());
  inquiry.answer(posed[0].id, text("b"));
  inquiry.answer(posed[0].id, text("a second answer is ignored"));
  posed = inquiry.take();
  REQUIRE(posed.size() == 1);
  CHECK(posed[0].question == txt("b"));
  inquiry.answer(posed[0].id, text("c"));
  REQUIRE(inquiry.done());
  CHECK(inquiry.result() == "c");
  CHECK(inquiry.asked() == 2);
}

TEST_CASE("an algorithm that asks nothing is done at once", "[mailauth][asking]") {
  Inquiry<int> inquiry(answer_without_question());
  REQUIRE(inquiry.done());
  CHECK(inquiry.result() == 42);
}

TEST_CASE("questions posed together are answered in any order", "[mailauth][asking]") {
  for (const bool latest_first : {false, true}) {
    Inquiry<std::string> inquiry(both());
    const auto posed = inquiry.take();
    REQUIRE(posed.size() == 2);
    inquiry.answer(posed[latest_first ? 1 : 0].id, text(latest_first ? "B" : "A"));
    CHECK_FALSE(inquiry.done());
    inquiry.answer(posed[latest_first ? 0 : 1].id, text(latest_first ? "A" : "B"));
    REQUIRE(inquiry.done());
    CHECK(inquiry.result() == "AB");
  }
}

TEST_CASE("askings run side by side", "[mailauth][asking]") {
  for (const bool latest_first : {false, true}) {
    FakeZones dns("a TXT \"1\"\nb TXT \"2\"\nc TXT \"3\"");
    dns.answer_latest_first(latest_first);
    Inquiry<std::vector<std::string>> inquiry(texts_at({"a", "b", "c"}));
    CHECK(inquiry.asked() == 3);
    dns.serve(inquiry);
    CHECK(inquiry.result() == std::vector<std::string>{"1", "2", "3"});
  }
  Inquiry<std::vector<std::string>> none(texts_at({}));
  REQUIRE(none.done());
  CHECK(none.result().empty());
}

TEST_CASE("an exception comes to the driver once all others have ended", "[mailauth][asking]") {
  FakeZones dns("a TXT \"1\"\nb FAILS");
  CHECK_THROWS_AS(dns.run(text_at("nothing")), std::runtime_error);
  CHECK_THROWS_WITH(dns.run(texts_at({"a", "b", "a", "nothing"})), "nothing found: SERVFAIL for b");
  CHECK(dns.asked().size() == 5);
}

TEST_CASE("a void asking can be run", "[mailauth][asking]") {
  bool touched = false;
  FakeZones dns;
  dns.run(touch(touched));
  CHECK(touched);
}

TEST_CASE("nesting is bounded", "[mailauth][asking]") {
  FakeZones dns("a TXT \"a\"");
  CHECK(dns.run(follow("a", 60)) == "a");
  CHECK_THROWS_AS(dns.run(follow("a", 1000)), TooDeep);
}

TEST_CASE("giving up answers what is open and what is still to come", "[mailauth][asking]") {
  Inquiry<std::string> inquiry(follow("a", 5));
  const auto posed = inquiry.take();
  inquiry.give_up("time limit");
  REQUIRE(inquiry.done());
  inquiry.answer(posed[0].id, text("too late"));
  CHECK_THROWS_WITH(inquiry.result(), "nothing found: time limit");

  Inquiry<std::vector<std::string>> several(texts_at({"a", "b"}));
  several.give_up("time limit");
  CHECK(several.done());
}

TEST_CASE("an inquiry can be dropped with questions open", "[mailauth][asking]") {
  Inquiry<std::vector<std::string>> inquiry(texts_at({"a", "b"}));
  inquiry.answer(inquiry.take().front().id, text("1"));
  CHECK_FALSE(inquiry.done());
}

TEST_CASE("zones of tests tell absence and failure apart", "[mailauth][asking]") {
  FakeZones dns(R"(
    www.example.test CNAME example.test
    example.test     TXT   "one; " "record" ; comment
    example.test     TXT   "\"\200\""
    example.test     MX    20 far.example.test
    example.test     MX    10 near.example.test.
    192.0.2.1        PTR   Example.TEST
    bare.test        EXISTS
    slow.test        FAILS
    deep.below.test  A     192.0.2.1
  )");
  dns.fail("example.test", Type::a);
  const auto found = dns.look_up({"WWW.example.test.", Type::txt});
  CHECK(found.texts == std::vector<std::string>{"one; record", "\"\xc8\""});
  CHECK(dns.look_up({"example.test", Type::mx}).hosts ==
        std::vector<std::string>{"near.example.test", "far.example.test"});
  CHECK(dns.look_up({"1.2.0.192.in-addr.arpa", Type::ptr}).hosts.front() == "example.test");
  CHECK(dns.look_up({"example.test", Type::a}).is_failure());
  CHECK(dns.look_up({"example.test", Type::aaaa}).status == Answer::Status::no_data);
  CHECK(dns.look_up({"bare.test", Type::a}).status == Answer::Status::no_data);
  CHECK(dns.look_up({"below.test", Type::a}).status == Answer::Status::no_data);
  CHECK(dns.look_up({"other.test", Type::a}).status == Answer::Status::no_name);
  CHECK(dns.look_up({"slow.test", Type::a}).is_failure());
  CHECK_THROWS_AS(FakeZones("x WHAT 1"), std::invalid_argument);
}

}  // namespace
}  // namespace postrider::mailauth
