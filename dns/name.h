// A domain name in wire form and lower case: length octet and octets of each label, without the
// final zero. Two names are the same exactly if their wire forms are. Pure.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace postrider::dns {

class Name {
 public:
  static constexpr std::size_t kMostOctets = 255;  // RFC 1035 section 3.1, with the final zero
  static constexpr std::size_t kMostLabel = 63;

  Name() = default;  // the root
  // Text of printable ASCII, with or without the trailing dot. Nothing for an empty or long label,
  // a long name, an empty text, and octets that no host, mail domain or service name has.
  static std::optional<Name> from_text(std::string_view text);

  // False, and no change, if the label is empty or too long or the name would be.
  [[nodiscard]] bool append_label(std::string_view label);

  // Without the trailing dot; empty for the root. Dots inside a label and odd octets are escaped
  // as in zone files (\. and \DDD), so that no text passes for another name.
  std::string text() const;
  // Letters, digits, hyphens and underscores only; not the root (attack D12).
  bool is_host() const;
  bool is_root() const { return wire_.empty(); }
  bool is_at_or_below(const Name& ancestor) const;
  const std::string& wire() const { return wire_; }  // without the final zero

  friend bool operator==(const Name&, const Name&) = default;

 private:
  std::string wire_;
};

}  // namespace postrider::dns
