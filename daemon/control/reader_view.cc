#include "daemon/control/reader_view.h"

#include "base/text.h"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>

#include <algorithm>

namespace postrider::daemon {

namespace {

namespace json = boost::json;

// By these mail is asked for: what is found is shown.
constexpr std::string_view kNames[] = {
    "address", "sender",  "envelope_sender", "recipient", "recipients",
    "domain",  "client",  "queue_id",        "id",        "from",
    "to",      "orig_to", "message_id",      "host",      "helo",
    "name",    "user"};

bool is_name(std::string_view member) {
  return std::find(std::begin(kNames), std::end(kNames), member) != std::end(kNames);
}

bool is_word(char c) {
  const char lower = ascii_lower(c);
  return (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
         c == '.' || c == '/' || c == '~' || static_cast<unsigned char>(c) >= 0x80;
}

// As delivery/local/agents/command_exit.h begins it, in the middle of a reason.
constexpr std::string_view kCommandOutput = ". Command output: ";

// Of mail, rather than a path or a sentence with one: no domain holds a slash, and no local part begins one within it.
bool is_address(std::string_view text) {
  const auto at = text.rfind('@');
  if (at == text.npos || at == 0 || text.find_first_of(" \t") != text.npos)
    return false;
  for (auto slash = text.find('/', 1); slash != text.npos; slash = text.find('/', slash + 1))
    if (slash > at || !is_word(text[slash - 1]))
      return text.front() == '"' && slash < at;
  return true;
}

// The place of a socket, which sites and hosts may have for a name.
bool is_place(std::string_view text) {
  return !is_address(text) && (text.starts_with('/') || text.find(":/") != text.npos);
}

// Where a sentence goes on behind a path that may hold blanks, too. To hide a word too many is right.
std::size_t end_with_blanks(std::string_view text, std::size_t at) {
  constexpr std::string_view kBreaks[] = {
      ": ",    "; ",     ", ",    " (",   " with ", " and ", " or ",   " is ",     " are ",
      " was ", " were ", " has ", " as ", " for ",  " by ",  " does ", " cannot",  " could",
      " /",    " \"",    " '",    "\n",   " line ", " http", " said",  " refused", " did "};
  auto end = text.size();
  for (const auto each : kBreaks)
    end = std::min(end, text.find(each, at));
  // A slash within a word further on belongs to it, too, unless a URL or another path is there.
  for (auto slash = text.find('/', at + 1); slash != text.npos; slash = text.find('/', slash + 1)) {
    const auto blank = text.find_last_of(" \t", slash);
    if (blank == text.npos || blank < at)
      continue;
    const auto word_end = std::min(text.find_first_of(" \t", slash), text.size());
    const auto word = text.substr(blank + 1, word_end - blank - 1);
    if (text.substr(at, blank - at).find(": ") != text.npos || !is_word(text[slash - 1]) ||
        word.find("//") != word.npos)
      break;
    const auto mark = text.find_last_not_of(":.,;)", word_end - 1);
    end = std::max(end, mark + 1);
    slash = word_end - 1;
  }
  while (end > at + 1 && text[end - 1] == '.')
    --end;
  return end;
}

// Of the word that begins there. A command has arguments, which are a user's own.
std::size_t end_of_path(std::string_view text, std::size_t at) {
  if (text.substr(0, at).find("command") != text.npos)
    return std::min({text.find(" as ", at), text.find(": ", at), text.size()});
  const char before = at == 0 ? ' ' : text[at - 1];
  if (before == '"' || before == '\'' || before == '`')
    if (const auto end = text.find(before == '`' ? '`' : before, at); end != text.npos)
      return end;
  auto end = std::min(text.find_first_of(" \t\r\n\"'`<>|;,:()[]{}", at), text.size());
  while (end > at + 1 && text[end - 1] == '.')
    --end;
  return end;
}

bool is_url(std::string_view text, std::size_t at) {
  const bool has_scheme = at > 0 && text[at - 1] == ':' && text.substr(at).starts_with("//");
  if (!has_scheme || text.substr(at).starts_with("///"))
    return false;  // of a socket: there is no host
  std::size_t begin = at - 1;
  while (begin > 0 && is_word(text[begin - 1]) && text[begin - 1] != '/')
    --begin;
  return !equals_ignoring_case(text.substr(begin, at - 1 - begin), "file");
}

bool is_network(std::string_view path) {
  return path.size() <= 4 && path.size() > 1 &&
         std::all_of(path.begin() + 1, path.end(), [](char c) { return c >= '0' && c <= '9'; });
}

void hide(json::value& value, std::string_view member) {
  if (auto* object = value.if_object()) {
    for (auto& each : *object)
      hide(each.value(), each.key());
  } else if (auto* array = value.if_array()) {
    for (auto& each : *array)
      hide(each, member);
  } else if (auto* text = value.if_string();
             text != nullptr && (is_place(*text) || (!is_name(member) && !is_address(*text)))) {
    // What a command says is its user's, whose mail it was for.
    if (const auto said = text->find(kCommandOutput); said != json::string::npos) {
      text->resize(said + kCommandOutput.size());
      text->append(kHiddenOutput);
    }
    if (text->find('/') != json::string::npos)
      *text = without_paths(*text);
  }
}

}  // namespace

std::string without_paths(std::string_view text) {
  std::string shown;
  for (std::size_t at = 0; at < text.size();) {
    const auto slash = text.find('/', at);
    if (slash == text.npos) {
      shown.append(text.substr(at));
      break;
    }
    shown.append(text.substr(at, slash - at));
    const auto end = std::max(end_of_path(text, slash), slash + 1);
    const auto path = text.substr(slash, end - slash);
    const bool begins = slash == 0 || !is_word(text[slash - 1]);
    const bool is_path = begins && path.size() > 1 && !is_url(text, slash) && !is_network(path);
    shown.append(is_path ? kHiddenPath : path);
    const auto behind = text.substr(end, 2);
    const bool may_go_on = behind.starts_with(' ') || behind == ", " || behind == "; ";
    at = is_path && may_go_on ? std::max(end, end_with_blanks(text, slash)) : end;
  }
  return shown;
}

std::string for_reader(std::string_view lines) {
  if (lines.find('/') == lines.npos && lines.find(kCommandOutput) == lines.npos)
    return std::string(lines);
  std::string shown;
  while (!lines.empty()) {
    const auto end = std::min(lines.find('\n'), lines.size());
    const auto line = lines.substr(0, end);
    lines.remove_prefix(std::min(end + 1, lines.size()));
    boost::system::error_code failed;
    auto value = json::parse(line, failed);
    if (failed)
      continue;  // what is not understood is not shown
    hide(value, "");
    shown.append(json::serialize(value)).push_back('\n');
  }
  return shown;
}

}  // namespace postrider::daemon
