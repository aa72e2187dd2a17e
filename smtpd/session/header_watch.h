// Watches the header section of a message as it arrives, in pieces of any size, and costs nothing
// once the section has ended: counts Received fields (loops), notes what submission would add and
// what says how to deliver, and bounds the section. Pure; linear; keeps at most one cut-off line.
#pragma once

#include "mail/header.h"
#include "mail/precedence.h"
#include "mail/trace_parent.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace postrider::smtpd {

class HeaderWatch {
 public:
  explicit HeaderWatch(std::uint32_t limit) : limit_(limit) {}
  void feed(std::string_view content);
  // The content has ended, perhaps within a line.
  void finish();

  bool has_ended() const { return ended_; }
  bool is_too_large() const { return size_ > limit_; }
  std::size_t received_fields() const { return received_fields_; }
  bool has_date() const { return has_date_; }
  bool tls_not_required() const { return tls_not_required_; }  // RFC 8689 §5
  bool has_message_id() const { return has_message_id_; }
  mail::HeaderLine first_line() const { return first_line_; }
  const std::string& message_id() const { return message_id_; }  // for the log; may be cut
  const std::string& trace_parent() const { return trace_parent_.value(); }
  mail::Precedence precedence() const { return precedence_.value_or(mail::Precedence::none); }

 private:
  void on_line(std::string_view line);
  void on_field(std::string_view name, std::string_view value);
  void begin_precedence(std::string_view value);

  std::uint32_t limit_;
  std::uint64_t size_ = 0;
  std::size_t received_fields_ = 0;
  std::string partial_;  // the beginning of a line whose end has not arrived
  std::string message_id_;
  mail::TraceParentField trace_parent_;
  std::optional<mail::Precedence> precedence_;
  mail::HeaderLine first_line_ = mail::HeaderLine::empty;
  bool is_first_ = true;
  bool ended_ = false;
  bool has_date_ = false;
  bool has_message_id_ = false;
  bool tls_not_required_ = false;
  bool in_message_id_ = false;  // whose value may stand on the next line
  bool in_trace_parent_ = false;
  bool in_precedence_ = false;
};

}  // namespace postrider::smtpd
