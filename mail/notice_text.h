// The pieces of text that a delivery status notification is made of (RFC 3464, 6533). Whatever
// comes in, what goes out is whole lines of at most 998 octets, without controls.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace postrider::mail::notice {

inline constexpr std::size_t kMostLine = 998;  // RFC 5322 §2.1.1

// Controls, and what is not ASCII (unless it is UTF-8 and that is allowed), become question marks.
std::string one_line(std::string_view text, bool utf8);

// Appends text in lines of about 76 octets, broken at spaces where there are any; every line but
// the first starts with `indent`.
void append_wrapped(std::string_view text, std::string_view indent, std::string& out);

// The beginning, of at most `most` octets and whole characters; "..." tells that there was more.
std::string beginning(std::string_view text, std::size_t most);

// "rfc822; a@b", or "utf-8; ..." for an address that is not ASCII.
std::string typed_address(std::string_view address, bool utf8);
// From ORCPT as given: "rfc822;a+2Bb@c" becomes "rfc822;a+b@c".
std::string original_recipient(std::string_view orcpt, bool utf8);
// "mx1.example.org" of "mx1.example.org[192.0.2.1]:25"; "[192.0.2.1]" if there is no name.
std::string remote_host(std::string_view remote);

// A part of a message, fit to be quoted: line ends are CRLF, long lines are broken.
std::string clean_quote(std::string_view text);

}  // namespace postrider::mail::notice
