#include "mailauth/canonical.h"

#include "base/text.h"

#include <algorithm>
#include <cstring>

namespace postrider::mailauth {

namespace {

constexpr std::size_t kBuffer = std::size_t{16} << 10U;

bool is_space(char c) {
  return c == ' ' || c == '\t';
}

// Unfolded, runs of white space as one space, none at either end.
void append_relaxed_value(std::string_view value, std::string& out) {
  const auto start = out.size();
  bool space = false;
  for (std::size_t i = 0; i < value.size(); ++i) {
    if (value[i] == '\r' && i + 1 < value.size() && value[i + 1] == '\n') {
      ++i;
    } else if (is_space(value[i])) {
      space = true;
    } else {
      if (space && out.size() > start)
        out.push_back(' ');
      space = false;
      out.push_back(value[i]);
    }
  }
}

// The first octet at or behind `at` that the relaxed form must look at: a CR, a tab, or a space
// that is not alone between two words.
std::size_t next_special(std::string_view piece, std::size_t at) {
  for (; at < piece.size(); ++at) {
    const char c = piece[at];
    if (static_cast<unsigned char>(c) > 0x20)
      continue;
    if (c == '\r' || c == '\t')
      return at;
    if (c == ' ' && (at + 1 == piece.size() || piece[at + 1] == '\r' || is_space(piece[at + 1])))
      return at;
  }
  return at;
}

}  // namespace

std::string_view to_string(Form form) {
  return form == Form::simple ? "simple" : "relaxed";
}

void append_canonical(Form form, const mail::HeaderField& field, std::string& out) {
  const bool named = field.whole.starts_with(field.name);
  if (form == Form::relaxed) {
    out.append(ascii_lower(field.name)).append(1, ':');
    append_relaxed_value(field.value, out);
    out.append("\r\n");
    return;
  }
  if (!named)  // the line of a mailbox, which is passed on under this name
    out.append(field.name).append(": ");
  out.append(field.whole);
  if (!field.whole.ends_with('\n'))
    out.append("\r\n");
}

void CanonicalBody::feed(std::string_view piece) {
  if (form_ == Form::simple)
    feed_simple(piece);
  else
    feed_relaxed(piece);
}

// Where piece[at] may complete a CRLF, or is a CR that may begin one. Gives how much was taken.
std::size_t CanonicalBody::take_line_end(std::string_view piece, std::size_t at) {
  if (after_cr_) {
    after_cr_ = false;
    if (piece[at] == '\n') {
      held_space_ = false;
      ++held_lines_;
      return 1;
    }
    put_content("\r");
  }
  if (piece[at] != '\r')
    return 0;
  after_cr_ = true;
  return 1;
}

void CanonicalBody::feed_simple(std::string_view piece) {
  for (std::size_t at = 0; at < piece.size();) {
    if (const auto taken = take_line_end(piece, at); taken > 0) {
      at += taken;
      continue;
    }
    const auto stop = std::min(piece.find('\r', at), piece.size());
    put_content(piece.substr(at, stop - at));
    at = stop;
  }
}

void CanonicalBody::feed_relaxed(std::string_view piece) {
  for (std::size_t at = 0; at < piece.size();) {
    if (const auto taken = take_line_end(piece, at); taken > 0) {
      at += taken;
      continue;
    }
    // A space that is alone in this piece may still continue a run.
    const auto stop = held_space_ && is_space(piece[at]) ? at : next_special(piece, at);
    if (stop > at)
      put_content(piece.substr(at, stop - at));
    at = stop;
    if (at < piece.size() && is_space(piece[at])) {
      held_space_ = true;
      ++at;
    }
  }
}

// What was held back counts now.
void CanonicalBody::put_content(std::string_view content) {
  for (; held_lines_ > 0; --held_lines_)
    put("\r\n");
  if (held_space_)
    put(" ");
  held_space_ = false;
  has_content_ = true;
  put(content);
}

void CanonicalBody::put(std::string_view text) {
  if (out_.size() + text.size() > kBuffer)
    flush();
  if (text.size() > kBuffer)
    sink_(text);
  else
    out_.append(text);
}

void CanonicalBody::flush() {
  if (!out_.empty())
    sink_(out_);
  out_.clear();
}

// One line end stands at the end of what has content; the simple form of nothing is one line end,
// the relaxed form of nothing is nothing.
void CanonicalBody::finish() {
  if (after_cr_)
    put_content("\r");
  after_cr_ = held_space_ = false;
  held_lines_ = 0;
  if (has_content_ || form_ == Form::simple)
    put("\r\n");
  flush();
}

}  // namespace postrider::mailauth
