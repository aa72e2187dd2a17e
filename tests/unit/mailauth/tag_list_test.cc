#include "mailauth/tag_list.h"

#include <catch2/catch.hpp>

#include <vector>

namespace postrider::mailauth {
namespace {

using namespace std::string_literals;

// "name=value|..." or the error.
std::string read(std::string_view text) {
  const auto list = TagList::parse(text);
  if (!list)
    return list.error().step();
  std::string out;
  for (const auto& tag : list->tags())
    out.append(tag.name).append("=").append(tag.value).append("|");
  return out;
}

TEST_CASE("tag lists", "[mailauth][tag_list]") {
  struct Case {
    std::string text;
    std::string want;
  };
  const std::vector<Case> cases = {
      {"a=1; b=2", "a=1|b=2|"},
      {" a = 1 ;\r\n\tb=2 3 ; ", "a=1|b=2 3|"},
      {"a=1;b=;", "a=1|b=|"},
      {"a=b=c", "a=b=c|"},
      {"A=1;a=2", "A=1|a=2|"},
      {"a_1=x", "a_1=x|"},
      {"a=\xc3\xa4", "a=\xc3\xa4|"},
      {"", "empty tag list"},
      {" ;", "tag without \"=\""},
      {"a=1;;b=2", "tag without \"=\""},
      {"a=1; ;", "tag without \"=\""},
      {"a", "tag without \"=\""},
      {"=1", "invalid tag name"},
      {"1=1", "invalid tag name"},
      {"a b=1", "invalid tag name"},
      {"a-b=1", "invalid tag name"},
      {"a=1;a=1", "tag a given twice"},
      {"a=1;b=2;a =3", "tag a given twice"},
      {"a=\0"s, "invalid character in tag a"},
      {"a=\x7f", "invalid character in tag a"},
      {"a\0=1"s, "invalid tag name"},
  };
  for (const auto& c : cases)
    DYNAMIC_SECTION(c.text) {
      CHECK(read(c.text) == c.want);
    }
}

TEST_CASE("tag lists have limits", "[mailauth][tag_list]") {
  std::string many;
  for (std::size_t i = 0; i < kMostTags; ++i)
    many.append("t").append(std::to_string(i)).append("=;");
  CHECK(TagList::parse(many)->tags().size() == kMostTags);
  CHECK(TagList::parse(many + "x=").error().code() == make_error_code(Errc::too_long));
  const auto long_one = "a=" + std::string(kMostTagListSize - 2, 'x');
  CHECK(TagList::parse(long_one)->value("a")->size() == kMostTagListSize - 2);
  CHECK(TagList::parse(long_one + "x").error().code() == make_error_code(Errc::too_long));
}

TEST_CASE("a tag knows where its value stands", "[mailauth][tag_list]") {
  const std::string text = "v=1; b = abc\r\n def ;c=x";
  const auto list = TagList::parse(text);
  const auto* tag = list->find("b");
  REQUIRE(tag != nullptr);
  CHECK(text.substr(tag->begin, tag->end - tag->begin) == " abc\r\n def ");
  CHECK(list->value("c") == "x");
  CHECK_FALSE(list->value("d"));
}

TEST_CASE("encodings of tag values", "[mailauth][tag_list]") {
  CHECK(decode_folded_base64("Zm9v\r\n YmFy") == "foobar");
  CHECK(decode_folded_base64("Z g = =") == "f");
  CHECK(decode_folded_base64("Zg") == "f");
  CHECK(decode_folded_base64("") == "");
  CHECK_FALSE(decode_folded_base64("Zg="));
  CHECK_FALSE(decode_folded_base64("Z"));
  CHECK_FALSE(decode_folded_base64("Zm9v!"));
  CHECK_FALSE(decode_folded_base64("Zg==Zg=="));
  CHECK(decode_dkim_quoted_printable("a=3Bb=20c") == "a;b c");
  CHECK(decode_dkim_quoted_printable("a\r\n b") == "ab");
  CHECK_FALSE(decode_dkim_quoted_printable("a=3"));
  CHECK_FALSE(decode_dkim_quoted_printable("a=3b"));
  CHECK(split_trimmed(" a : b:", ':') == std::vector<std::string_view>{"a", "b", ""});
}

}  // namespace
}  // namespace postrider::mailauth
