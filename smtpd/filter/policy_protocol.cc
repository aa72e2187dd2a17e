#include "smtpd/filter/policy_protocol.h"

#include "base/text.h"
#include "mail/address.h"
#include "mail/header.h"

#include <algorithm>

namespace postrider::smtpd::filter::policy {

namespace {

constexpr std::size_t kMostText = 400;

Action refusal(int code, mail::EnhancedCode enhanced, std::string_view text,
               std::string_view otherwise) {
  if (const auto own = mail::parse_enhanced_code(text); own && own->klass == code / 100) {
    enhanced = *own;
    text.remove_prefix(std::min(text.size(), to_string(*own).size()));
  }
  text = trim(text);
  Action action;
  action.kind = Action::Kind::refuse;
  action.reply = {code, enhanced, escaped(text.empty() ? otherwise : text, kMostText)};
  return action;
}

// "450 4.2.0 Greylisted" and "550 No".
std::optional<Action> numbered(std::string_view word, std::string_view rest) {
  const auto code = word.size() == 3 ? parse_unsigned(word) : std::nullopt;
  if (!code || *code < 400 || *code > 599)
    return std::nullopt;
  const auto klass = static_cast<std::uint8_t>(*code / 100);
  return refusal(static_cast<int>(*code), {klass, 7, 1}, rest, "Access denied");
}

bool is_number(std::string_view word) {
  return !word.empty() &&
         std::all_of(word.begin(), word.end(), [](char c) { return c >= '0' && c <= '9'; });
}

Action with_text(Action::Kind kind, std::string_view text) {
  Action action;
  action.kind = kind;
  action.text = text;
  return action;
}

Action not_done(std::string_view said, std::string_view why) {
  return with_text(Action::Kind::not_done, "\"" + escaped(said, 80) + "\" " + std::string(why));
}

Action deferral(Action::Kind kind, std::string_view text) {
  auto action = refusal(450, {4, 7, 1}, text, "Try again later");
  action.kind = kind;
  return action;
}

Action with_address(Action::Kind kind, std::string_view said, std::string_view address) {
  if (address.starts_with('<') && address.ends_with('>'))
    address = address.substr(1, address.size() - 2);
  if (!mail::parse_mailbox(address, true))
    return not_done(said, "does not name a whole address, such as user@example.org");
  return with_text(kind, address);
}

}  // namespace

std::string encode_request(const Attributes& attributes) {
  std::string request;
  for (const auto& [name, value] : attributes) {
    request.append(name).push_back('=');
    for (const char c : value)
      if (c != '\n' && c != '\r' && c != '\0')
        request.push_back(c);
    request.push_back('\n');
  }
  return request.append("\n");
}

Result<std::optional<std::string>> AnswerReader::feed(std::string_view bytes) {
  text_.append(bytes.substr(0, kMost + 1 - std::min(kMost + 1, text_.size())));
  if (text_.size() > kMost)
    return Error(Errc::too_long, "policy service: its answer is too long");
  const auto end = text_.starts_with('\n') ? 0 : text_.find("\n\n");
  if (end == std::string::npos)
    return std::optional<std::string>();
  if (end + (end == 0 ? 1 : 2) != text_.size())
    return malformed("policy service: it answers more than it was asked");
  const std::string answer = text_.substr(0, end);
  text_.clear();
  std::optional<std::string> action;
  for (const auto line : split(answer, '\n')) {
    const auto sign = line.find('=');
    if (sign == std::string_view::npos && !line.empty())
      return malformed("policy service: \"" + escaped(line, 80) + "\" is not an attribute");
    if (line.substr(0, sign) == "action")
      action = line.substr(sign + 1);
  }
  if (!action)
    return malformed("policy service: an answer without an action");
  return action;
}

Action parse_action(std::string_view text) {
  using Kind = Action::Kind;
  text = trim(text);
  const auto end = std::min(text.find_first_of(" \t"), text.size());
  const auto word = text.substr(0, end);
  const auto rest = trim(text.substr(end));
  const auto is = [&](std::string_view name) { return equals_ignoring_case(word, name); };
  if (auto action = numbered(word, rest))
    return *std::move(action);
  // access(5) of Postfix: a number alone is OK; one with a text is a reply, and 4xx or 5xx.
  if (text.empty() || is("DUNNO") || is("OK") || is("PERMIT") || is_number(text))
    return Action{};
  if (is("WARN") || is("INFO"))
    return with_text(Kind::note, escaped(text, kMostText));
  if (is("REJECT"))
    return refusal(554, {5, 7, 1}, rest, "Access denied");
  if (is("DEFER"))
    return deferral(Kind::refuse, rest);
  if (is("DEFER_IF_PERMIT"))
    return deferral(Kind::defer_if_permit, rest);
  if (is("DEFER_IF_REJECT"))
    return deferral(Kind::defer_if_reject, rest);
  if (is("HOLD"))
    return with_text(Kind::hold, escaped(rest, kMostText));
  if (is("DISCARD"))
    return with_text(Kind::discard, rest);
  if (is("REDIRECT"))
    return with_address(Kind::redirect, text, rest);
  if (is("BCC"))
    return with_address(Kind::bcc, text, rest);
  if (is("FILTER"))
    return not_done(text,
                    "is not performed here: name the content filter in milter.address, or "
                    "lead the domain to it by delivery.route_map");
  if (!is("PREPEND"))
    return not_done(text,
                    "is not an action that is performed here; those that are stand in "
                    "postrider.toml(5) with checks.policy_services");
  if (mail::field_name(rest).empty() || rest.size() > 8000 ||
      rest.find_first_of(std::string_view("\r\0", 2)) != std::string_view::npos)
    return not_done(text, "does not name a header field, such as X-Checked: yes");
  return with_text(Kind::prepend, rest);
}

}  // namespace postrider::smtpd::filter::policy
