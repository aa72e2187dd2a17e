#include "web/compose.h"

#include "base/base64.h"
#include "base/digest.h"
#include "base/text.h"
#include "mail/mime.h"

#include <algorithm>

namespace postrider::web {

namespace {

constexpr std::size_t kWidth = 76;
constexpr std::size_t kLongestWord = 200;   // longer ones are encoded, and so can be folded
constexpr std::size_t kMostInEncoded = 42;  // octets: 56 of base64, and 12 of the word's frame
constexpr std::string_view kSpecials = "()<>[]:;@\\,.\"";  // RFC 5322 §3.2.3

bool is_word_safe(std::string_view word) {
  return word.size() <= kLongestWord && word.find("=?") == std::string_view::npos;
}

// Whether it may stand in a header as it is, folded at its spaces.
bool is_plain(std::string_view text) {
  if (!is_ascii(text) || text.starts_with(' ') || text.ends_with(' ') ||
      text.find("  ") != std::string_view::npos)
    return false;
  for (const auto word : split(text, ' '))
    if (!is_word_safe(word))
      return false;
  return true;
}

// The end of a piece of at most so many octets that cuts no character.
std::size_t end_of_piece(std::string_view text, std::size_t most) {
  if (text.size() <= most)
    return text.size();
  auto end = most;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U)
    --end;
  return end == 0 ? most : end;
}

// RFC 2047 §2: words of at most 75 octets, one a line.
std::string encoded_words(std::string_view text) {
  std::string out;
  do {
    const auto end = end_of_piece(text, kMostInEncoded);
    if (!out.empty())
      out.append("\r\n ");
    out.append("=?utf-8?B?").append(encode_base64(text.substr(0, end))).append("?=");
    text.remove_prefix(end);
  } while (!text.empty());
  return out;
}

// Words from this column on, a line's rest each.
void append_folded(std::string_view text, std::size_t column, std::string& out) {
  bool is_first = true;
  for (const auto word : split(text, ' ')) {
    if (!is_first && column + 1 + word.size() > kWidth) {
      out.append("\r\n");
      column = 0;
    }
    if (!is_first) {
      out.push_back(' ');
      ++column;
    }
    out.append(word);
    column += word.size();
    is_first = false;
  }
}

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\')
      out.push_back('\\');
    out.push_back(c);
  }
  return out + "\"";
}

std::string phrase(std::string_view name) {
  if (!is_plain(name) || name.size() > kMostInEncoded)
    return encoded_words(name);
  return name.find_first_of(kSpecials) == std::string_view::npos ? std::string(name) : quoted(name);
}

// One mailbox a line.
void append_mailboxes(std::string_view name, const std::vector<Mailbox>& mailboxes,
                      std::string& out) {
  if (mailboxes.empty())
    return;
  out.append(name).append(": ");
  for (std::size_t i = 0; i < mailboxes.size(); ++i) {
    if (i > 0)
      out.append(",\r\n ");
    const auto& one = mailboxes[i];
    if (one.name.empty())
      out.append(one.address);
    else
      out.append(phrase(one.name)).append("\r\n <").append(one.address).append(">");
  }
  out.append("\r\n");
}

std::string with_crlf(std::string_view text) {
  std::string out;
  out.reserve(text.size() + text.size() / 32 + 2);
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\r' && i + 1 < text.size() && text[i + 1] == '\n')
      continue;
    if (text[i] == '\n' || text[i] == '\r')
      out.append("\r\n");
    else
      out.push_back(text[i]);
  }
  if (!out.empty() && !out.ends_with("\r\n"))
    out.append("\r\n");
  return out;
}

bool fits_seven_bit(std::string_view text) {
  if (!is_ascii(text) || text.find('\0') != std::string_view::npos)
    return false;
  for (const auto line : split(text, '\n'))
    if (line.size() > kWidth + 2)
      return false;
  return true;
}

// Entities: fields, an empty line, and the body, which ends a line.
std::string text_entity(std::string_view subtype, std::string_view given) {
  const auto text = with_crlf(given);
  std::string out = "Content-Type: text/";
  out.append(subtype).append("; charset=utf-8\r\nContent-Transfer-Encoding: ");
  if (fits_seven_bit(text))
    return out.append("7bit\r\n\r\n").append(text);
  if (mail::mime::quoted_printable_size(text) <= mail::mime::base64_size(text.size())) {
    out.append("quoted-printable\r\n\r\n");
    mail::mime::append_quoted_printable(text, out);
  } else {
    out.append("base64\r\n\r\n");
    mail::mime::append_base64(text, out);
  }
  if (!out.ends_with("\r\n"))
    out.append("\r\n");
  return out;
}

