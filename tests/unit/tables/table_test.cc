#include "tables/table.h"

#include "base/memory_only.h"
#include "tables/cdb.h"
#include "tables/lines.h"
#include "tables/scan.h"
#include "tests/support/sync_record.h"
#include "tests/unit/base/temporary_folder.h"

#include <catch2/catch.hpp>
#include <sqlite3.h>

#include <chrono>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <future>
#include <sys/stat.h>
#include <unistd.h>

using namespace postrider;
using namespace postrider::tables;

namespace {

struct Files {
  TemporaryFolder folder;
  std::string write(const std::string& name, const std::string& text) const {
    const auto path = folder / name;
    std::ofstream(path, std::ios::binary) << text;
    std::filesystem::permissions(path, std::filesystem::perms(0644));
    return path;
  }
};

Result<std::shared_ptr<const Table>> open_text(const std::string& spec, Options options = {}) {
  auto parsed = parse_spec(spec);
  if (!parsed)
    return parsed.error();
  return open_table(*parsed, options);
}

std::string find(const Table& table, std::string_view key) {
  const auto found = table.find(key);
  if (!found)
    return "error: " + found.error().describe();
  return found->has_value() ? (*found)->value : "-";
}

std::string problem_of(const std::string& spec, const Options& options = {}) {
  const auto opened = open_text(spec, options);
  return opened ? "" : told(opened.error());
}

void fill(const std::string& path, const std::string& sql) {
  sqlite3* database = nullptr;
  REQUIRE(sqlite3_open(path.c_str(), &database) == SQLITE_OK);
  REQUIRE(sqlite3_exec(database, sql.c_str(), nullptr, nullptr, nullptr) == SQLITE_OK);
  sqlite3_close(database);
  std::filesystem::permissions(path, std::filesystem::perms(0644));
}

}  // namespace

TEST_CASE("a table is named by its form and its place", "[tables]") {
  CHECK(parse_spec("/etc/aliases")->kind == Kind::aliases);
  CHECK(parse_spec("text:/etc/x")->path == "/etc/x");
  CHECK(parse_spec("sqlite:/x.db?SELECT a FROM b WHERE c = ?")->detail ==
        "SELECT a FROM b WHERE c = ?");
  CHECK(parse_spec("inline:{a=b}")->str() == "inline:{a=b}");
  for (const char* bad : {"", "etc/aliases", "hash:/etc/aliases", "text:etc/x", "sqlite:/x.db",
                          "sqlite:/x.db? ", "pcre:"}) {
    INFO(bad);
    CHECK_FALSE(parse_spec(bad).has_value());
  }
}

TEST_CASE("lines are found whatever their case, with their place", "[tables]") {
  const Files files;
  const auto path = files.write("t", "# c\nAnn@Example.org  bob\nx y,\n  z\n");
  const auto table = open_text("text:" + path);
  REQUIRE(table.has_value());
  CHECK(find(**table, "ANN@example.ORG") == "bob");
  CHECK(find(**table, "x") == "y, z");
  CHECK(find(**table, "nobody") == "-");
  CHECK((*(*table)->find("x"))->where == path + ":3");
  CHECK((*table)->size() == 2);
}

TEST_CASE("case does not count beyond ASCII either, in any kind of table", "[tables]") {
  const Files files;
  const auto path = files.write("t",
                                "J\xc3\x9crgen@example.org  bob\nStra\xc3\x9f"
                                "e carl\nl\xdc"
                                "dwig dora\n");
  const auto cdb = files.folder / "a.cdb";
  REQUIRE(build_cdb(cdb, {{"j\xc3\xbcrgen@example.org", "bob"},
                          {"strasse", "carl"},
                          {"l\xdc"
                           "dwig",
                           "dora"},
                          {"\xc3\x96yvind", "eve"}})  // as an earlier version compiled it
              .has_value());
  const auto database = files.folder / "u.db";
  fill(database,
       "CREATE TABLE t(a TEXT, g TEXT); INSERT INTO t VALUES('j\xc3\xbcrgen@example.org','bob'),"
       "('strasse','carl'),(CAST(x'6cdc64776967' AS TEXT),'dora');");
  const std::string specs[] = {"text:" + path, "cdb:" + cdb,
                               "inline:{J\xc3\x9crgen@example.org=bob, Stra\xc3\x9f"
                               "e=carl, l\xdc"
                               "dwig=dora}",
                               "sqlite:" + database + "?SELECT g FROM t WHERE a = :key"};
  for (const auto& spec : specs) {
    CAPTURE(spec);
    const auto table = open_text(spec);
    REQUIRE(table.has_value());
    CHECK(find(**table, "j\xc3\xbcRGEN@example.org") == "bob");
    CHECK(find(**table, "J\xc3\x9cRGEN@EXAMPLE.org") == "bob");
    CHECK(find(**table, "STRASSE") == "carl");
    CHECK(find(**table, "ju\xcc\x88rgen@example.org") == "-");
    CHECK(find(**table,
               "L\xdc"
               "DWIG") == "dora");
    CHECK(find(**table,
               "L\xfc"
               "DWIG") == "-");
  }
  CHECK(find(**open_text("cdb:" + cdb), "\xc3\x96YVIND") == "eve");
}

