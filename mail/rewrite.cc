#include "mail/rewrite.h"

#include "base/text.h"
#include "mail/address.h"
#include "mail/header.h"
#include "mail/smtp_command.h"

#include <algorithm>

namespace postrider::mail {

namespace {

constexpr std::string_view kSenders[] = {"From",        "Sender",        "Reply-To",
                                         "Resent-From", "Resent-Sender", "Resent-Reply-To"};
constexpr std::string_view kRecipients[] = {"To",        "Cc",        "Bcc",
                                            "Resent-To", "Resent-Cc", "Resent-Bcc"};

template <class Names>
bool is_one_of(const Names& names, std::string_view name) {
  return std::any_of(std::begin(names), std::end(names),
                     [&](std::string_view one) { return equals_ignoring_case(one, name); });
}

bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

// The place of the one address in [begin, end), without the space around it.
void add_place(std::string_view value, std::size_t begin, std::size_t end,
               std::vector<std::pair<std::size_t, std::size_t>>& places) {
  while (begin < end && is_space(value[begin]))
    ++begin;
  while (end > begin && is_space(value[end - 1]))
    --end;
  if (parse_mailbox(value.substr(begin, end - begin), true))
    places.emplace_back(begin, end - begin);
}

}  // namespace

std::vector<std::pair<std::size_t, std::size_t>> address_places(std::string_view value) {
  std::vector<std::pair<std::size_t, std::size_t>> places;
  std::size_t begin = 0;  // of the item at hand
  std::size_t depth = 0;  // of comments
  std::size_t open = value.npos;
  std::size_t comment = value.npos;  // where a trailing comment began
  bool quoted = false;
  const auto close_item = [&](std::size_t end) {
    if (open == value.npos)
      add_place(value, begin, std::min(end, comment), places);
    open = comment = value.npos;
  };
  for (std::size_t at = 0; at < value.size(); ++at) {
    const char c = value[at];
    if ((quoted || depth > 0) && c == '\\') {
      ++at;
    } else if (quoted || (c == '"' && depth == 0)) {
      if (c == '"')
        quoted = !quoted;
    } else if (c == '(') {
      if (depth++ == 0 && comment == value.npos)
        comment = at;
    } else if (depth > 0) {
      depth -= c == ')' ? 1U : 0U;
    } else if (c == '<') {
      open = at + 1;
    } else if (c == '>' && open != value.npos) {
      add_place(value, open, at, places);
    } else if (c == ',' || c == ';') {
      close_item(at);
      begin = at + 1;
    } else if (c == ':' && open == value.npos) {
      begin = at + 1;  // behind the name of a group, and its comments
      comment = value.npos;
    }
  }
  close_item(value.size());
  return places;
}

bool has_recipient(const Envelope& envelope, std::string_view address) {
  return std::any_of(envelope.recipients.begin(), envelope.recipients.end(),
                     [&](const Recipient& one) { return one.address == address; });
}

std::string check_rewrite_value(std::string_view value) {
  const auto text = trim(value);
  const auto whole = text.starts_with('@')                 ? "x" + std::string(text)
                     : text.find('@') == std::string::npos ? std::string(text) + "@x"
                                                           : std::string(text);
  // What "$1" will stand for only the match tells.
  if (text.find('$') != std::string::npos || parse_mailbox(whole, true))
    return {};
  return "\"" + escaped(text, 80) + "\" is not an address; expected user@domain, user or @domain";
}

Result<Rewriter::Step> Rewriter::changed(const std::string& address, const Find& find) const {
  const auto domain = domain_of(address);
  if (!find || domain.empty())
    return Step{address, {}};
  const auto local_part = std::string(local_part_of(address));
  const auto cut = local_part.find_first_of(rules_.separator);
  const bool has_extension = cut != local_part.npos && cut > 0 && local_part.front() != '"';
  const auto extension = has_extension ? local_part.substr(cut) : std::string();
  const auto name = has_extension ? local_part.substr(0, cut) : local_part;
  struct Try {
    std::string key;
    bool whole, drops_extension;
  };
  std::vector<Try> tries = {{local_part + "@" + domain, true, false}};
  if (has_extension)
    tries.push_back({name + "@" + domain, false, true});
  if (rules_.is_local && rules_.is_local(domain))
    tries.push_back({name, false, has_extension});
  tries.push_back({"@" + domain, false, false});
  for (const auto& one : tries) {
    auto found = find(one.key, one.whole);
    if (!found)
      return found.error();
    if (!found->has_value())
      continue;
    auto value = std::string(trim((*found)->value));
    if (value.starts_with('@'))
      value = local_part + value;
    else if (value.find('@') == value.npos)
      value += "@" + domain;
    const auto mailbox = parse_mailbox(value, true);
    if (!mailbox)
      return Error(Errc::malformed, (*found)->where + ": \"" + (*found)->value.substr(0, 80) +
                                        "\" is not an address to rewrite to");
    if (one.drops_extension && local_part_of(value).find_first_of(rules_.separator) == value.npos)
      value.insert(local_part_of(value).size(), extension);
    return Step{std::move(value), std::move((*found)->where)};
  }
  return Step{address, {}};
}

Result<std::string> Rewriter::sender(const std::string& address) const {
  auto step = changed(address, rules_.sender);
  if (!step)
    return step.error();
  return std::move(step->address);
}

Result<Rewriter::Step> Rewriter::recipient(const std::string& address) const {
  return changed(address, rules_.recipient);
}

Result<bool> Rewriter::apply(Recipient& recipient) const {
  auto step = changed(recipient.address, rules_.recipient);
  if (!step)
    return step.error();
  if (step->address == recipient.address)
    return false;
  if (recipient.original_recipient.empty() && is_ascii(recipient.address))
    recipient.original_recipient = "rfc822;" + encode_xtext(recipient.address);
  recipient.address = std::move(step->address);
  return true;
}

std::string Rewriter::masqueraded(const std::string& address) const {
  const auto domain = domain_of(address);
  const std::string local_part(local_part_of(address));
  if (is_one_of(rules_.masquerade_except, local_part))
    return address;
  for (const auto& outside : rules_.masquerade)
    if (domain.size() > outside.size() && domain.ends_with("." + outside))
      return local_part + "@" + outside;
  return address;
}

bool Rewriter::changes_headers() const {
  return rules_.sender || rules_.recipient || !rules_.masquerade.empty();
}

Result<std::string> Rewriter::either(const std::string& address, bool is_sender) const {
  const auto fresh = changed(address, is_sender ? rules_.sender : rules_.recipient);
  if (!fresh)
    return fresh.error();
  return masqueraded(fresh->address);
}

Result<std::string> Rewriter::field(std::string_view whole, bool is_sender) const {
  const auto colon = whole.find(':');
  const auto value = whole.substr(colon + 1);
  std::string out(whole.substr(0, colon + 1));
  std::size_t copied = 0;
  for (const auto& [begin, size] : address_places(value)) {
    auto fresh = either(std::string(value.substr(begin, size)), is_sender);
    if (!fresh)
      return fresh.error();
    out.append(value.substr(copied, begin - copied)).append(*fresh);
    copied = begin + size;
  }
  return out.append(value.substr(copied));
}

Result<std::string> Rewriter::header(std::string_view section) const {
  std::string out;
  HeaderScanner scanner(section);
  HeaderField one;
  while (scanner.next(one)) {
    const bool is_sender = is_one_of(kSenders, one.name);
    if (!is_sender && !is_one_of(kRecipients, one.name)) {
      out.append(one.whole);
      continue;
    }
    auto fresh = field(one.whole, is_sender);
    if (!fresh)
      return fresh.error();
    out.append(*fresh);
  }
  return out.append(section.substr(scanner.consumed()));
}

}  // namespace postrider::mail
