// The replies that need no composing, as they stand on the wire. Short and bland; never an echo of
// what the client sent (attacks.md P15). Enhanced codes by RFC 3463 and 5248.
#pragma once

#include <string_view>

namespace postrider::smtpd::replies {

using namespace std::string_view_literals;

inline constexpr auto kOk = "250 2.0.0 Ok\r\n"sv;
inline constexpr auto kNotByReturn =
    "550 5.7.1 Mail to be returned when late (BY) is not taken from strangers\r\n"sv;
inline constexpr auto kSenderOk = "250 2.1.0 Ok\r\n"sv;
inline constexpr auto kRecipientOk = "250 2.1.5 Ok\r\n"sv;
inline constexpr auto kStartTls = "220 2.0.0 Ready to start TLS\r\n"sv;
inline constexpr auto kSendContent = "354 End data with <CR><LF>.<CR><LF>\r\n"sv;
inline constexpr auto kBye = "221 2.0.0 Bye\r\n"sv;
inline constexpr auto kCannotVerify = "252 2.0.0 Send mail to find out\r\n"sv;
inline constexpr auto kHelp =
    "214-2.0.0 EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT\r\n"
    "214 2.0.0 This is Postrider; see RFC 5321\r\n"sv;

// Syntax
inline constexpr auto kUnknownCommand = "500 5.5.2 Command not recognized\r\n"sv;
inline constexpr auto kBadLine = "500 5.5.2 Only printable text and CRLF, please\r\n"sv;
inline constexpr auto kBareLineFeed = "500 5.5.2 Lines must end in CRLF\r\n"sv;
inline constexpr auto kLineTooLong = "500 5.5.2 Line too long\r\n"sv;
inline constexpr auto kAuthLineTooLong = "500 5.5.6 Authentication line too long\r\n"sv;
inline constexpr auto kNoArguments = "501 5.5.4 This command takes no argument\r\n"sv;
inline constexpr auto kArgumentNeeded = "501 5.5.4 An argument is needed\r\n"sv;
inline constexpr auto kNotOffered = "502 5.5.1 Not offered here\r\n"sv;
inline constexpr auto kNeedsSmtpUtf8 = "553 5.6.7 Needs SMTPUTF8\r\n"sv;

// Order
inline constexpr auto kOutOfStep = "554 5.5.0 Protocol synchronization error\r\n"sv;
inline constexpr auto kNoValidRecipients = "554 5.5.1 No valid recipients\r\n"sv;
inline constexpr auto kBinaryNeedsBdat = "503 5.5.1 BODY=BINARYMIME needs BDAT\r\n"sv;
inline constexpr auto kNoMixing = "503 5.5.1 No DATA after BDAT; send RSET\r\n"sv;
inline constexpr auto kNotHttp = "554 5.5.0 This is a mail server\r\n"sv;

// Policy
inline constexpr auto kNoRelay = "550 5.7.1 Relaying denied\r\n"sv;
inline constexpr auto kNoSuchUser = "550 5.1.1 No such user here\r\n"sv;
inline constexpr auto kCircle = "550 5.4.6 The aliases of this address go in a circle here\r\n"sv;
inline constexpr auto kAuthenticationNeeded = "530 5.7.0 Authentication required\r\n"sv;
inline constexpr auto kEncryptionNeeded = "538 5.7.11 Encryption required for authentication\r\n"sv;
inline constexpr auto kNotYourAddress = "553 5.7.1 This sender address is not yours\r\n"sv;
inline constexpr auto kNotYourFrom =
    "550 5.7.1 The From or Sender address in the header is not yours\r\n"sv;
inline constexpr auto kTooManyAuthFailures = "421 4.7.0 Too many failed authentications\r\n"sv;
inline constexpr auto kTooManyRecipients = "452 4.5.3 Too many recipients\r\n"sv;
inline constexpr auto kFarTooManyRecipients = "421 4.5.3 Far too many recipients\r\n"sv;
inline constexpr auto kTooManyErrors = "421 4.7.0 Too many errors\r\n"sv;
inline constexpr auto kTooManySessions = "421 4.7.0 Too many connections from your address\r\n"sv;
inline constexpr auto kAllBusy = "421 4.3.2 All slots are busy, try again later\r\n"sv;

// Content
inline constexpr auto kTooLarge = "552 5.3.4 Message too large\r\n"sv;
inline constexpr auto kBadContent = "550 5.5.2 Bare CR or LF, or NUL, in the message\r\n"sv;
inline constexpr auto kHeaderTooLarge = "554 5.6.0 Header section too large\r\n"sv;
inline constexpr auto kLoop = "554 5.4.6 Too many hops\r\n"sv;

// Trouble of ours
inline constexpr auto kNoRoom = "452 4.3.1 Not enough room, try again later\r\n"sv;
inline constexpr auto kStopping = "421 4.3.2 Service is shutting down\r\n"sv;
inline constexpr auto kNoMemory = "421 4.3.0 Out of memory, try again later\r\n"sv;
inline constexpr auto kTimeout = "421 4.4.2 Timeout\r\n"sv;

}  // namespace postrider::smtpd::replies
