#include "mail/body_reader.h"

#include "tests/support/body_oracle.h"

#include <catch2/catch.hpp>

#include <random>
#include <vector>

namespace postrider::mail {
namespace {

using tests::expected_chunks;
using tests::expected_data;
using tests::ExpectedBody;
using namespace std::string_literals;
using namespace std::string_view_literals;

struct Read {
  bool ended = false;
  std::size_t consumed = 0;
  std::string content;
  BodyFacts facts;
};

// Feeds the bytes in pieces that end at the given places, and no piece after the end.
Read read_data(std::string_view bytes, const std::vector<std::size_t>& cuts, bool discard = false) {
  DataReader reader;
  Read got;
  if (discard)
    reader.discard();
  std::size_t begin = 0;
  for (std::size_t i = 0; i <= cuts.size() && !reader.at_end(); ++i) {
    const auto end = i < cuts.size() ? cuts[i] : bytes.size();
    got.consumed += reader.feed(bytes.substr(begin, end - begin), got.content);
    begin = end;
  }
  got.ended = reader.at_end();
  got.facts = reader.facts();
  return got;
}

bool agrees(const Read& got, const ExpectedBody& want, bool kept = true) {
  if (got.ended != want.ended || got.consumed != want.consumed)
    return false;
  if (!want.ended)
    return true;
  const auto& facts = got.facts;
  const bool same_facts = facts.bare_line_end == want.bare_line_end && facts.nul == want.nul &&
                          facts.has_8bit == want.has_8bit &&
                          facts.has_8bit_header == want.has_8bit_header &&
                          facts.longest_line == want.longest_line &&
                          facts.size == want.content.size() && facts.ends_with_crlf;
  if (!same_facts)
    return false;
  if (!kept)
    return got.content.empty();
  return facts.poisoned() || got.content == want.content;
}

std::vector<std::size_t> every_byte(std::size_t size) {
  std::vector<std::size_t> cuts;
  for (std::size_t i = 1; i < size; ++i)
    cuts.push_back(i);
  return cuts;
}

// Whole, at every single place, and byte by byte.
void check_all_splits(const std::string& bytes, bool discard = false) {
  const auto want = expected_data(bytes);
  std::size_t wrong = 0;
  for (std::size_t cut = 0; cut <= bytes.size(); ++cut)
    wrong += agrees(read_data(bytes, {cut}, discard), want, !discard) ? 0U : 1U;
  CHECK(wrong == 0);
  CHECK(agrees(read_data(bytes, every_byte(bytes.size()), discard), want, !discard));
}

const std::string kSmuggled =
    "MAIL FROM:<x@us>\r\nRCPT TO:<y@us>\r\nDATA\r\nSubject: smuggled\r\n\r\nz\r\n.\r\n";

std::string wrap(const std::string& variant) {
  return "Subject: t\r\n\r\na\r\n" + variant + kSmuggled;
}

struct Variant {
  std::string name;
  std::string bytes;
  bool ends_here = false;  // the true end is in the variant itself
};

const std::vector<Variant> kVariants = {
    {"S01 LF . LF", "\n.\n"},
    {"S02 LF . CRLF", "\n.\r\n"},
    {"S03 CRLF . LF", "\r\n.\n"},
    {"S04 CR . CR", "\r.\r"},
    {"S05 CR . LF", "\r.\n"},
    {"S06 LF . CR", "\n.\r"},
    {"S07 CR . CRLF", "\r.\r\n"},
    {"S08 CRLF . CR", "\r\n.\r"},
    {"S09 CRLF NUL . CRLF", "\r\n\0.\r\n"s},
    {"S10 CRLF . NUL CRLF", "\r\n.\0\r\n"s},
    {"S11 CRLF . CR CRLF", "\r\n.\r\r\n"},
    {"S12 CR CRLF . CR CRLF", "\r\r\n.\r\r\n"},
    {"S13 CR CRLF . CRLF is a true end", "\r\r\n.\r\n", true},
    {"S14 LF LF . LF LF", "\n\n.\n\n"},
    {"S15 a space behind the dot", "\r\n. \r\n"},
    {"S15 a tab behind the dot", "\r\n.\t\r\n"},
    {"S15 a space before the dot", "\r\n .\r\n"},
    {"S16 NEL", "\x85.\x85"},
    {"S16 line separator", "\xe2\x80\xa8.\xe2\x80\xa8"},
    {"S16 vertical tab", "\x0b.\x0b"},
    {"S16 form feed", "\x0c.\x0c"},
    {"S18 stuffed dot", "\r\n..\r\n"},
    {"S19 dot and text", "\r\n.x\r\n"},
};

TEST_CASE("a message ends at CRLF.CRLF and nowhere else (S01 to S19), however it is split (S22)",
          "[mail][body_reader]") {
  for (const auto& variant : kVariants) {
    DYNAMIC_SECTION(variant.name) {
      const auto bytes = wrap(variant.bytes);
      const auto got = read_data(bytes, {});
      CHECK(got.ended);
      CHECK((got.consumed < bytes.size()) == variant.ends_here);
      check_all_splits(bytes);
    }
  }
}

TEST_CASE("S17: the first bytes of a message are at the start of a line", "[mail][body_reader]") {
  CHECK(agrees(read_data(".\r\n", {}), expected_data(".\r\n")));
  CHECK(read_data(".\r\n", {}).ended);
  CHECK(read_data(".\r\n", {}).facts.size == 0);
  CHECK_FALSE(read_data(".\r\n", {}).facts.poisoned());
  for (const auto* start : {".\n", ".\r", "\n.\r\n", ".\r\n", "..\r\n", ".x\r\n", "\r\n.\r\n"})
    DYNAMIC_SECTION(start) {
      check_all_splits(start + kSmuggled);
    }
}

TEST_CASE("S20: the same holds for a message that is refused already", "[mail][body_reader]") {
  for (const auto& variant : kVariants)
    DYNAMIC_SECTION(variant.name) {
      check_all_splits(wrap(variant.bytes), true);
    }
}

TEST_CASE("S21: the same holds behind a line of any length", "[mail][body_reader]") {
  for (const std::size_t length : {997U, 998U, 999U, 1000U, 4096U})
    for (const auto& variant : kVariants) {
      const auto bytes = std::string(length, 'x') + variant.bytes + kSmuggled;
      const auto want = expected_data(bytes);
      INFO(variant.name << " behind " << length);
      CHECK(agrees(read_data(bytes, {}), want));
      for (std::size_t cut = length - 2; cut < length + 8; ++cut)
        CHECK(agrees(read_data(bytes, {cut}), want));
    }
}

TEST_CASE("S23: the same holds with the edge of a buffer anywhere around the dot",
          "[mail][body_reader]") {
  for (const auto& variant : kVariants)
    for (std::size_t edge = 4093; edge <= 4099; ++edge) {
      std::string filler;
      while (filler.size() + 72 < edge)
        filler.append(70, 'y').append("\r\n");
      filler.append(edge - filler.size(), 'z');
      const auto bytes = filler + variant.bytes + kSmuggled;
      INFO(variant.name << " at " << edge);
      CHECK(agrees(read_data(bytes, {4096}), expected_data(bytes)));
    }
}

TEST_CASE("S24: all pairs of line ends around a dot, at every split", "[mail][body_reader]") {
  const std::vector<std::string> ends = {"\r\n",    "\n",      "\r",   "\n\r",        "\r\r\n",
                                         "\r\n\0"s, "\0\r\n"s, "\x85", "\xe2\x80\xa8"};
  std::size_t true_ends = 0;
  for (const auto& left : ends)
    for (const auto& right : ends) {
      const auto bytes = wrap(left + "." + right);
      INFO("left " << Catch::StringMaker<std::string>::convert(left));
      INFO("right " << Catch::StringMaker<std::string>::convert(right));
      check_all_splits(bytes);
      true_ends += expected_data(bytes).consumed < bytes.size() ? 1U : 0U;
    }
  CHECK(true_ends == 6);  // {CRLF, CR CRLF, NUL CRLF} x {CRLF, CRLF NUL}
}

TEST_CASE("what is read does not depend on how it arrives", "[mail][body_reader]") {
  std::mt19937 random(20261123);
  const std::string_view alphabet = "\r\n\r\n..ab:\x85\0 "sv;
  for (int round = 0; round < 20000; ++round) {
    std::string bytes;
    for (std::size_t n = random() % 40; n > 0; --n)
      bytes.push_back(alphabet[random() % alphabet.size()]);
    bytes.append("\r\n.\r\nQUIT\r\n");
    std::vector<std::size_t> cuts;
    for (std::size_t at = random() % 8; at < bytes.size(); at += 1 + random() % 8)
      cuts.push_back(at);
    if (!agrees(read_data(bytes, cuts), expected_data(bytes)))
      FAIL("differs: " << Catch::StringMaker<std::string>::convert(bytes));
  }
}

TEST_CASE("8-bit octets are counted on their side of the empty line", "[mail][body_reader]") {
  const auto header = read_data("Subject: \xfc\r\n\r\nx\r\n.\r\n", {});
  CHECK(header.facts.has_8bit_header);
  const auto body = read_data("Subject: u\r\n\r\n\xfc\r\n.\r\n", {});
  CHECK(body.facts.has_8bit);
  CHECK_FALSE(body.facts.has_8bit_header);
}

TEST_CASE("L19: reading is linear, whatever the bytes", "[mail][body_reader]") {
  for (const auto* unit : {"\r", "\n", ".", "\r\n.x", "\r\n", "x", "\r.\n"}) {
    std::string bytes;
    while (bytes.size() < (4U << 20U))
      bytes.append(unit);
    std::string out;
    DataReader reader;
    CHECK(reader.feed(bytes, out) == bytes.size());
    ChunkReader chunks;
    chunks.feed(bytes, out);
    CHECK(chunks.facts().size == bytes.size());
  }
}

Read read_chunks(std::string_view bytes, const std::vector<std::size_t>& cuts, bool binary) {
  ChunkReader reader(binary);
  Read got;
  std::size_t begin = 0;
  for (std::size_t i = 0; i <= cuts.size(); ++i) {
    const auto end = i < cuts.size() ? cuts[i] : bytes.size();
    reader.feed(bytes.substr(begin, end - begin), got.content);
    begin = end;
  }
  reader.finish();
  got.ended = true;
  got.consumed = bytes.size();
  got.facts = reader.facts();
  return got;
}

bool chunk_agrees(const Read& got, const std::string& bytes) {
  const auto want = expected_chunks(bytes);
  const auto& facts = got.facts;
  return facts.bare_line_end == want.bare_line_end && facts.nul == want.nul &&
         facts.has_8bit == want.has_8bit && facts.has_8bit_header == want.has_8bit_header &&
         facts.longest_line == want.longest_line && facts.size == bytes.size() &&
         facts.ends_with_crlf == (bytes.empty() || bytes.ends_with("\r\n")) &&
         (facts.poisoned() || got.content == bytes);
}

TEST_CASE("S26, B08: nothing ends chunks but the count, and a CRLF may straddle two",
          "[mail][body_reader]") {
  for (const auto& variant : kVariants) {
    const auto bytes = wrap(variant.bytes);
    INFO(variant.name);
    for (std::size_t cut = 0; cut <= bytes.size(); ++cut)
      CHECK(chunk_agrees(read_chunks(bytes, {cut}, false), bytes));
    CHECK(chunk_agrees(read_chunks(bytes, every_byte(bytes.size()), false), bytes));
  }
  for (const auto* end : {"", "a", "a\r", "a\r\n", "a\r\n\r", "a\n", "\r", "\r\n"}) {
    const std::string bytes = end;
    CHECK(chunk_agrees(read_chunks(bytes, every_byte(bytes.size()), false), bytes));
  }
}

TEST_CASE("binary chunks keep bare line ends and NUL", "[mail][body_reader]") {
  const auto bytes = "a\rb\nc\0d\r\n\r"s;
  for (std::size_t cut = 0; cut <= bytes.size(); ++cut) {
    const auto got = read_chunks(bytes, {cut}, true);
    CHECK(got.content == bytes);
    CHECK_FALSE(got.facts.poisoned());
    CHECK_FALSE(got.facts.ends_with_crlf);
  }
}

TEST_CASE("a discarded message is counted but not kept", "[mail][body_reader]") {
  std::string out;
  DataReader reader;
  reader.feed("0123456789\r\n", out);
  CHECK(out.size() == 12);
  reader.discard();
  reader.feed("0123456789\r\n.\r\n", out);
  CHECK(out.size() == 12);
  CHECK(reader.facts().size == 24);
  CHECK(reader.at_end());
}

}  // namespace
}  // namespace postrider::mail
