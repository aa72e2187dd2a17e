// The headers of parts, however they are nested and cut into pieces.
#include "mail/part_headers.h"

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
  std::string deep;
  for (int i = 0; i < 1000; ++i)
    deep += "Content-Type: message/rfc822\r\n\r\n";
  CHECK(sections("Content-Type: message/rfc822\r\n", deep).size() <= PartHeaders::kMostDepth);
  std::string long_field = "--one\r\nX: " + std::string(300'000, 'x') + "\r\nY: 1\r\n\r\n";
  for (const auto& section : sections(kMixed, long_field))
    CHECK(section.size() <= PartHeaders::kMostSection + 2);
}
