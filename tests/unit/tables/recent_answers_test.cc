#include "tables/recent_answers.h"

#include "base/memory_only.h"

#include <catch2/catch.hpp>

namespace postrider::tables {
namespace {

using namespace std::chrono_literals;

Entry entry(const std::string& value) {
  Entry entry;
  entry.value = value;
  return entry;
}

// "value", "none", "failed", or "" if the table must be asked.
std::string found(const RecentAnswers& answers, const std::string& key) {
  const auto answer = answers.find(key);
  if (!answer)
    return "";
  if (!*answer)
    return "failed";
  return **answer ? (**answer)->value : "none";
}

TEST_CASE("answers of a table are remembered for a moment", "[tables]") {
  RecentAnswers lasting(1h), brief(0s);
  for (auto* answers : {&lasting, &brief}) {
    CHECK(found(*answers, "a").empty());
    answers->keep("a", entry("x"));
    answers->keep("b", std::nullopt);
    answers->keep_failure("c", Error(Errc::storage, "c"));
  }
  CHECK(found(lasting, "a") == "x");
  CHECK(found(lasting, "b") == "none");
  CHECK(found(lasting, "c") == "failed");
  CHECK(found(lasting, "d").empty());
  for (const auto* key : {"a", "b", "c"})
    CHECK(found(brief, key).empty());
}

TEST_CASE("who may not wait takes an old answer, but no old failure", "[tables]") {
  RecentAnswers answers(0s);
  answers.keep("a", entry("x"));
  answers.keep_failure("a", Error(Errc::storage, "a"));
  answers.keep_failure("c", Error(Errc::storage, "c"));
  {
    const MemoryOnly memory;
    CHECK(found(answers, "a").empty());
  }
  const MemoryOnly memory(true);
  CHECK(found(answers, "a") == "x");
  CHECK(found(answers, "c").empty());
}

TEST_CASE("a new answer takes the place of a failure and of an old one", "[tables]") {
  RecentAnswers answers(1h);
  answers.keep_failure("a", Error(Errc::storage, "a"));
  CHECK(found(answers, "a") == "failed");
  answers.keep("a", entry("x"));
  CHECK(found(answers, "a") == "x");
  answers.keep("a", entry("y"));
  CHECK(found(answers, "a") == "y");
}

TEST_CASE("the memory of answers is bounded", "[tables]") {
  RecentAnswers answers(1h);
  std::size_t kept = 0, failed = 0;
  for (int i = 0; i < 25'000; ++i) {
    answers.keep("k" + std::to_string(i), std::nullopt);
    answers.keep_failure("f" + std::to_string(i), Error(Errc::storage, "f"));
  }
  for (int i = 0; i < 25'000; ++i) {
    kept += answers.find("k" + std::to_string(i)) ? 1U : 0U;
    failed += answers.find("f" + std::to_string(i)) ? 1U : 0U;
  }
  CHECK(kept <= 10'000);
  CHECK(failed <= 1'000);
  CHECK(found(answers, "k24999") == "none");
  CHECK(found(answers, "f24999") == "failed");
}

TEST_CASE("the memory of long answers is bounded in octets", "[tables]") {
  RecentAnswers answers(1h);
  for (int i = 0; i < 200; ++i) {
    const auto key = std::to_string(i);
    answers.keep(key, entry(std::string(200'000, 'x')));
    answers.keep(key, entry(std::string(100'000, 'y')));
    CHECK(answers.octets() <= 8U << 20U);
    CHECK(found(answers, key).front() == 'y');
  }
}

}  // namespace
}  // namespace postrider::tables
