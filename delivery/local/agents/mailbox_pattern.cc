#include "delivery/local/agents/mailbox_pattern.h"

#include "base/case_fold.h"
#include "base/text.h"
#include "delivery/local/agents/pipe_command.h"
#include "delivery/routing/route.h"

namespace postrider::delivery {

namespace {

bool is_control(char c) {
  return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}

constexpr std::pair<std::string_view, std::string MailboxNames::*> kNames[] = {
    {"{user}", &MailboxNames::user},
    {"{local}", &MailboxNames::local},
    {"{extension}", &MailboxNames::extension},
    {"{domain}", &MailboxNames::domain}};

bool stands_for_itself(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '_' || c == '@';
}

// Fills in every {name}, each once: what a name brings is not looked at again.
template <class Fill>
std::string fill_in(std::string_view pattern, const MailboxNames& names, Fill fill) {
  std::string out;
  while (!pattern.empty()) {
    bool found = false;
    for (const auto& [key, member] : kNames) {
      if (!pattern.starts_with(key))
        continue;
      out += fill(key, names.*member);
      pattern.remove_prefix(key.size());
      found = true;
      break;
    }
    if (found)
      continue;
    out.push_back(pattern.front());
    pattern.remove_prefix(1);
  }
  return out;
}

bool take_scheme(std::string_view& pattern, std::string_view scheme) {
  if (!pattern.starts_with(scheme))
    return false;
  pattern.remove_prefix(scheme.size());
  return true;
}

Error bad(std::string_view pattern, const char* why) {
  return Error(Errc::malformed, "mailbox " + escaped(pattern) + ": " + why);
}

// An argument of a command. Names that decide whose mailbox it is must stand as they are; the
// others lose what a shell could read.
Result<std::string> fill_argument(std::string_view argument, const MailboxNames& names) {
  bool altered = false;
  auto filled = fill_in(argument, names, [&](std::string_view key, const std::string& value) {
    auto clean = harmless(value);
    altered = altered || (clean != value && (key == "{user}" || key == "{local}"));
    return clean;
  });
  if (altered)
    return Error(Errc::refused, "a name that may not be an argument: " + escaped(names.local));
  if (filled.starts_with('-') && !argument.starts_with('-'))
    return Error(Errc::refused, "a name that begins with a dash: " + escaped(filled));
  return filled;
}

Result<LocalTarget> command_target(std::string_view text, const MailboxNames& names) {
  const auto words = split_command(text);
  if (!words)
    return words.error();
  LocalTarget target;
  target.kind = LocalTarget::Kind::command;
  target.arguments.push_back(words->front());
  for (std::size_t i = 1; i < words->size(); ++i) {
    auto argument = fill_argument((*words)[i], names);
    if (!argument)
      return argument.error();
    target.arguments.push_back(std::move(*argument));
  }
  return target;
}

Result<LocalTarget> lmtp_target(std::string_view text) {
  const auto hop = lmtp_next_hop(text);
  if (!hop)
    return hop.error();
  LocalTarget target;
  target.kind = LocalTarget::Kind::lmtp;
  target.place = text;
  return target;
}

}  // namespace

std::string local_user(std::string_view local_part, std::string_view separator) {
  local_part = local_part.substr(0, local_part.find_first_of(separator));
  if (local_part.empty() || local_part.size() > 64 || local_part.front() == '-' ||
      local_part.front() == '.')
    return {};
  for (const char c : local_part)
    if (is_control(c) || c == '/' || c == '\\')
      return {};
  return folded_case(local_part);
}

std::string path_component(std::string_view text) {
  constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    if (stands_for_itself(c) || (c == '.' && !out.empty())) {
      out.push_back(c);
      continue;
    }
    const auto octet = static_cast<unsigned char>(c);
    out.push_back('%');
    out.push_back(kHex[octet >> 4]);
    out.push_back(kHex[octet & 15]);
  }
  return out;
}

std::string local_extension(std::string_view local_part, std::string_view separator) {
  const auto at = local_part.find_first_of(separator);
  return at == local_part.npos ? std::string() : std::string(local_part.substr(at + 1));
}

MailboxNames mailbox_names(std::string_view local_part, std::string_view domain,
                           std::string_view separator) {
  return {local_user(local_part, separator), std::string(local_part),
          local_extension(local_part, separator), std::string(domain)};
}

Result<MailboxPlace> mailbox_place(std::string_view pattern, const MailboxNames& names) {
  const auto whole = pattern;
  if (!take_scheme(pattern, "maildir:") && !take_scheme(pattern, "mbox:"))
    return Error(Errc::unsupported, "mailbox " + escaped(pattern));
  while (pattern.size() > 1 && pattern.back() == '/')
    pattern.remove_suffix(1);
  if (pattern.empty() || pattern.front() != '/')
    return bad(whole, "expected an absolute path");
  const auto slash = pattern.substr(0, pattern.find('{')).rfind('/');
  MailboxPlace place;
  place.root = slash == 0 ? "/" : std::string(pattern.substr(0, slash));
  place.folder =
      fill_in(pattern.substr(slash + 1), names, [](std::string_view, const std::string& value) {
        // An empty component would be the folder above.
        return value.empty() ? std::string("%") : path_component(value);
      });
  if (place.folder.empty())
    return bad(whole, "no folder");
  return place;
}

Result<LocalTarget> mailbox_target(std::string_view pattern, const MailboxNames& names) {
  auto rest = pattern;
  if (take_scheme(rest, "lmtp:"))
    return lmtp_target(rest);
  if (take_scheme(rest, "command:"))
    return command_target(rest, names);
  const auto place = mailbox_place(pattern, names);
  if (!place)
    return place.error();
  LocalTarget target;
  target.kind = pattern.starts_with("mbox:") ? LocalTarget::Kind::mbox : LocalTarget::Kind::maildir;
  target.root = place->root;
  target.place = (place->root == "/" ? "" : place->root) + "/" + place->folder;
  return target;
}

Result<void> check_lmtp(std::string_view server) {
  const auto hop = lmtp_next_hop(server);
  return hop ? Result<void>() : hop.error();
}

Result<void> check_pattern(std::string_view pattern) {
  constexpr std::string_view kSchemes[] = {"maildir:", "mbox:", "lmtp:", "command:"};
  bool known = false;
  for (const auto scheme : kSchemes)
    known = known || pattern.starts_with(scheme);
  if (!known)
    return bad(pattern, "expected maildir:, mbox:, lmtp: or command:");
  const auto target = mailbox_target(pattern, {"user", "user", "", "example.org"});
  if (!target)
    return target.error();
  if (target->place.find('{') != target->place.npos)
    return bad(pattern, "expected {user}, {local}, {extension} or {domain} in braces");
  return {};
}

}  // namespace postrider::delivery
