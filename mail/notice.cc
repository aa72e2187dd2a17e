#include "mail/notice.h"

#include "base/assert.h"
#include "base/text.h"
#include "mail/address.h"
#include "mail/convert.h"
#include "mail/delivery_wishes.h"
#include "mail/header.h"
#include "mail/notice_text.h"
#include "mail/smtp_command.h"

#include <algorithm>

namespace postrider::mail {

namespace {

constexpr std::size_t kMostQuoted = 50000;
// A remote chooses how much it says to each of thousands of recipients, and the sender, who may be
// somebody else, gets all of it: no more of a reply is quoted,
constexpr std::size_t kMostReason = 1000;
// and behind that much of a part, of every further recipient only what has to be there.
constexpr std::size_t kMostForPeople = 256U << 10U;
constexpr std::size_t kMostForPrograms = 768U << 10U;

struct KindText {
  NoticeKind kind;
  const char* subject;
  const char* description;  // of the third part
  const char* introduction;
};

// In the order of NoticeKind.
constexpr KindText kKinds[] = {
    {NoticeKind::failure, "Undelivered mail returned to sender", "Undelivered message",
     "Your message could not be delivered to the recipients below, and no further attempt will be "
     "made for them. The reason given by each of their mail systems follows. If you need help, "
     "send this report to your postmaster."},
    {NoticeKind::delay, "Delayed mail (still being tried)", "Delayed message",
     "Your message has not been delivered yet to the recipients below. You need not send it again: "
     "it is kept here and tried again until it is delivered or its time has passed."},
    {NoticeKind::success, "Successful mail delivery report", "Delivered message",
     "As you asked, this reports what became of your message for the recipients below."},
};

// For the postmaster, about a report that nobody else can be told of.
constexpr KindText kDoubleBounce = {
    NoticeKind::failure, "Undeliverable report (double bounce)", "Undeliverable report",
    "A report could not be delivered to the recipients below. It has no sender who could be told, "
    "so it comes to you. Often its recipient is the forged sender of unwanted mail."};

bool is_double_bounce(const NoticeInput& input) {
  return input.kind == NoticeKind::failure && input.original->envelope.sender.empty();
}

const KindText& text_for(const NoticeInput& input) {
  return is_double_bounce(input) ? kDoubleBounce : kKinds[static_cast<std::size_t>(input.kind)];
}

// RFC 6533 §3: the report may hold UTF-8 if the message was submitted with SMTPUTF8, and does so
// when something in it needs that.
bool uses_utf8(const NoticeInput& input) {
  if (!input.original->envelope.smtputf8)
    return false;
  bool needed = !is_ascii(input.to) || input.original->content.has_8bit_header;
  for (const auto& one : input.recipients)
    needed = needed || !is_ascii(one.recipient.address) ||
             !is_ascii(one.recipient.original_recipient) || !is_ascii(one.outcome.reply.text);
  return needed;
}

// What is quoted of the original, ready to stand in a report.
struct Quote {
  std::string text;
  bool full = false;
  bool eight_bit = false;
};

bool may_return_all(const NoticeInput& input, bool utf8) {
  const auto& content = input.original->content;
  const auto size = content.trace.size() + input.original_text.size();
  // RFC 3461 §6.2: RET is about failures; other reports never need the body. A binary message or
  // one with endless lines has no form inside a report, and one with an 8-bit header has none that
  // every hop can take.
  // RFC 8689 §5: nor does what had to travel under TLS come back whole.
  return input.kind == NoticeKind::failure && input.original->envelope.ret != Return::headers &&
         input.original->envelope.tls != TlsWish::required &&
         input.original->envelope.body != BodyType::binary_mime && input.original_complete &&
         size <= kMostQuoted && content.longest_line <= notice::kMostLine &&
         (utf8 || !content.has_8bit_header);
}

// Headers alone, or all of it.
Quote make_quote(const NoticeInput& input, bool full) {
  Quote quote;
  quote.full = full;
  std::string raw = input.original->content.trace;
  raw.append(input.original_text);
  if (!quote.full)
    raw.resize(std::min(header_section_size(raw), kMostQuoted));
  quote.text = notice::clean_quote(raw);
  if (!quote.full && quote.text.ends_with("\r\n\r\n"))
    quote.text.resize(quote.text.size() - 2);
  quote.eight_bit = !is_ascii(quote.text);
  return quote;
}

void append_headers(const NoticeInput& input, bool utf8, bool eight_bit, std::string& out) {
  const auto host = notice::one_line(input.reporting_mta, false);
  std::string to = notice::one_line(input.to, utf8);
  if (domain_of(to).empty())
    to.append(1, '@').append(host);
  out.append("Date: ").append(format_date(input.now));
  out.append("\r\nFrom: Mail Delivery System <MAILER-DAEMON@").append(host);
  out.append(">\r\nTo: <").append(to);
  out.append(">\r\nSubject: ").append(text_for(input).subject);
  out.append("\r\nMessage-ID: ").append(make_message_id(input.id, host));
  if (is_double_bounce(input))
    out.append("\r\n").append(kDoubleBounceMark);
  out.append("\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n");
  out.append("Content-Type: multipart/report; report-type=");
  out.append(utf8 ? "global-delivery-status" : "delivery-status");
  out.append(";\r\n\tboundary=\"").append(input.boundary).append("\"\r\n");
  if (eight_bit)
    out.append("Content-Transfer-Encoding: 8bit\r\n");
  out.append("\r\nThis is a report about a message, in MIME format.\r\n");
}

void open_part(const NoticeInput& input, const char* description, const char* type, bool eight_bit,
               std::string& out) {
  out.append("\r\n--").append(input.boundary);
  out.append("\r\nContent-Description: ").append(description);
  out.append("\r\nContent-Type: ").append(type).append("\r\n");
  if (eight_bit)
    out.append("Content-Transfer-Encoding: 8bit\r\n");
  out.append("\r\n");
}

// The beginning of what was said; more never helps a person.
Outcome brief(Outcome outcome) {
  outcome.reply.text = notice::beginning(outcome.reply.text, kMostReason);
  outcome.text = notice::beginning(outcome.text, kMostReason);
  return outcome;
}

std::string explanation(const NoticeInput& input, const NoticeRecipient& one) {
  const std::string_view action = one.action;
  if (input.kind != NoticeKind::success)
    return brief(one.outcome).reason();
  if (action == "relayed")
    return one.outcome.relayed_to_non_dsn
               ? "passed on to a mail system that sends no reports; you may hear no more of it"
               : "passed on to another mail system";
  if (action == "expanded")
    return "passed on to the members of a list or alias";
  return "delivered";
}

// A text in UTF-8 needs no more than MIME to be read by the sender; only the report for programs
// needs RFC 6533 for it.
bool has_utf8_reason(const NoticeInput& input) {
  return std::any_of(input.recipients.begin(), input.recipients.end(), [&](const auto& one) {
    const auto why = explanation(input, one);
    return !is_ascii(why) && is_utf8(why);
  });
}

// How many are only counted behind those that had room.
void append_more_recipients(std::size_t count, std::string& out) {
  out.append("\r\n");
  notice::append_wrapped(
      "The same happened to " + std::to_string(count) +
          (count == 1 ? " further recipient; it is" : " further recipients; they are") +
          " listed in the delivery report below.",
      "", out);
}

bool will_be_tried(const NoticeInput& input, const NoticeRecipient& one) {
  return input.kind == NoticeKind::delay && one.will_retry_until != TimePoint();
}

void append_part_for_people(const NoticeInput& input, bool utf8, std::string& out) {
  open_part(input, "Notification",
            utf8 ? "text/plain; charset=utf-8" : "text/plain; charset=us-ascii", utf8, out);
  notice::append_wrapped(
      "This is the mail system at " + notice::one_line(input.reporting_mta, false) + ".", "", out);
  out.append("\r\n");
  notice::append_wrapped(text_for(input).introduction, "", out);
  const auto most = out.size() + kMostForPeople;
  for (std::size_t i = 0; i < input.recipients.size(); ++i) {
    if (out.size() >= most)
      return append_more_recipients(input.recipients.size() - i, out);
    const auto& one = input.recipients[i];
    out.append("\r\n");
    const auto address = notice::one_line(one.recipient.address, utf8);
    const auto why = notice::one_line(explanation(input, one), utf8);
    notice::append_wrapped("<" + address + ">: " + why, "    ", out);
    if (will_be_tried(input, one))
      notice::append_wrapped("    It is tried until " + format_date(one.will_retry_until) + ".",
                             "    ", out);
  }
}

void append_field(const char* name, std::string_view value, std::string& out) {
  notice::append_wrapped(std::string(name).append(": ").append(value), "    ", out);
}

void append_message_fields(const NoticeInput& input, bool utf8, std::string& out) {
  const auto& original = *input.original;
  append_field("Reporting-MTA", "dns; " + notice::one_line(input.reporting_mta, false), out);
  append_field("X-Postrider-Queue-ID", to_string(original.id), out);
  if (!original.envelope.sender.empty())
    append_field("X-Postrider-Sender", notice::typed_address(original.envelope.sender, utf8), out);
  if (const auto id = decode_xtext(original.envelope.envelope_id); id && !id->empty())
    append_field("Original-Envelope-Id", notice::one_line(*id, false), out);
  append_field("Arrival-Date", format_date(original.received), out);
  if (const auto& by = original.envelope.deliver_by)
    append_field("Deliver-By-Date", format_date(by->time), out);  // RFC 2852 §5
  if (original.envelope.release > TimePoint())                    // RFC 4865 §5
    append_field("Future-Release-Request", "until;" + format_date_time(original.envelope.release),
                 out);
}

// What the remote said, or else what we say; RFC 3464 §2.3.6.
std::string diagnostic(const Outcome& whole, bool utf8) {
  const auto outcome = brief(whole);
  if (outcome.reply.code != 0)
    return "smtp; " + notice::one_line(outcome.reply.str(), utf8);
  return outcome.text.empty() ? std::string()
                              : "x-postrider; " + notice::one_line(outcome.text, utf8);
}

std::string status_of(const NoticeInput& input, const Outcome& outcome) {
  if (outcome.status)
    return to_string(outcome.status);
  constexpr const char* kUnspecified[] = {"5.0.0", "4.0.0", "2.0.0"};
  return kUnspecified[static_cast<std::size_t>(input.kind)];
}

// RFC 3464 §2.3: a final recipient, its action and its status have to be there of each; RFC 3461
// §6.3 (c): the original recipient too, if the sender gave it.
void append_required_fields(const NoticeInput& input, const NoticeRecipient& one, bool utf8,
                            std::string& out) {
  out.append("\r\n");
  if (!one.recipient.original_recipient.empty())
    append_field("Original-Recipient",
                 notice::original_recipient(one.recipient.original_recipient, utf8), out);
  append_field("Final-Recipient", notice::typed_address(one.recipient.address, utf8), out);
  append_field("Action", one.action, out);
  append_field("Status", status_of(input, one.outcome), out);
}

void append_further_fields(const NoticeInput& input, const NoticeRecipient& one, bool utf8,
                           std::string& out) {
  if (const auto host = notice::remote_host(one.outcome.remote); !host.empty())
    append_field("Remote-MTA", "dns; " + host, out);
  if (const auto code = diagnostic(one.outcome, utf8); !code.empty())
    append_field("Diagnostic-Code", code, out);
  if (one.last_attempt != TimePoint())
    append_field("Last-Attempt-Date", format_date(one.last_attempt), out);
  if (will_be_tried(input, one))
    append_field("Will-Retry-Until", format_date(one.will_retry_until), out);
}

void append_recipients(const NoticeInput& input, bool utf8, std::string& out) {
  const auto most = out.size() + kMostForPrograms;
  for (const auto& one : input.recipients) {
    append_required_fields(input, one, utf8, out);
    if (out.size() < most)
      append_further_fields(input, one, utf8, out);
  }
}

const char* quote_type(const Quote& quote, bool utf8) {
  if (quote.full)
    return utf8 ? "message/global" : "message/rfc822";
  return utf8 ? "message/global-headers" : "text/rfc822-headers";
}

}  // namespace

bool is_about_double_bounces(std::string_view text) {
  const std::string_view mark = kDoubleBounceMark;
  const auto colon = mark.find(':');
  HeaderScanner scanner(text);
  for (HeaderField field; scanner.next(field);)
    if (equals_ignoring_case(field.name, mark.substr(0, colon)) &&
        equals_ignoring_case(trim(field.value), mark.substr(colon + 2)))
      return true;
  return false;
}

namespace {

std::string compose(const NoticeInput& input, bool utf8, const Quote& quote) {
  const bool utf8_reasons = utf8 || has_utf8_reason(input);
  std::string out;
  out.reserve(4096 + quote.text.size());
  append_headers(input, utf8, utf8_reasons || quote.eight_bit, out);
  append_part_for_people(input, utf8_reasons, out);
  open_part(input, "Delivery report",
            utf8 ? "message/global-delivery-status" : "message/delivery-status", utf8, out);
  append_message_fields(input, utf8, out);
  append_recipients(input, utf8, out);
  open_part(input, text_for(input).description, quote_type(quote, utf8), quote.eight_bit, out);
  out.append(quote.text);
  return out.append("\r\n--").append(input.boundary).append("--\r\n");
}

// Signed mail and broken structures have no form in 7 bits: quoted whole, they would meet at a hop
// without 8BITMIME what the original met there.
bool is_for_every_hop(const std::string& notice) {
  return is_ascii(notice) || to_seven_bit(notice, false).has_value();
}

}  // namespace

std::string compose_notice(const NoticeInput& input) {
  POSTRIDER_ASSERT(input.original != nullptr && !input.recipients.empty());
  const bool utf8 = uses_utf8(input);
  if (may_return_all(input, utf8))
    if (auto whole = compose(input, utf8, make_quote(input, true)); is_for_every_hop(whole))
      return whole;
  return compose(input, utf8, make_quote(input, false));
}

namespace {

// The value of a boundary parameter as append_headers() writes it.
std::string_view boundary_of(std::string_view text) {
  constexpr std::string_view kBefore = ";\r\n\tboundary=\"";
  const auto header = text.substr(0, header_section_size(text));
  const auto at = header.find(kBefore);
  if (at == header.npos)
    return {};
  const auto value = header.substr(at + kBefore.size());
  return value.substr(0, value.find('"'));
}

}  // namespace

std::optional<std::string> without_body(std::string_view text) {
  const auto boundary = boundary_of(text);
  const auto opening = "\r\n--" + std::string(boundary) + "\r\nContent-Description: ";
  // The third part is ours to find: what the quote holds cannot have our boundary.
  const auto part = text.rfind(opening);
  if (boundary.empty() || part == text.npos)
    return std::nullopt;
  const auto begin = text.find("\r\n\r\n", part + opening.size());
  if (begin == text.npos)
    return std::nullopt;
  std::string head(text.substr(0, begin + 4));
  bool is_full = false;
  for (const auto& [full, headers] :
       {std::pair<std::string_view, std::string_view>{"message/rfc822", "text/rfc822-headers"},
        {"message/global", "message/global-headers"}}) {
    const auto type = "\r\nContent-Type: " + std::string(full) + "\r\n";
    const auto at = head.find(type, part + opening.size());
    if (at == head.npos)
      continue;
    is_full = true;
    head.replace(at, type.size(), "\r\nContent-Type: " + std::string(headers) + "\r\n");
  }
  if (!is_full)
    return std::nullopt;
  auto quoted = text.substr(begin + 4);
  quoted = quoted.substr(0, header_section_size(quoted));
  if (quoted.ends_with("\r\n\r\n"))
    quoted.remove_suffix(2);
  return head.append(quoted).append("\r\n--").append(boundary).append("--\r\n");
}

namespace {

std::uint32_t longest_line(std::string_view text) {
  std::size_t longest = 0;
  for (const auto line : split(text, '\n'))
    longest = std::max(longest, line.size());
  return static_cast<std::uint32_t>(longest);
}

}  // namespace

std::shared_ptr<const Message> notice_message(std::string text, MessageId id, std::string to,
                                              TimePoint now, TlsWish tls, std::int8_t priority) {
  auto message = std::make_shared<Message>();
  message->id = id;
  message->received = now;
  message->envelope.smtputf8 = !is_ascii(to);
  if (tls == TlsWish::required)
    message->envelope.tls = tls;
  message->envelope.priority = priority;
  message->envelope.recipients.push_back({std::move(to), {}, {}});
  message->origin.protocol = kNoticeProtocol;
  auto& content = message->content;
  content.size = text.size();
  content.has_8bit = !is_ascii(text);
  content.has_8bit_header = !is_ascii(std::string_view(text).substr(0, header_section_size(text)));
  if (content.has_8bit)
    message->envelope.body = BodyType::eight_bit_mime;
  content.longest_line = longest_line(text);
  content.ends_with_crlf = text.ends_with("\r\n");
  content.bytes = std::make_shared<const std::string>(std::move(text));
  return message;
}

}  // namespace postrider::mail
