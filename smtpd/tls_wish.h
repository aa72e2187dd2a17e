// How much TLS a message asks for on its way (RFC 8689).
#pragma once

#include "mail/envelope.h"

namespace postrider::smtpd {

// says_no: the header has "TLS-Required: No", which is ignored where REQUIRETLS was given (§4.1).
inline mail::TlsWish tls_wish(mail::TlsWish by_command, bool says_no) {
  return by_command == mail::TlsWish::unspecified && says_no ? mail::TlsWish::optional : by_command;
}

}  // namespace postrider::smtpd
