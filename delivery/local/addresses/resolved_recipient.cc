#include "delivery/local/addresses/resolved_recipient.h"

#include "base/text.h"
#include "delivery/local/agents/mailbox_pattern.h"

#include <algorithm>
#include <array>
#include <charconv>

namespace postrider::delivery {

namespace {

struct Word {
  ResolvedRecipient::Kind kind;
  std::string_view word;
  bool has_text;
};
constexpr Word kWords[] = {{ResolvedRecipient::Kind::user, "user", false},
                           {ResolvedRecipient::Kind::self, "self", false},
                           {ResolvedRecipient::Kind::mailbox, "mailbox", false},
                           {ResolvedRecipient::Kind::command, "command", true},
                           {ResolvedRecipient::Kind::file, "file", true},
                           {ResolvedRecipient::Kind::place, "place", true},
                           {ResolvedRecipient::Kind::nobody, "nobody", true},
                           {ResolvedRecipient::Kind::include, "include", true}};

Error damaged() {
  return Error(Errc::corrupt, "read where a recipient's mail goes");
}

template <typename Number>
bool parse_number(std::string_view text, int base, Number& number) {
  const char* end = text.data() + text.size();
  const auto done = std::from_chars(text.data(), end, number, base);
  return done.ec == std::errc() && done.ptr == end;
}

}  // namespace

// "0:1f,a0:/etc/list": the author, the marks in hexadecimal, the path.
std::string encode(const SetAside& aside) {
  std::string text = std::to_string(aside.author) + ":";
  for (const auto mark : aside.others) {
    std::array<char, 16> digits{};
    const auto end = std::to_chars(digits.begin(), digits.end(), mark, 16).ptr;
    text.append(text.back() == ':' ? "" : ",").append(digits.begin(), end);
  }
  return text + ":" + aside.path;
}

Result<SetAside> decode_set_aside(std::string_view text) {
  SetAside aside;
  const auto author_end = text.find(':');
  const auto end = author_end == text.npos ? text.npos : text.find(':', author_end + 1);
  if (end == text.npos || !parse_number(text.substr(0, author_end), 10, aside.author))
    return damaged();
  const auto marks = text.substr(author_end + 1, end - author_end - 1);
  for (const auto one : split(marks, ',')) {
    std::uint64_t mark = 0;
    if (one.empty() && marks.empty())
      break;
    if (!parse_number(one, 16, mark))
      return damaged();
    aside.others.push_back(mark);
  }
  aside.path = text.substr(end + 1);
  if (!aside.path.starts_with('/'))
    return damaged();
  return aside;
}

std::string encode(const ResolvedRecipient& leaf) {
  for (const auto& word : kWords)
    if (word.kind == leaf.kind)
      return std::string(word.word) + ":" + leaf.user + (word.has_text ? ":" + leaf.text : "");
  return {};
}

Result<ResolvedRecipient> decode_leaf(std::string_view text) {
  ResolvedRecipient leaf;
  if (text.empty())
    return leaf;
  const auto colon = text.find(':');
  if (colon == text.npos)
    return damaged();
  for (const auto& word : kWords) {
    if (word.word != text.substr(0, colon))
      continue;
    leaf.kind = word.kind;
    text.remove_prefix(colon + 1);
    const auto end = word.has_text ? text.find(':') : text.size();
    if (end == text.npos)
      return damaged();
    leaf.user = text.substr(0, end);
    if (word.has_text)
      leaf.text = text.substr(end + 1);
    const bool needs_user = !word.has_text;
    if (leaf.user.empty() ? needs_user : local_user(leaf.user, "") != leaf.user)
      return damaged();
    if (leaf.kind == ResolvedRecipient::Kind::file && !leaf.text.starts_with('/'))
      return damaged();
    if (leaf.kind == ResolvedRecipient::Kind::include)
      if (auto aside = decode_set_aside(leaf.text); !aside)
        return aside.error();
    return leaf;
  }
  return damaged();
}

std::string describe(const ResolvedRecipient& leaf) {
  switch (leaf.kind) {
    case ResolvedRecipient::Kind::address:
      return "another machine";
    case ResolvedRecipient::Kind::user:
    case ResolvedRecipient::Kind::self:
      return "user " + leaf.user;
    case ResolvedRecipient::Kind::mailbox:
      return "the mailbox of " + leaf.user;
    case ResolvedRecipient::Kind::command:
      return "command " + leaf.text + (leaf.user.empty() ? "" : " as " + leaf.user);
    case ResolvedRecipient::Kind::file:
      return "file " + leaf.text + (leaf.user.empty() ? "" : " as " + leaf.user);
    case ResolvedRecipient::Kind::place:
      return leaf.text;
    case ResolvedRecipient::Kind::nobody:
      return "nobody";
    case ResolvedRecipient::Kind::include:
      return "the list " + leaf.text.substr(std::min(leaf.text.find('/'), leaf.text.size()));
  }
  return {};
}

}  // namespace postrider::delivery
