#include "delivery/local/addresses/address_list.h"

#include "base/text.h"
#include "delivery/local/agents/local_target.h"
#include "delivery/local/agents/mailbox_pattern.h"
#include "mail/address.h"

#include <algorithm>

namespace postrider::delivery {

namespace {

constexpr std::string_view kInclude = ":include:";
constexpr std::string_view kLmtp = "lmtp:";
constexpr std::string_view kMailboxes[] = {"maildir:", "mbox:", "lmtp:", "command:"};
constexpr std::size_t kMostPath = 3900;
constexpr std::size_t kMostComments = 20;  // within each other

bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

std::string_view stripped(std::string_view text) {
  while (!text.empty() && is_space(text.front()))
    text.remove_prefix(1);
  while (!text.empty() && is_space(text.back()))
    text.remove_suffix(1);
  return text;
}

// What no queued recipient may hold (mail/envelope.h).
bool has_control(std::string_view text) {
  return std::any_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

// Takes one item after the other from a list.
class ListParser {
 public:
  ListParser(std::string_view text, const ListRules& rules) : rest_(text), rules_(rules) {}

  Result<std::vector<ListItem>> parse() {
    for (;;) {
      if (!skip_space())
        return malformed("the end of a comment is missing");
      if (rest_.empty())
        return std::move(items_);
      if (rest_.front() == ',') {
        rest_.remove_prefix(1);
        continue;
      }
      if (items_.size() >= rules_.most)
        return malformed("more than " + std::to_string(rules_.most) + " items");
      if (auto problem = take_item(); !problem.empty())
        return malformed(std::move(problem));
      if (!skip_space())
        return malformed("the end of a comment is missing");
      if (!rest_.empty() && rest_.front() != ',')
        return malformed("a comma is missing before \"" + escaped(rest_, 30) + "\"");
    }
  }

 private:
  // Over comments too; false: one of them does not end.
  bool skip_space() {
    std::size_t depth = 0;
    while (!rest_.empty()) {
      const char c = rest_.front();
      if (c == '(')
        ++depth;
      else if (c == ')' && depth > 0)
        --depth;
      else if (c == '\\' && depth > 0 && rest_.size() > 1)
        rest_.remove_prefix(1);
      else if (depth == 0 && !is_space(c))
        return true;
      if (depth > kMostComments)
        return false;
      rest_.remove_prefix(1);
    }
    return depth == 0;
  }

  // A quoted string at the start, its meaning into `out`; false without its end.
  bool take_quoted(std::string& out) {
    std::size_t at = 1;
    for (; at < rest_.size() && rest_[at] != '"'; ++at) {
      if (rest_[at] == '\\' && at + 1 < rest_.size())
        ++at;
      out.push_back(rest_[at]);
    }
    if (at >= rest_.size())
      return false;
    rest_.remove_prefix(at + 1);
    return true;
  }

  std::string_view take_until_comma() {
    const auto text = rest_.substr(0, rest_.find(','));
    rest_.remove_prefix(text.size());
    return stripped(text);
  }

  std::string take_item() {
    const char first = rest_.front();
    if (first == '"')
      return take_quoted_item();
    if (first == '|') {
      rest_.remove_prefix(1);
      std::string command;
      if (rest_.starts_with('"')) {
        if (!take_quoted(command))
          return "the closing quote is missing";
      } else {
        command = take_until_comma();
      }
      return add_command(std::move(command));
    }
    if (first == '/' || first == ':')
      return add_special(std::string(take_until_comma()));
    for (const auto scheme : kMailboxes)
      if (starts_with_ignoring_case(rest_, scheme))
        return add_special(std::string(take_until_comma()));
    return take_address();
  }

  std::string take_quoted_item() {
    const auto whole = rest_;
    std::string meaning;
    if (!take_quoted(meaning))
      return "the closing quote is missing";
    if (rest_.starts_with('@')) {  // a quoted local part
      rest_ = whole;
      return take_address();
    }
    const auto after = rest_.find_first_not_of(" \t");
    if (after != rest_.npos && rest_[after] == '<') {  // a name before an address
      rest_ = whole;
      return take_address();
    }
    if (meaning.starts_with('|'))
      return add_command(std::string(stripped(std::string_view(meaning).substr(1))));
    if (meaning.starts_with('/') || meaning.starts_with(':'))
      return add_special(std::move(meaning));
    for (const auto scheme : kMailboxes)
      if (starts_with_ignoring_case(meaning, scheme))
        return add_special(std::move(meaning));
    const bool literal = meaning.starts_with('\\');
    return add_address(literal ? meaning.substr(1) : meaning, literal, true);
  }

  // Up to a comma outside of quotes, brackets and comments.
  std::string take_address() {
    std::string text;
    bool quoted = false;
    bool bracket = false;
    std::size_t at = 0;
    for (; at < rest_.size(); ++at) {
      const char c = rest_[at];
      if (quoted && c == '\\' && at + 1 < rest_.size()) {
        text.push_back(c);
        text.push_back(rest_[++at]);
        continue;
      }
      if (c == '"')
        quoted = !quoted;
      if (!quoted && (c == '(' || c == ','))
        break;
      bracket = bracket || (!quoted && c == '<');
      text.push_back(c);
    }
    if (quoted)
      return "the closing quote is missing";
    rest_.remove_prefix(at);
    auto address = stripped(text);
    if (bracket) {
      const auto open = address.rfind('<');
      if (!address.ends_with('>'))
        return "\">\" is missing behind an address";
      address = stripped(address.substr(open + 1, address.size() - open - 2));
    }
    const bool literal = address.starts_with('\\');
    return add_address(std::string(literal ? address.substr(1) : address), literal, false);
  }

  std::string add_address(std::string text, bool literal, bool was_quoted) {
    const auto shown = "\"" + escaped(text, 60) + "\"";
    if (text.empty())
      return "an address is empty";
    if (was_quoted || text.find('@') == text.npos) {
      if (!was_quoted && text.find_first_of(" \t\"<>;:\\") != text.npos)
        return shown + " is not a name; a comma is missing, or quotes";
      // Brackets make no name of what begins as a command, a file or an included list.
      const bool is_special = std::string_view("|/:").find(text.front()) != std::string_view::npos;
      if (is_special || has_control(text) || text.size() > 254 || !is_utf8(text))
        return shown + " is not a local name";
      items_.push_back({ListItem::Kind::address, mail::quoted_local_part(text), literal});
      return {};
    }
    auto mailbox = mail::parse_mailbox(text, true);
    if (!mailbox)
      return shown + " is not an address: " + mailbox.error().step();
    items_.push_back({ListItem::Kind::address, *std::move(mailbox), literal});
    return {};
  }

  std::string add_command(std::string text) {
    if (!rules_.commands)
      return "commands are not allowed here";
    std::replace(text.begin(), text.end(), '\t', ' ');
    if (has_control(text))
      return "the command \"" + escaped(text, 60) + "\" has a control character";
    if (text.size() > kMostPath)
      return "the command is longer than " + std::to_string(kMostPath) + " octets";
    if (const auto arguments = split_command(text); !arguments)
      return "the command \"" + escaped(text, 60) + "\": " + arguments.error().step();
    items_.push_back({ListItem::Kind::command, std::move(text), false});
    return {};
  }

  std::string add_special(std::string text) {
    // What is written as a place for LMTP may have a password.
    const bool is_lmtp = starts_with_ignoring_case(text, kLmtp);
    const auto shown = "\"" + (is_lmtp ? std::string(kLmtp) : escaped(text, 60)) + "\"";
    if (text.size() > kMostPath || has_control(text))
      return shown + " is not a path";
    if (starts_with_ignoring_case(text, kInclude)) {
      const auto path = stripped(std::string_view(text).substr(kInclude.size()));
      if (!rules_.includes)
        return ":include: is not allowed here";
      if (!path.starts_with('/'))
        return ":include: needs an absolute path";
      items_.push_back({ListItem::Kind::include, std::string(path), false});
      return {};
    }
    if (text.starts_with(':'))
      return shown + " is not allowed; expected :include:/path";
    if (text.starts_with('/')) {
      if (!rules_.commands)
        return "files are not allowed here";
      if (text.find("/../") != text.npos || text.ends_with("/.."))
        return shown + " has \"..\" in its path";
      items_.push_back({ListItem::Kind::file, std::move(text), false});
      return {};
    }
    if (!rules_.mailboxes)
      return shown + " is allowed in tables of virtual users alone";
    if (auto problem = check_place(text); !problem.empty())
      return problem;
    items_.push_back({ListItem::Kind::mailbox, std::move(text), false});
    return {};
  }

  static std::string check_place(std::string_view text) {
    if (starts_with_ignoring_case(text, kLmtp)) {
      const auto checked = check_lmtp(text.substr(kLmtp.size()));
      return checked ? std::string() : checked.error().step();
    }
    if (starts_with_ignoring_case(text, "command:")) {
      const auto arguments = split_command(text.substr(text.find(':') + 1));
      return arguments ? std::string() : arguments.error().step();
    }
    const auto path = text.substr(text.find(':') + 1);
    if (!path.starts_with('/') || path.find("/../") != path.npos || path.ends_with("/.."))
      return "\"" + escaped(text, 60) + "\" needs an absolute path";
    return {};
  }

  std::string_view rest_;
  const ListRules& rules_;
  std::vector<ListItem> items_;
};

}  // namespace

Result<std::vector<ListItem>> parse_list(std::string_view text, const ListRules& rules) {
  return ListParser(text, rules).parse();
}

ListFile parse_list_file(std::string_view text, const ListRules& rules) {
  constexpr std::string_view kMark = "\xef\xbb\xbf";  // as editors of other systems begin a file
  if (text.starts_with(kMark))
    text.remove_prefix(kMark.size());
  ListFile file;
  std::size_t number = 0;
  while (!text.empty()) {
    const auto end = text.find('\n');
    const auto line = stripped(text.substr(0, end));
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
    ++number;
    if (line.empty() || line.front() == '#')
      continue;
    auto items = parse_list(line, rules);
    if (!items) {
      file.problems.push_back(std::to_string(number) + ": " + items.error().step());
      continue;
    }
    for (auto& item : *items) {
      if (file.items.size() >= rules.most) {
        file.problems.push_back(std::to_string(number) + ": more than " +
                                std::to_string(rules.most) + " items");
        return file;
      }
      file.items.push_back({std::move(item), number});
    }
  }
  return file;
}

std::string check_alias_value(std::string_view value) {
  const auto items = parse_list(value, ListRules{});
  return items ? std::string() : items.error().step();
}

std::string check_alias_name(std::string_view name) {
  if (name == "*")
    return "\"*\" matches nothing; for unknown users there is local.catch_all";
  if (name.find('@') != name.npos)
    return "\"" + escaped(name, 80) +
           "\" matches nothing: names of aliases have no domain, tables of local.virtual do";
  return {};
}

std::string check_virtual_value(std::string_view value) {
  ListRules rules;
  rules.commands = false;
  rules.includes = false;
  rules.mailboxes = true;
  if (value.starts_with('@'))  // "@other.example": the same name in another domain
    return mail::is_host_name(value.substr(1)) ? std::string() : "\"@\" needs a domain";
  const auto items = parse_list(value, rules);
  return items ? std::string() : items.error().step();
}

}  // namespace postrider::delivery
