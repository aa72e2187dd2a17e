// The content of a message as it arrives. Only CRLF.CRLF ends DATA; a bare CR, a bare LF or a NUL
// poisons the message, which is read on to its true end and then refused (attacks.md 2.1).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace postrider::mail {

// What has been seen of a message so far.
struct BodyFacts {
  std::uint64_t size = 0;      // octets kept (after the dots were taken out)
  bool bare_line_end = false;  // a CR or LF alone
  bool nul = false;
  bool has_8bit = false;
  bool has_8bit_header = false;
  std::uint32_t longest_line = 0;  // without CRLF
  bool ends_with_crlf = true;      // also true of nothing at all
  bool poisoned() const { return bare_line_end || nul; }
};

// The part that both readers share: counts content and appends it to `out` as long as nothing was
// poisoned and it is wanted. Once poisoned, `out` is good for nothing.
class BodyCollector {
 public:
  explicit BodyCollector(bool binary) : binary_(binary) {}
  void take(std::string_view content, std::string& out);  // line ends included
  void add_to_line(std::size_t octets);                   // octets of `content` but the line ends
  // The line that ends now is the empty one behind the header section: take() what there is of it
  // before end_line(), so that 8-bit octets are counted on the right side.
  bool ends_header() const { return in_header_ && line_length_ == 0; }
  void end_line();       // at CRLF
  void bare_line_end();  // a CR or LF alone, part of the line
  void measure();        // at the end of a feed: the line so far may be the longest
  void discard() { keep_ = false; }
  const BodyFacts& facts() const { return facts_; }

 private:
  bool binary_;  // bare line ends and NUL are content
  bool keep_ = true;
  bool in_header_ = true;
  std::uint32_t line_length_ = 0;
  BodyFacts facts_;
};

// Reads DATA. feed() may be called with any splitting of the bytes; it appends the content, with
// leading dots removed, to `out` as long as nothing was poisoned or discarded.
class DataReader {
 public:
  // Bytes taken from `in`; all of them unless the end was found. Linear in the input; looks at each
  // byte a constant number of times.
  std::size_t feed(std::string_view in, std::string& out);
  bool at_end() const { return at_end_; }
  // Refused already (too large): go on to the true end, keep nothing.
  void discard() { collector_.discard(); }
  const BodyFacts& facts() const { return collector_.facts(); }

 private:
  enum class At : std::uint8_t { line_start, text, cr, dot, dot_cr };
  At at_ = At::line_start;
  bool at_end_ = false;
  BodyCollector collector_{false};
};

// Reads the chunks of BDAT: nothing ends but the count. A CRLF may straddle two chunks.
class ChunkReader {
 public:
  // binary: BODY=BINARYMIME, where bare line ends and NUL are content.
  explicit ChunkReader(bool binary = false) : collector_(binary) {}
  // All bytes are content; appends them to `out` unless poisoned or discarded.
  void feed(std::string_view in, std::string& out);
  // The last chunk is complete: a CR at the very end is a bare one.
  void finish();
  void discard() { collector_.discard(); }
  const BodyFacts& facts() const { return collector_.facts(); }

 private:
  bool after_cr_ = false;
  BodyCollector collector_;
};

}  // namespace postrider::mail