TEST_CASE("a wrong line is told with its place", "[tables]") {
  const Files files;
  CHECK(problem_of("text:" + files.write("a", "a b\nc\n")).ends_with("/a:2: \"c\" has no value"));
  CHECK(problem_of(files.write("b", "a: b\n\nA: c\n"))
            .ends_with("/b:3: \"a\" is given twice, first in line 1"));
  Options options;
  options.check = [](std::string_view value) {
    return value == "bad" ? std::string("this value is bad") : std::string();
  };
  CHECK(problem_of("text:" + files.write("c", "a bad\n"), options)
            .ends_with("/c:1: this value is bad"));
  CHECK(problem_of("text:" + (files.folder / "none")).find("No such file") != std::string::npos);
}

TEST_CASE("a wrong line costs that line alone where lines are independent", "[tables]") {
  const Files files;
  Options options;
  options.lenient = true;
  options.check = [](std::string_view value) {
    return value == "bad" ? std::string("this value is bad") : std::string();
  };
  options.check_key = [](std::string_view key) {
    return key == "*" ? std::string("matches nothing") : std::string();
  };
  const auto path = files.write("a", std::string("\xef\xbb\xbf") +
                                         "first: one\nno colon\nempty:\ntwice: two\nTWICE: three\n"
                                         "*: ann\nworse: bad\n" +
                                         "last: four\n");
  const auto table = open_table(*parse_spec(path), options);
  REQUIRE(table.has_value());
  CHECK(find(**table, "first") == "one");  // behind a byte order mark
  CHECK(find(**table, "twice") == "two");
  CHECK(find(**table, "last") == "four");
  CHECK(find(**table, "empty") == "-");
  CHECK_FALSE((*table)->find("worse").has_value());  // rather waits than bounces
  CHECK((*table)->size() == 3);
  CHECK((*table)->problems() ==
        std::vector<std::string>{path + ":2: a colon must follow the name",
                                 path + ":3: \"empty\" has no value",
                                 path + ":5: \"twice\" is given twice, first in line 4",
                                 path + ":6: matches nothing", path + ":7: this value is bad"});
  std::vector<std::string> problems;
  CHECK(read_entries(*parse_spec(path), options, problems).has_value());
  CHECK(problems == (*table)->problems());
  const auto shorter = files.write("short", "worse: bad\nno colon\nlast: four\nmore: five\n");
  CHECK(*read_entries(*parse_spec(shorter), options, problems) ==
        Entries{{"last", "four"}, {"more", "five"}, {"worse", "bad"}});
  CHECK(problems.size() == 2);
  const auto long_one = open_table(
      *parse_spec(files.write("long", "huge: a,\n " + std::string(kMostLine, 'x') +
                                          "\n inner: not a line of its own\nnext: five\n")),
      options);
  REQUIRE(long_one.has_value());
  CHECK_FALSE((*long_one)->find("huge").has_value());
  CHECK(find(**long_one, "inner") == "-");
  CHECK(find(**long_one, "next") == "five");
}

