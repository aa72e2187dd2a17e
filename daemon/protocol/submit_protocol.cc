#include "daemon/protocol/submit_protocol.h"

#include "base/digest.h"
#include "base/random.h"
#include "base/text.h"
#include "daemon/privsep/privileges.h"
#include "daemon/protocol/control_protocol.h"
#include "mail/address.h"
#include "mail/smtp_command.h"
#include "mail/trace_parent.h"

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <fcntl.h>
#include <iterator>
#include <set>
#include <sys/stat.h>
#include <unistd.h>

namespace postrider::daemon {

namespace {

namespace json = boost::json;

struct TextKey {
  const char* name;
  std::string SubmitHeader::*member;
};
constexpr TextKey kTextKeys[] = {{"sender", &SubmitHeader::sender},
                                 {"author", &SubmitHeader::author},
                                 {"full_name", &SubmitHeader::full_name},
                                 {"envid", &SubmitHeader::envelope_id},
                                 {"token", &SubmitHeader::token},
                                 {"key", &SubmitHeader::key},
                                 {"way", &SubmitHeader::way},
                                 {"traceparent", &SubmitHeader::trace_parent}};

constexpr std::string_view kOtherKeys[] = {"postrider", "recipients", "size", "body",
                                           "notify",    "ret",        "dsn"};
constexpr std::size_t kMostMembers = 16;  // there are fifteen
constexpr std::size_t kMostText = 1024;   // of each of them
constexpr std::size_t kMostHandOver = 64;
constexpr std::size_t kMostWay = 8;
constexpr char kHandOver = '+';  // begins its name; no id of a file begins so
constexpr std::chrono::hours kRememberedFor{7 * 24};

Result<void> take_texts(const json::object& object, SubmitHeader& header) {
  for (const auto& key : kTextKeys) {
    const auto* value = object.if_contains(key.name);
    if (value == nullptr)
      continue;
    if (!value->is_string() || value->get_string().size() > kMostText)
      return malformed(key.name);
    header.*key.member = std::string(value->get_string());
  }
  return {};
}

Result<void> take_hand_over(const json::object& object, SubmitHeader& header) {
  const auto* value = object.if_contains("postrider");
  if (value == nullptr || !value->is_string())
    return {};
  const std::string_view text = value->get_string();
  const auto is_meant = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || c == '-';
  };
  if (text.size() > kMostHandOver || !std::all_of(text.begin(), text.end(), is_meant))
    return malformed("postrider");
  header.hand_over = std::string(text);
  return {};
}

Result<void> take_recipients(const json::object& object, SubmitHeader& header) {
  const auto* value = object.if_contains("recipients");
  if (value == nullptr || !value->is_array() || value->get_array().size() > kMostSubmitRecipients)
    return malformed("recipients");
  for (const auto& recipient : value->get_array()) {
    if (!recipient.is_string() || recipient.get_string().size() > kMostText)
      return malformed("recipients");
    header.recipients.emplace_back(recipient.get_string());
  }
  return {};
}

// "NOTIFY ORCPT ADDRESS": the bits, what may be empty, and what may hold spaces.
Result<void> take_dsn(const json::object& object, SubmitHeader& header) {
  const auto* value = object.if_contains("dsn");
  if (value == nullptr)
    return {};
  if (!value->is_array() || value->get_array().size() > kMostSubmitRecipients)
    return malformed("dsn");
  for (const auto& entry : value->get_array()) {
    if (!entry.is_string() || entry.get_string().size() > 3 * kMostText)
      return malformed("dsn");
    const std::string_view text = entry.get_string();
    const auto first = std::min(text.find(' '), text.size());
    const auto second = text.find(' ', first + 1);
    const auto bits = parse_unsigned(text.substr(0, first));
    if (second == text.npos || !bits || *bits > 15)
      return malformed("dsn");
    auto& dsn = header.dsn[std::string(text.substr(second + 1))];
    dsn.notify.bits = static_cast<std::uint8_t>(*bits);
    dsn.original_recipient =
        mail::original_recipient_of(text.substr(first + 1, second - first - 1), false);
  }
  return {};
}

Result<void> check_keys(const json::object& object) {
  for (const auto& member : object) {
    const std::string_view name = member.key();
    const auto is_name = [&](const auto& key) { return name == key.name; };
    if (std::none_of(std::begin(kTextKeys), std::end(kTextKeys), is_name) &&
        std::find(std::begin(kOtherKeys), std::end(kOtherKeys), name) == std::end(kOtherKeys))
      return malformed("unknown member");
  }
  return {};
}

// A whole number from 0 to most.
Result<std::uint64_t> number(const json::object& object, const char* name, std::uint64_t most) {
  const auto* value = object.if_contains(name);
  if (value == nullptr)
    return std::uint64_t{0};
  if (!value->is_int64() || value->get_int64() < 0 ||
      static_cast<std::uint64_t>(value->get_int64()) > most)
    return malformed(name);
  return static_cast<std::uint64_t>(value->get_int64());
}

Result<void> take_numbers(const json::object& object, SubmitHeader& header) {
  const auto size = number(object, "size", 1ULL << 40U);
  const auto body = number(object, "body", 1);
  const auto notify = number(object, "notify", 15);
  const auto ret = number(object, "ret", 2);
  for (const auto* value : {&size, &body, &notify, &ret})
    if (!*value)
      return value->error();
  if (object.if_contains("size") == nullptr)
    return malformed("size");
  header.size = *size;
  header.body = static_cast<mail::BodyType>(*body);
  header.notify.bits = static_cast<std::uint8_t>(*notify);
  header.ret = static_cast<mail::Return>(*ret);
  return {};
}

constexpr std::size_t kKeyDigits = 32;  // of each half

std::string digest(std::string_view bytes) {
  return encode_hex(sha256(bytes)).substr(0, kKeyDigits);
}

}  // namespace

