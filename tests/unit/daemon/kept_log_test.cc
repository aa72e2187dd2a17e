// What the tools did while the daemon was down, told when it starts.
#include "daemon/control/kept_log.h"

#include "doors.h"

#include "base/text.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace postrider::daemon {

namespace {

class OneTime : public Clock {
 public:
  TimePoint now() const override { return TimePoint(Duration(1'790'000'000'000)); }
  SteadyTime steady() const override { return SteadyTime(); }
};

class Heard : public Log {
 public:
  explicit Heard(Level least = Level::info) : least_(least) {}
  bool enabled(Level level) const override { return level >= least_; }
  void write(LogEvent event) override { events.push_back(std::move(event)); }
  std::string names() const {
    std::string all;
    for (const auto& event : events)
      all.append(all.empty() ? "" : " ").append(event.name());
    return all;
  }
  std::vector<LogEvent> events;

 private:
  Level least_;
};

LogEvent change(const std::string& uid) {
  return LogEvent(Level::info, "queue_changed").add("verb", "remove").add("uid", uid);
}

}  // namespace

TEST_CASE("lines of the tools are told once, with their time", "[daemon][unit]") {
  TemporaryFolder folder;
  const OneTime clock;
  {
    KeptLog log(folder.path(), clock);
    log.write(LogEvent(Level::debug, "recipient_changed", "1ABC").add("change", "removed"));
    log.write(LogEvent(Level::info, "swept").add("files", "3"));  // of no interest later
    log.write(change("1000"));
  }
  struct stat about {};
  REQUIRE(::stat(KeptLog::path_in(folder.path()).c_str(), &about) == 0);
  CHECK((about.st_mode & 0777) == 0600);
  {
    KeptLog log(folder.path(), clock);  // another tool
    log.write(change("0"));
  }
  Heard heard;
  tell_kept(folder.path(), heard);
  CHECK(heard.names() == "recipient_changed queue_changed queue_changed");
  REQUIRE(heard.events.size() == 3);
  CHECK(heard.events[0].id() == "1ABC");
  CHECK(heard.events[0].level() == Level::debug);
  CHECK(heard.events[0].value("change") == "removed");
  CHECK(heard.events[1].value("uid") == "1000");
  CHECK(heard.events[1].value("done_at") == format_rfc3339(clock.now()));
  CHECK(heard.events[1].when == clock.now());
  CHECK(heard.events[2].value("uid") == "0");
  tell_kept(folder.path(), heard);
  CHECK(heard.events.size() == 3);
}

