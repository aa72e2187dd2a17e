// What DATA and BDAT must make of bytes, said in the plainest way (attacks.md 2.1): put a virtual
// CRLF before them; the message ends at the first CRLF.CRLF and nowhere else.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>

namespace postrider::tests {

struct ExpectedBody {
  bool ended = false;
  std::size_t consumed = 0;
  std::string content;
  bool bare_line_end = false;
  bool nul = false;
  bool has_8bit = false;
  bool has_8bit_header = false;
  std::size_t longest_line = 0;
};

inline bool any_8bit(std::string_view text) {
  return std::any_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) >= 0x80; });
}

// Facts about content without dots.
inline void judge_content(ExpectedBody& body) {
  const std::string& text = body.content;
  body.nul = text.find('\0') != std::string::npos;
  body.has_8bit = any_8bit(text);
  const std::string framed = "\r\n" + text;
  const auto header_end = framed.find("\r\n\r\n");
  body.has_8bit_header = any_8bit(framed.substr(0, header_end));
  const auto judge_line = [&body](std::string_view line) {
    body.longest_line = std::max(body.longest_line, line.size());
    body.bare_line_end = body.bare_line_end || line.find_first_of("\r\n") != std::string_view::npos;
  };
  std::size_t begin = 0;
  for (auto end = text.find("\r\n"); end != std::string::npos; end = text.find("\r\n", begin)) {
    judge_line(std::string_view(text).substr(begin, end - begin));
    begin = end + 2;
  }
  judge_line(std::string_view(text).substr(begin));
}

// For DATA. Without an end, only `ended` and `consumed` are said.
inline ExpectedBody expected_data(std::string_view bytes) {
  ExpectedBody body;
  std::string framed = "\r\n" + std::string(bytes);
  const auto end = framed.find("\r\n.\r\n");
  body.ended = end != std::string::npos;
  body.consumed = body.ended ? end + 3 : bytes.size();
  if (!body.ended)
    return body;
  framed.resize(end + 2);
  for (auto at = framed.find("\r\n."); at != std::string::npos; at = framed.find("\r\n.", at + 2))
    framed.erase(at + 2, 1);
  body.content = framed.substr(2);
  judge_content(body);
  return body;
}

inline ExpectedBody expected_chunks(std::string_view bytes) {
  ExpectedBody body;
  body.ended = true;
  body.consumed = bytes.size();
  body.content = bytes;
  judge_content(body);
  return body;
}

}  // namespace postrider::tests
