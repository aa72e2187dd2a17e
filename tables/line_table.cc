// The forms "name: value", "key value" and inline: all entries in one hash table.
#include "base/text.h"
#include "tables/cdb.h"
#include "tables/lines.h"
#include "tables/source.h"

#include <algorithm>
#include <unordered_map>

namespace postrider::tables {

namespace {

struct Stored {
  std::string value;
  std::size_t line = 0;
};

class LineTable : public Table {
 public:
  std::string path;  // empty: inline
  uid_t owner = 0;
  std::unordered_map<std::string, Stored> entries;

  Result<std::optional<Entry>> find(std::string_view key) const override {
    const auto found = entries.find(ascii_lower(key));
    if (found == entries.end())
      return std::optional<Entry>();
    Entry entry;
    entry.value = found->second.value;
    entry.where = path.empty() ? "inline" : path + ":" + std::to_string(found->second.line);
    entry.owner = owner;
    if (!path.empty())
      entry.folder = folder_of(path);
    return std::optional<Entry>(std::move(entry));
  }
  std::size_t size() const override { return entries.size(); }

  // The problem, or empty.
  std::string add(KeyValue entry, std::size_t line, const Options& options) {
    if (options.check)
      if (auto problem = options.check(entry.value); !problem.empty())
        return problem;
    const auto [at, is_new] = entries.try_emplace(entry.key, Stored{std::move(entry.value), line});
    if (is_new)
      return {};
    return "\"" + escaped(at->first, 80) + "\" is given twice" +
           (line > 0 ? ", first in line " + std::to_string(at->second.line) : "");
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
  auto table = std::make_shared<LineTable>();
  table->path = source.path;
  table->owner = source.owner;
  LineReader reader(source.text);
  Line line;
  while (reader.next(line)) {
    KeyValue entry;
    auto problem =
        spec.kind == Kind::aliases ? split_alias(line.text, entry) : split_entry(line.text, entry);
    if (problem.empty())
      problem = table->add(std::move(entry), line.number, options);
    if (!problem.empty())
      return problem_at(source.path, line.number, problem);
  }
  if (!reader.problem().empty())
    return problem_at(source.path, reader.number(), reader.problem());
  return table;
}

}  // namespace

Opened read_lines(const Spec& spec, Source source, const Options& options) {
  auto table = read_table(spec, source, options);
  if (!table)
    return table.error();
  return std::shared_ptr<const Table>(*std::move(table));
}

Result<Entries> read_entries(const Spec& spec, const Options& options) {
  auto source = read_source(spec.path);
  if (!source)
    return source.error();
  const auto table = read_table(spec, *source, options);
  if (!table)
    return table.error();
  Entries entries;
  for (const auto& [key, stored] : (*table)->entries)
    entries.emplace_back(key, stored.value);
  std::sort(entries.begin(), entries.end());
  return entries;
}

// "{ a=b, { c = d, e } }": an item with commas of its own stands in braces.
Opened read_inline(const Spec& spec, const Options& options) {
  auto rest = trim(spec.detail);
  if (rest.size() < 2 || !rest.starts_with('{') || !rest.ends_with('}'))
    return malformed("inline: {key=value, ...} is allowed");
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
    entry.key = ascii_lower(trim(item.substr(0, equals)));
    if (equals != item.npos)
      entry.value = trim(item.substr(equals + 1));
    std::string problem = "key=value is allowed";
    if (!entry.key.empty() && !entry.value.empty())
      problem = table->add(std::move(entry), 0, options);
    if (!problem.empty())
      return malformed("inline: \"" + escaped(item, 80) + "\": " + problem);
  }
  return std::shared_ptr<const Table>(std::move(table));
}

}  // namespace postrider::tables
