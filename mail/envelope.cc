#include "mail/envelope.h"

#include "base/text.h"
#include "mail/address.h"

#include <algorithm>

namespace postrider::mail {

namespace {

// version, flags, sender, envelope id, count, then per recipient: notify, address, ORCPT; in the
// second version, which is written only where one is needed, its leaf too. The third, which is
// written only for a message with a wish about time or priority, has these behind the flags: what
// is given, then each in its order; and leaves, which may all be empty.
constexpr char kVersion = 1;
constexpr char kVersionWithLeaves = 2;
constexpr char kVersionWithTimes = 3;
constexpr unsigned kReleases = 1, kDelivers = 2, kReturnsLate = 4, kTraces = 8, kHasPriority = 16;
constexpr int kMostPriority = 9;
constexpr std::size_t kMostText = 4096;  // of one string; far above what commands allow
// A command or a list with those who are not meant (delivery/local/addresses/resolved_recipient.h).
// What delivery makes must fit: a longer one would be taken for damage when it is read again.
constexpr std::size_t kMostLeaf = 1U << 20U;

void append_number(std::string& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7U)
    out.push_back(static_cast<char>((value & 0x7FU) | 0x80U));
  out.push_back(static_cast<char>(value));
}

void append_text(std::string& out, std::string_view text) {
  append_number(out, text.size());
  out.append(text);
}

// Takes values from the front; after the first thing malformed it only gives empty ones.
class Decoder {
 public:
  explicit Decoder(std::string_view bytes) : rest_(bytes) {}

  std::uint8_t byte() {
    if (rest_.empty()) {
      failed_ = true;
      return 0;
    }
    const auto value = static_cast<std::uint8_t>(rest_.front());
    rest_.remove_prefix(1);
    return value;
  }

  // At most five bytes, and no longer form than needed, so that each envelope has one encoding.
  std::uint64_t number() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 35; shift += 7) {
      const auto next = byte();
      value |= static_cast<std::uint64_t>(next & 0x7FU) << shift;
      if ((next & 0x80U) == 0) {
        failed_ = failed_ || (next == 0 && shift > 0);
        return value;
      }
    }
    failed_ = true;
    return 0;
  }

  std::string text(std::size_t most = kMostText) {
    const auto size = number();
    if (failed_ || size > rest_.size() || size > most) {
      failed_ = true;
      return {};
    }
    std::string value(rest_.substr(0, size));
    rest_.remove_prefix(size);
    for (const char c : value)  // would reach commands, logs and notices
      failed_ = failed_ || static_cast<unsigned char>(c) < 0x20 || c == 0x7F;
    return value;
  }

  bool failed() const { return failed_; }
  std::size_t left() const { return rest_.size(); }

 private:
  std::string_view rest_;
  bool failed_ = false;
};

std::uint8_t flags_of(const Envelope& envelope) {
  const auto body = static_cast<unsigned>(envelope.body);
  const auto ret = static_cast<unsigned>(envelope.ret);
  const auto tls = static_cast<unsigned>(envelope.tls);
  return static_cast<std::uint8_t>(body | (ret << 2U) | (envelope.smtputf8 ? 0x10U : 0U) |
                                   (tls << 5U));
}

bool set_flags(Envelope& envelope, unsigned flags) {
  const unsigned body = flags & 3U;
  const unsigned ret = (flags >> 2U) & 3U;
  const unsigned tls = (flags >> 5U) & 3U;
  if (body > 2 || ret > 2 || tls > 2 || flags > 0x7FU)
    return false;
  envelope.body = static_cast<BodyType>(body);
  envelope.ret = static_cast<Return>(ret);
  envelope.smtputf8 = (flags & 0x10U) != 0;
  envelope.tls = static_cast<TlsWish>(tls);
  return true;
}

bool has_times(const Envelope& envelope) {
  return envelope.deliver_by || envelope.release > TimePoint{} || envelope.priority != 0;
}

// At least 0; what does not fit is as late as what does.
std::uint64_t seconds_of(TimePoint time) {
  const auto seconds =
      std::chrono::duration_cast<std::chrono::seconds>(time.time_since_epoch()).count();
  constexpr decltype(seconds) kMost = (std::int64_t{1} << 35U) - 1;  // five bytes
  return static_cast<std::uint64_t>(std::clamp(seconds, decltype(seconds){0}, kMost));
}

TimePoint time_of(std::uint64_t seconds) {
  return TimePoint(std::chrono::seconds(seconds));
}

void append_times(std::string& out, const Envelope& envelope) {
  const auto& by = envelope.deliver_by;
  const bool is_released_later = envelope.release > TimePoint{};
  out.push_back(static_cast<char>((is_released_later ? kReleases : 0U) | (by ? kDelivers : 0U) |
                                  (by && by->returns ? kReturnsLate : 0U) |
                                  (by && by->traces ? kTraces : 0U) |
                                  (envelope.priority != 0 ? kHasPriority : 0U)));
  if (is_released_later)
    append_number(out, seconds_of(envelope.release));
  if (by)
    append_number(out, seconds_of(by->time));
  if (envelope.priority != 0)
    out.push_back(static_cast<char>(envelope.priority + kMostPriority));
}