std::string submit_key(std::string_view token, std::string_view name, std::string_view request) {
  std::string both(token);  // has no spaces
  both.append(" ").append(name);
  return digest(both) + "." + digest(request);
}

bool is_submit_key(std::string_view key) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  return key.size() == 2 * kKeyDigits + 1 && key[kKeyDigits] == '.' &&
         key.substr(0, kKeyDigits).find_first_not_of(kDigits) == key.npos &&
         key.substr(kKeyDigits + 1).find_first_not_of(kDigits) == key.npos;
}

std::string encode(const SubmitHeader& header) {
  json::object object;
  // A daemon of an earlier version does not look at this member, and refuses those it does not
  // know.
  object["postrider"] = header.hand_over.empty() ? json::value(1) : json::value(header.hand_over);
  for (const auto& key : kTextKeys)
    if (!(header.*key.member).empty())
      object[key.name] = header.*key.member;
  object["recipients"] = json::array(header.recipients.begin(), header.recipients.end());
  object["size"] = static_cast<std::int64_t>(header.size);
  object["body"] = static_cast<std::int64_t>(header.body);
  object["notify"] = header.notify.bits;
  object["ret"] = static_cast<std::int64_t>(header.ret);
  json::array wishes;
  for (const auto& [address, dsn] : header.dsn)
    wishes.emplace_back(std::to_string(dsn.notify.bits) + " " + dsn.original_recipient + " " +
                        address);
  if (!wishes.empty())
    object["dsn"] = std::move(wishes);
  return json::serialize(object) + "\n";
}

Result<SubmitHeader> decode_submit_header(std::string_view line, JsonWork* work) {
  if (line.size() > kMostSubmitHeader)
    return Error(Errc::too_long, "header line");
  JsonLimits limits;
  limits.members = kMostMembers;
  limits.depth = 2;
  limits.values = 2 * kMostSubmitRecipients + kMostMembers + 3;  // with the object and the arrays
  const auto object = parse_json_object(line, limits, {}, work);
  if (!object)
    return object.error();
  if (auto known = check_keys(*object); !known)
    return known.error();
  SubmitHeader header;
  for (const auto take : {take_texts, take_hand_over, take_recipients, take_numbers, take_dsn})
    if (auto taken = take(*object, header); !taken)
      return taken.error();
  if (!header.key.empty() && !is_submit_key(header.key))
    return malformed("key");
  const auto is_name = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  if (header.way.size() > kMostWay || !std::all_of(header.way.begin(), header.way.end(), is_name))
    return malformed("way");
  if (!header.trace_parent.empty() && !mail::is_trace_parent(header.trace_parent))
    return malformed("traceparent");
  return header;
}

SubmitDsn dsn_of(const SubmitHeader& header, const std::string& recipient) {
  const auto asked = header.dsn.find(recipient);
  return asked == header.dsn.end() ? SubmitDsn{header.notify, {}} : asked->second;
}

std::string new_hand_over() {
  SystemRandom random;
  std::array<char, 64> text{};
  const auto now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::snprintf(text.data(), text.size(), "%llx-%016llx%016llx",
                static_cast<unsigned long long>(now),
                static_cast<unsigned long long>(random.next()),
                static_cast<unsigned long long>(random.next()));
  return text.data();
}

std::string hand_over_id(const SubmitHeader& header, std::uint64_t uid) {
  if (header.hand_over.empty())
    return {};
  return kHandOver + std::to_string(uid) + "." + header.hand_over;
}

bool is_hand_over(std::string_view id) {
  return id.starts_with(kHandOver);
}

bool is_forgettable_hand_over(std::string_view id, TimePoint now) {
  const auto made = id.substr(id.find('.') + 1);
  long long seconds = 0;
  (void)std::from_chars(made.data(), made.data() + made.size(), seconds, 16);
  const auto age = std::chrono::system_clock::to_time_t(now) - seconds;
  const auto most = std::chrono::duration_cast<std::chrono::seconds>(kRememberedFor).count();
  return age < -most || age > most;
}

