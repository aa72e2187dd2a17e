#include "mail/body_reader.h"

#include "mail/byte_finder.h"

#include <algorithm>
#include <limits>

namespace postrider::mail {

void BodyCollector::take(std::string_view content, std::string& out) {
  if (content.empty())
    return;
  facts_.size += content.size();
  // One pass that the compiler turns into vector code.
  unsigned char all = 0;
  unsigned char zeros = 0;
  for (const char c : content) {
    const auto byte = static_cast<unsigned char>(c);
    all = static_cast<unsigned char>(all | byte);
    zeros = static_cast<unsigned char>(zeros | (byte == 0 ? 1U : 0U));
  }
  if ((all & 0x80U) != 0) {
    facts_.has_8bit = true;
    facts_.has_8bit_header = facts_.has_8bit_header || in_header_;
  }
  if (zeros != 0 && !binary_)
    facts_.nul = true;
  if (keep_ && !facts_.poisoned())
    out.append(content);
}

void BodyCollector::add_to_line(std::size_t octets) {
  if (octets == 0)
    return;
  facts_.ends_with_crlf = false;
  const std::size_t room = std::numeric_limits<std::uint32_t>::max() - line_length_;
  line_length_ += static_cast<std::uint32_t>(std::min(octets, room));
}

void BodyCollector::end_line() {
  measure();
  in_header_ = in_header_ && line_length_ > 0;
  line_length_ = 0;
  facts_.ends_with_crlf = true;
}

void BodyCollector::bare_line_end() {
  if (!binary_)
    facts_.bare_line_end = true;
  add_to_line(1);
}

void BodyCollector::measure() {
  facts_.longest_line = std::max(facts_.longest_line, line_length_);
}

// One function, so that the states of RFC 5321 §4.5.2 can be checked side by side.
std::size_t DataReader::feed(std::string_view in, std::string& out) {
  ByteFinder cr(in, '\r');
  ByteFinder lf(in, '\n');
  std::size_t at = 0;   // the next byte to look at
  std::size_t run = 0;  // content from here on is not taken yet
  while (at < in.size() && !at_end_) {
    switch (at_) {
      case At::line_start:
        at_ = At::text;
        if (in[at] == '.') {
          collector_.take(in.substr(run, at - run), out);
          run = ++at;
          at_ = At::dot;
        }
        break;
      case At::text: {
        const auto next_lf = lf.from(at);
        const auto stop = std::min(cr.from(at), next_lf);
        collector_.add_to_line(stop - at);
        at = stop;
        if (at == in.size())
          break;
        if (at == next_lf)
          collector_.bare_line_end();  // is text: what follows is not a line start
        else
          at_ = At::cr;
        ++at;
        break;
      }
      case At::cr:
        at_ = At::text;
        if (in[at] != '\n') {
          collector_.bare_line_end();
          break;
        }
        ++at;
        at_ = At::line_start;
        if (collector_.ends_header()) {
          collector_.take(in.substr(run, at - run), out);
          run = at;
        }
        collector_.end_line();
        break;
      case At::dot:
        at_ = At::text;  // RFC 5321 §4.5.2: the dot is dropped, whatever follows
        if (in[at] == '\r') {
          run = ++at;
          at_ = At::dot_cr;
        }
        break;
      case At::dot_cr:
        if (in[at] == '\n') {
          run = ++at;
          at_end_ = true;
          break;
        }
        collector_.bare_line_end();
        collector_.take("\r", out);
        at_ = At::text;
        break;
    }
  }
  collector_.take(in.substr(run, at - run), out);
  collector_.measure();
  return at;
}

void ChunkReader::feed(std::string_view in, std::string& out) {
  ByteFinder cr(in, '\r');
  ByteFinder lf(in, '\n');
  std::size_t at = 0;
  std::size_t run = 0;
  while (at < in.size()) {
    if (after_cr_) {
      after_cr_ = false;
      if (in[at] != '\n') {
        collector_.bare_line_end();
        continue;
      }
      ++at;
      if (collector_.ends_header()) {
        collector_.take(in.substr(run, at - run), out);
        run = at;
      }
      collector_.end_line();
      continue;
    }
    const auto next_lf = lf.from(at);
    const auto stop = std::min(cr.from(at), next_lf);
    collector_.add_to_line(stop - at);
    at = stop;
    if (at == in.size())
      break;
    if (at == next_lf)
      collector_.bare_line_end();
    after_cr_ = at != next_lf;
    ++at;
  }
  collector_.take(in.substr(run, at - run), out);
  collector_.measure();
}

void ChunkReader::finish() {
  if (!after_cr_)
    return;
  after_cr_ = false;
  collector_.bare_line_end();
  collector_.measure();
}

}  // namespace postrider::mail
