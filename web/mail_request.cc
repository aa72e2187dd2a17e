#include "web/mail_request.h"

#include "web/compose.h"

#include "base/base64.h"
#include "base/json.h"
#include "base/text.h"
#include "mail/address.h"
#include "mail/header.h"
#include "mail/smtp_command.h"
#include "mail/trace_parent.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>
#include <vector>

namespace postrider::web {

namespace json = boost::json;

namespace {

constexpr std::size_t kMostMembers = 64;
constexpr std::size_t kMostDepth = 4;
constexpr std::size_t kMostLine = 2000;  // octets of a text that becomes a field
constexpr std::size_t kMostTag = 100;    // of an ENVID, in xtext (RFC 3461 §4.4)
constexpr std::size_t kMostFieldName = 76;

Error wrong(std::string_view member, std::string_view what) {
  return malformed("\"" + escaped(member, 60) + "\" " + std::string(what));
}

Error too_many(std::string_view member, std::size_t most) {
  return Error(Errc::too_long, "\"" + escaped(member, 60) + "\" has more than " +
                                   std::to_string(most) + " entries");
}

bool is_control(char c) {
  return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}

// A text that may stand in a header: one line of UTF-8.
Result<std::string> line_of(const json::value& value, std::string_view member) {
  if (!value.is_string())
    return wrong(member, "is to be a text");
  const std::string text(value.get_string());
  if (text.size() > kMostLine)
    return Error(Errc::too_long, "\"" + escaped(member, 60) + "\" is longer than " +
                                     std::to_string(kMostLine) + " octets");
  if (std::any_of(text.begin(), text.end(), is_control))
    return wrong(member, "has a line end or another control character");
  if (!is_utf8(text))
    return wrong(member, "is not UTF-8");
  return text;
}

// What people read: line ends and tabs are right.
Result<std::string> body_text(const json::value& value, std::string_view member) {
  if (!value.is_string())
    return wrong(member, "is to be a text");
  std::string text(value.get_string());
  const auto is_bad = [](char c) { return is_control(c) && c != '\n' && c != '\r' && c != '\t'; };
  if (std::any_of(text.begin(), text.end(), is_bad))
    return wrong(member, "has a control character that is neither a line end nor a tab");
  if (!is_utf8(text))
    return wrong(member, "is not UTF-8");
  return text;
}

// "Ann Miller <ann@example.org>", "\"Miller, Ann\" <ann@example.org>", "ann@example.org".
Result<Mailbox> mailbox_of(const json::value& value, std::string_view member) {
  const auto given = line_of(value, member);
  if (!given)
    return given.error();
  Mailbox mailbox;
  std::string_view address = trim(*given);
  if (const auto open = address.rfind('<');
      open != std::string_view::npos && address.back() == '>') {
    auto name = trim(address.substr(0, open));
    if (name.size() >= 2 && name.front() == '"' && name.back() == '"')
      mailbox.name = mail::unquoted_local_part(name);
    else
      mailbox.name = name;
    address = address.substr(open + 1, address.size() - open - 2);
  }
  auto parsed = mail::parse_mailbox(address, true);
  if (!parsed)
    return wrong(member, "is not an address (" + parsed.error().step() + ")");
  mailbox.address = *std::move(parsed);
  return mailbox;
}

// One, or an array of them.
Result<std::vector<Mailbox>> mailboxes_of(const json::value& value, std::string_view member) {
  std::vector<Mailbox> found;
  const auto take = [&](const json::value& one) -> Result<void> {
    auto mailbox = mailbox_of(one, member);
    if (!mailbox)
      return mailbox.error();
    found.push_back(*std::move(mailbox));
    return {};
  };
  if (!value.is_array()) {
    if (auto taken = take(value); !taken)
      return taken.error();
    return found;
  }
  if (value.get_array().size() > kMostRequestRecipients)
    return too_many(member, kMostRequestRecipients);
  for (const auto& one : value.get_array())
    if (auto taken = take(one); !taken)
      return taken.error();
  return found;
}

// RFC 6838 §4.2.
bool is_restricted_name(std::string_view text) {
  constexpr std::string_view kAllowed =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$&-^_.+";
  return !text.empty() && text.size() <= 127 &&
         text.find_first_not_of(kAllowed) == std::string_view::npos;
}

// Without parameters: what they say of a file, its name says too. Not what has parts of its own.
bool is_media_type(std::string_view text) {
  const auto slash = text.find('/');
  if (slash == std::string_view::npos || !is_restricted_name(text.substr(0, slash)) ||
      !is_restricted_name(text.substr(slash + 1)))
    return false;
  const auto type = ascii_lower(text.substr(0, slash));
  return type != "multipart" && type != "message";
}

Result<Attachment> attachment_of(const json::value& value) {
  constexpr std::string_view kMember = "attachments";
  if (!value.is_object())
    return wrong(kMember, "is to be an array of objects");
  Attachment one;
  one.type = "application/octet-stream";
  bool has_content = false;
  for (const auto& [key, member] : value.get_object()) {
    const std::string name = "attachments." + std::string(key);
    if (key == "content") {
      auto content =
          member.is_string() ? decode_base64(std::string_view(member.get_string())) : std::nullopt;
      if (!content)
        return wrong(name, "is to be base64 with its padding, on one line");
      one.content = *std::move(content);
      has_content = true;
      continue;
    }
    auto* const target = key == "filename"     ? &one.filename
                         : key == "type"       ? &one.type
                         : key == "content_id" ? &one.content_id
                                               : nullptr;
    if (target == nullptr)
      return wrong(name, "is not known; there are filename, type, content_id and content");
    auto text = line_of(member, name);
    if (!text)
      return text.error();
    *target = *std::move(text);
  }
  if (!has_content)
    return wrong("attachments.content", "is missing");
  if (!is_media_type(one.type))
    return wrong("attachments.type", "is to be a media type such as image/png, without parameters");
  constexpr std::string_view kNotInId = " <>()\"\\,;:[]";
  if (!is_ascii(one.content_id) || one.content_id.find_first_of(kNotInId) != std::string::npos)
    return wrong("attachments.content_id", "is to be like logo@example.org, without brackets");
  return one;
}

// What stands in the header because of other members, or is put there by who carries the message.
bool is_reserved(std::string_view lower) {
  static const std::set<std::string_view> kReserved = {
      "from",        "sender",       "reply-to",       "to",           "cc",
      "bcc",         "subject",      "date",           "mime-version", "received",
      "return-path", "delivered-to", "dkim-signature", "received-spf", "authentication-results"};
  return kReserved.contains(lower) || lower.starts_with("content-") ||
         lower.starts_with("resent-") || lower.starts_with("arc-");
}

// RFC 5322 §3.6.4, as others write it.
bool is_message_id(std::string_view text) {
  return text.size() > 4 && text.size() < 250 && text.front() == '<' && text.back() == '>' &&
         is_ascii(text) && std::count(text.begin(), text.end(), '@') == 1 &&
         text.find_first_of(" <>", 1) == text.size() - 1;
}

Result<std::pair<std::string, std::string>> field_of(std::string_view name,
                                                     const json::value& value) {
  const auto member = "headers." + std::string(name.substr(0, kMostFieldName));
  const bool is_name = !name.empty() && name.size() <= kMostFieldName &&
                       std::all_of(name.begin(), name.end(),
                                   [](char c) { return c > ' ' && c < '\x7f' && c != ':'; });
  if (!is_name)
    return wrong(member, "is not a name of a header field");
  if (is_reserved(ascii_lower(name)))
    return wrong(member, "may not be given here");
  auto text = line_of(value, member);
  if (!text)
    return text.error();
  if (equals_ignoring_case(name, "Message-ID") && !is_message_id(*text))
    return wrong(member, "is to be like <name@example.org>");
  return std::pair(std::string(name), *std::move(text));
}

// Who hears of it blindly is named by nobody but the envelope, as with sendmail -t.
std::string without_blind_copies(std::string_view raw) {
  std::string kept;
  mail::HeaderScanner scanner(raw);
  mail::HeaderField field;
  while (scanner.next(field)) {
    const auto name = trim(field.name);
    if (!equals_ignoring_case(name, "Bcc") && !equals_ignoring_case(name, "Resent-Bcc"))
      kept.append(field.whole);
  }
  return kept.append(raw.substr(scanner.consumed()));
}

// Takes the members one by one into a draft.
class Reader {
 public:
  Result<MailRequest> read(const json::object& object) {
    for (const auto& [key, value] : object)
      if (auto taken = take(key, value); !taken)
        return taken.error();
    if (!from_)
      return wrong("from", "is missing");
    if (recipients_.empty())
      return malformed("there is no recipient: one of \"to\", \"cc\" and \"bcc\" is needed");
    if (recipients_.size() > kMostRequestRecipients)
      return Error(Errc::too_long,
                   "there are more than " + std::to_string(kMostRequestRecipients) + " recipients");
    return raw_ ? raw_message() : composed();
  }