TEST_CASE("a file that was overwritten with something else is no table", "[tables]") {
  const Files files;
  Options options;
  options.lenient = true;
  options.check = [](std::string_view value) {
    return value.find_first_of("<>") == value.npos ? std::string() : std::string("no address");
  };
  options.check_key = [](std::string_view key) {
    return key == "*" ? std::string("matches nothing") : std::string();
  };
  const std::string right = "al: ann\nlist: bob\n";
  const struct {
    const char* what;
    std::string text;
    const char* problem;  // empty: it is a table
  } cases[] = {
      {"empty", "", ""},
      {"comments alone", "# al: ann\n\n#\n", ""},
      {"a page", "<html><body>404 Not Found</body></html>\n", "no line is right"},
      {"a page of lines", "<html>\n<style>\nbody: x\n</style>\n</html>\n", "most lines are wrong"},
      {"no colons", "al ann\nlist bob\n", "no line is right"},
      {"one wrong line", "a\n", "no line is right"},
      {"one wrong value", "a: <b\n", "no line is right"},
      {"nothing that could match", "*: ann\n", "no line is right"},
      {"NULs alone", std::string(300, '\0') + "\n", ":1: there is a NUL octet"},
      {"NULs behind it", right + std::string(4096, '\0'), ":3: there is a NUL octet"},
      {"a NUL in a line", right + std::string("a\0: b\n", 6), ":3: there is a NUL octet"},
      {"random octets", "\x8f\x02\xfe\x10q\n\xc1:\xf0<\n\x03\x04\n", "no line is right"},
      {"as many wrong as right", right + "one\ntwo\n", ""},
      {"more wrong than right", right + "one\ntwo\nthree\n", "most lines are wrong"},
      {"names that never match are lines of a table", right + "*: a\none\ntwo\nthree\n", ""},
      {"a name given twice is a line of a table", right + right + "one\ntwo\nthree\n", ""},
  };
  for (const auto& one : cases) {
    INFO(one.what);
    const auto spec = *parse_spec(files.write("t", one.text));
    const auto table = open_table(spec, options);
    const std::string want = one.problem;
    CHECK(table.has_value() == want.empty());
    if (!table)
      CHECK(table.error().step().find(want) != std::string::npos);
    // Who reads it for one question says nothing else.
    const auto asked = scan_table(spec, options)->find("nobody");
    CHECK(asked.has_value() == want.empty());
    if (table)
      CHECK(find(**table, "nobody") == "-");
  }
}

TEST_CASE("a file that everybody may write, or that is none, is refused", "[tables]") {
  const Files files;
  const auto path = files.write("open", "a b\n");
  std::filesystem::permissions(path, std::filesystem::perms(0666));
  CHECK(problem_of("text:" + path).find("everybody may write this file") != std::string::npos);
  CHECK(problem_of("text:" + files.folder.path()).find("not a regular file") != std::string::npos);
}

TEST_CASE("entries may stand in the configuration", "[tables]") {
  const auto table = open_text("inline:{a=b, { List = x, y }, info@z.test = ann}");
  REQUIRE(table.has_value());
  CHECK(find(**table, "A") == "b");
  CHECK(find(**table, "list") == "x, y");
  CHECK(find(**table, "info@z.test") == "ann");
  for (const char* bad :
       {"inline:", "inline:{a}", "inline:{a=b", "inline:{=b}", "inline:{a=b,a=c}"})
    CHECK_FALSE(open_text(bad).has_value());
}

TEST_CASE("patterns are tried in their order", "[tables]") {
  const Files files;
  const auto table = open_text("pcre:" + files.write("p",
                                                     "/^(.*)-list@x\\.test$/  $1@lists.test\n"
                                                     "if /@y\\.test$/\n"
                                                     "/^boss@/ ann\n"
                                                     "!/^a/ other\n"
                                                     "endif\n"
                                                     "/^A$/i small\n"
                                                     "|^/etc| cost $$5\n"));
  REQUIRE(table.has_value());
  CHECK((*table)->has_patterns());
  CHECK(find(**table, "Cats-List@X.test") == "Cats@lists.test");
  CHECK(find(**table, "boss@y.test") == "ann");
  CHECK(find(**table, "carl@y.test") == "other");
  CHECK(find(**table, "anna@y.test") == "-");
  CHECK(find(**table, "boss@z.test") == "-");
  CHECK(find(**table, "a") == "-");
  CHECK(find(**table, "A") == "small");
  CHECK(find(**table, "/etc") == "cost $5");
}

TEST_CASE("I03: what a sender chose stays a part of an address", "[tables][attacks]") {
  const Files files;
  const auto table = open_text("pcre:" + files.write("p", "/^(.*)@x\\.test$/  $1@y.test\n"));
  REQUIRE(table.has_value());
  CHECK(find(**table, "a.b+c@x.test") == "a.b+c@y.test");
  for (const char* bad : {"a,b@x.test", "|id@x.test", "/etc/passwd@x.test", ":include:/x@x.test",
                          "\"a b\"@x.test", "a<b@x.test", "`id`@x.test", "$(id)@x.test"}) {
    INFO(bad);
    CHECK(find(**table, bad) == "-");
  }
  Options no_choice;
  no_choice.substitutes = false;
  CHECK(problem_of("pcre:" + files.write("q", "/(.*)/ |/bin/x $1\n"), no_choice)
            .ends_with(":1: \"$1\" is not allowed here: a sender would choose it"));
}

