#include "delivery/local/leaf.h"

#include "base/text.h"
#include "delivery/local/mailbox_pattern.h"

namespace postrider::delivery {

namespace {

struct Word {
  Leaf::Kind kind;
  std::string_view word;
  bool has_text;
};
constexpr Word kWords[] = {
    {Leaf::Kind::user, "user", false},       {Leaf::Kind::self, "self", false},
    {Leaf::Kind::mailbox, "mailbox", false}, {Leaf::Kind::command, "command", true},
    {Leaf::Kind::file, "file", true},        {Leaf::Kind::place, "place", true},
    {Leaf::Kind::nobody, "nobody", true}};

Error damaged() {
  return Error(Errc::corrupt, "read where a recipient's mail goes");
}

}  // namespace

std::string encode(const Leaf& leaf) {
  for (const auto& word : kWords)
    if (word.kind == leaf.kind)
      return std::string(word.word) + ":" + leaf.user + (word.has_text ? ":" + leaf.text : "");
  return {};
}

Result<Leaf> decode_leaf(std::string_view text) {
  Leaf leaf;
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
    if (leaf.kind == Leaf::Kind::file && !leaf.text.starts_with('/'))
      return damaged();
    return leaf;
  }
  return damaged();
}

std::string describe(const Leaf& leaf) {
  switch (leaf.kind) {
    case Leaf::Kind::address:
      return "another machine";
    case Leaf::Kind::user:
    case Leaf::Kind::self:
      return "user " + leaf.user;
    case Leaf::Kind::mailbox:
      return "the mailbox of " + leaf.user;
    case Leaf::Kind::command:
      return "command " + leaf.text + (leaf.user.empty() ? "" : " as " + leaf.user);
    case Leaf::Kind::file:
      return "file " + leaf.text + (leaf.user.empty() ? "" : " as " + leaf.user);
    case Leaf::Kind::place:
      return leaf.text;
    case Leaf::Kind::nobody:
      return "nobody";
  }
  return {};
}

}  // namespace postrider::delivery
