#include "tables/watcher.h"

#include "tests/unit/base/temporary_folder.h"

#include <catch2/catch.hpp>
#include <sqlite3.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

using namespace postrider;
using namespace postrider::tables;

namespace {

class KeptLog : public Log {
 public:
  bool enabled(Level) const override { return true; }
  void write(LogEvent event) override {
    std::string line;
    format_text(event, line);
    const std::lock_guard lock(mutex_);
    lines_ += line + "\n";
  }
  std::string lines() const {
    const std::lock_guard lock(mutex_);
    return lines_;
  }

 private:
  mutable std::mutex mutex_;
  std::string lines_;
};

bool comes_true(const std::function<bool()>& what) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(120);
  while (!what()) {
    if (std::chrono::steady_clock::now() > end)
      return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

void write(const std::string& path, const std::string& text) {
  std::ofstream(path + ".new", std::ios::binary) << text;
  std::filesystem::permissions(path + ".new", std::filesystem::perms(0644));
  std::filesystem::rename(path + ".new", path);
}

std::string find(const Table& table, std::string_view key) {
  const auto found = table.find(key);
  return !found ? "error" : found->has_value() ? (*found)->value : "-";
}

}  // namespace

TEST_CASE("a table follows its file, and a bad file leaves it as it was", "[tables]") {
  const TemporaryFolder folder;
  const auto path = folder / "t";
  KeptLog log;
  Watcher watcher(log, std::chrono::milliseconds(5));
  Options options;
  options.missing_is_empty = true;
  const auto table = watcher.open("text:" + path, options, "local.aliases");
  REQUIRE(table.has_value());
  CHECK(find(**table, "a") == "-");
  write(path, "a b\n");
  CHECK(comes_true([&] { return find(**table, "a") == "b"; }));
  write(path, "a c\nbroken\n");
  CHECK(comes_true([&] { return log.lines().find("table_kept") != std::string::npos; }));
  CHECK(log.lines().find(path + ":2: ") != std::string::npos);
  CHECK(find(**table, "a") == "b");
  write(path, "a d\n");
  CHECK(comes_true([&] { return find(**table, "a") == "d"; }));
}

TEST_CASE("a file that is bad at the start makes lookups fail for now, until it is mended",
          "[tables]") {
  const TemporaryFolder folder;
  const auto path = folder / "t";
  write(path, "broken\n");
  KeptLog log;
  Watcher watcher(log, std::chrono::milliseconds(5));
  const auto table = watcher.open("text:" + path, {}, "local.virtual");
  REQUIRE(table.has_value());
  CHECK(find(**table, "a") == "error");
  CHECK(log.lines().find("table_unusable") != std::string::npos);
  write(path, "a b\n");
  CHECK(comes_true([&] { return find(**table, "a") == "b"; }));
  CHECK_FALSE(watcher.open("nonsense", {}, "x").has_value());
}

namespace {

// Fails so often, whatever the file says.
Options failing(std::shared_ptr<std::atomic<int>> times) {
  Options options;
  options.check = [times](std::string_view) { return --*times >= 0 ? "not now" : ""; };
  return options;
}

void write_in_place(const std::string& path, const std::string& text,
                    std::ios::openmode mode = std::ios::trunc) {
  std::ofstream(path, std::ios::binary | std::ios::out | mode) << text;
}

// What lookups find when it is no longer what it is now.
std::string until_other(const Table& table, std::string_view key, const std::string& now) {
  comes_true([&] { return find(table, key) != now; });
  return find(table, key);
}

}  // namespace

TEST_CASE("what could not be read is tried again, though the file has not changed", "[tables]") {
  const TemporaryFolder folder;
  const auto path = folder / "t";
  write(path, "a b\n");
  KeptLog log;
  Watcher watcher(log, std::chrono::milliseconds(5));
  const auto times = std::make_shared<std::atomic<int>>(3);
  SECTION("from the start") {
    const auto table = watcher.open("text:" + path, failing(times), "local.virtual");
    CHECK(find(**table, "a") == "error");
    CHECK(comes_true([&] { return find(**table, "a") == "b"; }));
  }
  SECTION("behind a change") {
    *times = 0;
    const auto table = watcher.open("text:" + path, failing(times), "local.virtual");
    CHECK(find(**table, "a") == "b");
    *times = 3;
    write(path, "a c\n");
    CHECK(until_other(**table, "a", "b") == "c");
    const auto lines = log.lines();
    const auto kept = lines.find("table_kept");
    REQUIRE(kept != std::string::npos);
    CHECK(lines.find("table_kept", kept + 1) == std::string::npos);  // told once
    CHECK(lines.find("table_read") > kept);
  }
}

namespace {

// A table of which a program begins to write another text in place.
struct WrittenInPlace {
  explicit WrittenInPlace(std::chrono::milliseconds every) : watcher(log, every) {
    write(path, "a old\nz old\n");
    options.missing_is_empty = GENERATE(false, true);
    table = watcher.open("text:" + path, options, "local.virtual").value();
    REQUIRE(find(*table, "z") == "old");
  }
  bool says(const char* why) const {
    return comes_true([&] { return log.lines().find(why) != std::string::npos; });
  }

