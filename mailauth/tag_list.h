// Tag lists "a=1; b=2" (RFC 6376 §3.2), as signatures and key records are written in, and the small
// encodings that their values use.
#pragma once

#include "base/result.h"

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::mailauth {

// Longer lists, or lists of more tags, are refused: Errc::too_long.
constexpr std::size_t kMostTagListSize = std::size_t{32} << 10U;
constexpr std::size_t kMostTags = 64;

struct Tag {
  std::string_view name;
  std::string_view value;  // without the white space around it; folding inside is kept
  // Where the value stands in the list, with the white space around it.
  std::size_t begin = 0;
  std::size_t end = 0;
};

// Promises: every tag that find() gives stood in the list exactly once. Names are case-sensitive.
// A tag given twice, a name or a value outside the grammar and an empty part between two semicolons
// make the whole list invalid (§3.2). Octets of UTF-8 are taken in values (RFC 8616 §5).
class TagList {
 public:
  // The tags are views into `text`, which must outlive the list.
  static Result<TagList> parse(std::string_view text);

  const Tag* find(std::string_view name) const;
  // The value; nothing if there is no such tag.
  std::optional<std::string_view> value(std::string_view name) const;
  const std::vector<Tag>& tags() const { return tags_; }

 private:
  std::vector<Tag> tags_;
};

// White space of folding, wherever it stands, removed; and at both ends alone.
std::string without_white_space(std::string_view text);
std::string_view trim_white_space(std::string_view text);
// The parts between separators, trimmed. An empty text is one empty part.
std::vector<std::string_view> split_trimmed(std::string_view text, char separator);

// Base64 with white space anywhere (§3.2). The padding may be missing: the grammar lets it.
std::optional<std::string> decode_folded_base64(std::string_view text);
// dkim-quoted-printable (§2.11): "=3B" is ";", white space is skipped.
std::optional<std::string> decode_dkim_quoted_printable(std::string_view text);

}  // namespace postrider::mailauth
