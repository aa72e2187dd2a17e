#include "tables/watcher.h"

#include "tests/unit/base/temporary_folder.h"

#include <catch2/catch.hpp>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <thread>

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
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
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
