#include "mail/dot_stuffing.h"

#include <algorithm>

namespace postrider::mail {

namespace {

constexpr std::size_t kBlock = 4096;

// Whether a dot stands behind an LF within the text. No branch in the loop: vector code.
bool has_dot_after_lf(std::string_view text) {
  unsigned char found = 0;
  for (std::size_t i = 1; i < text.size(); ++i)
    found = static_cast<unsigned char>(found | (static_cast<unsigned>(text[i - 1] == '\n') &
                                                static_cast<unsigned>(text[i] == '.')));
  return found != 0;
}

}  // namespace

void DotStuffer::feed(std::string_view in, std::string& out) {
  while (!in.empty()) {
    // What the pieces before have left decides about the first octet.
    if (at_line_start_ && in.front() == '.')
      out.push_back('.');
    const bool ends_line = after_cr_ && in.front() == '\n';
    if (ends_line || at_line_start_) {
      out.push_back(in.front());
      after_cr_ = in.front() == '\r';
      at_line_start_ = ends_line;
      in.remove_prefix(1);
      continue;
    }
    const auto block = in.substr(0, kBlock);
    take_block(block, out);
    in.remove_prefix(block.size());
  }
}

void DotStuffer::take_block(std::string_view block, std::string& out) {
  const std::string_view whole = block;
  if (has_dot_after_lf(block)) {
    for (auto at = block.find("\r\n."); at != std::string_view::npos; at = block.find("\r\n.")) {
      out.append(block.substr(0, at + 2)).append("..");
      block.remove_prefix(at + 3);
    }
  }
  out.append(block);
  after_cr_ = whole.back() == '\r';
  at_line_start_ = whole.ends_with("\r\n");
}

void DotStuffer::finish(std::string& out) {
  if (after_cr_)
    out.push_back('\n');  // never "\r\r\n" (attacks.md O04)
  else if (!at_line_start_)
    out.append("\r\n");
  out.append(".\r\n");
  at_line_start_ = true;
  after_cr_ = false;
}

bool has_leading_dot(std::string_view content) {
  if (content.starts_with('.'))
    return true;
  // Blocks overlap by one octet, so that no pair is missed.
  for (std::size_t at = 0; at + 1 < content.size(); at += kBlock)
    if (has_dot_after_lf(content.substr(at, kBlock + 1)))
      return true;
  return false;
}

}  // namespace postrider::mail