// RFC 5987 §3.2.1, of which RFC 2231 allows all.
bool stands_for_itself(char c) {
  return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '.' ||
         c == '-' || c == '_';
}

// RFC 2231 §4: what is not ASCII, octet by octet; in pieces (§3), for a line has an end.
std::string filename_parameter(std::string_view name) {
  if (is_plain(name) && name.size() <= kMostInEncoded)
    return ";\r\n filename=" + quoted(name);
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string escaped_name;
  for (const char c : name) {
    const auto octet = static_cast<unsigned char>(c);
    if (stands_for_itself(c)) {
      escaped_name.push_back(c);
    } else {
      escaped_name.push_back('%');
      escaped_name.push_back(kHex[octet >> 4U]);
      escaped_name.push_back(kHex[octet & 15U]);
    }
  }
  std::string out;
  std::string_view left = escaped_name;
  for (std::size_t number = 0; !left.empty(); ++number) {
    auto end = std::min<std::size_t>(left.size(), 48);
    if (const auto cut = left.substr(0, end).rfind('%');
        cut != std::string_view::npos && cut + 3 > end && end < left.size())
      end = cut;
    out.append(";\r\n filename*").append(std::to_string(number)).append("*=");
    out.append(number == 0 ? "utf-8''" : "").append(left.substr(0, end));
    left.remove_prefix(end);
  }
  return out;
}

std::string attachment_entity(const Attachment& one) {
  std::string out = "Content-Type: " + one.type + "\r\nContent-Transfer-Encoding: base64\r\n";
  out.append("Content-Disposition: ").append(one.content_id.empty() ? "attachment" : "inline");
  if (!one.filename.empty())
    out.append(filename_parameter(one.filename));
  out.append("\r\n");
  if (!one.content_id.empty())
    out.append("Content-ID: <").append(one.content_id).append(">\r\n");
  out.append("\r\n");
  mail::mime::append_base64(one.content, out);
  return out.append("\r\n");
}

// Of one it is itself. The line end before a boundary is the boundary's (RFC 2046 §5.1.1).
std::string multipart(std::string_view subtype, std::vector<std::string> entities) {
  if (entities.size() == 1)
    return std::move(entities.front());
  const auto boundary = "=_" + encode_hex(random_bytes(16));
  std::string out = "Content-Type: multipart/";
  out.append(subtype).append(";\r\n boundary=\"").append(boundary).append("\"\r\n\r\n");
  for (auto& entity : entities) {
    out.append("--").append(boundary).append("\r\n").append(entity).append("\r\n");
    std::string().swap(entity);
  }
  return out.append("--").append(boundary).append("--\r\n");
}

std::string body_of(const Draft& draft) {
  std::vector<std::string> kept, readable;
  if (draft.has_text || !draft.has_html)
    readable.push_back(text_entity("plain", draft.text));
  std::vector<std::string> related;
  if (draft.has_html)
    related.push_back(text_entity("html", draft.html));
  for (const auto& one : draft.attachments)
    (one.content_id.empty() || !draft.has_html ? kept : related).push_back(attachment_entity(one));
  if (!related.empty())
    readable.push_back(multipart("related", std::move(related)));
  kept.insert(kept.begin(), multipart("alternative", std::move(readable)));
  return multipart("mixed", std::move(kept));
}

}  // namespace

std::string unstructured_field(std::string_view name, std::string_view value) {
  std::string out(name);
  out.append(": ");
  if (is_plain(value))
    append_folded(value, out.size(), out);
  else if (!value.empty())
    out.append(out.size() > 20 ? "\r\n " : "").append(encoded_words(value));
  return out.append("\r\n");
}

std::string compose(const Draft& draft) {
  std::string out;
  append_mailboxes("From", {draft.from}, out);
  append_mailboxes("Reply-To", draft.reply_to, out);
  append_mailboxes("To", draft.to, out);
  append_mailboxes("Cc", draft.cc, out);
  if (!draft.subject.empty())
    out.append(unstructured_field("Subject", draft.subject));
  for (const auto& [name, value] : draft.fields)
    out.append(unstructured_field(name, value));
  return out.append("MIME-Version: 1.0\r\n").append(body_of(draft));
}

}  // namespace postrider::web
