// Patterns, as in Postfix's pcre_table(5):
//
//   /pattern/flags value     !/pattern/flags value
//   if /pattern/flags ... endif     if !/pattern/flags ... endif
//
// Any other mark but a letter, digit or space may stand for "/". Letters match in any case; the
// flag i turns that off, m, s, x and A, U are Perl's. "$1", "${1}", "$(1)" stand for a group, "$$"
// for "$".
//
// Interpreted, not compiled to machine code: memory stays either writable or executable. Matching
// is limited in steps, depth and memory (attacks.md X17): a pattern that would need more makes the
// lookup fail for now, it never answers wrongly.
#include "base/memory_only.h"
#include "base/text.h"
#include "tables/lines.h"
#include "tables/pattern.h"
#include "tables/table_source.h"

#include <vector>

namespace postrider::tables {

namespace {

constexpr std::size_t kMostKey = 4096;

struct Rule {
  enum class Kind : std::uint8_t { value, begin_if, end_if };
  Kind kind = Kind::value;
  std::size_t line = 0;
  Pattern pattern;
  std::string value;
};

// Takes "$1", "${1}", "$(1)", or "$$" (group -1) at the start; false: it is none of them.
bool take_group(std::string_view& rest, int& group) {
  rest.remove_prefix(1);
  if (rest.starts_with('$')) {
    rest.remove_prefix(1);
    group = -1;
    return true;
  }
  const char close = rest.starts_with('{') ? '}' : rest.starts_with('(') ? ')' : '\0';
  if (close != '\0')
    rest.remove_prefix(1);
  std::size_t digits = 0;
  group = 0;
  while (digits < rest.size() && digits < 3 && rest[digits] >= '0' && rest[digits] <= '9')
    group = group * 10 + (rest[digits++] - '0');
  rest.remove_prefix(digits);
  if (digits == 0 || (close != '\0' && !rest.starts_with(close)))
    return false;
  if (close != '\0')
    rest.remove_prefix(1);
  return true;
}

std::string check_groups(const Rule& rule, bool substitutes) {
  const auto groups = rule.pattern.groups();
  for (std::string_view rest = rule.value; !rest.empty();) {
    const auto dollar = rest.find('$');
    if (dollar == rest.npos)
      return {};
    rest.remove_prefix(dollar);
    int group = 0;
    if (!take_group(rest, group))
      return "a number must follow \"$\", or another \"$\"";
    if (group < 0)
      continue;
    if (!substitutes)
      return "\"$" + std::to_string(group) + "\" is not allowed here: a sender would choose it";
    if (rule.pattern.is_negated() || static_cast<std::uint32_t>(group) > groups)
      return "there is no group $" + std::to_string(group) + " in the pattern";
  }
  return {};
}

// What a sender chose may become a part of an address, and nothing else: no separator of a list,
// no command, no path.
bool is_harmless(std::string_view text) {
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80 && std::isalnum(byte) == 0 &&
        std::string_view("._+-=~@").find(c) == std::string_view::npos)
      return false;
  }
  return true;
}

class PcreTable : public Table {
 public:
  std::string path;
  uid_t owner = 0;
  std::vector<Rule> rules;

  bool has_patterns() const override { return true; }
  std::size_t size() const override { return rules.size(); }

  Result<std::optional<Entry>> find(std::string_view key) const override {
    if (key.size() > kMostKey)
      return std::optional<Entry>();
    if (MemoryOnly::forbids_waiting())  // for the processor: many patterns of many steps
      return Error(Errc::storage, path + ": must be asked");
    std::size_t skipping = 0;  // depth of conditions that do not hold
    for (const auto& rule : rules) {
      if (rule.kind == Rule::Kind::end_if) {
        skipping -= skipping > 0 ? 1 : 0;
        continue;
      }
      if (skipping > 0) {
        skipping += rule.kind == Rule::Kind::begin_if ? 1 : 0;
        continue;
      }
      Pattern::Groups groups;
      auto matched = match(rule, key, groups);
      if (!matched)
        return matched.error();
      if (rule.kind == Rule::Kind::begin_if) {
        skipping = *matched ? 0 : 1;
        continue;
      }
      if (*matched)
        return made(rule, key, groups);
    }
    return std::optional<Entry>();
  }