  const TemporaryFolder folder;
  const std::string path = folder / "t";
  KeptLog log;
  Watcher watcher;
  Options options;
  std::shared_ptr<const Table> table;
};

}  // namespace

// Unfinished text counts after twenty looks; what follows here must be there before.
TEST_CASE("a file that is written in place is taken when it is complete", "[tables]") {
  WrittenInPlace file(std::chrono::milliseconds(500));
  const auto& path = file.path;
  const auto waits = [&](const char* why) {
    return file.says(why) && find(*file.table, "z") == "old";
  };
  SECTION("empty, then whole") {
    write_in_place(path, "");
    CHECK(waits("is empty"));
    write_in_place(path, "a new\nz new\n");
    CHECK(until_other(*file.table, "z", "old") == "new");
  }
  SECTION("cut within a line, then whole") {
    write_in_place(path, "a new\nz n");
    CHECK(waits("ends within a line"));
    CHECK(find(*file.table, "a") == "old");
    write_in_place(path, "ew\n", std::ios::app);
    CHECK(until_other(*file.table, "z", "old") == "new");
  }
  SECTION("gone for a while") {
    std::filesystem::remove(path);
    CHECK(waits(file.options.missing_is_empty ? "is gone" : "No such file"));
    write(path, "a new\nz new\n");
    CHECK(until_other(*file.table, "z", "old") == "new");
  }
}

TEST_CASE("a file that stays unfinished counts in the end", "[tables]") {
  WrittenInPlace file(std::chrono::milliseconds(50));
  SECTION("emptied for good") {
    write_in_place(file.path, "");
    CHECK(file.says("is empty"));
    CHECK(until_other(*file.table, "z", "old") == "-");
  }
  SECTION("without a last line end for good") {
    write_in_place(file.path, "z new");
    CHECK(file.says("ends within a line"));
    CHECK(until_other(*file.table, "z", "old") == "new");
  }
}

namespace {

void set_age(const std::string& path, std::chrono::seconds age) {
  std::filesystem::last_write_time(path, std::filesystem::file_time_type::clock::now() - age);
}

// Emptied long enough after it was made that its stamps tell it from one that was made empty.
void write_and_empty(const std::string& path) {
  write_in_place(path, "a b\n");
  const auto made = std::filesystem::last_write_time(path);
  comes_true([&] {
    write_in_place(path, "");
    return std::filesystem::last_write_time(path) - made > std::chrono::milliseconds(300);
  });
}

}  // namespace

TEST_CASE("a file that is being written at the start is awaited", "[tables]") {
  const TemporaryFolder folder;
  const auto path = folder / "t";
  KeptLog log;
  Options options;
  const auto form = GENERATE("text:", "aliases:", "pcre:");
  options.missing_is_empty = form == std::string("aliases:");
  const std::string line = form == std::string("aliases:") ? "a: new"
                           : form == std::string("pcre:")  ? "/^a$/ new"
                                                           : "a new";
  const auto open = [&](Watcher& watcher) {
    return watcher.open(form + path, options, "local.virtual").value();
  };
  SECTION("cut within a line, and nothing is looked at again") {
    write_in_place(path, line);
    Watcher watcher(log, std::chrono::hours(1));
    const auto table = open(watcher);
    CHECK(find(*table, "a") == "error");
    CHECK(find(*table, "b") == "error");
    CHECK(log.lines().find("table_unusable") != std::string::npos);
    CHECK(log.lines().find("ends within a line") != std::string::npos);
  }
  SECTION("emptied, then whole") {
    write_and_empty(path);
    Watcher watcher(log);
    const auto table = open(watcher);
    CHECK(find(*table, "a") == "error");
    CHECK(log.lines().find("is empty") != std::string::npos);
    write_in_place(path, line + "\n");
    CHECK(until_other(*table, "a", "error") == "new");
    CHECK(find(*table, "b") == "-");
  }
  SECTION("it stays so") {
    write_in_place(path, line);
    Watcher watcher(log, std::chrono::milliseconds(50));
    CHECK(until_other(*open(watcher), "a", "error") == "new");
  }
  SECTION("wrong in the end") {
    write_in_place(path, "/broken");
    Watcher watcher(log, std::chrono::milliseconds(50));
    const auto table = open(watcher);
    CHECK(comes_true([&] { return log.lines().find(path + ":1: ") != std::string::npos; }));
    write(path, line + "\n");
    CHECK(until_other(*table, "a", "error") == "new");
  }
}

TEST_CASE("a file that may be missing is waited for at the start, if it has just gone",
          "[tables]") {
  const TemporaryFolder folder;
  const auto path = folder / "t";
  KeptLog log;
  Options options;
  options.missing_is_empty = true;
  const auto open = [&](Watcher& watcher) {
    return *watcher.open("text:" + path, options, "local.aliases");
  };
  SECTION("names that are not found wait") {
    Watcher watcher(log, std::chrono::hours(1));
    CHECK(open(watcher)->is_left_out());
    CHECK(log.lines().find("is gone, perhaps because it is being written") != std::string::npos);
  }
  SECTION("it comes") {
    Watcher watcher(log, std::chrono::milliseconds(50));
    const auto table = open(watcher);
    write(path, "a new\n");
    CHECK(until_other(*table, "a", "-") == "new");
    CHECK_FALSE(table->is_left_out());
  }
  SECTION("it stays away") {
    Watcher watcher(log, std::chrono::milliseconds(50));
    const auto table = open(watcher);
    CHECK(comes_true([&] { return !table->is_left_out(); }));
    CHECK(find(*table, "a") == "-");
  }
  SECTION("it was away for long") {
    set_age(folder.path(), std::chrono::seconds(60));
    Watcher watcher(log);
    CHECK_FALSE(open(watcher)->is_left_out());
  }
  SECTION("half written, and then gone") {
    write_in_place(path, "a ne");
    Watcher watcher(log, std::chrono::milliseconds(50));
    const auto table = open(watcher);
    CHECK(find(*table, "a") == "error");
    std::filesystem::remove(path);
    CHECK(until_other(*table, "a", "error") == "-");
    CHECK(comes_true([&] { return !table->is_left_out(); }));
  }
}

TEST_CASE("a file that is at rest at the start counts at once, whatever it looks like",
          "[tables]") {
  const TemporaryFolder folder;
  const auto path = folder / "t";
  KeptLog log;
  Options options;
  options.missing_is_empty = true;
  Watcher watcher(log);
  const auto found = [&] {
    return find(**watcher.open("text:" + path, options, "local.aliases"), "a");
  };
  SECTION("without a last line end") {
    write_in_place(path, "a b");
    set_age(path, std::chrono::seconds(60));
    CHECK(found() == "b");
  }
  SECTION("with a stamp of the future") {
    write_in_place(path, "a b");
    set_age(path, std::chrono::seconds(-60));
    CHECK(found() == "b");
  }
  SECTION("emptied") {
    write_and_empty(path);
    set_age(path, std::chrono::seconds(60));
    CHECK(found() == "-");
  }
  SECTION("made empty, and not written to since") {
    write_in_place(path, "");
    CHECK(found() == "-");
  }
  SECTION("missing") {
    CHECK(found() == "-");
  }
}

TEST_CASE("a file that changes all the time is read when it rests", "[tables]") {
  const TemporaryFolder folder;
  const auto path = folder / "t";
  write(path, "a 0\n");
  KeptLog log;
  Watcher watcher(log, std::chrono::milliseconds(5));
  const auto table = watcher.open("text:" + path, {}, "local.virtual");
  for (int i = 1; i <= 200; ++i)
    write(path, "a " + std::to_string(i) + "\n");
  CHECK(comes_true([&] { return find(**table, "a") == "200"; }));
}

TEST_CASE("opened again, a table that has become bad is still the one that was good", "[tables]") {
  const TemporaryFolder folder;
  const auto path = folder / "t";
  write(path, "a b\n");
  KeptLog log;
  Watcher watcher(log, std::chrono::hours(1));
  const auto first = watcher.open("text:" + path, {}, "local.virtual");
  write(path, "broken\n");
  const auto second = watcher.open("text:" + path, {}, "local.virtual");
  REQUIRE(second.has_value());
  CHECK(find(**second, "a") == "b");
}

// Of users other than root there may be 32 MiB.
TEST_CASE("a file that is not taken does not count with what tables may have", "[tables]") {
  if (::geteuid() != 0)
    return;  // files of several owners
  constexpr uid_t kAnn = 3001;
  const TemporaryFolder folder;
  std::string large;
  const auto comment = "#" + std::string(1U << 20U, 'x') + "\n";
  for (int i = 0; i < 20; ++i)
    large += comment;
  const auto put = [&](const std::string& path, const std::string& text) {
    std::ofstream(path + ".new", std::ios::binary) << text;
    REQUIRE(::chmod((path + ".new").c_str(), 0644) == 0);
    REQUIRE(::chown((path + ".new").c_str(), kAnn, kAnn) == 0);
    std::filesystem::rename(path + ".new", path);
  };
  std::filesystem::permissions(folder.path(), std::filesystem::perms(0755));
  std::filesystem::create_directory(folder / "anns");
  REQUIRE(::chown((folder / "anns").c_str(), kAnn, kAnn) == 0);
  KeptLog log;
  Watcher watcher(log, std::chrono::milliseconds(5));
  put(folder / "anns/one", "a b\n");
  const auto one = watcher.open("text:" + (folder / "anns/one"), {}, "local.aliases");
  REQUIRE(find(**one, "a") == "b");
  put(folder / "anns/one", large + "broken\n");
  CHECK(comes_true([&] { return log.lines().find("table_kept") != std::string::npos; }));
  put(folder / "anns/two", large + "a c\n");
  const auto two = watcher.open("text:" + (folder / "anns/two"), {}, "local.aliases");
  // While the first one is read once more it has its share of both.
  CHECK(comes_true([&] { return find(**two, "a") == "c"; }));
  CHECK(find(**one, "a") == "b");
  // And two that are taken have both.
  put(folder / "anns/three", large + "a d\n");
  const auto three = watcher.open("text:" + (folder / "anns/three"), {}, "local.aliases");
  CHECK(find(**three, "a") == "error");
  CHECK(log.lines().find("32 MiB") != std::string::npos);
}

// Whatever lines they are made of.
TEST_CASE("the memory of other users' tables together is bounded", "[tables]") {
  if (::geteuid() != 0)
    return;  // files of several owners
  constexpr uid_t kAnn = 3001;
  const TemporaryFolder folder;
  std::filesystem::permissions(folder.path(), std::filesystem::perms(0755));
  std::filesystem::create_directory(folder / "anns");
  REQUIRE(::chown((folder / "anns").c_str(), kAnn, kAnn) == 0);
  const auto lines = [](int from, int count) {  // 1 MB, and some 15 in memory
    std::string text;
    for (int i = from; i < from + count; ++i)
      text += "a" + std::to_string(i) + " b\n";
    return text;
  };
  const auto patterns = [](int count) {  // each takes some 60,000 octets
    std::string text;
    for (int i = 0; i < count; ++i)
      text += "/((((abc){30}){30}){4})" + std::to_string(i) + "/ b\n";
    return text;
  };
  const bool has_patterns = GENERATE(false, true);
  const std::string form = has_patterns ? "pcre:" : "text:";
  KeptLog log;
  Watcher watcher(log, std::chrono::milliseconds(5));
  std::vector<std::shared_ptr<const Table>> tables;
  for (int i = 0; i < 4; ++i) {
    const auto path = folder / ("anns/" + std::to_string(i));
    write(path, has_patterns ? patterns(170) : lines(100'000, 70'000));
    REQUIRE(::chown(path.c_str(), kAnn, kAnn) == 0);
    tables.push_back(watcher.open(form + path, {}, "accept.senders").value());
  }
  std::size_t taken = 0;
  for (const auto& table : tables)
    taken += table->find("a100000").has_value() ? 1U : 0U;
  CHECK(taken == 2);
  CHECK(log.lines().find("32 MiB") != std::string::npos);
  // Root's find room beside them.
  write(folder / "roots", lines(100'000, 200'000));
  const auto roots = watcher.open("text:" + (folder / "roots"), {}, "accept.senders").value();
  CHECK(find(*roots, "a299999") == "b");
  // And there is room again when one of them is gone.
  tables.clear();
  const auto again = watcher.open(form + (folder / "anns/3"), {}, "accept.senders").value();
  CHECK(comes_true([&] { return again->find("a100000").has_value(); }));
}

TEST_CASE("the patterns of one table are bounded as they are compiled", "[tables]") {
  const TemporaryFolder folder;
  std::filesystem::permissions(folder.path(), std::filesystem::perms(0755));
  std::string text;
  for (int i = 0; i < 1000; ++i)
    text += "/((((abc){30}){30}){4})" + std::to_string(i) + "/ b\n";
  write(folder / "patterns", text);
  KeptLog log;
  Watcher watcher(log);
  const auto table = watcher.open("pcre:" + (folder / "patterns"), {}, "accept.senders").value();
  CHECK(find(*table, "x") == "error");
  CHECK(log.lines().find("16 MiB") != std::string::npos);
}

TEST_CASE("another user's table that is bad from the start stops nobody else's names", "[tables]") {
  if (::geteuid() != 0)
    return;  // files of several owners
  constexpr uid_t kAnn = 3001;
  const TemporaryFolder folder;
  std::filesystem::permissions(folder.path(), std::filesystem::perms(0755));
  std::filesystem::create_directory(folder / "anns");
  REQUIRE(::chown((folder / "anns").c_str(), kAnn, kAnn) == 0);
  Options options;
  options.lenient = true;
  KeptLog log;
  for (const std::string name : {"anns/fifo", "anns/folder", "anns/garbage", "anns/gone"}) {
    INFO(name);
    const auto path = folder / name;
    if (name == "anns/fifo")
      REQUIRE(::mkfifo(path.c_str(), 0644) == 0);
    if (name == "anns/folder")
      std::filesystem::create_directory(path);
    if (name == "anns/garbage")
      write(path, "a\nb\nc\n");
    Watcher watcher(log, std::chrono::milliseconds(5));
    const auto lenient = watcher.open("text:" + path, options, "local.aliases");
    CHECK(find(**lenient, "a") == "-");
    CHECK(log.lines().find("table_left_out") != std::string::npos);
    // What is refused, say, by another option's table is not let in for that.
    const auto strict = watcher.open("text:" + path, {}, "accept.senders");
    CHECK(find(**strict, "a") == "error");
    if (name == "anns/garbage") {
      write(path, "a b\n");
      CHECK(comes_true([&] { return find(**lenient, "a") == "b"; }));
    }
  }
  write(folder / "roots", "a\nb\nc\n");
  Watcher watcher(log, std::chrono::milliseconds(5));
  CHECK(find(**watcher.open("text:" + (folder / "roots"), options, "local.aliases"), "a") ==
        "error");
}

// Who owns a database may lock it for as long as it pleases.
TEST_CASE("another user's database that does not answer stops nobody's mail", "[tables]") {
  if (::geteuid() != 0)
    return;  // only root can give a file away
  const TemporaryFolder folder;
  const auto path = folder / "u.db";
  sqlite3* owner = nullptr;
  REQUIRE(sqlite3_open(path.c_str(), &owner) == SQLITE_OK);
  const auto say = [&](const char* sql) {
    REQUIRE(sqlite3_exec(owner, sql, nullptr, nullptr, nullptr) == SQLITE_OK);
  };
  say("CREATE TABLE t(a TEXT, g TEXT); INSERT INTO t VALUES('ann','bob');");
  REQUIRE(::chmod(path.c_str(), 0644) == 0);
  REQUIRE(::chown(path.c_str(), 3001, 3001) == 0);
  KeptLog log;
  Options options;
  const auto is_lenient = GENERATE(true, false);
  options.lenient = is_lenient;
  Watcher watcher(log, std::chrono::hours(1));
  const auto table =
      *watcher.open("sqlite:" + path + "?SELECT g FROM t WHERE a = :key", options, "local.virtual");
  CHECK(find(*table, "ann") == "bob");
  CHECK_FALSE(table->is_left_out());
  say("BEGIN EXCLUSIVE");
  CHECK(find(*table, "carl") == (is_lenient ? "-" : "error"));
  // That nothing else knows the name is not known then.
  CHECK(table->is_left_out() == is_lenient);
  sqlite3_close(owner);
}
