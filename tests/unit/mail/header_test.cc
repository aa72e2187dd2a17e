#include "mail/header.h"

#include <catch2/catch.hpp>

#include <cstring>
#include <vector>

namespace postrider::mail {
namespace {

using namespace std::string_literals;

// "name=value|..." and where the section ended.
std::string scan(std::string_view content) {
  HeaderScanner scanner(content);
  HeaderField field;
  std::string out;
  while (scanner.next(field))
    out.append(field.name).append("=").append(field.value).append("|");
  return out + std::to_string(scanner.consumed());
}

TEST_CASE("header fields are walked one by one", "[mail][header]") {
  struct Case {
    std::string name;
    std::string content;
    std::string want;
  };
  const std::vector<Case> cases = {
      {"two fields and a body", "A: b\r\nC:d\r\n\r\nx: y\r\n", "A= b|C=d|11"},
      {"folded", "A: b\r\n c\r\n\td\r\nE: f\r\n", "A= b\r\n c\r\n\td|E= f|20"},
      {"LF alone", "A: b\n c\nD: e\n\nx", "A= b\n c|D= e|13"},
      {"M10: a line without a colon ends it", "A: b\r\nhello\r\nC: d\r\n", "A= b|6"},
      {"M10: the first line is a continuation", " A: b\r\n", "0"},
      {"M10: space before the colon", "A : b\r\n", "A= b|7"},
      {"M10: body only", "\r\nA: b\r\n", "0"},
      {"an empty name", ": b\r\n", "0"},
      {"a space in the name", "A b: c\r\n", "0"},
      {"8-bit in the name", "\xfc: c\r\n", "\xfc= c|6"},
      {"a control in the name", "A\x01: c\r\n", "0"},
      {"no end", "A: b", "A= b|4"},
      {"nothing", "", "0"},
      {"empty value", "A:\r\nB:", "A=|B=|6"},
      {"a line of white space is a continuation", "A: b\r\n \r\nC: d\r\n", "A= b\r\n |C= d|15"},
      {"the body's dots", "A: b\r\n.\r\n", "A= b|6"},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.name) {
      CHECK(scan(c.content) == c.want);
    }
}

TEST_CASE("facts about a header section", "[mail][header]") {
  const auto facts = header_facts(
      "Received: a\r\nreceived: b\r\n c\r\nDATE: x\r\nFrom: y\r\n\r\nMessage-ID: z\r\n");
  CHECK(facts.received_fields == 2);
  CHECK(facts.has_date);
  CHECK(facts.has_from);
  CHECK_FALSE(facts.has_message_id);
  CHECK(facts.size == 48);
  CHECK(header_facts("Message-Id: <a@b>\r\n").has_message_id);
  CHECK_FALSE(header_facts("Subject: bulk\r\n\r\nPrecedence: bulk\r\n").precedence);
  for (const auto& [value, wanted] : {std::pair("bulk", Precedence::bulk),
                                      {" LIST ", Precedence::bulk},
                                      {"\r\n junk", Precedence::junk},
                                      {"first-class", Precedence::none},
                                      {"", Precedence::none},
                                      {"bulky", Precedence::none},
                                      {"bulk junk", Precedence::none}}) {
    INFO(value);
    CHECK(parse_precedence(value) == wanted);
    CHECK(
        header_facts("precedence:" + std::string(value) + "\r\nPrecedence: junk\r\n").precedence ==
        wanted);  // the first one
  }
  CHECK(header_facts("tls-REQUIRED: \r\n nO \r\n").tls_not_required);
  CHECK_FALSE(header_facts("TLS-Required: None\r\n").tls_not_required);
  CHECK_FALSE(header_facts("TLS-Required:\r\n\r\nTLS-Required: no").tls_not_required);
}

TEST_CASE("the header section's size counts the empty line", "[mail][header]") {
  CHECK(header_section_size("A: b\r\n\r\nx") == 8);
  CHECK(header_section_size("A: b\n\nx") == 6);
  CHECK(header_section_size("A: b\r\nx") == 6);
  CHECK(header_section_size("A: b\r\n") == 6);
  CHECK(header_section_size("\r\nx") == 2);
  CHECK(header_section_size("") == 0);
}

TEST_CASE("one judge says what is in a header section", "[mail][header]") {
  struct Row {
    const char* line;
    HeaderLine first, later;
  };
  const auto field = HeaderLine::field, empty = HeaderLine::empty, other = HeaderLine::other;
  const auto on = HeaderLine::continuation, mailbox = HeaderLine::mailbox_line;
  const auto indented = HeaderLine::indented;
  const Row rows[] = {
      {"Subject: x\r\n", field, field},
      {"Subject : x", field, field},
      {"X:", field, field},
      {"From : a@b", field, field},
      {">From: a@b", field, field},
      {"", empty, empty},
      {"\r\n", empty, empty},
      {"\n", empty, empty},
      {" by evil.example\r\n", indented, on},
      {"\tx: y", indented, on},
      {" \r\n", indented, on},
      {"not a field\r\n", other, other},
      {": y", other, other},
      {"X-G r: y", other, other},
      {"From a@b Mon Nov 23 10:00:00 2026", mailbox, other},
      {"From a@b Mon Nov 23 10:00:00 2026 remote from uucp", mailbox, other},
      {">From a@b Mon Nov 23 10:00:00 2026", mailbox, other},
      {">>From x", mailbox, other},
      {"from a@b", other, other},
      {">", other, other},
  };
  for (const auto& row : rows) {
    INFO(row.line);
    CHECK(judge_header_line(row.line, true) == row.first);
    CHECK(judge_header_line(row.line, false) == row.later);
    // The walk is of the same mind.
    const std::string content = std::string(row.line) + (std::strchr(row.line, '\n') ? "" : "\r\n");
    HeaderScanner scanner(content);
    HeaderField one;
    CHECK(scanner.next(one) == is_in_header(row.first));
    const std::string below = "A: b\r\n" + content;
    HeaderScanner walk(below);
    while (walk.next(one)) {
    }
    CHECK(walk.consumed() == (is_in_header(row.later) ? below.size() : 6));
    // Behind fields of ours it is content still, or the field that it was.
    for (const bool adds_fields : {false, true}) {
      const auto joint = std::string(header_joint(first_header_line(content), adds_fields));
      const auto joined = "Received: x;\r\n\tdate\r\n" + joint + content;
      CHECK((joint == "\r\n") == (row.first == indented || (row.first == other && adds_fields)));
      HeaderScanner behind(joined);
      REQUIRE(behind.next(one));
      CHECK(one.whole == "Received: x;\r\n\tdate\r\n");
      CHECK(behind.next(one) == is_in_header(row.first));
    }
  }
  const std::string longest(997, 'x');
  CHECK(judge_header_line(longest + ": y", true) == field);
  CHECK(judge_header_line(longest + "x: y", true) == other);
}

TEST_CASE("a body without an empty line before it gets one", "[mail][header]") {
  const auto ended = [](std::string content) {
    end_header_cleanly(content);
    return content;
  };
  CHECK(ended("A: b\r\nnot a field\r\nC: d\r\n") == "A: b\r\n\r\nnot a field\r\nC: d\r\n");
  for (const char* same : {"", "A: b\r\n", "A: b", "A: b\r\n\r\nbody\r\n", "A: b\r\n\r\n",
                           "\r\nbody\r\n", "not a field\r\n", "From x\r\nA: b\r\n c\r\n"})
    CHECK(ended(same) == same);
}

TEST_CASE("L16: large header sections are linear", "[mail][header]") {
  std::string fields;
  for (int i = 0; i < 300000; ++i)
    fields.append("A: b\r\n");
  CHECK(header_facts(fields).size == fields.size());
  std::string folded = "A: b\r\n";
  for (int i = 0; i < 300000; ++i)
    folded.append(" c\r\n");
  CHECK(header_facts(folded).size == folded.size());
  const std::string one = "A: " + std::string(10U << 20U, 'x');
  CHECK(header_facts(one).size == one.size());
}

TEST_CASE("dates are those of RFC 5322, in UTC", "[mail][header]") {
  const auto at = [](std::int64_t seconds) {
    return format_date(TimePoint(std::chrono::seconds(seconds)));
  };
  CHECK(at(1795440884) == "Mon, 23 Nov 2026 13:34:44 +0000");
  CHECK(at(0) == "Thu, 1 Jan 1970 00:00:00 +0000");
  CHECK(at(-1) == "Wed, 31 Dec 1969 23:59:59 +0000");
  CHECK(at(1709164800) == "Thu, 29 Feb 2024 00:00:00 +0000");
  CHECK(at(2147483648) == "Tue, 19 Jan 2038 03:14:08 +0000");
}

TraceInfo trace() {
  TraceInfo info;
  info.helo = "client.test";
  info.client = "[192.0.2.1]";
  info.client_name = "host.client.test";
  info.by = "mx.example.org";
  info.protocol = "ESMTPS";
  info.tls = "TLSv1.3 cipher TLS_AES_256_GCM_SHA384";
  info.recipient = "a@b.test";
  info.id = MessageId{1795440884000000};
  info.when = TimePoint(std::chrono::seconds(1795440884));
  return info;
}

TEST_CASE("the trace field says who, how and when (RFC 5321 4.4)", "[mail][header]") {
  CHECK(received_field(trace()) ==
        "Received: from client.test (host.client.test [192.0.2.1])\r\n"
        "\tby mx.example.org (Postrider) with ESMTPS id " +
            to_string(trace().id) +
            "\r\n"
            "\t(TLSv1.3 cipher TLS_AES_256_GCM_SHA384)\r\n"
            "\tfor <a@b.test>;\r\n"
            "\tMon, 23 Nov 2026 13:34:44 +0000\r\n");
  TraceInfo urgent = trace();
  urgent.priority = -3;  // RFC 6710 §4.1
  CHECK(received_field(urgent).find("\r\n\tfor <a@b.test>\r\n\tpriority -3;\r\n") !=
        std::string::npos);
  TraceInfo local = trace();
  local.client.clear();
  local.tls.clear();
  local.recipient.clear();
  local.protocol = "local";
  CHECK(received_field(local) == "Received: by mx.example.org (Postrider) with local id " +
                                     to_string(local.id) +
                                     ";\r\n\tMon, 23 Nov 2026 13:34:44 +0000\r\n");
}

TEST_CASE("O06: nothing that a client says can add a line to the header", "[mail][header]") {
  for (const auto& evil : {"a\r\nX: y"s, "a\nb"s, "a\0b"s, "a) by evil (b"s, "a;b"s, "\xff\x1b[2J"s,
                           std::string(5000, 'x'), ""s}) {
    TraceInfo info = trace();
    info.helo = info.client_name = info.tls = info.protocol = evil;
    if (evil.find('(') == std::string::npos)
      info.recipient = evil;
    const auto field = received_field(info);
    CHECK(header_facts(field).received_fields == 1);
    CHECK(header_facts(field).size == field.size());
    CHECK(field.find("evil (b") == std::string::npos);
    std::size_t begin = 0;
    for (auto end = field.find("\r\n"); end != std::string::npos; end = field.find("\r\n", begin)) {
      CHECK(end - begin <= 998);
      for (const char c : field.substr(begin, end - begin))
        CHECK((c == '\t' || (c >= 0x20 && c < 0x7F)));
      begin = end + 2;
    }
    CHECK(begin == field.size());
  }
}

TEST_CASE("a message id holds time, queue id and host", "[mail][header]") {
  const MessageId id{1795440884123456};
  CHECK(make_message_id(id, "mx.test") == "<20261123133444." + to_string(id) + "@mx.test>");
}

std::string cleaned(std::string_view text, std::size_t piece) {
  LineEndCleaner cleaner;
  std::string out;
  for (std::size_t at = 0; at < text.size(); at += piece)
    cleaner.feed(text.substr(at, piece), out);
  cleaner.finish(out);
  return out;
}

TEST_CASE("O01: local text gets clean line ends", "[mail][header]") {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", ""},
      {"a", "a\r\n"},
      {"a\nb\n", "a\r\nb\r\n"},
      {"a\r\nb\r\n", "a\r\nb\r\n"},
      {"a\rb", "a b\r\n"},
      {"a\r\r\n", "a \r\n"},
      {"a\r", "a\r\n"},
      {"\r\rb\r\n", "  b\r\n"},
      {"a\0b\0\n"s, "ab\r\n"},
      {"a\r\0\nb"s, "a\r\nb\r\n"},
      {"\n.\n", "\r\n.\r\n"},
      {"\n\r\n\r", "\r\n\r\n\r\n"},
      {"\0"s, ""},
  };
  for (const auto& [text, want] : cases)
    for (std::size_t piece = 1; piece <= text.size() + 1; ++piece)
      CHECK(cleaned(text, piece) == want);
}

}  // namespace
}  // namespace postrider::mail
