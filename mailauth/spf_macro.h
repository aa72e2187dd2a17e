// The macro language of SPF records (RFC 7208 §7), as far as names to ask for are made of it.
#pragma once

#include "base/network.h"
#include "base/result.h"

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::mailauth {

// What the letters stand for (§7.2).
struct MacroValues {
  std::string sender;                      // s, with a local part
  std::string local_part;                  // l
  std::string sender_domain;               // o
  std::string domain;                      // d
  std::string helo;                        // h
  IpAddress client;                        // i, v
  std::string validated_name = "unknown";  // p
};

// A domain-spec (§7.1): what stands behind "a:", "redirect=" and their like.
class DomainSpec {
 public:
  // Refuses what breaks the grammar, the letters c, r and t, which belong into explanations only,
  // and a digit transformer of 0 (§7.1, §7.3).
  static Result<DomainSpec> parse(std::string_view text);

  // Whether the validated name of the client must be known before.
  bool uses_validated_name() const;
  // The name to ask for: without a dot at the end, and without as many labels on the left as it
  // takes to have 253 octets (§7.3). Nothing if no question can be written for it. Memory stays
  // small whatever the text is.
  std::optional<std::string> expand(const MacroValues& values) const;

 private:
  struct Piece {
    std::string literal;
    char letter = 0;  // lower case; 0: a literal
    bool escaped = false;
    std::size_t keep = 0;  // parts on the right; 0: all
    bool reversed = false;
    std::string delimiters = ".";
  };
  static Result<Piece> parse_macro(std::string_view inside);
  static std::string value_of(const Piece& piece, const MacroValues& values);

  std::vector<Piece> pieces_;
};

// The macro-string of a modifier that is not known (§6): an error if it breaks the grammar.
Result<void> check_macro_string(std::string_view text);

}  // namespace postrider::mailauth
