#include "delivery/local/agents/local_target.h"

#include "base/text.h"

namespace postrider::delivery {

namespace {

constexpr std::size_t kMostCommand = 8192;
constexpr std::size_t kMostWords = 200;
// What a shell would do something with, outside of quotes.
constexpr std::string_view kShellOnly = "|;&<>`$()\n\r";
// And within double quotes.
constexpr std::string_view kShellOnlyQuoted = "`$";

const char* name_of(LocalTarget::Kind kind) {
  switch (kind) {
    case LocalTarget::Kind::maildir:
      return "maildir ";
    case LocalTarget::Kind::mbox:
      return "mbox ";
    case LocalTarget::Kind::lmtp:
      return "lmtp ";
    case LocalTarget::Kind::command:
      break;
  }
  return "command ";
}

Error bad_command(std::string_view text, const char* why) {
  return Error(Errc::malformed, "command " + escaped(text) + ": " + why);
}

// Takes words off the front of a text.
class Words {
 public:
  explicit Words(std::string_view text) : rest_(text) {}

  // False at the end, or with a fault.
  bool next(std::string& word) {
    rest_.remove_prefix(std::min(rest_.find_first_not_of(" \t"), rest_.size()));
    if (rest_.empty())
      return false;
    word.clear();
    while (!rest_.empty() && rest_.front() != ' ' && rest_.front() != '\t' && fault_ == nullptr)
      take(word);
    return fault_ == nullptr;
  }
  const char* fault() const { return fault_; }

 private:
  void take(std::string& word) {
    const char c = pop();
    if (c == '\'' || c == '"')
      take_quoted(word, c);
    else if (c == '\\')
      take_escaped(word);
    else if (kShellOnly.find(c) != kShellOnly.npos)
      fault_ = "no shell reads it; put the text into a script";
    else
      word.push_back(c);
  }
  void take_escaped(std::string& word) {
    if (rest_.empty())
      fault_ = "nothing follows the backslash";
    else
      word.push_back(pop());
  }
  void take_quoted(std::string& word, char quote) {
    while (!rest_.empty() && rest_.front() != quote) {
      const char c = pop();
      if (quote == '"' && c == '\\')
        take_escaped(word);
      else if (quote == '"' && kShellOnlyQuoted.find(c) != kShellOnlyQuoted.npos)
        fault_ = "no shell reads it; put the text into a script";
      else
        word.push_back(c);
    }
    if (rest_.empty())
      fault_ = "a quote is not closed";
    else
      pop();
  }
  char pop() {
    const char c = rest_.front();
    rest_.remove_prefix(1);
    return c;
  }

  std::string_view rest_;
  const char* fault_ = nullptr;
};

}  // namespace

std::string LocalTarget::describe() const {
  if (kind == Kind::command)
    return name_of(kind) + (arguments.empty() ? std::string() : arguments.front());
  return name_of(kind) + place;
}

Result<std::vector<std::string>> split_command(std::string_view text) {
  if (text.size() > kMostCommand || text.find('\0') != text.npos)
    return bad_command(text, "too long, or with a NUL");
  std::vector<std::string> arguments;
  Words words(text);
  for (std::string word; words.next(word);)
    arguments.push_back(word);
  if (words.fault() != nullptr)
    return bad_command(text, words.fault());
  if (arguments.empty() || !arguments.front().starts_with('/'))
    return bad_command(text, "expected the absolute path of a program");
  if (arguments.size() > kMostWords)
    return bad_command(text, "too many arguments");
  return arguments;
}

}  // namespace postrider::delivery