TEST_CASE("what is damaged there, or is no file of ours, ends nothing", "[daemon][unit]") {
  TemporaryFolder folder;
  const OneTime clock;
  const auto path = KeptLog::path_in(folder.path());
  {
    KeptLog log(folder.path(), clock);
    log.write(change("1000"));
    log.write(change("1001"));
  }
  Heard heard;
  SECTION("the end is cut off") {
    struct stat about {};
    REQUIRE(::stat(path.c_str(), &about) == 0);
    REQUIRE(::truncate(path.c_str(), about.st_size - 3) == 0);
    tell_kept(folder.path(), heard);
    CHECK(heard.names() == "queue_changed changes_damaged");
    CHECK(heard.events.back().value("records") == "1");
  }
  SECTION("the end is cut off, and another tool goes on") {
    struct stat about {};
    REQUIRE(::stat(path.c_str(), &about) == 0);
    const auto cut = GENERATE(1, 3, 40);
    REQUIRE(::truncate(path.c_str(), about.st_size - cut) == 0);
    {
      KeptLog log(folder.path(), clock);
      log.write(change("1002"));
      log.write(change("1003"));
    }
    tell_kept(folder.path(), heard);
    if (cut == 1) {  // nothing but its end
      CHECK(heard.names() == "queue_changed queue_changed queue_changed queue_changed");
      return;
    }
    CHECK(heard.names() == "queue_changed queue_changed queue_changed changes_damaged");
    CHECK(heard.events[0].value("uid") == "1000");
    CHECK(heard.events[1].value("uid") == "1002");
    CHECK(heard.events[2].value("uid") == "1003");
    const auto& told = heard.events.back();
    CHECK(told.level() == Level::warn);
    CHECK(told.value("records") == "1");
    CHECK(told.value("file") == path + ".damaged");
    CHECK_FALSE(told.value("advice").empty());
    CHECK(std::filesystem::exists(path + ".damaged"));
    heard.events.clear();
    tell_kept(folder.path(), heard);  // once
    CHECK(heard.events.empty());
  }
  SECTION("an octet is another") {
    auto text = read_file(path).value();
    const auto at = GENERATE_COPY(std::size_t{3}, std::size_t{40});
    text[at] = text[at] == 'A' ? 'B' : 'A';
    std::ofstream(path, std::ios::binary) << text;
    tell_kept(folder.path(), heard);
    CHECK(heard.names() == "queue_changed changes_damaged");
    CHECK(heard.events.front().value("uid") == "1001");
  }
  SECTION("rubbish") {
    std::ofstream(path, std::ios::binary) << std::string(100'000, '\xff');
    tell_kept(folder.path(), heard);
    CHECK(heard.names() == "changes_damaged");
  }
  SECTION("far too long") {
    REQUIRE(::truncate(path.c_str(), off_t{200} << 20) == 0);
    tell_kept(folder.path(), heard);
    CHECK(heard.names() == "queue_changed queue_changed changes_damaged");
  }
  SECTION("a link") {
    REQUIRE(::rename(path.c_str(), (path + ".real").c_str()) == 0);
    REQUIRE(::symlink((path + ".real").c_str(), path.c_str()) == 0);
    tell_kept(folder.path(), heard);
    CHECK(heard.names() == "changes_damaged");
  }
  SECTION("a pipe") {
    REQUIRE(::unlink(path.c_str()) == 0);
    REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
    tell_kept(folder.path(), heard);
    CHECK(heard.names() == "changes_damaged");
    CHECK(heard.events.back().value("reason").find("is a pipe") != std::string::npos);
  }
  SECTION("a folder, where what was damaged before is a file") {
    REQUIRE(::unlink(path.c_str()) == 0);
    std::filesystem::create_directories(path + "/within");
    std::ofstream(path + ".damaged") << "of an earlier start";
    tell_kept(folder.path(), heard);
    CHECK(heard.names() == "changes_damaged");
    CHECK(heard.events.back().value("file") == path + ".damaged-2");
    CHECK(std::filesystem::is_directory(path + ".damaged-2/within"));
  }
  // In any case the tools can keep what they do again.
  {
    KeptLog log(folder.path(), clock);
    log.write(change("7"));
  }
  heard.events.clear();
  tell_kept(folder.path(), heard);
  CHECK(heard.names() == "queue_changed");
}

TEST_CASE("damage that a tool meets first is in the log of the next start", "[daemon][unit]") {
  TemporaryFolder folder;
  const OneTime clock;
  queue::QueueSettings settings;
  settings.spool = folder.path();
  {
    NullLog none;
    REQUIRE(queue::Queue::open(settings, clock, none).has_value());
  }
  std::ofstream(folder.path() + "/body/1ABC") << "somebody's mail";
  REQUIRE(std::filesystem::remove(folder.path() + "/queue.db"));
  std::ofstream(folder.path() + "/queue.db").close();  // what a tool takes for a queue
  {
    KeptLog log(folder.path(), clock);
    REQUIRE(queue::Queue::open(settings, clock, log).has_value());
  }
  Heard heard;
  tell_kept(folder.path(), heard);
  CHECK(heard.names() == "queue_missing lost");
  REQUIRE_FALSE(heard.events.empty());
  CHECK(heard.events.front().value("bodies") == "1");
}

TEST_CASE("a change of very many messages ends the lines of single ones, not those of changes",
          "[daemon][unit]") {
  TemporaryFolder folder;
  const OneTime clock;
  {
    KeptLog log(folder.path(), clock);
    const std::string long_value(2000, 'x');
    for (int i = 0; i < 40'000; ++i)
      log.write(LogEvent(Level::info, "removed", "1ABC").add("by", long_value));
    log.write(change("1000"));
  }
  struct stat about {};
  REQUIRE(::stat(KeptLog::path_in(folder.path()).c_str(), &about) == 0);
  CHECK(about.st_size < (65 << 20));
  Heard heard(Level::error);
  Heard all;
  tell_kept(folder.path(), all);
  CHECK(std::string(all.events.back().name()) == "queue_changed");
  CHECK(std::count_if(all.events.begin(), all.events.end(), [](const LogEvent& event) {
          return std::string_view(event.name()) == "changes_left_out";
        }) == 1);
}

}  // namespace postrider::daemon
