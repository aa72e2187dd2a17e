#include "events/trace_record.h"

#include "events/event_fields.h"
#include "events/event_schema.h"
#include "events/from_log.h"

#include "base/text.h"
#include "mail/envelope.h"
#include "mail/message_id.h"

#include <algorithm>
#include <iterator>

namespace postrider::events {

namespace {

// Of messages: what the log calls each step of a story. Its `removed` says only that the last
// recipient has ended; what an administrator removes, holds or releases is recipient_changed.
constexpr std::string_view kTraced[] = {"accepted",       "attempted",      "deferred",
                                        "bounced",        "discarded",      "held",
                                        "notice_created", "notice_dropped", "recipient_changed"};
constexpr std::string_view kRefused = "rejected";
constexpr std::string_view kChange = "recipient_changed";

// The kinds of keys, in the highest bits.
enum class Of : std::uint64_t { message = 0, message_id = 1, sender = 2, recipient = 3 };
constexpr unsigned kKindShift = 60;
constexpr unsigned kDomainShift = 32;
constexpr std::uint64_t kKeyMask = (std::uint64_t{1} << kKindShift) - 1;
constexpr std::uint64_t kLocalMask = (std::uint64_t{1} << kDomainShift) - 1;

// FNV-1a, mixed as MurmurHash3 ends. Stored: do not change. Whoever makes texts meet makes only the
// search for them slower.
std::uint64_t hash_of(std::string_view text) {
  std::uint64_t value = 0xcbf29ce484222325U;
  for (const char c : text)
    value = (value ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  value = (value ^ (value >> 33U)) * 0xff51afd7ed558ccdU;
  value = (value ^ (value >> 33U)) * 0xc4ceb9fe1a85ec53U;
  return value ^ (value >> 33U);
}

TraceKey key_of(Of kind, std::uint64_t value) {
  return (static_cast<std::uint64_t>(kind) << kKindShift) | (value & kKeyMask);
}

TraceKey key_of_address(Of kind, std::string_view address) {
  const auto domain = hash_of(mail::domain_of(address)) << kDomainShift;
  return key_of(kind, domain | (hash_of(ascii_lower(mail::local_part_of(address))) & kLocalMask));
}

TraceKeyRange keys_of_domain(Of kind, std::string_view domain) {
  const auto name = mail::domain_of(std::string("x@").append(domain));
  const auto first = key_of(kind, hash_of(name) << kDomainShift);
  return {first, first | kLocalMask};
}

// What the log calls a value; the file may say anything.
bool is_name(std::string_view key) {
  return key.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") == key.npos;
}

bool is_numeric_name(std::string_view name) {
  const auto* const field = find_field(name);
  return field != nullptr && field->is_number();
}

}  // namespace

bool is_traced(const LogEvent& line) {
  const std::string_view name = line.name();
  if (name == kRefused)
    return true;
  return !line.id().empty() &&
         std::find(std::begin(kTraced), std::end(kTraced), name) != std::end(kTraced);
}

std::string encode_trace(const LogEvent& line) {
  return queue::encode_fact(line.when, queue::encode_line(line));
}

TraceLane lane_of(const queue::FactLine& line) {
  return line.name == kRefused ? TraceLane::refused : TraceLane::mail;
}

// Ids grow with time, and new keys stand beside each other.
TraceKey key_of_message(std::string_view id) {
  const auto number = mail::parse_message_id(id);
  return key_of(Of::message,
                number ? static_cast<std::uint64_t>(number->value) : hash_of(ascii_lower(id)));
}

TraceKey key_of_message_id(std::string_view in_head) {
  return key_of(Of::message_id, hash_of(in_head));
}

TraceKey key_of_sender(std::string_view address) {
  return key_of_address(Of::sender, address);
}

TraceKey key_of_recipient(std::string_view address) {
  return key_of_address(Of::recipient, address);
}

TraceKeyRange keys_of_senders(std::string_view domain) {
  return keys_of_domain(Of::sender, domain);
}

TraceKeyRange keys_of_recipients(std::string_view domain) {
  return keys_of_domain(Of::recipient, domain);
}

std::vector<TraceKey> keys_of(const queue::FactLine& line) {
  std::vector<TraceKey> keys;
  if (!line.id.empty())
    keys.push_back(key_of_message(line.id));
  line.for_each([&](std::string_view key, std::string_view value) {
    if (key == kFrom)
      keys.push_back(key_of_sender(value));
    else if (key == "to")
      keys.push_back(key_of_recipient(value));
    else if (key == "message_id")
      keys.push_back(key_of_message_id(bare_message_id(value)));
    else if (key == "notice" && !value.empty())
      keys.push_back(key_of_message(value));
  });
  std::sort(keys.begin(), keys.end());
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  return keys;
}

std::string_view bare_message_id(std::string_view text) {
  text = trim(text);
  const auto open = text.find('<');
  if (open == text.npos)
    return text;
  const auto close = text.find('>', open);
  return text.substr(open + 1, close == text.npos ? text.npos : close - open - 1);
}

bool is_same_address(std::string_view a, std::string_view b) {
  return equals_ignoring_case(mail::local_part_of(a), mail::local_part_of(b)) &&
         mail::domain_of(a) == mail::domain_of(b);
}

std::string step_name(const queue::FactLine& line) {
  if (line.name == kChange)
    return std::string(line.value("change"));
  const auto kind = kind_of(line);
  return kind ? name_of(*kind) : line.name;
}

std::string trace_json(const queue::FactLine& line) {
  std::string out = "{";
  append_member("time", format_rfc3339(line.when), out);
  append_member("event", step_name(line), out);
  if (!line.id.empty())
    append_member("id", line.id, out);
  line.for_each([&](std::string_view key, std::string_view value) {
    if (key == "verdict" || key == "change" || !is_name(key))
      return;  // the first two are the name of the event
    if (is_numeric_name(key))
      append_number(key, value, out);
    else
      append_member(key, value, out);
  });
  return out.append("}");
}

}  // namespace postrider::events
