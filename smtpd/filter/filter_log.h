// The mail log of the filters: one function per event, an interface as smtpd/receiving_log.h is.
//
// event    id       keys
// checked  message  session client [spf] [helo_spf] [dkim] [arc] [dmarc] [author] [policy]
//                   disposition [exception] [problem] time
//
// Of a stranger's message, at its end, before it is taken or refused. spf, helo_spf, dkim, arc,
// dmarc: results of RFC 8601; dkim: the best of all signatures. author: the domain in From that
// counts; policy: what it wants for mail that fails. disposition: none, quarantine, reject.
// exception: why that is milder than the policy. problem: with From. time: in milliseconds, from
// the end of the content.
#pragma once

#include "smtpd/filter/authentication.h"

namespace postrider::smtpd::filter::maillog {

void checked(Log& log, const Facts& facts, mail::MessageId id, const Findings& findings,
             Duration time);

}  // namespace postrider::smtpd::filter::maillog
