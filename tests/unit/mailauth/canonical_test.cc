#include "mailauth/canonical.h"

#include <catch2/catch.hpp>

#include <random>
#include <vector>

namespace postrider::mailauth {
namespace {

using namespace std::string_literals;

std::string body(Form form, std::string_view text, std::size_t piece) {
  std::string out;
  CanonicalBody canonical(form, [&](std::string_view some) { out.append(some); });
  for (std::size_t at = 0; at < text.size(); at += piece)
    canonical.feed(text.substr(at, piece));
  canonical.finish();
  return out;
}

std::string header(Form form, std::string_view section) {
  mail::HeaderScanner scanner(section);
  mail::HeaderField field;
  std::string out;
  while (scanner.next(field))
    append_canonical(form, field, out);
  return out;
}

// RFC 6376 §3.4.4 word by word, on the whole body.
std::string relaxed_in_one_go(const std::string& text) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    auto end = text.find("\r\n", at);
    const bool last = end == std::string::npos;
    if (last)
      end = text.size();
    std::string line;
    for (const char c : text.substr(at, end - at)) {
      const bool space = c == ' ' || c == '\t';
      if (!space || !line.ends_with(' '))
        line.push_back(space ? ' ' : c);
    }
    if (line.ends_with(' '))
      line.pop_back();
    out += line + "\r\n";
    at = last ? end : end + 2;
  }
  while (out.ends_with("\r\n\r\n") || out == "\r\n")
    out.resize(out.size() - 2);
  return out;
}

std::string simple_in_one_go(std::string text) {
  if (!text.ends_with("\r\n"))
    text += "\r\n";
  while (text.ends_with("\r\n\r\n"))
    text.resize(text.size() - 2);
  return text;
}

TEST_CASE("the canonical body", "[mailauth][canonical]") {
  struct Case {
    std::string text;
    std::string simple;
    std::string relaxed;
  };
  const std::vector<Case> cases = {
      // RFC 6376 §3.4.5
      {" C \r\nD \t E\r\n\r\n\r\n", " C \r\nD \t E\r\n", " C\r\nD E\r\n"},
      {"", "\r\n", ""},
      {"\r\n", "\r\n", ""},
      {"\r\n\r\n\r\n", "\r\n", ""},
      {" \r\n\t\r\n", " \r\n\t\r\n", ""},
      {"a", "a\r\n", "a\r\n"},
      {"a ", "a \r\n", "a\r\n"},
      {"a\r\n \r\n", "a\r\n \r\n", "a\r\n"},
      {"\r\na\r\n\r\nb", "\r\na\r\n\r\nb\r\n", "\r\na\r\n\r\nb\r\n"},
      {"a\rb\r\n", "a\rb\r\n", "a\rb\r\n"},
      {"a\r\r\n", "a\r\r\n", "a\r\r\n"},
      {"a \r b\r\n", "a \r b\r\n", "a \r b\r\n"},
      {"a\nb \n\r\n", "a\nb \n\r\n", "a\nb \n\r\n"},
      {"a\r", "a\r\r\n", "a\r\r\n"},
      {"a\x0b \x0c\xa0\r\n", "a\x0b \x0c\xa0\r\n", "a\x0b \x0c\xa0\r\n"},
      {"a\0 \tb\r\n"s, "a\0 \tb\r\n"s, "a\0 b\r\n"s},
      {"a  b\t c \t\td e", "a  b\t c \t\td e\r\n", "a b c d e\r\n"},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.text) {
      for (const std::size_t piece : {1U, 2U, 3U, 100U}) {
        CHECK(body(Form::simple, c.text, piece) == c.simple);
        CHECK(body(Form::relaxed, c.text, piece) == c.relaxed);
      }
    }
}

TEST_CASE("the canonical body does not depend on how it is cut", "[mailauth][canonical]") {
  std::mt19937 random(6376);
  for (int round = 0; round < 3000; ++round) {
    std::string text;
    const auto parts = random() % 20;
    for (std::size_t i = 0; i < parts; ++i)
      text += std::vector<std::string>{" ", "\t", "\r\n", "\r",       "\n",
                                       "a", "bc", "  ",   "\r\n\r\n", "\0"s}[random() % 10];
    for (const std::size_t piece :
         {std::size_t{1}, std::size_t{1 + random() % 5}, text.size() + 1}) {
      CAPTURE(text, piece);
      REQUIRE(body(Form::simple, text, piece) == simple_in_one_go(text));
      REQUIRE(body(Form::relaxed, text, piece) == relaxed_in_one_go(text));
    }
  }
}

TEST_CASE("lines held back come out in pieces of a fixed size", "[mailauth][canonical]") {
  std::size_t largest = 0, total = 0;
  CanonicalBody canonical(Form::relaxed, [&](std::string_view some) {
    largest = std::max(largest, some.size());
    total += some.size();
  });
  for (std::size_t i = 0; i < 100'000; ++i)
    canonical.feed("\r\n");
  CHECK(total == 0);
  canonical.feed("x");
  canonical.finish();
  CHECK(total == 200'003);
  CHECK(largest <= 64U * 1024);
}

TEST_CASE("canonical header fields", "[mailauth][canonical]") {
  struct Case {
    std::string section;
    std::string simple;
    std::string relaxed;
  };
  const std::vector<Case> cases = {
      // RFC 6376 §3.4.5
      {"A: X\r\nB : Y\t\r\n\tZ  \r\n", "A: X\r\nB : Y\t\r\n\tZ  \r\n", "a:X\r\nb:Y Z\r\n"},
      {"SubJect:x\r\n", "SubJect:x\r\n", "subject:x\r\n"},
      {"A:\r\n", "A:\r\n", "a:\r\n"},
      {"A: \r\n \t\r\n", "A: \r\n \t\r\n", "a:\r\n"},
      {"A: x", "A: x\r\n", "a:x\r\n"},
      {"A:\t \r\n  b\r\n", "A:\t \r\n  b\r\n", "a:b\r\n"},
      {"A: b\rc\r\n", "A: b\rc\r\n", "a:b\rc\r\n"},
      {"From me Mon\r\nA: b\r\n", "X-Mailbox-Line: From me Mon\r\nA: b\r\n",
       "x-mailbox-line:From me Mon\r\na:b\r\n"},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.section) {
      CHECK(header(Form::simple, c.section) == c.simple);
      CHECK(header(Form::relaxed, c.section) == c.relaxed);
    }
}

}  // namespace
}  // namespace postrider::mailauth