 private:
  Result<void> take(std::string_view key, const json::value& value) {
    if (key == "to" || key == "cc" || key == "bcc" || key == "reply_to")
      return take_addresses(key, value);
    if (key == "attachments")
      return take_attachments(value);
    if (key == "headers")
      return take_fields(value);
    if (key == "from") {
      auto mailbox = mailbox_of(value, key);
      if (!mailbox)
        return mailbox.error();
      from_ = draft_.from = *std::move(mailbox);
      return {};
    }
    return take_text(key, value);
  }

  Result<void> take_text(std::string_view key, const json::value& value) {
    const bool is_body = key == "text" || key == "html";
    if (key != "subject" && key != "tag" && key != "raw" && key != "key" &&
        key != mail::kTraceParent && !is_body)
      return wrong(key,
                   "is not known; there are from, to, cc, bcc, reply_to, subject, text, html, "
                   "attachments, headers, tag, key, traceparent and raw");
    if (key == "raw" && value.is_string()) {
      raw_ = std::string(value.get_string());
      return {};
    }
    auto text = is_body ? body_text(value, key) : line_of(value, key);
    if (!text)
      return text.error();
    if (key == mail::kTraceParent || key == "key") {
      (key == "key" ? key_ : trace_parent_) = *std::move(text);
      return {};
    }
    parts_ = parts_ || key != "tag";
    draft_.has_text = draft_.has_text || key == "text";
    draft_.has_html = draft_.has_html || key == "html";
    (key == "tag"       ? tag_
     : key == "subject" ? draft_.subject
     : key == "text"    ? draft_.text
                        : draft_.html) = *std::move(text);
    return {};
  }

