// The one file that knows the TOML library.
#include "base/expected.h"
#include "base/quoted.h"
#include "base/text.h"
#include "base/toml_words.h"
#include "base/url.h"
#include "daemon/config/config_checks.h"
#include "daemon/config/config_file.h"
#include "daemon/config/suggest.h"
#include "daemon/config/values.h"
#include "delivery/routing/route.h"

#include <toml++/toml.h>

#include <algorithm>
#include <tuple>

namespace postrider::daemon {

namespace {

// A number or a boolean where a text with a unit belongs deserves the better sentence.
std::string type_name(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "a list";
    case toml::node_type::string:
      return "a text";
    case toml::node_type::integer:
      return "a whole number";
    case toml::node_type::floating_point:
      return "a number with a fraction";
    case toml::node_type::boolean:
      return "true or false";
    default:
      return "a date or time";
  }
}

// Sets one option from its node. Each call gives nothing, or what is wrong and what is allowed.
struct SetValue {
  const Option& option;
  const toml::node& node;
  Config& config;
  std::size_t index;

  struct ItemProblem {
    unsigned line = 0;
    std::string text;
  };
  std::vector<ItemProblem>& of_items;  // of a list; what is wrong with all of it is given back

  std::string mismatch() const { return but_expected("is " + type_name(node), allowed(option)); }
  std::string outside(const std::string& value) const {
    return but_expected(value + " is out of range", allowed(option));
  }

  std::string operator()(const Text& o) const {
    const auto value = node.value_exact<std::string>();
    if (!value)
      return mismatch();
    auto problem = o.check(*value);
    if (problem.empty())
      o.member(config, index) = *value;
    return problem;
  }

  std::string operator()(const TextList& o) const {
    if (const auto single = node.value_exact<std::string>(); single && o.may_be_one) {
      auto problem = o.check(*single);
      if (problem.empty())
        o.member(config, index) = {*single};
      return problem;
    }
    const auto* list = node.as_array();
    if (list == nullptr)
      return mismatch();
    std::vector<std::string> values;
    for (const auto& item : *list) {
      const auto value = item.value_exact<std::string>();
      auto problem = value ? o.check(*value)
                           : but_expected("has " + type_name(item) + " in it", allowed(option));
      if (problem.empty())
        values.push_back(*value);
      else
        of_items.push_back({item.source().begin.line, std::move(problem)});
    }
    if (of_items.empty())
      o.member(config, index) = std::move(values);
    return {};
  }

  std::string operator()(const Flag& o) const {
    const auto value = node.value_exact<bool>();
    if (!value)
      return mismatch();
    o.member(config, index) = *value;
    return {};
  }

  std::string operator()(const OptionalFlag& o) const {
    const auto value = node.value_exact<bool>();
    if (!value)
      return mismatch();
    o.member(config, index) = *value;
    return {};
  }

  std::string operator()(const Number& o) const {
    const auto value = node.value_exact<std::int64_t>();
    if (!value)
      return mismatch();
    if (*value < 0 || static_cast<std::uint64_t>(*value) < o.least ||
        static_cast<std::uint64_t>(*value) > o.most)
      return outside(std::to_string(*value));
    o.member(config, index) = static_cast<std::uint64_t>(*value);
    return {};
  }

  std::string operator()(const Size& o) const {
    const auto text = node.value_exact<std::string>();
    if (!text)
      return mismatch();
    const auto value = parse_size(*text);
    if (!value)
      return but_expected(quote_value(*text, 80) + " is not a size with a unit", allowed(option));
    if (*value < o.least || *value > o.most)
      return outside(*text);
    o.member(config, index) = *value;
    return {};
  }

  // Reads one duration within its limits into `out`.
  template <class TimeLike>
  std::string read_time(const toml::node& item, const TimeLike& limits, Duration& out) const {
    const auto text = item.value_exact<std::string>();
    if (!text)
      return but_expected("is " + type_name(item), allowed(option));
    const auto value = parse_duration(*text);
    if (!value)
      return but_expected(quote_value(*text, 80) + " is not a duration with a unit",
                          allowed(option));
    if (*value < limits.least || *value > limits.most)
      return outside(*text);
    out = *value;
    return {};
  }

  std::string operator()(const Time& o) const {
    return read_time(node, o, o.member(config, index));
  }

  std::string operator()(const TimeList& o) const {
    const auto* list = node.as_array();
    if (list == nullptr)
      return mismatch();
    if (list->empty())
      return but_expected("is empty", allowed(option));
    std::vector<Duration> values(list->size());
    for (std::size_t i = 0; i < values.size(); ++i)
      if (auto problem = read_time((*list)[i], o, values[i]); !problem.empty())
        of_items.push_back({(*list)[i].source().begin.line, std::move(problem)});
    if (of_items.empty())
      o.member(config, index) = std::move(values);
    return {};
  }

  std::string operator()(const Choice& o) const {
    const auto text = node.value_exact<std::string>();
    if (!text)
      return mismatch();
    const auto found = std::find(o.names.begin(), o.names.end(), *text);
    if (found == o.names.end())
      return but_expected(quote_value(*text, 80) + " is not allowed", allowed(option));
    o.set(config, index, static_cast<std::size_t>(found - o.names.begin()));
    return {};
  }
};

// Walks the document against the option table.
class Reader {
 public:
  Reader(Config& config, Loaded& loaded) : config_(config), loaded_(loaded) {}