 private:
  Result<bool> match(const Rule& rule, std::string_view key, Pattern::Groups& groups) const {
    auto matched = rule.pattern.match(key, {}, &groups);
    if (!matched)
      return Error(matched.error().code(),
                   path + ":" + std::to_string(rule.line) + ": " + matched.error().step());
    return matched;
  }

  Result<std::optional<Entry>> made(const Rule& rule, std::string_view key,
                                    const Pattern::Groups& groups) const {
    Entry entry;
    entry.where = path + ":" + std::to_string(rule.line);
    entry.owner = owner;
    entry.folder = folder_of(path);
    for (std::string_view rest = rule.value; !rest.empty();) {
      const auto dollar = rest.find('$');
      entry.value.append(rest.substr(0, dollar));
      rest.remove_prefix(std::min(dollar, rest.size()));
      int group = 0;
      if (rest.empty() || !take_group(rest, group))
        break;
      if (group < 0) {
        entry.value.push_back('$');
        continue;
      }
      const auto [begin, end] = groups[static_cast<std::size_t>(group)];
      if (begin == Pattern::kUnset)
        continue;
      const auto chosen = key.substr(begin, end - begin);
      if (!is_harmless(chosen))
        return std::optional<Entry>();
      entry.value.append(chosen);
    }
    return std::optional<Entry>(std::move(entry));
  }
};

// The problem, or empty.
std::string read_rule(std::string_view text, const Options& options, Rule& rule) {
  if (equals_ignoring_case(text, "endif")) {
    rule.kind = Rule::Kind::end_if;
    return {};
  }
  if (starts_with_ignoring_case(text, "if ") || starts_with_ignoring_case(text, "if\t")) {
    rule.kind = Rule::Kind::begin_if;
    text = trim(text.substr(2));
  }
  if (auto problem = rule.pattern.take(text); !problem.empty())
    return problem;
  if (rule.kind == Rule::Kind::begin_if)
    return text.empty() ? std::string() : "nothing may follow the pattern of \"if\"";
  if (text.empty())
    return "the pattern has no value";
  rule.value = text;
  if (auto problem = check_groups(rule, options.substitutes); !problem.empty())
    return problem;
  const bool is_constant = rule.value.find('$') == rule.value.npos;
  return is_constant && options.check ? options.check(rule.value) : std::string();
}

}  // namespace

Opened read_patterns(const Spec&, const Source& source, const Options& options) {
  auto table = std::make_shared<PcreTable>();
  table->path = source.path;
  table->owner = source.owner;
  LineReader reader(source.text);
  Line line;
  std::size_t depth = 0;
  std::size_t octets = 0;
  while (reader.next(line)) {
    Rule rule;
    rule.line = line.number;
    if (auto problem = read_rule(line.text, options, rule); !problem.empty())
      return problem_at(source.path, line.number, problem);
    if (rule.kind == Rule::Kind::begin_if)
      ++depth;
    if (rule.kind == Rule::Kind::end_if && depth-- == 0)
      return problem_at(source.path, line.number, "\"endif\" without \"if\"");
    octets += rule.pattern.size();
    if (octets > kMostPatterns)
      return problem_at(source.path, line.number,
                        "with this one the patterns would need more than " +
                            std::to_string(kMostPatterns >> 20U) + " MiB");
    table->rules.push_back(std::move(rule));
  }
  if (!reader.problem().empty())
    return problem_at(source.path, reader.number(), reader.problem());
  if (depth > 0)
    return problem_at(source.path, reader.number(), "\"endif\" is missing");
  return std::shared_ptr<const Table>(std::move(table));
}

}  // namespace postrider::tables
