// Canonical forms (RFC 6376 §3.4): what of a message is signed, whatever small change its way
// makes.
#pragma once

#include "mail/header.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace postrider::mailauth {

enum class Form : std::uint8_t { simple, relaxed };
std::string_view to_string(Form form);

// Appends the field in its canonical form (§3.4.1, §3.4.2), with CRLF at its end. Only CRLF is a
// line end and only space and tab are white space, as the RFC has it.
void append_canonical(Form form, const mail::HeaderField& field, std::string& out);

// The canonical body (§3.4.3, §3.4.4), made as the body arrives.
//
// Promises: the same output for the same body however it is cut, in memory that does not grow with
// it. Requires: feed() with every octet behind the empty line that ends the header section, then
// finish() once.
class CanonicalBody {
 public:
  // sink is given the output in pieces.
  using Sink = std::function<void(std::string_view)>;
  CanonicalBody(Form form, Sink sink) : form_(form), sink_(std::move(sink)) {}

  void feed(std::string_view piece);
  void finish();

 private:
  void feed_simple(std::string_view piece);
  void feed_relaxed(std::string_view piece);
  std::size_t take_line_end(std::string_view piece, std::size_t at);
  void put_content(std::string_view content);
  void put(std::string_view text);
  void flush();

  Form form_;
  Sink sink_;
  std::string out_;
  std::uint64_t held_lines_ = 0;  // CRLFs that count only if content follows
  bool held_space_ = false;       // white space likewise, in this line
  bool after_cr_ = false;         // a CR that may be half of a CRLF
  bool has_content_ = false;
};

}  // namespace postrider::mailauth
