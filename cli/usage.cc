#include "cli/usage.h"

#include "base/nearest.h"
#include "base/text.h"
#include "cli/output.h"
#include "cli/queue_words.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstdio>
#include <sysexits.h>

namespace postrider::cli {

namespace {

const CLI::App& innermost(const CLI::App& app) {
  const CLI::App* at = &app;
  for (auto below = at->get_subcommands(); !below.empty(); below = at->get_subcommands())
    at = below.front();
  return *at;
}

std::vector<std::string> verbs_below(const CLI::App& command, bool with_aliases) {
  std::vector<std::string> names;
  for (const auto* verb : command.get_subcommands({})) {
    names.push_back(verb->get_name());
    if (with_aliases)
      names.insert(names.end(), verb->get_aliases().begin(), verb->get_aliases().end());
  }
  return names;
}

// Those of the command and of all above it, as each of them may stand behind it.
std::vector<std::string> options_of(const CLI::App& command) {
  std::vector<std::string> names;
  for (const auto* at = &command; at != nullptr; at = at->get_parent())
    for (const auto* option : at->get_options()) {
      for (const auto& name : option->get_lnames())
        names.push_back("--" + name);
      for (const auto& name : option->get_snames())
        names.push_back("-" + name);
    }
  return names;
}

std::string did_you_mean(const std::string& word, const std::vector<std::string>& known) {
  constexpr std::size_t kFewest = 3;  // what is near to less may be anything
  const auto meant = word.size() < kFewest ? std::string() : nearest(word, known);
  return meant.empty() ? "" : ", did you mean " + meant + "?";
}

std::string quoted(const std::string& word) {
  return "\"" + escaped(word, 60) + "\"";
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const auto& word : words)
    text.append(text.empty() ? "" : ", ").append(word);
  return text;
}

std::string unknown_verb(const CLI::App& command, const std::string& word) {
  const auto meant = did_you_mean(word, verbs_below(command, true));
  return "unknown verb " + quoted(word) +
         (meant.empty() ? "; the verbs are " + joined(verbs_below(command, false)) : meant);
}

// The first of what was not understood.
std::string unexpected(const CLI::App& command, const std::vector<std::string>& extras) {
  for (const auto& word : extras)
    if (word.starts_with('-'))
      return "unknown option " + quoted(word) + did_you_mean(word, options_of(command));
  if (command.get_require_subcommand_min() > 0)
    return unknown_verb(command, extras.front());
  const auto& word = extras.front();
  const bool is_path = word.find('/') != word.npos || word.ends_with(".toml");
  return "unexpected argument " + quoted(word) +
         (is_path ? "; a configuration is named with -c" : "");
}

// CLI11's sentence begins with the option's name where a value is missing.
std::string reworded(const CLI::App& command, const CLI::ParseError& error) {
  const std::string text = error.what();
  if (command.get_require_subcommand_min() > 0 && error.get_name() == "RequiredError")
    return "a verb is missing: " + joined(verbs_below(command, false));
  if (error.get_name() == "ConversionError")  // "Could not convert: --bits = abc"
    return text.substr(std::min(text.find("--"), text.size())) + " is not a number";
  if (error.get_name() == "ArgumentMismatch")
    return text.substr(0, text.find(':')) + ": its value is missing";
  if (const auto required = text.find(" is required"); required != text.npos)
    return text.substr(0, required) + " is missing";
  return escaped(text, 200);  // a value of the wrong kind
}

// The command line of the first example, without its comment.
std::string first_example(const CLI::App& command) {
  constexpr std::string_view kHeading = "Examples:\n  ";
  const std::string footer = command.get_footer();
  if (!footer.starts_with(kHeading))
    return {};
  auto line = footer.substr(kHeading.size());
  line.resize(std::min(line.size(), line.find('\n')));
  line.resize(std::min(line.size(), line.find("  #")));
  while (line.ends_with(' '))
    line.pop_back();
  return "; for example: " + line;
}

}  // namespace

std::string typed_verbs(const CLI::App& app) {
  std::string text = app.get_name();
  const CLI::App* at = &app;
  for (auto below = at->get_subcommands(); !below.empty(); below = at->get_subcommands()) {
    at = below.front();
    text.append(" ").append(at->get_name());
  }
  return text;
}

std::string misspelt_verb(const CLI::App& app, const std::string& word) {
  const auto& command = innermost(app);
  const auto meant = did_you_mean(word, verbs_below(command, true));
  return meant.empty() ? "" : "unknown verb " + quoted(word) + meant;
}

int complain_of_usage(const CLI::App& app, const std::string& sentence) {
  const auto verbs = typed_verbs(app);
  complain(verbs, EX_USAGE, sentence);
  const auto hint = "see `" + verbs + " --help`" + first_example(innermost(app)) + "\n";
  std::fputs(hint.c_str(), stderr);
  return EX_USAGE;
}

int complain_of_usage(const CLI::App& app, const CLI::ParseError& error,
                      const std::vector<std::string>& words) {
  const auto& command = innermost(app);
  const auto extras = app.remaining(true);
  for (const auto& word : words)
    if (auto misspelt = misspelt_verb(app, word); !misspelt.empty() && is_bare_word(word))
      return complain_of_usage(app, misspelt);
  return complain_of_usage(app,
                           extras.empty() ? reworded(command, error) : unexpected(command, extras));
}

}  // namespace postrider::cli
