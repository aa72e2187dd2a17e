// A pattern of Perl's kind with limits: interpreted, not compiled to machine code (memory stays
// either writable or executable), and bounded in steps, depth and memory (attacks.md X17).
#pragma once

#include "base/result.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

struct pcre2_real_code_8;

namespace postrider::tables {

struct PatternLimits {
  std::uint32_t steps = 100'000;
  std::uint32_t depth = 1'000;
  std::uint32_t heap = 1'024;  // KiB
};

// Immutable, thread-safe.
class Pattern {
 public:
  static constexpr std::size_t kUnset = ~std::size_t{0};
  // Begin and end of each group that matched, the whole first; kUnset.
  using Groups = std::vector<std::pair<std::size_t, std::size_t>>;

  // Reads "/pattern/flags" or "!/pattern/flags" at the start of `text`, which becomes what follows.
  // Any other mark but a letter, digit or space may stand for "/". Letters match in any case; the
  // flag i turns that off, m, s, x and A, U are Perl's. The problem, or empty.
  std::string take(std::string_view& text);
  bool is_empty() const { return code_ == nullptr; }
  bool is_negated() const { return is_negated_; }
  std::uint32_t groups() const;
  std::size_t size() const;  // octets of memory

  // Errc::too_long: it would need more than the limits allow.
  Result<bool> match(std::string_view subject, const PatternLimits& limits = {},
                     Groups* groups = nullptr) const;

 private:
  std::shared_ptr<pcre2_real_code_8> code_;
  bool is_negated_ = false;
};

}  // namespace postrider::tables
