#include "daemon/control/message_file.h"

#include "base/base64.h"
#include "base/text.h"
#include "queue/row_codec.h"

namespace postrider::daemon {

namespace {

constexpr std::string_view kMark = "X-Postrider-Export: ";
constexpr std::string_view kHeadField = "X-Postrider-Head: ";
constexpr std::string_view kTo = "X-Postrider-To: ";
constexpr std::string_view kTrace = "X-Postrider-Traceparent: ";
constexpr std::string_view kHeld = ">; held";
constexpr std::size_t kBase64Line = 76;

Error not_ours() {
  return Error(Errc::malformed, "it is not a message that `postrider queue export` made");
}

// For people, and for import to see that nobody has changed it in vain.
std::string envelope_fields(const mail::Message& message, const std::vector<std::uint32_t>& held) {
  std::string out("X-Postrider-From: <");
  out.append(escaped(message.envelope.sender, 400)).append(">\r\n");
  auto next = held.begin();
  for (std::uint32_t i = 0; i < message.envelope.recipients.size(); ++i) {
    const bool is_held = next != held.end() && *next == i;
    next += is_held ? 1 : 0;
    out.append(kTo).append("<").append(escaped(message.envelope.recipients[i].address, 400));
    out.append(is_held ? kHeld : ">").append("\r\n");
  }
  if (!message.origin.trace_parent.empty())
    out.append(kTrace).append(message.origin.trace_parent).append("\r\n");
  return out;
}

// Of fields as envelope_fields() writes them.
std::vector<std::uint32_t> held_in(std::string_view fields) {
  std::vector<std::uint32_t> held;
  std::uint32_t place = 0;
  for (const auto line : split(fields, '\n')) {
    if (!line.starts_with(kTo))
      continue;
    if (line.ends_with(std::string(kHeld) + "\r"))
      held.push_back(place);
    ++place;
  }
  return held;
}

}  // namespace

std::string message_file_head(const mail::Message& message, std::uint32_t checksum,
                              const std::vector<std::uint32_t>& held) {
  mail::Message stored = message;
  stored.content.file.clear();
  const auto encoded = encode_base64(queue::encode_head(stored, checksum));
  std::string out(kMark);
  out.append(to_string(message.id)).append("\r\n");
  out.append(envelope_fields(message, held)).append(kHeadField);
  for (std::size_t at = 0; at < encoded.size(); at += kBase64Line)
    out.append(at == 0 ? "" : "\t").append(encoded, at, kBase64Line).append("\r\n");
  return out.append(message.content.trace);
}

Result<std::optional<MessageFileHead>> parse_message_file(std::string_view beginning) {
  using Head = std::optional<MessageFileHead>;
  if (beginning.substr(0, kMark.size()) != kMark.substr(0, beginning.size()))
    return not_ours();
  std::string encoded, fields;
  bool is_head = false;
  std::size_t at = 0;
  std::optional<mail::MessageId> id;
  for (;;) {
    const auto end = beginning.find("\r\n", at);
    if (end == std::string_view::npos) {
      if (beginning.size() > kMostMessageFileHead)
        return not_ours();
      return Head();
    }
    auto line = beginning.substr(at, end - at);
    if (is_head && !line.starts_with('\t'))
      break;
    at = end + 2;
    if (is_head)
      encoded.append(line.substr(1));
    else if (line.starts_with(kMark))
      id = mail::parse_message_id(line.substr(kMark.size()));
    else if ((is_head = line.starts_with(kHeadField)))
      encoded = line.substr(kHeadField.size());
    else if (line.starts_with("X-Postrider-From: ") || line.starts_with(kTo) ||
             line.starts_with(kTrace))
      fields.append(line).append("\r\n");
    else if (!line.starts_with("X-Postrider-"))
      return not_ours();
  }
  const auto bytes = decode_base64(encoded);
  std::optional<std::uint32_t> checksum;
  if (!id || !bytes)
    return not_ours();
  auto message = queue::decode_head(*id, *bytes, &checksum);
  if (!message || !checksum || !message->content.file.empty() ||
      message->envelope.recipients.empty())
    return not_ours();
  auto held = held_in(fields);
  // A file of an earlier version has the trace where only import reads it.
  if (fields.find(kTrace) == std::string::npos && !message->origin.trace_parent.empty())
    fields.append(kTrace).append(message->origin.trace_parent).append("\r\n");
  if (fields != envelope_fields(*message, held))
    return Error(
        Errc::malformed,
        "its X-Postrider-From, X-Postrider-To or X-Postrider-Traceparent fields were changed, but "
        "they are for reading "
        "alone; what follows the X-Postrider fields is the message, which `sendmail` sends to "
        "others");
  const auto& trace = message->content.trace;
  if (beginning.size() < at + trace.size())
    return Head();
  if (beginning.substr(at, trace.size()) != trace)
    return not_ours();
  MessageFileHead head;
  head.size = at + trace.size();
  head.checksum = *checksum;
  head.message = *std::move(message);
  head.held = std::move(held);
  return Head(std::move(head));
}

}  // namespace postrider::daemon