TEST_CASE("wrong patterns are told with their place", "[tables]") {
  const Files files;
  struct Case {
    std::string text, want;
  };
  const std::vector<Case> cases = {
      {"/a b\n", ":1: the closing / of the pattern is missing"},
      {"\n/(a/ b\n", ":2: the pattern is wrong at its octet 2: missing closing parenthesis"},
      {"/a/q b\n", ":1: \"q\" is not a flag; expected i, m, s, x, A or U"},
      {"/a/\n", ":1: the pattern has no value"},
      {"/a/ $2\n", ":1: there is no group $2 in the pattern"},
      {"/a/ $x\n", ":1: a number must follow \"$\", or another \"$\""},
      {"endif\n", ":1: \"endif\" without \"if\""},
      {"if /a/\n/b/ c\n", ":2: \"endif\" is missing"},
      {"word\n", ":1: /pattern/ is missing"},
  };
  for (const auto& c : cases) {
    INFO(c.text);
    CHECK(problem_of("pcre:" + files.write("p", c.text)).ends_with(c.want));
  }
}

TEST_CASE("X17: a pattern that would run for ever fails for now", "[tables][attacks]") {
  const Files files;
  const auto table = open_text("pcre:" + files.write("p", "/^(a+)+$/ x\n"));
  REQUIRE(table.has_value());
  CHECK(find(**table, std::string(2000, 'a') + "!").find("more steps") != std::string::npos);
  CHECK(find(**table, std::string(10000, 'a')) == "-");
}

TEST_CASE("a constant database that was made outlives a power cut", "[tables]") {
  const Files files;
  const SyncRecord record;
  for (int i = 0; i < 2; ++i) {
    REQUIRE(build_cdb(files.folder / "a.cdb", {{"ann", "bob"}}).has_value());
    CHECK(SyncRecord::lack_of_renamed(files.folder / "a.cdb").empty());
  }
}

TEST_CASE("a constant database is made whole and read", "[tables]") {
  const Files files;
  const auto path = (files.folder / "a.cdb");
  REQUIRE(build_cdb(path, {{"ann", "bob, carl"}, {"x", "y"}}).has_value());
  const auto table = open_text("cdb:" + path);
  REQUIRE(table.has_value());
  CHECK(find(**table, "Ann") == "bob, carl");
  CHECK(find(**table, "nobody") == "-");
  std::filesystem::resize_file(path, 10);  // what was read stays
  CHECK(find(**table, "x") == "y");
  CHECK_FALSE(open_text("cdb:" + path).has_value());
  const auto junk = open_text("cdb:" + files.write("b", std::string(4096, 'x')));
  CHECK((!junk || find(**junk, "a") != "y"));
}

TEST_CASE("a constant database of which a part is missing says nothing of any key", "[tables]") {
  const Files files;
  const auto path = (files.folder / "a.cdb");
  Entries entries;
  for (int number = 0; number < 300; ++number)
    entries.emplace_back("user" + std::to_string(number), "ann");
  REQUIRE(build_cdb(path, entries).has_value());
  const auto spec = *parse_spec("cdb:" + path);
  const auto size = std::filesystem::file_size(path);
  const auto answer = [&] {
    const auto table = open_table(spec, {});
    const auto scanned = scan_table(spec, {})->find("nobody");
    CHECK(table.has_value() == scanned.has_value());
    return table ? find(**table, "nobody") : "none";
  };
  CHECK(answer() == "-");
  SECTION("copied in part") {
    for (const auto cut : {size - 1, size / 2, std::uintmax_t(4096), std::uintmax_t(2048)}) {
      std::filesystem::resize_file(path, cut);
      CHECK(answer() == "none");
    }
  }
  SECTION("made in place, so that its header is not there yet") {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file << std::string(kCdbHeader, '\0') << std::flush;
    CHECK(answer() == "none");
  }
  SECTION("without entries") {
    REQUIRE(build_cdb(path, {}).has_value());
    CHECK(answer() == "-");
  }
}

TEST_CASE("I05: a key is data for SQLite, and nothing is written", "[tables][attacks]") {
  const Files files;
  const auto path = (files.folder / "u.db");
  fill(path, "CREATE TABLE t(a TEXT, g TEXT); INSERT INTO t VALUES('ann','bob'),('ann','carl');");
  const auto spec = "sqlite:" + path;
  const auto table = open_text(spec + "?SELECT g FROM t WHERE a = :key");
  REQUIRE(table.has_value());
  CHECK(find(**table, "ANN") == "bob, carl");
  for (const char* payload : {"x'/**/UNION/**/SELECT/**/1--", "\";DROP TABLE t;--", "' OR 1=1 --"})
    CHECK(find(**table, payload) == "-");
  CHECK(find(**table, std::string("ann\0x", 5)) == "-");
  CHECK(find(**table, "ann") == "bob, carl");
  CHECK(problem_of(spec + "?DELETE FROM t WHERE a = :key")
            .ends_with("; expected a SELECT of one column"));
  CHECK(problem_of(spec + "?SELECT g FROM t").ends_with("; expected the parameter :key"));
  CHECK(problem_of(spec + "?SELECT g FROM t WHERE a=?; SELECT 1").ends_with("; expected one"));
  CHECK(problem_of(spec + "?SELECT g FROM missing WHERE a=?").find("no such table") !=
        std::string::npos);
}

