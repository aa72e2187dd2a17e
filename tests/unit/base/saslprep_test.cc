#include "base/saslprep.h"

#include <catch2/catch.hpp>

using namespace postrider;
using namespace std::string_literals;

TEST_CASE("SASLprep is that of RFC 4013", "[base][sasl]") {
  CHECK(saslprep("user") == "user");
  CHECK(saslprep("USER") == "USER");
  CHECK(saslprep("I\xC2\xADX") == "IX");  // a soft hyphen goes
  CHECK(saslprep("\xC2\xAA") == "a");     // compatibility forms
  CHECK(saslprep("\xE2\x85\xA8") == "IX");
  CHECK_FALSE(saslprep("\x07"));          // prohibited
  CHECK_FALSE(saslprep("\xD8\xA7\x31"));  // bidirectional check
  CHECK_FALSE(saslprep("\xFFlatin"));
  CHECK_FALSE(saslprep(""));
  CHECK_FALSE(saslprep("a\0b"s));
  CHECK_FALSE(saslprep(std::string(1025, 'a')));
  std::string growing;  // 18 times as long when normalized
  for (int i = 0; i < 300; ++i)
    growing += "\xEF\xB7\xBA";
  CHECK_FALSE(saslprep(growing));
}
