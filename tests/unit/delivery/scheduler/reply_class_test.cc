#include "delivery/scheduler/reply_class.h"

#include <catch2/catch.hpp>

#include <set>
#include <string>

namespace postrider::scheduler {
namespace {

using enum ReplyClass;
using mail::Stage;

mail::Reply reply_of(std::string_view line) {
  mail::Reply reply;
  reply.code = std::stoi(std::string(line.substr(0, 3)));
  line.remove_prefix(4);
  if (const auto code = mail::parse_enhanced_code(line)) {
    reply.enhanced = *code;
    line.remove_prefix(std::min(line.find(' ') + 1, line.size()));
  }
  reply.text = line;
  return reply;
}

ReplyMeaning meaning(std::string_view line, Stage stage = Stage::rcpt, std::string_view host = "") {
  return classify(stage, reply_of(line), host, false);
}

struct Known {
  ReplyClass klass;
  const char* who;
  const char* line;
};

// What each row of the table is there for.
const Known kKnown[] = {
    {rate, "Gmail", "421 4.7.28 Gmail has detected an unusual rate of mail from your IP"},
    {reputation, "Gmail", "421 4.7.0 detected an unusual rate of unsolicited mail originating"},
    {reputation, "Gmail", "550 5.7.28 an unusual rate of unsolicited mail"},
    {recipient_rate, "Gmail",
     "450 4.2.1 The user you are trying to contact is receiving mail too quickly"},
    {recipient_rate, "Gmail",
     "550 5.2.1 receiving mail at a rate that prevents additional messages"},
    {reputation, "Gmail", "421 4.7.0 due to the very low reputation of the sending IP"},
    {policy, "Gmail", "550 5.7.1 is likely unsolicited mail"},
    {authentication, "Gmail",
     "421 4.7.26 requires all senders to authenticate with either SPF or DKIM"},
    {authentication, "Gmail", "550 5.7.26 due to the domain's DMARC policy"},
    {dns, "Gmail", "451 4.7.26 temporary DNS failures while checking"},
    {authentication, "Gmail",
     "550 5.7.24 The SPF record of the sending domain has suspicious entries"},
    {dns, "Gmail", "421 4.7.23 The sending IP does not have a PTR record"},
    {dns, "Gmail", "550 5.7.25 The IP does not have a PTR record set up"},
    {dns, "Gmail", "550 5.7.1 does not meet IPv6 sending guidelines"},
    {tls, "Gmail", "550 5.7.29 Messages must use TLS/SSL"},
    {mailbox_full, "Gmail", "452 4.2.2 The recipient's inbox is out of storage space"},
    {no_mailbox, "Gmail", "552 5.2.2 The inbox is out of storage and inactive"},
    {no_mailbox, "Gmail", "550 5.2.1 The email account that you tried to reach is disabled"},
    {recipients, "Gmail", "452 4.5.3 Your message has too many recipients"},
    {recipients, "Gmail", "451 4.3.0 Multiple destination domains per transaction is unsupported"},
    {busy, "Gmail", "421 4.7.0 Try again later, closing connection."},
    {session_spent, "Gmail", "451 4.4.2 Timeout - closing connection."},
    {too_big, "Gmail", "552 5.3.4 Your message exceeded Google's message size limits"},
    {policy, "Gmail", "552 5.7.0 blocked because its content presents a potential security issue"},
    {protocol, "Gmail", "550 5.7.1 Messages missing a valid Message-ID header"},
    {rate, "Exchange Online", "451 4.7.500 Server busy. Please try again later from [192.0.2.1]."},
    {reputation, "Outlook.com",
     "451 4.7.650 The mail server [192.0.2.1] has been temporarily rate limited due to IP "
     "reputation"},
    {rate, "Outlook.com", "421 RP-001 Unfortunately, some messages weren't sent"},
    {connections, "Outlook.com", "421 RP-003 exceeded the connection limit"},
    {session_spent, "Outlook.com", "421 exceeded the maximum number of messages per connection"},
    {reputation, "Outlook.com", "550 5.7.1 part of their network is on our block list (S3150)"},
    {reputation, "Outlook.com", "550 SC-002 Unfortunately"},
    {reputation, "Exchange Online", "451 4.7.550 Access denied, please try again later"},
    {reputation, "Exchange Online", "550 5.7.606 Access denied, banned sending IP [192.0.2.1]"},
    {recipient_rate, "Exchange Online",
     "432 4.3.2 STOREDRV.Deliver; recipient thread limit exceeded"},
    {recipient_rate, "Exchange Online",
     "550 5.2.121 Recipient's per hour message receive limit exceeded"},
    {rate, "Exchange Online",
     "550 5.7.508 Access denied, [192.0.2.1] has exceeded permitted limits within 1 hour range"},
    {authentication, "Exchange Online", "550 5.7.509 does not pass DMARC verification"},
    {authentication, "Exchange Online",
     "450 4.7.26 message sent over IPv6 must pass either SPF or DKIM"},
    {dns, "Exchange Online", "550 5.7.25 the sending IPv6 address must have a reverse DNS record"},
    {policy, "Exchange Online", "550 5.7.510 the domain does not accept email over IPv6"},
    {no_mailbox, "Exchange Online", "550 5.4.1 Recipient address rejected: Access denied"},
    {policy, "Exchange Online", "550 5.7.124 Sender not in allowed-senders list"},
    {connections, "Exchange",
     "421 4.3.2 The maximum number of concurrent connections has exceeded a limit"},
    {busy, "Exchange", "452 4.3.1 Insufficient system resources"},
    {busy, "Exchange", "421 4.3.2 Service not available"},
    {mailbox_full, "Exchange", "550 5.2.2 mailbox full"},
    {our_fault, "Exchange", "550 5.7.64 TenantAttribution; Relay Access Denied"},
    {reputation, "Yahoo", "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred"},
    {reputation, "Yahoo", "421 4.7.0 [IPTS05] Messages temporarily deferred"},
    {reputation, "Yahoo",
     "421 4.7.1 [TS03] All messages from 192.0.2.1 will be permanently deferred"},
    {rate, "Yahoo", "421 4.7.0 [TS01] Messages temporarily deferred due to unexpected volume"},
    {rate, "Yahoo", "421 4.7.0 [TS02] Messages temporarily deferred"},
    {rate, "Yahoo", "421 4.7.0 [TS03] Messages temporarily deferred"},
    {reputation, "Yahoo", "553 5.7.1 [BL21] Connections will not be accepted, listed at Spamhaus"},
    {session_spent, "Yahoo",
     "421 Max message per connection reached, closing transmission channel"},
    {policy, "Yahoo", "554 5.7.9 Message not accepted for policy reasons"},
    {authentication, "Yahoo", "550 5.7.9 This mail has been blocked because it is unauthenticated"},
    {dns, "Yahoo", "451 Message temporarily deferred: unresolvable RFC.5321 from domain"},
    {recipient_rate, "Yahoo", "450 User is receiving mail too quickly"},
    {no_mailbox, "Yahoo", "554 delivery error: dd This user doesn't have a yahoo.com account"},
    {rate, "AOL", "421 DYN:T1 Too many"},
    {reputation, "Yahoo.co.jp", "553 VS98-IP0 deferred"},
    {recipient_rate, "iCloud",
     "421 4.7.1 Message to a@icloud.example deferred due to excessive volume"},
    {rate, "iCloud", "451 [BS02] Message deferred"},
    {reputation, "iCloud", "421 [HCM1] Message from 192.0.2.1 was deferred"},
    {policy, "iCloud", "550 5.7.1 [CS01] Message rejected due to local policy"},
    {authentication, "iCloud", "554 5.7.1 [HME1] This message was blocked"},
    {reputation, "GMX", "450 Reject due to policy violations"},
    {connections, "GMX", "421 Too many connections"},
    {reputation, "GMX", "554 IP address is block listed"},
    {dns, "GMX", "554 Bad DNS PTR resource record"},
    {policy, "GMX", "554 Transaction failed, reject due to policy restrictions"},
    {authentication, "GMX", "550 Reject due to SPF policy"},
    {no_mailbox, "GMX", "550 Requested action not taken: mailbox unavailable"},
    {mailbox_full, "GMX", "552 Requested mail action aborted: exceeded storage allocation"},
    {reputation, "T-Online", "554 IP=192.0.2.1 - A problem occurred. (BL)"},
    {mailbox_full, "T-Online", "552 5.2.2 Over storage quota"},
    {policy, "T-Online", "550 Message rejected: spam or virus classification"},
    {connections, "Orange", "421 mwinf5c04 ME Trop de connexions, veuillez verifier. OFR004_104"},
    {rate, "Orange", "421 4.2.0 Service refuse. Veuillez essayer plus tard. OFR006_103"},
    {rate, "Orange", "421 OFR_999 try later"},
    {reputation, "Orange", "550 Adresse IP source bloquee pour incident de spam. OFR005_102"},
    {mailbox_full, "Orange", "552 5.1.1 Boite du destinataire pleine. OFR_417"},
    {no_mailbox, "Orange, Laposte",
     "550 5.1.1 Adresse d au moins un destinataire invalide. OFR_416"},
    {dns, "Orange, Laposte", "501 5.1.0 Emetteur invalide. OFR_405"},
    {rate, "Laposte", "450 4.7.1 LPN027_503 Service refuse"},
    {authentication, "Laposte", "571 5.7.1 LPN007_517 DMARC"},
    {reputation, "Free", "451 Too many errors from your IP (192.0.2.1)"},
    {connections, "Comcast", "421 Too many sessions opened"},
    {rate, "Comcast", "421 4.1.0 192.0.2.1 Throttled - try again later"},
    {dns, "Comcast", "421 Reverse DNS failure: try again later"},
    {reputation, "Comcast", "554 BL000010 Blocked"},
    {connections, "Spectrum", "421 AUP#I-1310"},
    {rate, "Spectrum", "550 AUP#I-1380"},
    {session_spent, "Spectrum", "421 AUP#I-1540"},
    {recipients, "Spectrum", "452 AUP#I-1550"},
    {policy, "Spectrum", "554 AUP#I-1260"},
    {connections, "Cox, GoDaddy", "421 IB007 max concurrent sessions"},
    {reputation, "Cox, GoDaddy", "554 IB105 connection refused"},
    {reputation, "AT&T", "553 5.3.0 DNSBL:RBL 521< 192.0.2.1 >_is_blocked."},
    {rate, "Mail.ru", "451 Ratelimit exceeded for 192.0.2.1"},
    {policy, "Mail.ru", "550 spam message rejected"},
    {no_mailbox, "Mail.ru", "550 Message was not accepted -- invalid mailbox"},
    {busy, "Yandex",
     "451 4.7.1 Sorry, the service is currently unavailable. Please come back later."},
    {rate, "QQ", "550 Ip frequency limited"},
    {policy, "QQ", "550 Mail content denied"},
    {connections, "163", "421 HL:ICC 163 smtp8"},
    {rate, "163", "421 HL:IFC 163"},
    {reputation, "163", "421 HL:REP 163"},
    {session_spent, "163", "451 MI:DMC 163"},
    {recipients, "163", "451 RP:DRC 163"},
    {recipient_rate, "163", "451 MI:SFQ 163"},
    {greylisted, "163", "451 DT:SPM 163, please try again"},
    {policy, "163", "554 DT:SPM 163"},
    {rate, "163", "550 RP:ORQ 163"},
    {policy, "Zoho", "541 5.4.1 Mail rejected by destination domain"},
    {policy, "Zoho", "452 Policy error"},
    {greylisted, "Mimecast", "451 Internal resources are temporarily unavailable"},
    {connections, "Mimecast", "451 Account service is temporarily unavailable"},
    {rate, "Mimecast", "451 IP temporarily blacklisted"},
    {busy, "Mimecast", "451 Unable to process connection at this time"},
    {recipients, "Mimecast", "452 Too many recipients"},
    {reputation, "Mimecast", "550 Rejected by header based Anti-Spoofing: poor reputation sender"},
    {authentication, "Mimecast", "550 SPF Sender Invalid - envelope rejected"},
    {tls, "Mimecast", "553 The route requires encryption (TLS)"},
    {reputation, "Proofpoint",
     "554 5.7.0 Blocked - see https://ipcheck.proofpoint.com/?ip=192.0.2.1"},
    {rate, "Barracuda", "450 too many connections from host: Rate Control"},
    {rate, "Barracuda", "550 Rate Control"},
    {reputation, "Barracuda",
     "550 permanent failure for one or more recipients (a@b.example:blocked)"},
    {greylisted, "postscreen", "450 4.3.2 Service currently unavailable"},
    {busy, "postscreen", "421 4.3.2 All server ports are busy"},
    {connections, "Postfix", "421 4.7.0 mx Error: too many new TLS sessions from 192.0.2.1"},
    {rate, "Postfix", "450 4.7.1 Error: too much mail from 192.0.2.1"},
    {dns, "Postfix", "450 4.7.25 Client host rejected: cannot find your hostname"},
    {busy, "Postfix", "452 4.3.1 Insufficient system storage"},
    {tls, "Postfix", "454 4.7.0 TLS not available due to local problem"},
    {our_fault, "Postfix", "521 5.5.1 Protocol error"},
    {greylisted, "postgrey",
     "450 4.2.0 Recipient address rejected: Greylisted, see http://postgrey.example"},
    {greylisted, "milter-greylist",
     "451 4.7.1 Greylisting in action, please come back in 00:04:59"},
    {greylisted, "Rspamd", "451 4.7.1 Try again later"},
    {recipient_rate, "Rspamd", "451 4.7.1 Ratelimit \"to\" exceeded"},
    {greylisted, "OpenBSD spamd", "451 Temporary failure, please try again later."},
    {greylisted, "Plesk", "451 4.7.1 Service unavailable - try again later"},
    {connections, "Exim", "421 Too many concurrent SMTP connections; please try again later"},
    {session_spent, "Exim", "421 Too many messages in this connection"},
    {busy, "Exim", "421 Too much load; please try again later."},
    {busy, "Exim", "451 Temporary local problem - please try later"},
    {our_fault, "Exim", "554 SMTP synchronization error"},
    {connections, "Sendmail", "421 4.3.2 Connection rate limit exceeded."},
    {busy, "qmail", "451 qq temporary problem (#4.3.0)"},
    {our_fault, "qmail", "553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)"},
    {session_spent, "OpenSMTPD", "452 Too many messages sent"},
    {busy, "OpenSMTPD", "421 Temporary Error"},
    {protocol, "OpenSMTPD", "500 Pipelining not supported"},
    {busy, "Haraka", "421 Too busy at present"},
    {recipients, "Haraka", "450 split transaction for processing, retry soon"},
    {greylisted, "Stalwart, cPanel, SmarterMail",
     "422 Greylisted, please try again in 180 seconds"},
    {connections, "any", "421 Too many concurrent SMTP connections from this IP"},
    {connections, "common", "421 4.7.0 mx.example too many concurrent connections"},
    {connections, "common", "421 Too many simultaneous sessions, closing"},
    {connections, "common", "450 4.4.5 connection limit reached"},
    {rate, "common", "451 4.7.1 rate limit exceeded"},
    {rate, "common", "450 4.7.1 you are sending too fast, slow down"},
    {rate, "common", "451 4.7.0 Too many messages from 192.0.2.1, try again in 60 seconds"},
    {rate, "common", "452 100 messages per hour are allowed"},
    {session_spent, "common", "421 4.7.0 20 messages per connection and no more"},
    {rate, "any", "451 reached the limit for processing requests from your host"},
};

TEST_CASE("replies: each known wording has its class", "[reply_class]") {
  for (const Known& known : kKnown) {
    CAPTURE(known.line);
    const auto found = meaning(known.line);
    CHECK(std::string(name(found.klass)) == name(known.klass));
    CHECK(found.who == known.who);
  }
}

TEST_CASE("replies: every row of the table is reached by a reply", "[reply_class]") {
  std::set<std::string> seen;
  for (const Known& known : kKnown)
    seen.insert(known.who);
  for (const ReplyRow& row : reply_rows()) {
    CAPTURE(row.who, row.text);
    CHECK(seen.count(std::string(row.who)) == 1);
    CHECK(!row.source.empty());
    CHECK(!row.codes.empty());
    CHECK(!row.text.empty());
  }
}

TEST_CASE("replies: a refusal with 4 is never a bounce", "[reply_class]") {
  for (const Known& known : kKnown) {
    CAPTURE(known.line);
    const auto found = meaning(known.line);
    if (known.line[0] == '4')
      CHECK(!found.bounce);
    else
      CHECK((found.bounce || found.kept || found.klass == recipients));
  }
}

TEST_CASE("replies: the same words of two providers", "[reply_class]") {
  const auto* line = "451 4.7.1 Service unavailable - try again later";
  CHECK(meaning(line, Stage::rcpt, "mx01.mail.icloud.com.").klass == rate);
  CHECK(meaning(line, Stage::rcpt, "MX01.mail.iCloud.COM").suspend_after == 5);
  CHECK(meaning(line, Stage::rcpt, "mail.example.org").klass == greylisted);
  CHECK(meaning(line, Stage::rcpt, "noticloud.com").klass == greylisted);
}

TEST_CASE("replies: before MAIL nothing bounces", "[reply_class]") {
  const auto* blocked = "554 IP=192.0.2.1 - None/bad reputation";
  CHECK(meaning(blocked, Stage::greeting).kept);
  CHECK(meaning(blocked, Stage::greeting).suspend == std::chrono::hours(4));
  CHECK(!meaning(blocked, Stage::greeting).bounce);
  CHECK(meaning(blocked, Stage::rcpt).bounce);
  CHECK(!meaning("554 go away", Stage::greeting).bounce);
  CHECK(meaning("421 reject due to policy restrictions", Stage::greeting).rate_per_minute == 1);
}

TEST_CASE("replies: what is to be done", "[reply_class]") {
  const auto gmail = meaning("421 4.7.0 an unusual rate of unsolicited mail");
  CHECK(gmail.suspend == std::chrono::minutes(30));
  CHECK(gmail.suspend_after == 3);
  CHECK(gmail.limits_rate);
  const auto yahoo = meaning("421 4.7.1 [TS03] permanently deferred");
  CHECK(yahoo.give_up_after == std::chrono::hours(24));
  CHECK(yahoo.alarm);
  const auto family = meaning("550 5.7.510 does not accept email over IPv6");
  CHECK(family.try_other_family);
  CHECK(family.bounce);
  const auto qq = meaning("550 ip frequency limited");
  CHECK(qq.kept);
  CHECK(qq.most_tries == 6);
}

TEST_CASE("replies: by enhanced code, then by code", "[reply_class]") {
  CHECK(meaning("450 4.2.2 x").klass == mailbox_full);
  CHECK(meaning("550 5.1.1 x").klass == no_mailbox);
  CHECK(meaning("550 5.1.8 x").klass == dns);
  CHECK(meaning("451 4.4.5 x").klass == connections);
  CHECK(meaning("452 4.5.3 x").klass == recipients);
  CHECK(!meaning("552 5.5.3 x").bounce);
  CHECK(meaning("450 4.7.25 x").klass == dns);
  CHECK(meaning("421 4.7.28 x").limits_rate);
  CHECK(meaning("421 x").klass == busy);
  CHECK(meaning("452 x").klass == mailbox_full);
  CHECK(meaning("454 x").klass == tls);
  CHECK(meaning("550 x").klass == policy);
  CHECK(meaning("550 x").bounce);
  CHECK(classify(Stage::rcpt, reply_of("450 x"), "", true).klass == greylisted);
  CHECK(meaning("450 x").klass == policy);
  CHECK(meaning("450 4.7.1 <x@y>: Recipient address rejected: come later").klass == policy);
  CHECK(meaning("450 Requested mail action not taken: mailbox unavailable").klass == policy);
  CHECK(meaning("450 4.2.2 x").klass == mailbox_full);
  CHECK(meaning("450 <x@y>: user is over quota").klass == mailbox_full);
  CHECK(meaning("452 x").klass == mailbox_full);
  CHECK(classify(Stage::rcpt, reply_of("451 4.7.1 x"), "", true).klass == greylisted);
  CHECK(meaning("451 4.7.1 x").klass == policy);
}

TEST_CASE("replies: common words are a provider's own from its hosts only", "[reply_class]") {
  const auto line = "421 4.7.0 Too many messages from your IP";
  CHECK(meaning(line, Stage::greeting, "mx00.gmx.net").suspend_after == 3);
  CHECK(meaning(line, Stage::greeting, "mx.example.org").suspend == Duration(0));
  CHECK(meaning(line, Stage::greeting, "mx.example.org").limits_rate);
}

TEST_CASE("replies: the first digit of the reply outweighs the enhanced code's", "[reply_class]") {
  const auto found = meaning("450 5.7.28 an unusual rate of unsolicited mail");
  CHECK(!found.bounce);
}

TEST_CASE("replies: odd input", "[reply_class]") {
  mail::Reply reply;
  reply.code = 599;
  CHECK(classify(Stage::rcpt, reply, "", false).bounce);
  reply.code = 421;
  reply.text = std::string(100'000, '*') + "\n\n[TSS04";
  CHECK(classify(Stage::rcpt, reply, "...", false).klass == busy);
  reply.text = "Messages\n[TSS04]\nfrom 192.0.2.1";
  reply.enhanced = {4, 7, 0};
  CHECK(classify(Stage::rcpt, reply, "", false).klass == reputation);
}

TEST_CASE("replies: none at all", "[reply_class]") {
  CHECK(classify_failure(Stage::connect).klass == network);
  CHECK(classify_failure(Stage::starttls).klass == tls);
  CHECK(classify_failure(Stage::route).klass == dns);
  CHECK(!classify_failure(Stage::body_end).bounce);
  CHECK(classify_failure(Stage::connect, {4, 4, 1}).klass == network);
  CHECK(classify_failure(Stage::body, {4, 3, 1}).klass == busy);  // this machine lacks memory
}

TEST_CASE("trouble of this machine is not of the network", "[delivery][scheduler]") {
  const std::pair<mail::EnhancedCode, ReplyClass> kRows[] = {
      {{4, 2, 2}, mailbox_full},  // the quota, or the disk of the mailbox
      {{4, 2, 0}, busy},          // a mailbox that is locked
      {{4, 3, 0}, busy},          // a command that could not do it now
      {{4, 3, 2}, busy},          // one that was ended because we stop
      {{4, 3, 5}, our_fault},     // a command that is not there, a list that cannot be used
      {{4, 4, 6}, our_fault},     // aliases in a circle
      {{4, 5, 3}, our_fault},     // too many addresses behind one
      {{4, 7, 1}, busy},         {{}, busy},
  };
  for (const auto& [status, klass] : kRows) {
    INFO(mail::to_string(status));
    CHECK(classify_failure(Stage::local, status).klass == klass);
  }
}

}  // namespace
}  // namespace postrider::scheduler