// False: not as append_times() writes it.
bool read_times(Decoder& from, Envelope& envelope) {
  const unsigned given = from.byte();
  const bool delivers = (given & kDelivers) != 0;
  if (given > 31U || (given & (kReleases | kDelivers | kHasPriority)) == 0 ||
      (!delivers && (given & (kReturnsLate | kTraces)) != 0))
    return false;
  if ((given & kReleases) != 0) {
    envelope.release = time_of(from.number());
    if (envelope.release == TimePoint{})
      return false;
  }
  if (delivers)
    envelope.deliver_by = DeliverBy{.time = time_of(from.number()),
                                    .returns = (given & kReturnsLate) != 0,
                                    .traces = (given & kTraces) != 0};
  if ((given & kHasPriority) == 0)
    return true;
  const int priority = static_cast<int>(from.byte()) - kMostPriority;
  if (priority == 0 || priority > kMostPriority)
    return false;
  envelope.priority = static_cast<std::int8_t>(priority);
  return true;
}

bool is_known(Notify notify) {
  return notify.bits < Notify::kNever || notify.bits == Notify::kNever;
}

Error damaged() {
  return Error(Errc::corrupt, "decode envelope");
}

// The size of the local part: up to the last "@" that is not in quotes.
std::size_t local_part_size(std::string_view address) {
  auto at = std::string_view::npos;
  bool in_quotes = false;
  for (std::size_t i = 0; i < address.size(); ++i) {
    if (address[i] == '"')
      in_quotes = !in_quotes;
    else if (in_quotes && address[i] == '\\')
      ++i;
    else if (!in_quotes && address[i] == '@')
      at = i;
  }
  if (in_quotes && !address.starts_with('"'))
    at = address.rfind('@');  // no quotes, but a character
  return std::min(at, address.size());
}

}  // namespace

std::string encode(const Envelope& envelope) {
  const bool has_leaves =
      std::any_of(envelope.recipients.begin(), envelope.recipients.end(),
                  [](const Recipient& recipient) { return !recipient.leaf.empty(); });
  std::string out;
  std::size_t size = 16 + envelope.sender.size() + envelope.envelope_id.size();
  for (const auto& recipient : envelope.recipients)
    size +=
        8 + recipient.address.size() + recipient.original_recipient.size() + recipient.leaf.size();
  out.reserve(size);
  const bool with_times = has_times(envelope);
  out.push_back(with_times ? kVersionWithTimes : has_leaves ? kVersionWithLeaves : kVersion);
  out.push_back(static_cast<char>(flags_of(envelope)));
  if (with_times)
    append_times(out, envelope);
  append_text(out, envelope.sender);
  append_text(out, envelope.envelope_id);
  append_number(out, envelope.recipients.size());
  for (const auto& recipient : envelope.recipients) {
    out.push_back(static_cast<char>(recipient.notify.bits));
    append_text(out, recipient.address);
    append_text(out, recipient.original_recipient);
    if (has_leaves || with_times)
      append_text(out, recipient.leaf);
  }
  return out;
}

Result<Envelope> decode_envelope(std::string_view bytes) {
  Decoder from(bytes);
  Envelope envelope;
  const auto version = from.byte();
  const bool with_times = version == static_cast<std::uint8_t>(kVersionWithTimes);
  const bool has_leaves = with_times || version == static_cast<std::uint8_t>(kVersionWithLeaves);
  if ((version != static_cast<std::uint8_t>(kVersion) && !has_leaves) ||
      !set_flags(envelope, from.byte()) || (with_times && !read_times(from, envelope)))
    return damaged();
  envelope.sender = from.text();
  envelope.envelope_id = from.text();
  const auto count = from.number();
  if (from.failed() || count > from.left() / 3)  // a recipient takes three bytes or more
    return damaged();
  envelope.recipients.reserve(count);
  bool seen_leaf = false;
  for (std::uint64_t i = 0; i < count; ++i) {
    Recipient recipient;
    recipient.notify.bits = from.byte();
    recipient.address = from.text();
    recipient.original_recipient = from.text();
    if (has_leaves) {
      recipient.leaf = from.text(kMostLeaf);
      seen_leaf = seen_leaf || !recipient.leaf.empty();
    }
    if (from.failed() || !is_known(recipient.notify) || recipient.address.empty())
      return damaged();
    envelope.recipients.push_back(std::move(recipient));
  }
  if (from.failed() || from.left() > 0 || (seen_leaf != has_leaves && !with_times))
    return damaged();
  return envelope;
}

std::string domain_of(std::string_view address) {
  const auto local = local_part_size(address);
  if (local >= address.size() || address[local] != '@')
    return {};
  const auto domain = address.substr(local + 1);
  if (is_ascii(domain)) {
    std::string lowered = ascii_lower(domain);
    if (lowered.starts_with("[ipv6:"))
      lowered.replace(1, 4, "IPv6");
    return lowered;
  }
  // What was accepted converts; anything else stays as it is and no DNS has it.
  auto converted = to_ascii_domain(domain);
  return converted ? *std::move(converted) : ascii_lower(domain);
}

std::string_view local_part_of(std::string_view address) {
  return address.substr(0, local_part_size(address));
}

}  // namespace postrider::mail