  // section: null above the first section.
  void keys(const toml::table& table, const Section* section, std::size_t index) {
    for (auto&& [key, node] : table) {
      const auto line = key.source().begin.line;
      const std::string name(key.str());
      const auto full = section == nullptr ? name : section->name + ("." + name);
      if (const auto* option = find_option(full); option != nullptr && name.find('.') == name.npos)
        value(*option, node, index, line);
      else if (section == nullptr && !name.empty() && find_section(name) != nullptr)
        subsection(*find_section(name), node, line);
      else
        unknown(name, section, index, line);
    }
  }

 private:
  void report(unsigned line, std::string key, std::string_view text) {
    loaded_.problems.push_back({line, std::move(key), without_passwords(text)});
  }

  void value(const Option& option, const toml::node& node, std::size_t index, unsigned line) {
    const auto key = origin_key(option, index);
    loaded_.origins[key] = line;
    std::vector<SetValue::ItemProblem> of_items;
    auto problem = std::visit(SetValue{option, node, config_, index, of_items}, option.value);
    if (!problem.empty())
      report(line, key, std::move(problem));
    for (auto& one : of_items)
      report(one.line, key, std::move(one.text));
  }

  void subsection(const Section& section, const toml::node& node, unsigned line) {
    if (!section.repeats) {
      if (const auto* table = node.as_table(); table != nullptr)
        return keys(*table, &section, 0);
      const auto* list = node.as_array();
      const bool doubled = list != nullptr && list->is_homogeneous(toml::node_type::table);
      const std::string name(section.name);
      return report(line, name,
                    doubled ? but_expected("is written as [[" + name + "]]", "[" + name + "]")
                            : but_expected("is " + type_name(node), "the section [" + name + "]"));
    }
    const auto* list = node.as_array();
    if (list == nullptr || !std::all_of(list->begin(), list->end(),
                                        [](const toml::node& item) { return item.is_table(); }))
      return report(
          line, section.name,
          but_expected("is " + type_name(node), "sections [[" + std::string(section.name) + "]]"));
    for (const auto& item : *list)
      repeated(section, *item.as_table());
  }

  void repeated(const Section& section, const toml::table& table) {
    const auto index = section.count(config_);
    section.append(config_);
    keys(table, &section, index);
    for (const auto& option : options())
      if (option.required && section_of(option) == section.name &&
          !table.contains(name_in_section(option)))
        report(table.source().begin.line, origin_key(option, index),
               but_expected("is missing", "one in every [[" + std::string(section.name) + "]]"));
  }

  void unknown(const std::string& name, const Section* section, std::size_t index, unsigned line) {
    auto full = escaped(quotable(name), 80);
    if (section != nullptr)
      full = section->name + (section->repeats ? "[" + std::to_string(index) + "]." : ".") + full;
    report(line, full, unknown_key(name, section));
  }

