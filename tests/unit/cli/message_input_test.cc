#include "cli/message_input.h"

#include "cli/content_store.h"
#include "tests/support/results.h"

#include <catch2/catch.hpp>

#include <cstdlib>
#include <optional>

namespace postrider::cli {
namespace {

// Fed in pieces of `step` octets.
std::string read(const std::string& input, bool dots_are_content, std::size_t step) {
  MessageInput reader(dots_are_content);
  std::string out;
  for (std::size_t at = 0; at < input.size(); at += step)
    if (!reader.feed(std::string_view(input).substr(at, step), out))
      return out;
  reader.finish(out);
  return out;
}

TEST_CASE("sendmail reads a message up to a lone dot, or with -i to the end", "[cli][unit]") {
  struct Case {
    const char* name;
    std::string input, without_i, with_i;
  };
  const Case cases[] = {
      {"plain", "a\nb\n", "a\nb\n", "a\nb\n"},
      {"a lone dot ends it", "a\n.\nb\n", "a\n", "a\n.\nb\n"},
      {"a lone dot with CRLF", "a\r\n.\r\nb", "a\r\n", "a\r\n.\r\nb"},
      {"a lone dot first", ".\nb\n", "", ".\nb\n"},
      {"a lone dot at the very end", "a\n.", "a\n", "a\n."},
      {"dots that begin a line stay", "..\n.a\n.\r.\n", "..\n.a\n.\r.\n", "..\n.a\n.\r.\n"},
      {"a dot in the middle", "a.\n", "a.\n", "a.\n"},
      {"the From line of a mailbox goes", "From me@x Mon Nov 23\nSubject: s\n\nFrom here\n",
       "Subject: s\n\nFrom here\n", "Subject: s\n\nFrom here\n"},
      {"those of UUCP go, each relay's",
       ">From a Mon Nov 23 remote from b\n>>From b Mon Nov 23 remote from c\nSubject: s\n\n>From "
       "x\n",
       "Subject: s\n\n>From x\n", "Subject: s\n\n>From x\n"},
      {"both kinds", "From c Mon Nov 23 remote from d\r\n>From a Mon Nov 23 remote from b\r\n\r\nx",
       "\r\nx", "\r\nx"},
      {"marks alone are content", ">>> hello\n", ">>> hello\n", ">>> hello\n"},
      {"as many marks as one likes", std::string(100, '>') + "From x\n",
       std::string(100, '>') + "From x\n", std::string(100, '>') + "From x\n"},
      {"a mark and no line end", ">", ">", ">"},
      {"behind an empty line they are content", "\nFrom x\n", "\nFrom x\n", "\nFrom x\n"},
      {"From: is not From", "From: a@b\n\n", "From: a@b\n\n", "From: a@b\n\n"},
      {"nothing", "", "", ""},
      {"no line end", "a", "a", "a"},
  };
  for (const auto& c : cases)
    for (const std::size_t step : {1U, 2U, 3U, 1000U}) {
      DYNAMIC_SECTION(c.name << " by " << step) {
        CHECK(read(c.input, false, step) == c.without_i);
        CHECK(read(c.input, true, step) == (c.without_i == c.with_i ? c.without_i : c.with_i));
      }
    }
}

// Sets a variable of the environment while it lives.
class Variable {
 public:
  Variable(const char* name, const std::string& value) : name_(name) {
    if (const char* before = std::getenv(name))
      before_ = before;
    ::setenv(name, value.c_str(), 1);
  }
  ~Variable() { before_ ? ::setenv(name_, before_->c_str(), 1) : ::unsetenv(name_); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name_;
  std::optional<std::string> before_;
};

TEST_CASE("a TMPDIR that cannot be used is passed over", "[cli][unit]") {
  for (const char* folder : {"/nowhere/at/all", "/proc", "/dev/null", "relative", ""}) {
    INFO(folder);
    const Variable variable("TMPDIR", folder);
    ContentStore content;
    for (int i = 0; i < 30; ++i)
      REQUIRE(content.append(std::string(100'000, 'x')));
    std::size_t got = 0;
    REQUIRE(content.read([&](std::string_view piece) -> Result<void> {
      got += piece.size();
      return {};
    }));
    CHECK(got == 3'000'000);
  }
}

TEST_CASE("content beyond memory is kept in a file and given twice", "[cli][unit]") {
  ContentStore content;
  std::string want;
  for (int i = 0; i < 300; ++i) {
    const std::string piece(10'000, static_cast<char>('a' + i % 26));
    want.append(piece);
    REQUIRE(content.append(piece));
  }
  CHECK(content.size() == want.size());
  for (int round = 0; round < 2; ++round) {
    std::string got;
    REQUIRE(content.read([&](std::string_view piece) -> Result<void> {
      got.append(piece);
      return {};
    }));
    CHECK(got == want);
  }
}

}  // namespace
}  // namespace postrider::cli
