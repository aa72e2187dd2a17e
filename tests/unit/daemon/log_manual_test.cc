#include "base/file.h"
#include "base/text.h"
#include "daemon/log/log_fields.h"
#include "tests/support/folder.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>
#include <regex>
#include <set>
#include <string>

namespace postrider::daemon {
namespace {

namespace fs = std::filesystem;

const fs::path kRoot = fs::path(test::tests_folder()) / "..";

std::string text_of(const fs::path& file) {
  auto text = read_file((kRoot / file).string());
  REQUIRE(text.has_value());
  return *std::move(text);
}

void for_each_source(const std::function<void(const std::string& text)>& visit) {
  for (const auto* room : {"base", "daemon", "delivery", "dns", "events", "mail", "mailauth",
                           "queue", "smtpd", "tables"})
    for (const auto& entry : fs::recursive_directory_iterator(kRoot / room))
      if (entry.path().extension() == ".cc")
        visit(text_of(entry.path()));
}

// All names that are given to a LogEvent, where they stand as literals.
std::set<std::string> events_of_the_source() {
  const std::regex made("LogEvent(\\s+\\w+)?\\([^;\"()]*\"([a-z_-]+)\"(\\s*:\\s*\"([a-z_-]+)\")?");
  std::set<std::string> names;
  for_each_source([&](const std::string& text) {
    for (std::sregex_iterator at(text.begin(), text.end(), made), end; at != end; ++at) {
      names.insert((*at)[2]);
      if ((*at)[4].matched)
        names.insert((*at)[4]);
    }
  });
  return names;
}

std::set<std::string> events_of_the_manuals() {
  const std::regex item("\n\\.It (Ic )?([a-z_-]+)\\b");
  std::set<std::string> names;
  for (const auto* page : {"man/postrider.8", "man/postrider-log.7"}) {
    const auto text = text_of(page);
    for (std::sregex_iterator at(text.begin(), text.end(), item), end; at != end; ++at)
      names.insert((*at)[2]);
  }
  return names;
}

TEST_CASE("every event is in a manual", "[daemon][log]") {
  const auto described = events_of_the_manuals();
  const auto made = events_of_the_source();
  CHECK(made.size() > 90);
  for (const auto& name : made) {
    INFO(name);
    CHECK(described.contains(name));
  }
}

// By name: the levels at which it is logged, where they stand as literals.
std::map<std::string, std::set<std::string>> levels_of_the_source() {
  const std::regex made(
      "LogEvent(\\s+\\w+)?\\(([^;\"()]*(?:\\([^()\"]*\\)[^;\"()]*)*)\"([a-z_-]+)\"(\\s*:\\s*\"([a-"
      "z_-]+)\")?");
  const std::regex level("Level::(\\w+)");
  std::map<std::string, std::set<std::string>> levels;
  for_each_source([&](const std::string& text) {
    for (std::sregex_iterator at(text.begin(), text.end(), made), end; at != end; ++at) {
      const auto given = (*at)[2].str();
      for (std::sregex_iterator of(given.begin(), given.end(), level); of != end; ++of)
        for (const auto name : {(*at)[3], (*at)[5]})
          if (name.matched)
            levels[name].insert((*of)[1]);
    }
  });
  return levels;
}

// By name: the levels that the manuals give to it.
std::map<std::string, std::set<std::string>> levels_of_the_manuals() {
  std::map<std::string, std::set<std::string>> levels;
  std::set<std::string> now;
  bool says_level = false;
  const std::regex word("\\.Cm (error|warn|info|debug)( \\.)?");
  const std::regex item("\\.It Ic ([a-z_]+)\\b.*");
  std::smatch found;
  const auto page = text_of("man/postrider-log.7");
  for (const auto line : split(page, '\n')) {
    const std::string text(line);
    if (text.starts_with(".Sh "))
      now.clear();
    says_level = text.starts_with("The level is") || (says_level && !text.starts_with(".Bl"));
    if (says_level && std::regex_match(text, found, word))
      now.insert(found[1]);
    if (std::regex_match(text, found, item))
      levels[found[1]] = now;
  }
  // Of mail: all are info but those that a sentence names.
  const auto mail = text_of("man/postrider.8");
  const std::regex row("\n\\.It ([a-z_]+) Ta");
  for (std::sregex_iterator at(mail.begin(), mail.end(), row), end; at != end; ++at)
    levels.emplace((*at)[1], std::set<std::string>{"info", "debug"});
  const auto from = mail.find("Their level is");
  REQUIRE(from != std::string::npos);
  const auto sentence = mail.substr(from, mail.find(".Pp", from) - from);
  const std::regex named("\\.Ic ([a-z_ ,]+)");
  for (std::sregex_iterator at(sentence.begin(), sentence.end(), named), end; at != end; ++at)
    for (const auto names = (*at)[1].str(); const auto name : split(names, ' '))
      if (name.size() > 1)
        levels[std::string(name)] = {"warn", "error"};
  return levels;
}

TEST_CASE("the level of every event is the one that its manual says", "[daemon][log]") {
  const auto said = levels_of_the_manuals();
  const auto made = levels_of_the_source();
  CHECK(made.size() > 90);
  for (const auto& [name, levels] : made) {
    INFO(name);
    const auto at = said.find(name);
    REQUIRE(at != said.end());
    // What depends on the case stands where its usual case does.
    CHECK(std::any_of(levels.begin(), levels.end(),
                      [&](const auto& level) { return at->second.contains(level); }));
  }
}

TEST_CASE("the names of events are words and underscores, in the program and in the manuals",
          "[daemon][log]") {
  const std::regex form("[a-z]+(_[a-z]+)*");
  for (const auto& name : events_of_the_source()) {
    INFO(name);
    CHECK(std::regex_match(name, form));
  }
  // What a manual says of an event in its sentences, such as sendmail(1) of the drop folder.
  const std::regex quoted("\\.Pq Dq ([a-z]+[-_][a-z_-]+)");
  const auto made = events_of_the_source();
  const auto page = text_of("man/sendmail.1");
  std::size_t found = 0;
  for (std::sregex_iterator at(page.begin(), page.end(), quoted), end; at != end; ++at, ++found) {
    INFO((*at)[1].str());
    CHECK(made.contains((*at)[1]));
  }
  CHECK(found >= 3);
}

TEST_CASE("the page of the schema names each field that is not text", "[daemon][log]") {
  const auto page = text_of("doc/log.md");
  const auto listed = [&](const char* from) {
    const auto begin = page.find(from);
    REQUIRE(begin != std::string::npos);
    const auto list = page.substr(begin, page.find("\n- ", begin) - begin);
    std::set<std::string> keys;
    const std::regex quoted("`([a-z_]+)`");
    for (std::sregex_iterator at(list.begin(), list.end(), quoted), end; at != end; ++at)
      keys.insert((*at)[1]);
    return keys;
  };
  const auto numbers = listed("- These are numbers");
  const auto flags = listed("- These are `true` or `false`");
  CHECK(numbers.contains("size"));
  CHECK(flags.contains("reused"));
  const std::regex added("add\\(\"([a-z_]+)\", (std::to_string\\()?");
  for_each_source([&](const std::string& text) {
    for (std::sregex_iterator at(text.begin(), text.end(), added), end; at != end; ++at) {
      const auto key = (*at)[1].str();
      INFO(key);
      CHECK((type_of_field(key) == FieldType::number) == numbers.contains(key));
      CHECK((type_of_field(key) == FieldType::flag) == flags.contains(key));
      // "limit" is a number with its unit, "and" a sentence.
      if ((*at)[2].matched && key != "limit" && key != "and")
        CHECK(numbers.contains(key));
    }
  });
}

}  // namespace
}  // namespace postrider::daemon
