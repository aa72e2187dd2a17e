// The option table, the manual page and the shipped example say the same.
// UPDATE_GOLDEN=1 in the environment writes the page's option list; the difference is for review.
#include "daemon/config/config_file.h"
#include "tests/support/folder.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <regex>

using namespace postrider::daemon;

namespace {

const std::string kRoot = postrider::test::tests_folder() + "/..";
const std::string kPage = kRoot + "/man/postrider.toml.5";
const std::string kExample = kRoot + "/etc/postrider.toml";

std::string contents(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string mdoc_escaped(const std::string& text) {
  std::string out;
  for (const char c : text)
    out.append(c == '"' ? "\\(dq" : c == '\\' ? "\\e" : std::string(1, c));
  return out;
}

std::string default_text(const Option& option) {
  Config defaults;
  defaults.listeners.emplace_back();
  defaults.routes.emplace_back();
  defaults.milters.emplace_back();
  defaults.sites.emplace_back();
  defaults.header_checks.emplace_back();
  defaults.events.emplace_back();
  defaults.requests.emplace_back();
  if (option.required)
    return "Must be given.";
  const auto value = value_text(option, defaults, 0);
  const bool is_open =
      option.unset != nullptr && (value.empty() || value == "\"\"" || value == "[]");
  return "Default: " + mdoc_escaped(is_open ? option.unset : value) + ".";
}

// Each sentence begins a line, as mdoc wants it.
std::string mdoc_sentences(const std::string& text) {
  auto out = mdoc_escaped(text);
  for (auto at = out.find(". "); at != std::string::npos; at = out.find(". ", at))
    out[at + 1] = '\n';
  return out + "\n";
}

// A line of mdoc may not begin with a full stop or an apostrophe.
std::string mdoc_options() {
  std::string out;
  for (const auto& section : sections()) {
    const std::string name = section.name;
    out += name.empty() ? ".Ss Above the first section\n"
                        : ".Ss " + std::string(section.repeats ? "[[" : "[") + name +
                              (section.repeats ? "]]\n" : "]\n");
    out += mdoc_escaped(section.what) + "\n.Bl -tag -width Ds\n";
    for (const auto& option : options()) {
      if (section_of(option) != name)
        continue;
      out += ".It Ic " + std::string(option.key) + "\n" + mdoc_sentences(option.what);
      out += "Allowed: " + mdoc_escaped(allowed(option)) + ".\n" + default_text(option) + "\n";
    }
    out += ".El\n";
  }
  return out;
}

}  // namespace

TEST_CASE("the manual page describes exactly the keys of the option table", "[config][manual]") {
  const auto page = contents(kPage);
  const auto begin = page.find("\n", page.find(".\\\" options:")) + 1;
  const auto end = page.find(".\\\" end of options");
  REQUIRE(end != std::string::npos);
  if (std::getenv("UPDATE_GOLDEN") != nullptr)
    std::ofstream(kPage, std::ios::binary)
        << page.substr(0, begin) << mdoc_options() << page.substr(end);
  CHECK(contents(kPage).substr(begin).starts_with(mdoc_options() + ".\\\" end"));
}

TEST_CASE("the shipped example is short, correct, and listens on loopback only",
          "[config][manual]") {
  const auto text = contents(kExample);
  CHECK(std::count(text.begin(), text.end(), '\n') < 50);
  const auto loaded = parse_config(text, "postrider.toml", {"mx.example.org", {}});
  INFO(loaded.describe());
  REQUIRE(loaded.config);
  REQUIRE(loaded.config->listeners.size() == 1);
  CHECK(loaded.config->listeners[0].address.starts_with("localhost:"));
}

TEST_CASE("what the shipped example gives or leaves out in comments is allowed too",
          "[config][manual]") {
  const auto text = contents(kExample);
  const std::regex commented("\n#([a-z_]+ = |\\[)");
  const auto loaded =
      parse_config(std::regex_replace(text, commented, "\n$1"), "postrider.toml", {});
  INFO(loaded.describe());
  REQUIRE(loaded.config);
  CHECK(loaded.config->hostname == "mx.example.org");
  CHECK(loaded.config->routes.size() == 1);
  // A list replaces the default.
  const auto& unlimited = loaded.config->sendmail.unlimited;
  CHECK(std::count(unlimited.begin(), unlimited.end(), "root") == 1);
}

TEST_CASE("values in the shipped example are the defaults, where there are any",
          "[config][manual]") {
  const auto loaded = parse_config(contents(kExample), "postrider.toml", {"mx.example.org", {}});
  const auto defaults = parse_config("", "", {"mx.example.org", {}});
  REQUIRE(loaded.config);
  for (const auto& option : options()) {
    const std::string key = option.key;
    if (find_section(section_of(option))->repeats || key == "local.domains")
      continue;
    CHECK(value_text(option, *loaded.config, 0) == value_text(option, *defaults.config, 0));
  }
}