Result<std::string> complete_address(const std::string& address, std::string_view origin) {
  std::string whole = address;
  if (!whole.ends_with('@') && mail::domain_of(whole).empty())
    whole.append("@").append(origin);
  auto mailbox = mail::parse_mailbox(whole, true);
  if (mailbox)
    return std::move(*mailbox);
  return Error(Errc::malformed, "\"" + escaped(address, 100) + "\" is not an address (" +
                                    mailbox.error().step() + ")");
}

Result<mail::Envelope> to_envelope(const SubmitHeader& header, std::string_view origin,
                                   std::size_t most_recipients) {
  mail::Envelope envelope;
  if (!header.sender.empty()) {
    auto sender = complete_address(header.sender, origin);
    if (!sender)
      return sender.error().during("sender");
    envelope.sender = std::move(*sender);
  }
  std::set<std::string> seen;
  for (const auto& address : header.recipients) {
    auto whole = complete_address(address, origin);
    if (!whole)
      return whole.error().during("recipient");
    if (!seen.insert(*whole).second)
      continue;
    envelope.smtputf8 = envelope.smtputf8 || !is_ascii(*whole);
    auto& recipient = envelope.recipients.emplace_back();
    recipient.address = std::move(*whole);
    auto dsn = dsn_of(header, address);
    recipient.notify = dsn.notify;
    recipient.original_recipient = std::move(dsn.original_recipient);
  }
  if (envelope.recipients.empty())
    return Error(Errc::malformed, "no recipients");
  if (envelope.recipients.size() > most_recipients)
    return Error(Errc::too_long, "more than " + std::to_string(most_recipients) + " recipients");
  if (!header.envelope_id.empty() &&
      (header.envelope_id.size() > 100 || !mail::decode_xtext(header.envelope_id)))
    return Error(Errc::malformed, "the envelope id is not xtext of at most 100 octets");
  envelope.smtputf8 = envelope.smtputf8 || !is_ascii(envelope.sender);
  envelope.envelope_id = header.envelope_id;
  envelope.ret = header.ret;
  envelope.body = header.body;
  return envelope;
}

std::string too_large(std::uint64_t most) {
  return "the message is larger than the limit of " + format_size(most);
}

std::string encode(const SubmitAnswer& answer) {
  json::object object;
  object["status"] = answer.exit_code == 0 ? "queued" : "error";
  object["exit"] = answer.exit_code;
  if (answer.exit_code == 0)
    object["id"] = answer.id;
  else
    object["error"] = answer.error;
  if (answer.busy)
    object["busy"] = true;
  if (!answer.cause.empty())
    object["cause"] = answer.cause;
  return json::serialize(object) + "\n";
}

Result<SubmitAnswer> decode_submit_answer(std::string_view line) {
  const auto object = parse_json_line(line);
  if (!object)
    return object.error().during("answer");
  const auto text = [&](const char* name) {
    const auto* value = object->if_contains(name);
    return value != nullptr && value->is_string() ? std::string(value->get_string())
                                                  : std::string();
  };
  const auto code = number(*object, "exit", 255);
  if (!code || object->if_contains("exit") == nullptr)
    return malformed("answer");
  SubmitAnswer answer;
  answer.exit_code = static_cast<int>(*code);
  answer.id = text("id");
  answer.error = text("error");
  answer.cause = text("cause");
  const auto* busy = object->if_contains("busy");
  answer.busy = busy != nullptr && busy->is_bool() && busy->get_bool();
  if (answer.exit_code == 0 ? answer.id.empty() : answer.error.empty())
    return malformed("answer");
  return answer;
}

std::string drop_folder_path(const std::string& spool) {
  return spool + "/drop";
}

Result<FileDescriptor> open_drop_folder(const std::string& spool, const std::string& user) {
  const auto path = drop_folder_path(spool);
  if (::geteuid() != 0)
    return open_file(path, O_PATH | O_DIRECTORY | O_NOFOLLOW);
  const auto above = open_folder_as_root(spool);
  if (!above)
    return above.error();
  auto folder =
      open_file_at(*above, path.substr(path.rfind('/') + 1), O_PATH | O_DIRECTORY | O_NOFOLLOW);
  if (!folder)
    return folder.error();
  struct stat about {};
  if (::fstat(folder->get(), &about) != 0)
    return system_error("look at " + path);
  const auto account = find_account(user);
  if (about.st_uid != 0 && (!account || about.st_uid != account->uid))
    return Error(Errc::refused, path + " belongs to user " + std::to_string(about.st_uid) +
                                    ", neither to root nor to the daemon's user");
  return folder;
}

}  // namespace postrider::daemon
