// A message as mailboxes and commands get it: Return-Path and Delivered-To on top (RFC 5321 §4.4,
// RFC 9228), then our trace, then the bytes received; LF line ends.
#pragma once

#include "base/result.h"
#include "delivery/local/agents/local_target.h"

#include <string>
#include <string_view>

namespace postrider::delivery {

// As it is, but never more than one line, whatever a damaged queue holds (attacks.md I11).
std::string one_line(std::string_view text);

// CRLF becomes LF, over any splitting.
class LineEndReducer {
 public:
  void feed(std::string_view in, std::string& out);

 private:
  bool held_ = false;  // a CR whose successor is not known yet
};

// Reads it in pieces of bounded size. job and body outlive it.
class LocalContent {
 public:
  LocalContent(const LocalJob& job, const LocalBody& body) : job_(job), body_(body) {}
  // Replaces `out` by the next piece; empty at the end. A body of another size than the job says
  // is Errc::corrupt.
  Result<void> next(std::string& out);

 private:
  enum class At : std::uint8_t { top, bytes, end };
  const LocalJob& job_;
  const LocalBody& body_;
  LineEndReducer reducer_;
  std::string block_;
  At at_ = At::top;
  std::uint64_t done_ = 0;  // octets of the body
};

// "From sender Mon Nov 23 13:34:44 2026\n", the line that begins a message in an mbox (RFC 4155).
std::string from_line(std::string_view sender, TimePoint when);

}  // namespace postrider::delivery