  Result<void> take_addresses(std::string_view key, const json::value& value) {
    auto found = mailboxes_of(value, key);
    if (!found)
      return found.error();
    parts_ = parts_ || key != "to";
    if (key != "reply_to")
      for (const auto& one : *found)
        recipients_.push_back(one.address);
    if (key == "to")
      draft_.to = *std::move(found);
    else if (key == "cc")
      draft_.cc = *std::move(found);
    else if (key == "reply_to")
      draft_.reply_to = *std::move(found);
    return {};
  }

  Result<void> take_attachments(const json::value& value) {
    parts_ = true;
    if (!value.is_array())
      return wrong("attachments", "is to be an array of objects");
    if (value.get_array().size() > kMostRequestAttachments)
      return too_many("attachments", kMostRequestAttachments);
    for (const auto& one : value.get_array()) {
      auto attachment = attachment_of(one);
      if (!attachment)
        return attachment.error();
      draft_.attachments.push_back(*std::move(attachment));
    }
    return {};
  }

  Result<void> take_fields(const json::value& value) {
    parts_ = true;
    if (!value.is_object())
      return wrong("headers", "is to be an object of texts");
    if (value.get_object().size() > kMostRequestFields)
      return too_many("headers", kMostRequestFields);
    std::set<std::string> seen;
    for (const auto& [name, text] : value.get_object()) {
      auto field = field_of(name, text);
      if (!field)
        return field.error();
      if (!seen.insert(ascii_lower(field->first)).second)
        return wrong("headers." + field->first, "is given twice");
      draft_.fields.push_back(*std::move(field));
    }
    return {};
  }

  Result<MailRequest> envelope() {
    MailRequest request;
    request.header.sender = from_->address;
    request.header.author = from_->address;
    request.header.recipients = std::move(recipients_);
    request.header.envelope_id = mail::encode_xtext(tag_);
    if (request.header.envelope_id.size() > kMostTag)
      return Error(Errc::too_long, "\"tag\" is too long: as an ENVID it has at most 100 octets");
    set_trace_parent(request, trace_parent_);
    request.key = key_;
    return request;
  }

  Result<MailRequest> raw_message() {
    if (parts_)
      return wrong(
          "raw",
          "is the whole message: from, to, tag, key and traceparent alone may stand beside it");
    if (raw_->empty())
      return wrong("raw", "is empty");
    auto request = envelope();
    if (request)
      request->content = without_blind_copies(*raw_);
    return request;
  }

  Result<MailRequest> composed() {
    if (!draft_.has_text && !draft_.has_html && draft_.attachments.empty())
      return malformed(
          "there is nothing to send: one of \"text\", \"html\", \"attachments\" and "
          "\"raw\" is needed");
    auto request = envelope();
    if (request)
      request->content = compose(draft_);
    return request;
  }

  Draft draft_;
  std::optional<Mailbox> from_;
  std::optional<std::string> raw_;
  std::vector<std::string> recipients_;
  std::string tag_, trace_parent_, key_;
  bool parts_ = false;  // members that a raw message has itself
};

}  // namespace

void set_trace_parent(MailRequest& request, std::string_view given) {
  if (request.header.trace_parent.empty() && mail::is_trace_parent(given))
    request.header.trace_parent = given;
}

Result<MailRequest> read_mail_request(std::string_view body) {
  JsonLimits limits;
  limits.members = kMostMembers;
  limits.depth = kMostDepth;
  limits.values = 4 * kMostRequestRecipients + 4096;
  limits.allows_twice = false;
  const auto object = parse_json_object(body, limits);
  if (!object && object.error().code() == Errc::refused)
    return malformed("a name stands twice in one object of the JSON");
  if (!object)
    return Error(object.error().code(), object.error().code() == Errc::too_long
                                            ? "the JSON is too deep, or has too many members"
                                            : "the body is to be a JSON object");
  return Reader().read(*object);
}

}  // namespace postrider::web
