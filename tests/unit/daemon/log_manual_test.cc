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
#include <vector>

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
      std::vector<std::string> named;
      for (std::sregex_iterator of(given.begin(), given.end(), level); of != end; ++of)
        named.push_back((*of)[1]);
      const bool are_pairs = named.size() == 2 && (*at)[5].matched;  // of one condition
      for (const std::size_t index : {3U, 5U})
        if ((*at)[index].matched) {
          auto& of_event = levels[(*at)[index]];
          if (are_pairs)
            of_event.insert(named[index == 3 ? 0 : 1]);
          else
            of_event.insert(named.begin(), named.end());
        }
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
  // Of mail: all are info but those that stand there, too.
  const auto mail = text_of("man/postrider.8");
  const std::regex row("\n\\.It ([a-z_]+) Ta");
  for (std::sregex_iterator at(mail.begin(), mail.end(), row), end; at != end; ++at)
    levels.emplace((*at)[1], std::set<std::string>{"info", "debug"});
  return levels;
}

TEST_CASE("the level of every event is the one that its manual says", "[daemon][log]") {
  const auto said = levels_of_the_manuals();
  const auto made = levels_of_the_source();
  CHECK(made.size() > 90);
  for (const auto& [name, levels] : made) {
    if (levels.empty())
      continue;
    INFO(name);
    const auto at = said.find(name);
    REQUIRE(at != said.end());
    // What depends on the case stands where its usual case does.
    CHECK(std::any_of(levels.begin(), levels.end(),
                      [&](const auto& level) { return at->second.contains(level); }));
  }
}

// By name: the sentences of postrider-log(7) about it.
std::map<std::string, std::size_t> sentences_of_the_manual() {
  std::map<std::string, std::size_t> sentences;
  const std::regex item("\\.It Ic ([a-z_]+)\\b.*");
  std::smatch found;
  std::size_t* now = nullptr;
  const auto page = text_of("man/postrider-log.7");
  for (const auto line : split(page, '\n')) {
    const std::string text(line);
    if (std::regex_match(text, found, item))
      now = &sentences[found[1]];
    else if (text.starts_with(".El"))
      now = nullptr;
    else if (now != nullptr && text.ends_with('.'))
      ++*now;
  }
  return sentences;
}

TEST_CASE("the manual has what to do for every event that is or may be a warning or an error",
          "[daemon][log]") {
  const auto sentences = sentences_of_the_manual();
  std::size_t demanded = 0;
  for (const auto& [name, levels] : levels_of_the_source()) {
    // Without a literal level it depends on the case.
    if (!levels.empty() && !levels.contains("warn") && !levels.contains("error"))
      continue;
    INFO(name);
    const auto at = sentences.find(name);
    CHECK(at != sentences.end());
    CHECK((at != sentences.end() && at->second >= 2));  // what it means, and what to do
    ++demanded;
  }
  CHECK(demanded > 65);
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
