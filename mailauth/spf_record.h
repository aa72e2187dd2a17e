// One SPF record (RFC 7208 §4.6, §5, §6, §12), parsed as a whole before any of it is evaluated.
#pragma once

#include "base/network.h"
#include "base/result.h"
#include "mailauth/spf_macro.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::mailauth {

enum class SpfResult : std::uint8_t { none, neutral, pass, fail, softfail, temperror, permerror };
// The word of RFC 8601 §2.7.2: "softfail".
std::string_view to_string(SpfResult result);

struct SpfDirective {
  enum class Kind : std::uint8_t { all, include, a, mx, ptr, ip4, ip6, exists };
  Kind kind = Kind::all;
  SpfResult result = SpfResult::pass;  // by the qualifier
  std::optional<DomainSpec> target;    // none: the domain that is checked
  std::string network;                 // ip4, ip6: 4 or 16 octets
  unsigned v4_bits = 32;               // a, mx, ip4
  unsigned v6_bits = 128;              // a, mx, ip6
  std::string text;                    // as published, at most 255 octets

  // Whether it counts for the limit on terms that cause questions (§4.6.4).
  bool asks() const { return kind != Kind::all && kind != Kind::ip4 && kind != Kind::ip6; }
};

struct SpfRecord {
  std::vector<SpfDirective> directives;
  std::optional<DomainSpec> redirect;

  // Whether a TXT record is one: "v=spf1" in any case, then a space or nothing (§4.5).
  static bool is_one(std::string_view text);
  // Requires: is_one(text). Any error of syntax anywhere refuses the whole (§4.6).
  static Result<SpfRecord> parse(std::string_view text);
};

}  // namespace postrider::mailauth
