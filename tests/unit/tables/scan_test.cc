// Questions to files that are not kept: the same answers as of tables that are.
#include "tables/scan.h"

#include "tables/cdb.h"
#include "tests/unit/base/temporary_folder.h"

#include <catch2/catch.hpp>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace postrider;
using namespace postrider::tables;

namespace {

std::string told(const Result<std::optional<Entry>>& found) {
  if (!found)
    return "error: " + found.error().describe();
  if (!found->has_value())
    return "-";
  const auto& entry = **found;
  return entry.value + " of " + entry.where + " " + std::to_string(entry.owner) + " in " +
         entry.folder;
}

Options lenient() {
  Options options;
  options.lenient = true;
  options.missing_is_empty = true;
  options.check = [](std::string_view value) { return value == "wrong" ? "is wrong" : ""; };
  options.check_key = [](std::string_view key) { return key == "*" ? "matches nothing" : ""; };
  return options;
}

void write(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
  std::filesystem::permissions(path, std::filesystem::perms(0644));
}

}  // namespace

TEST_CASE("a scanned file says what a table of it says", "[tables]") {
  const TemporaryFolder folder;
  const auto path = folder / "t";
  const std::string block(65536, '#');
  const std::string nul("z: a\0b\nann: bob\n", 16);
  const std::string words = "ann bob\nbob\tcarl\n";  // as aliases no line of it is right
  const std::vector<std::string> files = {
      "",
      "\n\n",
      "ann: bob",
      "ann: bob\r\nbob:carl\r\n",
      "\xef\xbb\xbf"
      "ann: bob\n",
      "  ann: bob\nbob: carl\n",
      "# c\n   # d\n\n\tann: bob,\n# in between\n\n  carl,\n\tdora\nbob: x\n",
      "ANN: first\nann: second\n\"ann\" : third\n",
      "\"ann\": quoted\n\"a\\\"n\": b\n\"no end\n",
      "annx: no\nann+tag: tagged\nann : spaced\n",
      "ann: wrong\nann: right\n",
      "ann:\nann: right\n",
      "ann\nann right\n*: x\nbob: c\n",
      words,
      nul,
      block + "\nann: behind\n",
      block.substr(1) + "\nann: at the end of a block\nbob: x\n",
      block.substr(4) + "\nann: across\nbob: y\n",
      "ann: " + std::string(200'000, 'x') + "\n more\nbob: z\n",
      "ann: a\n" + std::string(70'000, ' ') + "b\n" + std::string(70'000, '\n') + " c\nbob: d\n",
      "ann: " + std::string((4U << 20U) + 10, 'x') + "\n y\nbob: behind\n",
      "ann: x\n " + std::string(3U << 20U, 'x') + "\n " + std::string(3U << 20U, 'y') +
          "\nbob: b\n",
  };
  for (std::size_t i = 0; i < files.size(); ++i) {
    for (const char* form : {"aliases:", "text:"}) {
      write(path, files[i]);
      const auto spec = *parse_spec(form + path);
      const auto whole = open_table(spec, lenient());
      const auto scanned = scan_table(spec, lenient());
      if (!whole) {  // it is no table, and says of no name that there is none
        INFO(i << " " << form);
        CHECK((files[i] == nul || (files[i] == words && form == std::string("aliases:"))));
        CHECK(told(scanned->find("nobody")).starts_with("error: "));
        continue;
      }
      for (const char* key :
           {"ann", "ANN", "bob", "ann+tag", "an", "a\"n", "z", "*", "", "ann:", "x"}) {
        INFO(i << " " << form << " " << key);
        CHECK((told(scanned->find(key)) == told((*whole)->find(key))));
      }
    }
  }
}

TEST_CASE("each question is to the file as it is", "[tables]") {
  const TemporaryFolder folder;
  const auto path = folder / "t";
  const auto table = scan_table(*parse_spec(path), lenient());
  CHECK(told(table->find("ann")) == "-");
  write(path, "ann: bob\n");
  CHECK(told(table->find("ann")).starts_with("bob of "));
  std::filesystem::permissions(path, std::filesystem::perms(0646));
  CHECK(told(table->find("ann")).starts_with("error: "));
  std::filesystem::remove(path);
  REQUIRE(::mkfifo(path.c_str(), 0644) == 0);
  CHECK(told(table->find("ann")).starts_with("error: "));
  std::filesystem::remove(path);
  std::filesystem::create_directory(path);
  CHECK(told(table->find("ann")).starts_with("error: "));
}

TEST_CASE("a database, patterns and inline entries are asked as well", "[tables]") {
  const TemporaryFolder folder;
  const auto path = folder / "t.cdb";
  REQUIRE(build_cdb(path, {{"ann", "bob"}, {"empty", ""}, {"long", std::string(100'000, 'x')}}));
  const auto same = [&](const std::string& text) {
    const auto spec = *parse_spec(text);
    const auto whole = open_table(spec, {});
    REQUIRE(whole.has_value());
    const auto scanned = scan_table(spec, {});
    CHECK(scanned->has_patterns() == (*whole)->has_patterns());
    for (const char* key : {"ann", "Ann", "empty", "long", "none", ""})
      CHECK((told(scanned->find(key)) == told((*whole)->find(key))));
  };
  same("cdb:" + path);
  write(folder / "p", "/^a/ bob\n");
  same("pcre:" + (folder / "p"));
  same("inline:{ann=bob}");
  write(path, std::string(3000, '\xff'));
  CHECK(told(scan_table(*parse_spec("cdb:" + path), {})->find("ann")).starts_with("error: "));
}

TEST_CASE("a question to a large file keeps nothing of it", "[tables]") {
  const TemporaryFolder folder;
  const auto path = folder / "t";
  {
    std::ofstream file(path, std::ios::binary);
    for (int i = 0; i < 1'000'000; ++i)
      file << "n" << i << ": ann\n";
  }
  std::filesystem::permissions(path, std::filesystem::perms(0644));
  const auto table = scan_table(*parse_spec(path), lenient());
  struct rusage before {
  }, after{};
  ::getrusage(RUSAGE_SELF, &before);
  CHECK(told(table->find("n999999")).starts_with("ann of " + path + ":1000000 "));
  CHECK(told(table->find("n1000000")) == "-");
  ::getrusage(RUSAGE_SELF, &after);
  CHECK(after.ru_maxrss - before.ru_maxrss < 4096);  // KiB
}
