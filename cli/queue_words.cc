#include "cli/queue_words.h"

#include "base/text.h"
#include "mail/message_id.h"

namespace postrider::cli {

namespace {

std::string quoted(const std::string& word) {
  return "\"" + escaped(word, 60) + "\"";
}

// A second one would not add messages but leave the first out.
std::string set_once(std::optional<std::string>& member, const std::string& word,
                     const char* option) {
  if (member)
    return quoted(word) + " is one too many: " + option + " " + quoted(*member) + " is given";
  member = word;
  return {};
}

std::string add_word(const std::string& word, daemon::FilterText& filter) {
  if (const auto id = unmarked_id(word); mail::parse_message_id(id)) {
    filter.ids.push_back(id);
    return {};
  }
  if (is_bare_word(word))
    return quoted(word) +
           " is neither a queue id (11 letters and digits) nor an address nor a domain; "
           "for a domain without a dot use --domain";
  if (word.find('@') != word.npos)
    return set_once(filter.to, word, "--to");
  return set_once(filter.domain, word, "--domain");
}

}  // namespace

std::string unmarked_id(const std::string& word) {
  const bool is_marked = word.ends_with('*') || word.ends_with('!');
  auto id = word.substr(0, word.size() - (is_marked ? 1 : 0));
  return mail::parse_message_id(id) ? id : word;
}

bool is_bare_word(const std::string& word) {
  return !mail::parse_message_id(unmarked_id(word)) && word.find_first_of("@.") == word.npos;
}

std::string add_words(const std::vector<std::string>& words, daemon::FilterText& filter) {
  for (const auto& word : words)
    if (auto wrong = add_word(word, filter); !wrong.empty())
      return wrong;
  return {};
}

}  // namespace postrider::cli