TEST_CASE("databases and patterns are not asked where nobody may wait", "[tables]") {
  const Files files;
  const auto path = (files.folder / "u.db");
  fill(path, "CREATE TABLE t(a TEXT, g TEXT); INSERT INTO t VALUES('ann','bob');");
  const auto database = open_text("sqlite:" + path + "?SELECT g FROM t WHERE a = :key");
  const auto patterns = open_text("pcre:" + files.write("p", "/^ann$/ bob\n"));
  const auto lines = open_text("text:" + files.write("t", "ann bob\n"));
  REQUIRE((database && patterns && lines));
  const auto needs_more = [](const Table& table, bool stale = false) {
    const MemoryOnly memory(stale);
    const auto found = table.find("ann");
    CHECK(found.has_value() != memory.was_not_enough());
    return memory.was_not_enough();
  };
  CHECK(needs_more(**database));
  CHECK(needs_more(**database, true));
  CHECK(needs_more(**patterns));
  CHECK_FALSE(needs_more(**lines));
  CHECK(find(**database, "ann") == "bob");
  // Remembered, for a moment; the guard's end is the end of its promise.
  CHECK_FALSE(needs_more(**database, true));
  CHECK(find(**patterns, "ann") == "bob");
}

TEST_CASE("a query that would run for ever is ended", "[tables]") {
  const Files files;
  const auto path = (files.folder / "u.db");
  fill(path, "CREATE TABLE t(a TEXT);");
  const auto table = open_text("sqlite:" + path +
                               "?WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c) "
                               "SELECT max(x) FROM c WHERE x > ?");
  REQUIRE(table.has_value());
  CHECK(find(**table, "1").find("interrupted") != std::string::npos);
}

// Whoever owns the file may put anything beside it and into it.
TEST_CASE("what lies beside a database holds nobody up", "[tables][attacks]") {
  const Files files;
  const auto path = (files.folder / "u.db");
  fill(path, "CREATE TABLE t(a TEXT, g TEXT); INSERT INTO t VALUES('ann','bob');");
  const auto spec = "sqlite:" + path + "?SELECT g FROM t WHERE a = :key";
  const auto pipe = path + GENERATE(std::string("-journal"), std::string("-wal"), std::string());
  INFO(pipe);
  std::filesystem::remove(pipe);
  REQUIRE(::mkfifo(pipe.c_str(), 0644) == 0);
  auto asked = std::async(std::launch::async, [&] {
    const auto table = open_text(spec);
    return table ? find(**table, "ann") : "error: " + table.error().describe();
  });
  const bool has_answered = asked.wait_for(std::chrono::minutes(1)) == std::future_status::ready;
  CHECK(has_answered);
  while (asked.wait_for(std::chrono::milliseconds(10)) != std::future_status::ready)
    if (const int writer = ::open(pipe.c_str(), O_WRONLY | O_NONBLOCK); writer >= 0)
      ::close(writer);  // lets go of who waits for one
  CHECK(asked.get().starts_with("error: "));
}

TEST_CASE("a view in the place of a table takes neither memory nor time", "[tables][attacks]") {
  const Files files;
  const auto path = (files.folder / "u.db");
  SECTION("a long value") {
    fill(path, "CREATE VIEW t AS SELECT 'ann' AS a, hex(zeroblob(300000000)) AS g;");
    const auto table = open_text("sqlite:" + path + "?SELECT g FROM t WHERE a = :key");
    REQUIRE(table.has_value());
    CHECK(find(**table, "ann").find("too big") != std::string::npos);
  }
  SECTION("few steps that are long ones") {
    fill(path,
         "CREATE VIEW t AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c) "
         "SELECT 'ann' AS a, max(length(hex(zeroblob(400000+x%1000)))) AS g FROM c;");
    const auto table = open_text("sqlite:" + path + "?SELECT g FROM t WHERE a = :key");
    REQUIRE(table.has_value());
    CHECK(find(**table, "ann").find("interrupted") != std::string::npos);
  }
}
