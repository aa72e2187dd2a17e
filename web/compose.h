// A message of its parts: header fields, text, HTML and attachments (RFC 5322, 2045 to 2047, 2231,
// 2387). Everything that is given counts as hostile but for its being free of control characters,
// which is for the caller to see to. Pure, but for the boundaries, which are random.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace postrider::web {

struct Mailbox {
  std::string name;     // to be shown; may be empty
  std::string address;  // as mail::parse_mailbox() gave it
};

struct Attachment {
  std::string filename;    // UTF-8; may be empty
  std::string type;        // "image/png"
  std::string content_id;  // what the HTML calls it, without brackets; empty: it is a file to keep
  std::string content;
};

struct Draft {
  Mailbox from;
  std::vector<Mailbox> reply_to, to, cc;
  std::string subject;
  std::string text, html;  // UTF-8, line ends of any kind
  bool has_text = false, has_html = false;
  std::vector<Attachment> attachments;
  std::vector<std::pair<std::string, std::string>> fields;  // further ones, unstructured
};

// With CRLF line ends of at most 78 octets where what is given allows it, and never more than 998.
// Date and Message-ID are left to who takes it.
std::string compose(const Draft& draft);

// One field with its line end: folded, and in encoded words where it is not ASCII or too long.
std::string unstructured_field(std::string_view name, std::string_view value);

}  // namespace postrider::web
