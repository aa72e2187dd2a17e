#include "daemon/pickup/submit_content.h"

#include "tests/support/results.h"

#include <catch2/catch.hpp>

namespace postrider::daemon {
namespace {

std::string legal(const std::string& raw, std::size_t step, SubmitContent& content) {
  std::string out;
  for (std::size_t at = 0; at < raw.size(); at += step)
    content.feed(std::string_view(raw).substr(at, step), out);
  content.finish(out);
  return out;
}

TEST_CASE("local content has the traceparent of its header", "[daemon][unit]") {
  const std::string good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  const auto field = "traceparent: " + good + "\n";
  for (const auto& [raw, wanted] : std::vector<std::pair<std::string, std::string>>{
           {field + "S: s\n\nb\n", good},
           {"S: s\n" + field, good},
           {"S: s\n\n" + field, ""},
           {field + field + "\nb\n", ""},
           {field + " more\n\nb\n", ""},
           {"traceparent: 00-" + std::string(32, '0') + good.substr(35) + "\n\nb\n", ""}})
    for (const std::size_t step : {std::size_t{1}, std::size_t{5}, raw.size()}) {
      INFO(raw << step);
      SubmitContent content;
      legal(raw, step, content);
      CHECK(content.trace_parent() == wanted);
    }
}

TEST_CASE("local content becomes legal, however it is split", "[daemon][unit]") {
  struct Case {
    const char* name;
    std::string raw, want;
  };
  const Case cases[] = {
      {"line feeds", "Subject: s\n\nbody\n", "Subject: s\r\n\r\nbody\r\n"},
      {"already legal", "Subject: s\r\n\r\nbody\r\n", "Subject: s\r\n\r\nbody\r\n"},
      {"no line end", "Subject: s\n\nbody", "Subject: s\r\n\r\nbody\r\n"},
      {"a bare CR", "Subject: s\n\na\rb\n", "Subject: s\r\n\r\na b\r\n"},
      {"a NUL", std::string("Subject: s\n\na\0b\n", 16), "Subject: s\r\n\r\nab\r\n"},
      {"no header", "hello\nworld\n", "\r\nhello\r\nworld\r\n"},
      {"a header that nothing ends", "Subject: s\nhello\n", "Subject: s\r\n\r\nhello\r\n"},
      {"a header alone", "Subject: s\n", "Subject: s\r\n\r\n"},
      {"folded", "Subject: s\n\tmore\n\nb\n", "Subject: s\r\n\tmore\r\n\r\nb\r\n"},
      {"a first line that begins with a space", " x: y\n", "\r\n x: y\r\n"},
      {"a name with a space is none", "a b: c\n\nd\n", "\r\na b: c\r\n\r\nd\r\n"},
      {"a space before the colon", "a : c\n\nd\n", "a : c\r\n\r\nd\r\n"},
      {"an empty line first", "\nbody\n", "\r\nbody\r\n"},
      {"nothing", "", "\r\n"},
      {"lone dots are content", "S: s\n\n.\n..\n", "S: s\r\n\r\n.\r\n..\r\n"},
  };
  for (const auto& c : cases)
    for (const std::size_t step : {1U, 2U, 5U, 1000U}) {
      DYNAMIC_SECTION(c.name << " by " << step) {
        SubmitContent content;
        CHECK(legal(c.raw, step, content) == c.want);
        CHECK(content.body().size == c.want.size());
        CHECK_FALSE(content.body().poisoned());
      }
    }
}

TEST_CASE("local content is described by its facts", "[daemon][unit]") {
  SubmitContent content;
  legal("Date: x\nSubject: \xC3\xBC\n\n" + std::string(2000, 'y') + "\n", 100, content);
  CHECK(content.header().has_date);
  CHECK_FALSE(content.header().has_from);
  CHECK(content.body().has_8bit);
  CHECK(content.body().has_8bit_header);
  CHECK(content.body().longest_line == 2000);
}

TEST_CASE("a header without end is content, not memory", "[daemon][unit]") {
  SubmitContent content;
  std::string out;
  for (int i = 0; i < 3000; ++i)
    content.feed(std::string(1000, 'x'), out);
  CHECK(out.size() > 2'000'000);
}

LocalTrace trace() {
  LocalTrace trace;
  trace.uid = 1000;
  trace.hostname = "mx.test";
  trace.author = "me@mx.test";
  trace.full_name = "Cron Daemon";
  trace.id = mail::MessageId{123456789};
  trace.when = TimePoint(Duration(1795444657000));
  return trace;
}

TEST_CASE("what a local header lacks is added", "[daemon][unit]") {
  mail::HeaderFacts none;
  const auto text = local_trace(trace(), none);
  CHECK(text.find("Received: by mx.test (Postrider, from userid 1000)\r\n\tid ") == 0);
  CHECK(text.find("\r\nDate: Mon, 23 Nov 2026 14:37:37 +0000\r\n") != std::string::npos);
  CHECK(text.find("\r\nMessage-ID: <") != std::string::npos);
  CHECK(text.find("\r\nFrom: Cron Daemon <me@mx.test>\r\n") != std::string::npos);
  mail::HeaderFacts all;
  all.has_date = all.has_from = all.has_message_id = true;
  const auto received = local_trace(trace(), all);
  CHECK(received.find("Date:") == std::string::npos);
  CHECK(received.find("From:") == std::string::npos);
}

TEST_CASE("a display name cannot add a field", "[daemon][unit]") {
  CHECK(display_name("Alice Smith") == "Alice Smith");
  CHECK(display_name("Smith, \"A\" \\") == R"("Smith, \"A\" \\")");
  CHECK(display_name("a\r\nBcc: x@y") == "\"a  Bcc: x@y\"");
  CHECK(display_name("J\xC3\xBCrgen") == "=?UTF-8?B?SsO8cmdlbg==?=");
  std::string umlauts;
  for (int i = 0; i < 60; ++i)
    umlauts.append("\xC3\xBC");
  const auto words = display_name(umlauts);
  CHECK(words.find("?=\r\n =?UTF-8?B?") != std::string::npos);
  for (std::size_t at = 0, end = 0; at < words.size(); at = end + 3) {
    end = words.find("\r\n ", at);
    if (end == std::string::npos)
      end = words.size();
    CHECK(end - at <= 75);
  }
}

TEST_CASE("a header line without an end is searched once, however it comes", "[daemon][unit]") {
  SubmitContent content;
  std::string raw = "Subject: " + std::string(50'000, 'x');
  CHECK(legal(raw, 1, content) == raw + "\r\n\r\n");
  CHECK(content.work() < 3 * raw.size());
  // A line end in two pieces is found all the same.
  SubmitContent split;
  CHECK(legal("a: b\r\nc: d\r\n\r\ne\r\n", 1, split) == "a: b\r\nc: d\r\n\r\ne\r\n");
}

}  // namespace
}  // namespace postrider::daemon
