#include "cli/completion.h"

#include <CLI/CLI.hpp>

namespace postrider::cli {

namespace {

// What may stand behind an option, by the name that the help gives to its value.
struct Values {
  std::string_view name;
  const char* command;
};
constexpr Values kValues[] = {
    {"FILE", "compgen -f -- \"$current\""},
    {"FOLDER", "compgen -d -- \"$current\""},
    {"STATUS", "compgen -W 'active queued deferred held dropped refused' -- \"$current\""},
    {"KEY", "compgen -W 'domain site sender client reason age' -- \"$current\""},
    {"ID", "compgen -W \"$(_postrider_ids)\" -- \"$current\""},
    {"ID|ADDRESS|DOMAIN", "compgen -W \"$(_postrider_ids)\" -- \"$current\""},
};

const char* values_of(const CLI::Option& option) {
  for (const auto& row : kValues)
    if (row.name == option.get_type_name() ||
        (option.get_positional() && row.name == option.get_name()))
      return row.command;
  return nullptr;
}

void add_options_of(const CLI::App& command, std::string& words) {
  for (const auto* option : command.get_options())
    for (const auto& name : option->get_lnames())
      if ((words + " ").find(" --" + name + " ") == words.npos)
        words.append(" --").append(name);
}

// One alternative of the case over the verbs typed so far.
std::string completes(const CLI::App& app, const CLI::App& command, const std::string& path) {
  std::string words;
  for (const auto* verb : command.get_subcommands({}))
    words.append(" ").append(verb->get_name());
  add_options_of(command, words);
  add_options_of(app, words);
  std::string text = "    '" + path + "')\n      offered='" + words.substr(1) + "'\n";
  for (const auto* option : command.get_options())
    if (option->get_positional())
      if (const auto* values = values_of(*option))
        text.append("      [[ $current == -* ]] || _postrider_offer < <(")
            .append(values)
            .append(")\n");
  return text + "      ;;\n";
}

void add_paths(const CLI::App& app, const CLI::App& command, const std::string& path,
               std::string& known, std::string& alternatives) {
  alternatives.append(completes(app, command, path));
  for (const auto* verb : command.get_subcommands({})) {
    const auto below = path + " " + verb->get_name();
    known.append(known.empty() ? "" : " | ").append("'").append(below).append("'");
    add_paths(app, *verb, below, known, alternatives);
  }
}

void add_option_values(const CLI::App& command, std::string& alternatives) {
  for (const auto* option : command.get_options()) {
    if (option->get_positional() || option->get_items_expected_max() == 0)
      continue;
    std::string names;
    for (const auto& name : option->get_lnames())
      names.append(names.empty() ? "" : " | ").append("--").append(name);
    for (const auto& name : option->get_snames())
      names.append(names.empty() ? "" : " | ").append("-").append(name);
    const std::string line = "    " + names + ")";
    if (alternatives.find(line) != alternatives.npos)
      continue;
    const auto* values = values_of(*option);
    alternatives.append(line);
    if (values != nullptr)
      alternatives.append(" _postrider_offer < <(").append(values).append(");");
    alternatives.append(" return ;;\n");
  }
  for (const auto* verb : command.get_subcommands({}))
    add_option_values(*verb, alternatives);
}

constexpr const char* kHelpers = R"sh(_postrider_ids() {
  postrider queue list --json 2>/dev/null | head -n 100 |
    sed -n 's/.*"queue_id":"\([0-9A-Za-z]*\)".*/\1/p'
}

_postrider_offer() {
  local line
  while IFS= read -r line; do COMPREPLY+=("$line"); done
}

)sh";

// What begins the function: the verbs typed so far are collected, and then asked for.
constexpr const char* kBegin = R"sh(_postrider() {
  local current="${COMP_WORDS[COMP_CWORD]}" verbs='' offered='' i
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$verbs ${COMP_WORDS[i]}" in
      )sh";
constexpr const char* kBehindVerbs = R"sh()
        verbs="$verbs ${COMP_WORDS[i]}" ;;
    esac
  done
  case "${COMP_WORDS[COMP_CWORD - 1]}" in
)sh";
constexpr const char* kBehindValues = R"sh(  esac
  case "$verbs" in
)sh";
constexpr const char* kEnd = R"sh(  esac
  _postrider_offer < <(compgen -W "$offered" -- "$current")
}
)sh";

std::string function_of(const CLI::App& app) {
  std::string known;
  std::string alternatives;
  std::string values;
  add_paths(app, app, "", known, alternatives);
  add_option_values(app, values);
  return kHelpers + (kBegin + known) + kBehindVerbs + values + kBehindValues + alternatives + kEnd;
}

}  // namespace

std::string completion_script(const CLI::App& app) {
  return "# Completes postrider(8); printed by `postrider completion`.\n" + function_of(app) +
         "complete -F _postrider postrider\n";
}

}  // namespace postrider::cli
