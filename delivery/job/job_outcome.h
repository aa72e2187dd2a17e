// The one place that decides what a reply or a failure means. Pure.
#pragma once

#include "base/result.h"
#include "mail/outcome.h"
#include "mail/reply.h"

#include <exception>
#include <string>

namespace postrider::delivery {

// What a remote's final reply at a stage means for the recipients it is about.
//  - a positive reply to the end of the content: delivered; positive before: not an end, asserts
//  - 5xx at MAIL or later: bounce; before MAIL it is about the host: retry. So are 503 (to RCPT it
//    may be a refusal) and 530, 538 (log in, or use TLS, first): no word of this message
//  - 552 5.5.3 to RCPT is "too many recipients" (RFC 5321 §4.5.3.1.10): retry. Without a code it is
//    that only behind others that were taken, see is_too_many_recipients(); it bounces here, as do
//    a full mailbox (5.2.2) and a message that is too big for it (5.3.4)
//  - all else: retry
mail::Outcome judge(mail::Stage stage, const mail::Reply& reply, const std::string& remote);

// A connection that could not be made, was lost, timed out or fell out of step: always retry. Where
// this machine lacked something for it (descriptors, memory, buffers, an address) with 4.3.0.
mail::Outcome judge(mail::Stage stage, const Error& error, const std::string& remote);

// Whether a refusal is about the host or us rather than the message: another host may think
// otherwise. Everything before MAIL, 421 anywhere (RFC 5321 §3.8), a rejected client address
// (X.7.25, RFC 7372), where the other address family may do, commands out of their order, and what
// RFC 3463 says of systems to MAIL: 4.3.2 not accepting, 4.4.5 congested, 4.5.3 too many, 4.7.0.
bool is_about_host(mail::Stage stage, const mail::Reply& reply);

// Whether a refusal, on a connection over which messages have gone, may be about the connection:
// so many messages or recipients and no more. A new one may think otherwise.
bool is_about_connection(mail::Stage stage, const mail::Reply& reply);

// What is to be recorded of a recipient that two hosts were asked for: the last real word. A
// connection that could not be made, or was lost before the message can have arrived, is none where
// the host before has said something.
const mail::Outcome& last_word(const mail::Outcome& before, const mail::Outcome& last);

// RFC 7504: a host that greets with 521 takes no mail at all.
bool takes_no_mail(mail::Stage stage, const mail::Reply& reply);

// A further recipient in the next transaction: 452 or 552 once some were taken, unless the code
// says that it is about this mailbox.
bool is_too_many_recipients(const mail::Reply& reply);

// Our own decisions, with a status such as "5.4.6" and a sentence.
mail::Outcome decide(mail::Verdict verdict, mail::Stage stage, mail::EnhancedCode status,
                     std::string text);

// An exception ended what was under way: a lack of memory, or a bug. Our own fault.
mail::Outcome went_wrong_here(mail::Stage stage, const std::exception& error);

// Whether this machine could not do it, so that it says nothing of the remote: X.3.Z of RFC 3463
// without a reply (no file descriptors, no memory, a copy that cannot be read), or no token to log in
// with.
bool is_our_fault(const mail::Outcome& outcome);

}  // namespace postrider::delivery