  Config& config_;
  Loaded& loaded_;
};

// The document without the lines of a syntax error, so that the rest can be looked at. A section
// that is given twice goes with all its lines.
std::string without(std::string_view text, unsigned line) {
  std::string out;
  unsigned number = 0;
  bool in_section = false;
  for (const auto row : split(text, '\n')) {
    ++number;
    const bool is_header = trim(row).starts_with('[');
    if (number == line)
      in_section = is_header;
    else if (is_header)
      in_section = false;
    if (number != line && !in_section)
      out.append(row);
    out.push_back('\n');
  }
  return out;
}

// "cannot redefine existing string 'hostname'" -> hostname; empty if it is another error.
std::string redefined_key(std::string_view description) {
  if (description.find("redefine") == std::string_view::npos)
    return {};
  const auto last = description.rfind('\'');
  const auto first = last == std::string_view::npos || last == 0
                         ? std::string_view::npos
                         : description.rfind('\'', last - 1);
  return first == std::string_view::npos
             ? std::string("key")
             : escaped(description.substr(first + 1, last - first - 1), 80);
}

// Parses as far as it goes: a key that is given twice is reported and left out, and so is one line
// that is not TOML at all. `broken` when something else than duplicates was left out.
struct Syntax {
  toml::table table;
  bool complete = false;  // the table is what remains after the problems; else it is empty
};

Syntax parse_syntax(std::string text, Loaded& loaded) {
  constexpr int kMostRepairs = 50;
  bool broken = false;
  for (int repairs = 0; repairs < kMostRepairs; ++repairs) {
    try {
      return {toml::parse(text), true};
    } catch (const toml::parse_error& error) {
      const auto line = error.source().begin.line;
      const auto key = redefined_key(error.description());
      if (broken || (key.empty() && !loaded.problems.empty()))
        return {};  // may be a consequence of what was left out
      broken = key.empty();
      loaded.problems.push_back(broken
                                    ? Problem{line, "", toml_problem(error.description())}
                                    : Problem{line, key, but_expected("is given twice", "once")});
      text = without(text, line);
    }
  }
  return {};
}

// The domain of origin, of a file its first line; or nothing, and what is wrong is reported.
std::string find_origin(const Config& config, const Machine& machine, Loaded& loaded) {
  const auto& given = config.origin;
  if (given.empty() || !given.starts_with('/'))
    return given.empty() ? config.hostname : given;
  const auto report = [&](std::string text) {
    loaded.problems.push_back(
        {loaded.origins.at("origin"), "origin", quotable(given) + std::move(text)});
    return std::string();
  };
  const auto line = machine.first_line(given);
  if (!line)
    return report(" cannot be read: " + line.error().code().message());
  if (check_host_name(*line).empty())
    return *line;
  return report(but_expected(" begins with " + quote_value(*line, 80),
                             "a line with a name such as \"example.org\""));
}

// {hostname} and {origin} become what they stand for, each domain once.
void name_domains(Config& config) {
  std::vector<std::string> named;
  for (const auto& text : config.local.domains) {
    const auto& domain = text == kHostnameDomain ? config.hostname
                         : text == kOriginDomain ? config.origin
                                                 : text;
    const bool is_named = std::find(named.begin(), named.end(), domain) != named.end();
    if (!domain.empty() && !is_named)
      named.push_back(domain);
  }
  config.local.domains = std::move(named);
}

// Bounces have to come back: mail for the domains that are delivered here does.
void name_srs_domain(Config& config) {
  const auto& domains = config.local.domains;
  const bool is_local = domains.empty() ||
                        std::any_of(domains.begin(), domains.end(), [&](const std::string& domain) {
                          return equals_ignoring_case(domain, config.hostname);
                        });
  if (config.local.srs_domain.empty())
    config.local.srs_domain = is_local ? config.hostname : domains.front();
}

// Credentials go to the host that they are for (RFC 4954 §14): it must be verified unless the
// route says otherwise. This machine has no certificate for its loopback address.
void verify_logins(Config& config, const Origins& origins) {
  for (std::size_t i = 0; i < config.routes.size(); ++i) {
    auto& route = config.routes[i];
    const auto hop = delivery::parse_next_hop(route.next_hop);
    const bool is_given = origins.contains("route[" + std::to_string(i) + "].tls");
    if (!route.credentials.empty() && !is_given && hop && !hop->is_on_this_machine())
      route.tls = RouteTls::verify;
  }
}

void fill_in(Config& config, const Machine& machine, Loaded& loaded) {
  if (config.hostname.empty())
    config.hostname = machine.host_name;
  config.origin = find_origin(config, machine, loaded);
  name_domains(config);
  name_srs_domain(config);
  verify_logins(config, loaded.origins);
  if (config.control.submit.empty())
    config.control.submit =
        config.control.socket.substr(0, config.control.socket.rfind('/') + 1) + "submit";
}

// NUL has no place in TOML and hides what follows from other tools (attacks.md I15).
bool refuse_nul(std::string_view text, Loaded& loaded) {
  const auto at = text.find('\0');
  if (at == std::string_view::npos)
    return false;
  const auto before = text.substr(0, at);
  const auto line = static_cast<unsigned>(1 + std::count(before.begin(), before.end(), '\n'));
  loaded.problems.push_back({line, "", but_expected("has a NUL byte in it", "text alone")});
  return true;
}

// All lines that hinder are left out, whatever the rest then means.
toml::table parse_remains(std::string text) {
  constexpr int kMostRepairs = 200;
  for (int repairs = 0; repairs < kMostRepairs; ++repairs) {
    try {
      return toml::parse(text);
    } catch (const toml::parse_error& error) {
      text = without(text, error.source().begin.line);
    }
  }
  return {};
}

}  // namespace

Config parse_leniently(std::string_view text, const Machine& machine) {
  Loaded ignored;
  Config config;
  const auto table = parse_remains(std::string(text.substr(0, text.find('\0'))));
  Reader(config, ignored).keys(table, nullptr, 0);
  fill_in(config, machine, ignored);
  if (config.origin.empty())
    config.origin = config.hostname;
  return config;
}

Loaded parse_config(std::string_view text, std::string file, const Machine& machine) {
  Loaded loaded;
  loaded.file = std::move(file);
  if (refuse_nul(text, loaded))
    return loaded;
  const auto syntax = parse_syntax(std::string(text), loaded);
  Config config;
  if (syntax.complete) {
    Reader(config, loaded).keys(syntax.table, nullptr, 0);
    fill_in(config, machine, loaded);
    if (const auto problem = check_host_name(config.hostname);
        !loaded.origins.contains("hostname") && !problem.empty())
      loaded.problems.push_back({0, "hostname", "the system's name " + problem});
    check_across(config, loaded.origins, loaded.problems);
  }
  std::sort(loaded.problems.begin(), loaded.problems.end(), [](const Problem& a, const Problem& b) {
    return std::tie(a.line, a.key, a.text) < std::tie(b.line, b.key, b.text);
  });
  if (loaded.problems.empty())
    loaded.config = std::make_shared<const Config>(std::move(config));
  return loaded;
}

}  // namespace postrider::daemon
