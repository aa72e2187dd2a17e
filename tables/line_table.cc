// The forms "name: value", "key value" and inline: all entries in one hash table.
#include "base/case_fold.h"
#include "base/quoted.h"
#include "base/text.h"
#include "tables/cdb.h"
#include "tables/lines.h"
#include "tables/table_source.h"

#include <algorithm>
#include <unordered_map>

namespace postrider::tables {

namespace {

constexpr std::size_t kMostProblems = 100;

struct Stored {
  std::string value;
  std::size_t line = 0;
  std::string problem;  // then the value does not count
};

class LineTable : public Table {
 public:
  std::string path;  // empty: inline
  uid_t owner = 0;
  std::unordered_map<std::string, Stored> entries;
  std::size_t wrong = 0;          // of the entries
  std::vector<std::string> told;  // the first problems
  LineTally tally;

  Result<std::optional<Entry>> find(std::string_view key) const override {
    const auto found = entries.find(folded_case(key));
    if (found == entries.end())
      return std::optional<Entry>();
    if (!found->second.problem.empty())
      return problem_at(path, found->second.line, found->second.problem);
    Entry entry;
    entry.value = found->second.value;
    entry.where = path.empty() ? "inline" : path + ":" + std::to_string(found->second.line);
    entry.owner = owner;
    if (!path.empty())
      entry.folder = folder_of(path);
    return std::optional<Entry>(std::move(entry));
  }
  std::size_t size() const override { return entries.size() - wrong; }
  std::vector<std::string> problems() const override { return told; }

  // The problem, or empty.
  std::string add(KeyValue entry, std::size_t line, const Options& options) {
    if (options.check_key)
      if (auto problem = options.check_key(entry.key); !problem.empty()) {
        tally.add(LineTally::Line::useless);
        return problem;
      }
    std::string wrong_value = options.check ? options.check(entry.value) : std::string();
    tally.add(wrong_value.empty() ? LineTally::Line::entry : LineTally::Line::wrong);
    if (!wrong_value.empty() && !options.lenient)
      return wrong_value;
    const auto [at, is_new] =
        entries.try_emplace(entry.key, Stored{std::move(entry.value), line, wrong_value});
    if (is_new) {
      wrong += wrong_value.empty() ? 0 : 1;
      return wrong_value;
    }
    return quote_value(at->first, 80) + " is given twice" +
           (line > 0 ? ", first in line " + std::to_string(at->second.line) : "");
  }

  // Something is said of that name, but not what: lookups fail for now.
  void add_wrong(const std::string& key, std::size_t line, const std::string& problem) {
    if (entries.try_emplace(key, Stored{{}, line, problem}).second)
      ++wrong;
  }

  void tell(std::size_t line, const std::string& problem) {
    if (told.size() < kMostProblems)
      told.push_back(problem_at(path, line, problem).step());
  }
};

// Up to the next comma outside of braces.
std::string_view take_item(std::string_view& rest) {
  std::size_t depth = 0;
  std::size_t at = 0;
  for (; at < rest.size(); ++at) {
    if (rest[at] == '{')
      ++depth;
    else if (rest[at] == '}' && depth > 0)
      --depth;
    else if (rest[at] == ',' && depth == 0)
      break;
  }
  const auto item = rest.substr(0, at);
  rest.remove_prefix(std::min(at + 1, rest.size()));
  return trim(item);
}

}  // namespace

namespace {

Result<std::shared_ptr<LineTable>> read_table(const Spec& spec, const Source& source,
                                              const Options& options) {
  if (const auto nul = source.text.find('\0'); nul != source.text.npos) {
    const auto end = source.text.begin() + static_cast<std::ptrdiff_t>(nul);
    const auto line = 1 + std::count(source.text.begin(), end, '\n');
    return problem_at(source.path, static_cast<std::size_t>(line), kNulInLine);
  }
  auto table = std::make_shared<LineTable>();
  table->path = source.path;
  table->owner = source.owner;
  LineReader reader(source.text);
  Line line;
  for (;;) {
    const bool is_line = reader.next(line);
    auto problem = reader.problem();
    if (!is_line && problem.empty())
      break;
    reader.go_on();
    KeyValue entry;
    const auto form =
        spec.kind == Kind::aliases ? split_alias(line.text, entry) : split_entry(line.text, entry);
    if (!is_line || !form.empty())
      table->tally.add(LineTally::Line::wrong);
    if (!is_line && form.empty())
      table->add_wrong(entry.key, line.number, problem);
    else if (is_line && form.empty())
      problem = table->add(std::move(entry), line.number, options);
    else if (is_line)
      problem = form;
    if (!problem.empty() && !options.lenient)
      return problem_at(source.path, line.number, problem);
    if (!problem.empty())
      table->tell(line.number, problem);
  }
  if (const auto why = table->tally.problem(); !why.empty())
    return malformed(table->told.front() + ", and " + why);
  return table;
}

}  // namespace

std::string LineTally::problem() const {
  const auto entries = count(Line::entry);
  const auto useless = count(Line::useless);
  const auto wrong = count(Line::wrong);
  if (entries == 0 && useless + wrong > 0)
    return "no line is right";
  return wrong > entries + useless ? "most lines are wrong" : "";
}

Opened read_lines(const Spec& spec, Source source, const Options& options) {
  auto table = read_table(spec, source, options);
  if (!table)
    return table.error();
  return std::shared_ptr<const Table>(*std::move(table));
}

Result<Entries> read_entries(const Spec& spec, const Options& options,
                             std::vector<std::string>& problems, uid_t* owner) {
  auto source = read_source(spec.path);
  if (!source)
    return source.error();
  if (owner != nullptr)
    *owner = source->owner;
  const auto table = read_table(spec, *source, options);
  if (!table)
    return table.error();
  Entries entries;
  problems = (*table)->told;
  for (const auto& [key, stored] : (*table)->entries) {
    if (stored.value.empty())
      return problem_at(source->path, stored.line, stored.problem);
    entries.emplace_back(key, stored.value);
  }
  std::sort(entries.begin(), entries.end());
  return entries;
}

// "{ a=b, { c = d, e } }": an item with commas of its own stands in braces.
Opened read_inline(const Spec& spec, const Options& options) {
  auto rest = trim(spec.detail);
  if (rest.size() < 2 || !rest.starts_with('{') || !rest.ends_with('}'))
    return malformed("inline: is not a list; expected {key=value, ...}");
  rest = rest.substr(1, rest.size() - 2);
  auto table = std::make_shared<LineTable>();
  while (!rest.empty()) {
    auto item = take_item(rest);
    if (item.empty())
      continue;
    if (item.starts_with('{') && item.ends_with('}'))
      item = trim(item.substr(1, item.size() - 2));
    const auto equals = item.find('=');
    KeyValue entry;
    entry.key = folded_case(trim(item.substr(0, equals)));
    if (equals != item.npos)
      entry.value = trim(item.substr(equals + 1));
    std::string problem = "has no key or no value; expected key=value";
    if (!entry.key.empty() && !entry.value.empty())
      problem = table->add(std::move(entry), 0, options);
    if (!problem.empty())
      return malformed("inline: " + quote_value(item, 80) + ": " + problem);
  }
  return std::shared_ptr<const Table>(std::move(table));
}

}  // namespace postrider::tables
