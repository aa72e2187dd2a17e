#include "delivery/smtp/compatibility.h"

#include "base/text.h"
#include "delivery/job/job_outcome.h"
#include "mail/address.h"
#include "mail/delivery_wishes.h"

#include <algorithm>

namespace postrider::delivery {

namespace {

using mail::BodyType;
using mail::EnhancedCode;
using mail::Message;
using mail::Return;

constexpr std::size_t kMostMechanisms = 32;
constexpr std::int64_t kMostBy = 999'999'999;  // seconds, nine digits (RFC 2852 §4)

void read_limits(const std::vector<std::string_view>& words, Capabilities& found) {
  const auto number = [](std::string_view text) {
    return static_cast<std::uint32_t>(
        std::min<std::uint64_t>(parse_unsigned(text).value_or(0), 1000000));
  };
  for (const auto word : words) {
    if (starts_with_ignoring_case(word, "RCPTMAX="))
      found.most_recipients = number(word.substr(8));
    else if (starts_with_ignoring_case(word, "MAILMAX="))
      found.most_messages = number(word.substr(8));
  }
}

// RFC 2852 §3: the first of the options, separated by commas, is the least time.
std::uint32_t least_by(const std::vector<std::string_view>& words) {
  const auto option = words.size() > 1 ? split(words[1], ',').front() : std::string_view();
  return static_cast<std::uint32_t>(
      std::min<std::uint64_t>(parse_unsigned(option).value_or(0), kMostBy));
}

void read_keyword(std::string_view line, Capabilities& found) {
  const auto words = split(line, ' ');
  const auto is = [&](std::string_view name) { return equals_ignoring_case(words.front(), name); };
  if (is("PIPELINING")) {
    found.pipelining = true;
  } else if (is("CHUNKING")) {
    found.chunking = true;
  } else if (is("BINARYMIME")) {
    found.binary_mime = true;
  } else if (is("8BITMIME")) {
    found.eight_bit_mime = true;
  } else if (is("SMTPUTF8")) {
    found.smtputf8 = true;
  } else if (is("DSN")) {
    found.dsn = true;
  } else if (is("REQUIRETLS")) {
    found.require_tls = true;
  } else if (is("DELIVERBY")) {
    found.deliver_by = true;
    found.least_by = least_by(words);
  } else if (is("MT-PRIORITY")) {
    found.priorities = true;
  } else if (is("STARTTLS")) {
    found.starttls = true;
  } else if (starts_with_ignoring_case(words.front(), "AUTH=")) {  // before RFC 2554
    if (words.front().size() > 5 && found.auth.size() < kMostMechanisms)
      found.auth.emplace_back(words.front().substr(5));
    for (std::size_t i = 1; i < words.size() && found.auth.size() < kMostMechanisms; ++i)
      if (!words[i].empty())
        found.auth.emplace_back(words[i]);
  } else if (is("AUTH")) {
    for (std::size_t i = 1; i < words.size() && found.auth.size() < kMostMechanisms; ++i)
      if (!words[i].empty())
        found.auth.emplace_back(words[i]);
  } else if (is("SIZE")) {
    found.size = true;
    found.size_limit = words.size() > 1 ? parse_unsigned(words[1]).value_or(0) : 0;
  } else if (is("LIMITS")) {
    read_limits(words, found);
  }
}

bool is_ascii_address(std::string_view address) {
  return is_ascii(mail::local_part_of(address));
}

// RFC 6531 §3.2: what cannot be said without SMTPUTF8. A domain alone can: as A-labels.
bool needs_utf8(const Message& message, const std::vector<std::uint32_t>& recipients) {
  if (message.content.has_8bit_header && message.envelope.smtputf8)
    return true;
  if (!is_ascii_address(message.envelope.sender))
    return true;
  for (const auto index : recipients)
    if (!is_ascii_address(message.envelope.recipients[index].address))
      return true;
  return false;
}

// Our own database counts as hostile (attacks.md I11): no address may end the command line.
bool is_sendable(std::string_view address) {
  return std::none_of(address.begin(), address.end(),
                      [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

bool are_sendable(const Message& message, const std::vector<std::uint32_t>& recipients) {
  const auto& envelope = message.envelope;
  if (!is_sendable(envelope.sender) || !is_sendable(envelope.envelope_id))
    return false;
  return std::all_of(recipients.begin(), recipients.end(), [&](std::uint32_t index) {
    const auto& recipient = envelope.recipients[index];
    return is_sendable(recipient.address) && is_sendable(recipient.original_recipient);
  });
}

void append_address(std::string_view address, bool utf8, std::string& out) {
  out.push_back('<');
  if (utf8 || is_ascii(address)) {
    out.append(address);
  } else {
    out.append(mail::local_part_of(address)).append("@");
    out.append(mail::domain_of(address));
  }
  out.push_back('>');
}

const char* body_parameter(const Message& message, const Capabilities& capabilities,
                           bool converted) {
  if (converted)
    return "";
  if (message.envelope.body == BodyType::binary_mime)
    return capabilities.binary_mime ? " BODY=BINARYMIME" : "";
  const bool eight = message.content.has_8bit || message.envelope.body == BodyType::eight_bit_mime;
  return eight && capabilities.eight_bit_mime ? " BODY=8BITMIME" : "";
}

Compatibility refused(EnhancedCode status, std::string text, const std::string& remote) {
  Compatibility fitting;
  fitting.kind = Compatibility::Kind::refused;
  fitting.refusal = decide(mail::Verdict::bounce, mail::Stage::mail, status,
                           std::move(text) + " (" + remote + ")");
  fitting.refusal.remote = remote;
  return fitting;
}

// What is left of the time; below 0: it is over.
std::int64_t seconds_left(const mail::DeliverBy& by, TimePoint now) {
  const auto left = std::chrono::floor<std::chrono::seconds>(by.time - now).count();
  return std::clamp<std::int64_t>(left, -kMostBy, kMostBy);
}

// RFC 2852 §4.1.4: mode R must not be passed on to a host that might deliver too late. A mailbox is
// the end of the way.
Compatibility fit_by(const mail::DeliverBy& by, const Capabilities& capabilities,
                     const std::string& remote, TimePoint now) {
  constexpr EnhancedCode kTimeExpired{5, 4, 7};
  const auto left = seconds_left(by, now);
  if (left <= 0)
    return refused(kTimeExpired,
                   "the message was to be delivered by " + mail::format_date_time(by.time), remote);
  if (capabilities.is_mailbox || (capabilities.deliver_by && left >= capabilities.least_by))
    return {};
  auto fitting = refused(
      kTimeExpired,
      capabilities.deliver_by
          ? "the remote host does not deliver within the " + std::to_string(left) +
                " seconds that are left"
          : std::string("the remote host does not offer DELIVERBY, which the sender asked for"),
      remote);
  fitting.is_of_host = true;
  return fitting;
}

}  // namespace

Capabilities parse_capabilities(const mail::Reply& reply) {
  Capabilities found;
  const auto lines = split(reply.text, '\n');
  for (std::size_t i = 1; i < lines.size(); ++i)  // the first line is the greeting
    read_keyword(trim(lines[i]), found);
  return found;
}

Compatibility fit(const Message& message, const std::vector<std::uint32_t>& recipients,
                  const Capabilities& capabilities, bool converted, const std::string& remote,
                  TimePoint now) {
  const auto& content = message.content;
  if (!are_sendable(message, recipients))
    return refused({5, 1, 3}, "an address holds characters that cannot be sent", remote);
  const auto size = content.trace.size() + content.size;
  if (capabilities.size_limit > 0 && size > capabilities.size_limit)
    return refused({5, 3, 4},
                   "message size " + std::to_string(size) + " exceeds the limit of " +
                       std::to_string(capabilities.size_limit) + " octets of the remote host",
                   remote);
  if (!capabilities.smtputf8 && needs_utf8(message, recipients))
    return refused({5, 6, 7}, "the remote host does not offer SMTPUTF8, which is needed", remote);
  // RFC 8689 §4.2.1; §5: a notice is rather sent without it than lost.
  if (message.envelope.tls == mail::TlsWish::required && !capabilities.require_tls &&
      !capabilities.is_mailbox && !message.envelope.sender.empty()) {
    auto fitting =
        refused({5, 7, 30}, "the remote host does not offer REQUIRETLS, which the sender asked for",
                remote);
    fitting.is_of_host = true;
    return fitting;
  }
  if (const auto& by = message.envelope.deliver_by; by && by->returns)
    if (auto fitting = fit_by(*by, capabilities, remote, now);
        fitting.kind == Compatibility::Kind::refused)
      return fitting;
  if (converted)
    return {};
  Compatibility fitting;
  if (message.envelope.body == BodyType::binary_mime) {
    if (!capabilities.binary_mime || !capabilities.chunking)
      fitting.kind = Compatibility::Kind::needs_seven_bit;
  } else if (content.has_8bit && !capabilities.eight_bit_mime) {
    fitting.kind = Compatibility::Kind::needs_seven_bit;
  }
  return fitting;
}

bool is_binary(const Message& message, bool is_converted) {
  return !is_converted && message.envelope.body == BodyType::binary_mime;
}

mail::Outcome bare_line_end(const std::string& remote) {
  return refused({5, 6, 0},
                 "the message holds a bare CR, a bare LF or a NUL, which only binary mail may",
                 remote)
      .refusal;
}

void append_mail(const Message& message, const Capabilities& capabilities, bool converted,
                 std::uint64_t size, TimePoint now, std::string& out) {
  const auto& envelope = message.envelope;
  out.append("MAIL FROM:");
  append_address(envelope.sender, capabilities.smtputf8, out);
  if (capabilities.size)
    out.append(" SIZE=").append(std::to_string(size));
  out.append(body_parameter(message, capabilities, converted));
  if (capabilities.smtputf8 && envelope.smtputf8)
    out.append(" SMTPUTF8");
  if (capabilities.require_tls && envelope.tls == mail::TlsWish::required)
    out.append(" REQUIRETLS");
  if (const auto& by = envelope.deliver_by; by && capabilities.deliver_by) {
    out.append(" BY=").append(std::to_string(seconds_left(*by, now)));
    out.append(by->returns ? ";R" : ";N").append(by->traces ? "T" : "");
  }
  if (capabilities.priorities && envelope.priority != 0)
    out.append(" MT-PRIORITY=").append(std::to_string(envelope.priority));
  if (capabilities.dsn) {
    if (envelope.ret != Return::unspecified)
      out.append(envelope.ret == Return::full ? " RET=FULL" : " RET=HDRS");
    if (!envelope.envelope_id.empty())
      out.append(" ENVID=").append(envelope.envelope_id);
  }
  out.append("\r\n");
}

void append_rcpt(const Message& message, std::uint32_t index, const Capabilities& capabilities,
                 std::string& out) {
  const auto& recipient = message.envelope.recipients[index];
  out.append("RCPT TO:");
  append_address(recipient.address, capabilities.smtputf8, out);
  if (capabilities.dsn) {
    if (recipient.notify.bits != 0) {
      const auto bits = recipient.notify.bits;
      std::string words;
      const auto add = [&](std::uint8_t bit, const char* word) {
        if ((bits & bit) != 0)
          words.append(words.empty() ? "" : ",").append(word);
      };
      add(mail::Notify::kNever, "NEVER");
      add(mail::Notify::kSuccess, "SUCCESS");
      add(mail::Notify::kFailure, "FAILURE");
      add(mail::Notify::kDelay, "DELAY");
      out.append(" NOTIFY=").append(words);
    }
    if (!recipient.original_recipient.empty())
      out.append(" ORCPT=").append(recipient.original_recipient);
  }
  out.append("\r\n");
}

// Each line costs two searches that the C library does a vector at a time.
void LineScanner::feed(std::string_view content) {
  bare_ = bare_ || content.find('\0') != content.npos;
  if (content.empty() || bare_)
    return;
  if (after_cr_) {
    bare_ = content.front() != '\n';
    after_cr_ = false;
    at_line_start_ = true;
    if (bare_)
      return;
    content.remove_prefix(1);
  }
  while (!content.empty() && !bare_) {
    if (at_line_start_ && content.front() == '.')
      dot_ = true;
    const auto cr = content.find('\r');
    const auto text = content.substr(0, cr);
    bare_ = text.find('\n') != text.npos;
    at_line_start_ = false;
    if (cr == content.npos)
      return;
    content.remove_prefix(cr + 1);
    if (content.empty()) {
      after_cr_ = true;
      return;
    }
    bare_ = bare_ || content.front() != '\n';
    content.remove_prefix(1);
    at_line_start_ = true;
  }
}

void LineScanner::finish() {
  bare_ = bare_ || after_cr_;
}

}  // namespace postrider::delivery
