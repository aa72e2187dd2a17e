// As much of MIME (RFC 2045, 2046) as a relay needs that must convert 8 bits to 7: what kind of
// entity a header section describes, and the two encodings.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::mail::mime {

// One Content-Type field.
struct ContentType {
  std::string type;                     // "multipart/mixed", lower case
  std::vector<std::string> boundaries;  // each that is given, of at most kMostBoundary octets
  bool has_long_boundary = false;
};
// RFC 2046 §5.1.1 allows 70 octets, but readers take more.
constexpr std::size_t kMostBoundary = 2000;

// What the header section of an entity says. Views point into it.
struct EntityHeader {
  std::string type;                 // "multipart/mixed", lower case; "text/plain" if not given
  std::string boundary;             // of a multipart, by RFC 2046; empty if there is none
  std::string encoding;             // lower case; "7bit" if not given
  std::string_view encoding_field;  // the whole field; empty if there is none
  bool has_type = false;
  bool has_version = false;
  bool ambiguous = false;  // a field that decides stands there twice (attacks.md M12)
  // Whatever a reader may go by, from the top down; type and boundary are those of the last.
  std::vector<ContentType> types;
};
EntityHeader read_entity_header(std::string_view header);

// Quoted-printable of bytes whose CRLFs are line ends; a bare CR or LF is encoded.
void append_quoted_printable(std::string_view bytes, std::string& out);
std::size_t quoted_printable_size(std::string_view bytes);  // an estimate
// Base64 in lines of 76; every line but the last ends in CRLF.
void append_base64(std::string_view bytes, std::string& out);
std::size_t base64_size(std::size_t bytes);

}  // namespace postrider::mail::mime
