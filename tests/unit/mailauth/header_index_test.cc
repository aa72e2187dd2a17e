#include "mailauth/header_index.h"

#include <catch2/catch.hpp>

namespace postrider::mailauth {
namespace {

TEST_CASE("fields are picked from the bottom up, each once", "[mailauth][header_index]") {
  const std::string section = "A: 1\r\nB: 2\r\na : 3\r\nA: 4\r\n\r\nA: body\r\n";
  const HeaderIndex header(section);
  CHECK(header.fields().size() == 4);
  CHECK(header.named("a").size() == 3);
  FieldPicker picker(header);
  CHECK(picker.pick("A")->value == " 4");
  CHECK(picker.pick("a")->value == " 3");
  CHECK(picker.pick("b")->value == " 2");
  CHECK(picker.pick("A")->value == " 1");
  CHECK(picker.pick("A") == nullptr);
  CHECK(picker.pick("C") == nullptr);
  FieldPicker without(header, 2);
  CHECK(without.pick("A")->value == " 4");
  CHECK(without.pick("A")->value == " 1");
  CHECK(without.pick("A") == nullptr);
}

TEST_CASE("a header section beyond the limits has an empty index", "[mailauth][header_index]") {
  std::string fields;
  for (std::size_t i = 0; i < kMostHeaderFields; ++i)
    fields.append("x:\r\n");
  CHECK(HeaderIndex(fields).fields().size() == kMostHeaderFields);
  fields.append("x:\r\n");
  const HeaderIndex many(fields);
  CHECK(many.too_large());
  CHECK(many.fields().empty());
  CHECK(many.named("x").empty());
  const auto large = "From: " + std::string(kMostHeaderSize, 'x') + "\r\n";
  CHECK(HeaderIndex(large).too_large());
}

}  // namespace
}  // namespace postrider::mailauth
