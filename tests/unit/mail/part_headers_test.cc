// The headers of parts, however they are nested and cut into pieces.
#include "mail/part_headers.h"

#include "mail/header.h"

#include <catch2/catch.hpp>

#include <string>
#include <vector>

using namespace postrider::mail;

namespace {

std::vector<std::string> sections(const std::string& header, const std::string& body,
                                  std::size_t piece = 1000) {
  PartHeaders parts(header);
  std::vector<std::string> found;
  const auto sink = [&](std::string_view section) { found.emplace_back(section); };
  for (std::size_t at = 0; at < body.size(); at += piece)
    parts.feed(std::string_view(body).substr(at, piece), sink);
  parts.finish(sink);
  return found;
}

std::string unseen(const std::string& header, const std::string& body) {
  PartHeaders parts(header);
  const auto sink = [](std::string_view) {};
  parts.feed(body, sink);
  parts.finish(sink);
  return std::string(parts.unseen());
}

const std::string kMixed = "Content-Type: multipart/mixed; boundary=\"one\"\r\n";
const std::string kNested =
    "preamble\r\n--one\r\nContent-Type: text/plain\r\nX: 1\r\n\r\n--two\r\ntext\r\n"
    "--one  \r\nContent-Type: multipart/alternative;\r\n boundary=two\r\n\r\n"
    "--two\r\nX: 2\r\n\r\nbody\r\n--two--\r\nX: no field\r\n"
    "--one\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\nContent-Type: "
    "multipart/mixed; boundary=three\r\n\r\n--three\r\nX: 3\r\n\r\nX: no field\r\n--three--\r\n"
    "--one--\r\nepilogue\r\n--one\r\nX: behind the end\r\n\r\n";

}  // namespace

TEST_CASE("parts: each header section is seen once, in any pieces", "[mail][parts]") {
  const auto whole = sections(kMixed, kNested);
  REQUIRE(whole.size() == 6);
  CHECK(whole[0] == "Content-Type: text/plain\r\nX: 1\r\n");
  CHECK(whole[2] == "X: 2\r\n");
  CHECK(whole[4].starts_with("Subject: inner\r\n"));
  CHECK(whole[5] == "X: 3\r\n");
  for (const std::size_t piece : {1U, 2U, 3U, 7U})
    CHECK(sections(kMixed, kNested, piece) == whole);
  std::string bare = kNested;
  for (auto at = bare.find('\r'); at != bare.npos; at = bare.find('\r'))
    bare.erase(at, 1);
  CHECK(sections(kMixed, bare).size() == 6);
}

TEST_CASE("parts: what is not a multipart has none", "[mail][parts]") {
  CHECK_FALSE(PartHeaders("Content-Type: text/plain\r\n").has_parts());
  CHECK_FALSE(PartHeaders("").has_parts());
  CHECK(sections("Content-Type: text/plain\r\n", kNested).empty());
  CHECK(sections("Content-Type: message/rfc822\r\n", "Subject: inner\r\n\r\nX: no\r\n") ==
        std::vector<std::string>{"Subject: inner\r\n"});
  // The end of the body ends a section.
  CHECK(sections(kMixed, "--one\r\nX: 1") == std::vector<std::string>{"X: 1"});
}

TEST_CASE("parts: depth and size are bounded", "[mail][parts]") {
  std::string body;
  for (int i = 0; i < 1000; ++i)
    body += "--b" + std::to_string(i) + "\r\nContent-Type: multipart/mixed; boundary=b" +
            std::to_string(i + 1) + "\r\n\r\n";
  CHECK(sections("Content-Type: multipart/mixed; boundary=b0\r\n", body).size() ==
        PartHeaders::kMostDepth);
  CHECK(unseen("Content-Type: multipart/mixed; boundary=b0\r\n", body) ==
        "parts are nested too deeply");
  std::string deep;
  for (int i = 0; i < 1000; ++i)
    deep += "Content-Type: message/rfc822\r\n\r\n";
  CHECK(sections("Content-Type: message/rfc822\r\n", deep).size() <= PartHeaders::kMostDepth);
  CHECK(unseen("Content-Type: message/rfc822\r\n", deep) == "parts are nested too deeply");
  std::string long_field = "--one\r\nX: " + std::string(300'000, 'x') + "\r\nY: 1\r\n\r\n";
  for (const auto& section : sections(kMixed, long_field))
    CHECK(section.size() <= PartHeaders::kMostSection + 2);
  CHECK(unseen(kMixed, long_field) == "the header of a part is too long");
  CHECK(unseen("Content-Type: multipart/mixed; boundary=" + std::string(3000, 'b') + "\r\n", "") ==
        "a boundary of parts is too long");
  CHECK(unseen(kMixed, kNested).empty());
}

TEST_CASE("parts: whatever a reader may take for a header is given", "[mail][parts]") {
  struct Case {
    std::string name;
    std::string header;
    std::string body;
  };
  const std::string kProgram = "Content-Type: application/x; name=a.exe\r\n\r\nx\r\n";
  const std::string kText = "Content-Type: text/plain\r\n";
  const std::string kOther = "Content-Type: multipart/mixed; boundary=two\r\n";
  const std::string kLong(900, 'b');
  const std::vector<Case> cases = {
      {"a long boundary", "Content-Type: multipart/mixed; boundary=" + kLong + "\r\n",
       "--" + kLong + "\r\n" + kProgram},
      {"the first of two types", kMixed + kText, "--one\r\n" + kProgram},
      {"the first of two multiparts", kMixed + kOther, "--one\r\n" + kProgram},
      {"the second of two multiparts", kMixed + kOther, "--one--\r\n--two\r\n" + kProgram},
      {"two boundaries in one field",
       "Content-Type: multipart/mixed; boundary=one; boundary=two\r\n",
       "--one--\r\n--two\r\n" + kProgram},
      {"behind a line that is no field", kMixed, "--one\r\njunk\r\n" + kProgram},
      {"behind a line with white space", kMixed, "--one\r\n junk\r\n" + kProgram},
      {"behind a mailbox line", kMixed,
       "--one\r\nX: 1\r\n\r\n--one\r\nFrom a@b Mon\r\n" + kProgram},
      {"a message of a digest", "Content-Type: multipart/digest; boundary=one\r\n",
       "--one\r\n\r\n" + kProgram},
      {"60 deep", kMixed, [&] {
         std::string deep = "--one\r\n";
         for (int i = 0; i < 60; ++i)
           deep += "Content-Type: multipart/mixed; boundary=b" + std::to_string(i) + "\r\n\r\n--b" +
                   std::to_string(i) + "\r\n";
         return deep + kProgram;
       }()}};
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.name) {
      // As one text, which is how they are looked at together.
      std::string all;
      for (const auto& section : sections(c.header, c.body))
        all += section;
      HeaderScanner scanner(all);
      HeaderField field;
      bool found = false;
      while (scanner.next(field))
        found |= field.whole == kProgram.substr(0, kProgram.find('\n') + 1);
      CHECK(found);
    }
}
