#include "queue/row_codec.h"

#include "base/packing.h"

#include <algorithm>

namespace postrider::queue {

namespace {

constexpr std::uint8_t kPlainOutcome = 1;
constexpr std::uint8_t kTalliedOutcome = 2;  // with a tally of the deferrals
constexpr std::uint8_t kPlainHead = 1;       // as 0.1.0 wrote it
constexpr std::uint8_t kCheckedHead = 2;     // with a checksum of the content
constexpr std::uint8_t k8bit = 1, k8bitHeader = 2, kEndsWithCrlf = 4, kBulk = 8, kJunk = 16;
constexpr std::uint64_t kAllFlags = 31;

void pack(Packer& out, const mail::EnhancedCode& code) {
  out.number(code.klass);
  out.number(code.subject);
  out.number(code.detail);
}

mail::EnhancedCode unpack_code(Unpacker& in) {
  mail::EnhancedCode code;
  code.klass = static_cast<std::uint8_t>(in.number(5));
  code.subject = static_cast<std::uint16_t>(in.number(999));
  code.detail = static_cast<std::uint16_t>(in.number(999));
  return code;
}

Error damaged(std::string what) {
  return Error(Errc::corrupt, std::move(what));
}

constexpr std::uint64_t kMostTime = std::uint64_t{1} << 62U;
constexpr std::size_t kMostText = 1U << 20U;
constexpr std::size_t kMostTraceParent = 64;
constexpr std::size_t kMostEnvelope = 64U << 20U;

}  // namespace

std::string encode_head(const mail::Message& message, std::optional<std::uint32_t> checksum) {
  const auto& content = message.content;
  const std::string envelope = mail::encode(message.envelope);
  Packer out(envelope.size() + content.trace.size() + message.origin.client.size() + 64);
  out.number(checksum ? kCheckedHead : kPlainHead);
  out.number(static_cast<std::uint64_t>(
      std::max<Duration::rep>(message.received.time_since_epoch().count(), 0)));
  out.number(content.size);
  out.number((content.has_8bit ? k8bit : 0U) | (content.has_8bit_header ? k8bitHeader : 0U) |
             (content.ends_with_crlf ? kEndsWithCrlf : 0U) |
             (message.precedence == mail::Precedence::bulk   ? kBulk
              : message.precedence == mail::Precedence::junk ? kJunk
                                                             : 0U));
  out.number(content.longest_line);
  out.text(content.file);
  out.text(content.trace);
  out.text(message.origin.client);
  out.text(message.origin.protocol);
  out.text(envelope);
  // What is not there is left out at the end.
  const bool has_next_hop = !message.origin.next_hop.empty();
  const bool has_user = has_next_hop || !message.origin.user.empty();
  const bool has_trace_parent = has_user || !message.origin.trace_parent.empty();
  if (checksum || has_trace_parent || !message.origin.tls.empty())
    out.text(message.origin.tls);
  if (checksum)
    out.number(*checksum);
  if (has_trace_parent)
    out.text(message.origin.trace_parent);
  if (has_user)
    out.text(message.origin.user);
  if (has_next_hop)
    out.text(message.origin.next_hop);
  return out.take();
}

Result<mail::Message> decode_head(mail::MessageId id, std::string_view bytes,
                                  std::optional<std::uint32_t>* checksum) {
  Unpacker in(bytes);
  const auto version = in.number(kCheckedHead);
  if (version != kPlainHead && version != kCheckedHead)
    return damaged("decode message");
  mail::Message message;
  message.id = id;
  message.received = TimePoint(Duration(in.number(kMostTime)));
  message.content.size = in.number(kMostTime);
  const auto flags = in.number(kAllFlags);
  message.content.has_8bit = (flags & k8bit) != 0;
  message.content.has_8bit_header = (flags & k8bitHeader) != 0;
  message.content.ends_with_crlf = (flags & kEndsWithCrlf) != 0;
  message.precedence = (flags & kJunk) != 0   ? mail::Precedence::junk
                       : (flags & kBulk) != 0 ? mail::Precedence::bulk
                                              : mail::Precedence::none;
  message.content.longest_line = static_cast<std::uint32_t>(in.number(UINT32_MAX));
  message.content.file = in.text(64);
  message.content.trace = in.text(kMostText);
  message.origin.client = in.text(kMostText);
  message.origin.protocol = in.text(64);
  const auto envelope = in.text(kMostEnvelope);
  if (version == kCheckedHead || !in.done())
    message.origin.tls = in.text(256);
  if (version == kCheckedHead) {
    const auto wanted = static_cast<std::uint32_t>(in.number(UINT32_MAX));
    if (checksum != nullptr)
      *checksum = wanted;
  }
  if (!in.done()) {
    message.origin.trace_parent = in.text(kMostTraceParent);
    if (in.done() && message.origin.trace_parent.empty())
      return damaged("decode message");
  }
  if (!in.done()) {
    message.origin.user = in.text(kMostText);
    if (in.done() && message.origin.user.empty())
      return damaged("decode message");
  }
  if (!in.done()) {
    message.origin.next_hop = in.text(kMostText);
    if (message.origin.next_hop.empty())
      return damaged("decode message");
  }
  if (!in.done() || (!message.content.file.empty() && !is_body_name(message.content.file)))
    return damaged("decode message");
  auto decoded = mail::decode_envelope(envelope);
  if (!decoded)
    return damaged("decode envelope");
  message.envelope = *std::move(decoded);
  return message;
}

std::string client_in_head(std::string_view head) {
  Unpacker in(head);
  const auto version = in.number(kCheckedHead);
  if (version != kPlainHead && version != kCheckedHead)
    return {};
  in.number(kMostTime);  // received
  in.number(kMostTime);  // size
  in.number(kAllFlags);
  in.number(UINT32_MAX);  // longest line
  in.text(64);            // file
  in.text(kMostText);     // trace
  return std::string(in.text(kMostText));
}

std::string encode_outcome(const mail::Outcome& outcome, const RetryTally& tally) {
  const bool has_tally = tally != RetryTally();
  Packer out(outcome.remote.size() + outcome.reply.text.size() + outcome.text.size() + 24);
  out.number(has_tally ? kTalliedOutcome : kPlainOutcome);
  if (has_tally) {
    out.number(tally.reason);
    out.number(tally.in_a_row);
    out.number(tally.hints_obeyed);
  }
  out.number(static_cast<std::uint64_t>(outcome.verdict));
  out.number(static_cast<std::uint64_t>(outcome.stage));
  pack(out, outcome.status);
  out.text(outcome.remote);
  out.number(static_cast<std::uint64_t>(outcome.reply.code));
  pack(out, outcome.reply.enhanced);
  out.text(outcome.reply.text);
  out.text(outcome.text);
  out.number(outcome.relayed_to_non_dsn ? 1 : 0);
  if (outcome.tls)
    out.text(*outcome.tls);
  return out.take();
}

Result<mail::Outcome> decode_outcome(std::string_view bytes, RetryTally* tally) {
  Unpacker in(bytes);
  const auto version = in.number(kTalliedOutcome);
  if (version != kPlainOutcome && version != kTalliedOutcome)
    return damaged("decode outcome");
  RetryTally known;
  if (version == kTalliedOutcome) {
    known.reason = static_cast<std::uint8_t>(in.number(UINT8_MAX));
    known.in_a_row = static_cast<std::uint32_t>(in.number(UINT32_MAX));
    known.hints_obeyed = static_cast<std::uint32_t>(in.number(UINT32_MAX));
  }
  mail::Outcome outcome;
  outcome.verdict =
      static_cast<mail::Verdict>(in.number(static_cast<std::uint64_t>(mail::Verdict::bounce)));
  outcome.stage =
      static_cast<mail::Stage>(in.number(static_cast<std::uint64_t>(mail::Stage::admin)));
  outcome.status = unpack_code(in);
  outcome.remote = in.text(kMostText);
  outcome.reply.code = static_cast<int>(in.number(599));
  outcome.reply.enhanced = unpack_code(in);
  outcome.reply.text = in.text(kMostText);
  outcome.text = in.text(kMostText);
  outcome.relayed_to_non_dsn = in.number(1) != 0;
  if (!in.done())  // written where there was a connection
    outcome.tls = std::make_shared<const std::string>(in.text(kMostText));
  const bool code_is_legal = outcome.reply.code == 0 || outcome.reply.code >= 200;
  if (!in.done() || !code_is_legal)
    return damaged("decode outcome");
  if (tally != nullptr)
    *tally = known;
  return outcome;
}

bool is_body_name(std::string_view name) {
  return !name.empty() && name.size() <= 32 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z');
  });
}

}  // namespace postrider::queue
