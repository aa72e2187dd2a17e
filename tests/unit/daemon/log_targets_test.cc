#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "daemon/log/background_log.h"
#include "daemon/log/log_formatters.h"
#include "tests/unit/base/temporary_folder.h"

#include <boost/json/value.hpp>
#include <catch2/catch.hpp>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <map>
#include <optional>
#include <poll.h>
#include <regex>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <thread>
#include <unistd.h>

namespace postrider::daemon {
namespace {

using namespace std::chrono_literals;
using namespace std::string_literals;

LogEvent sample(std::string_view value) {
  LogEvent event = LogEvent(Level::info, "accepted", "4F2").add("from", value).add("size", 4096);
  event.when = TimePoint(1795440884123ms);
  return event;
}

std::string json_of(const LogEvent& event) {
  LogLines lines;
  JsonFormat().write(event, lines);
  REQUIRE(lines.end() - lines.begin() == 1);
  return lines.begin()->text;
}

// One line "NAME" for each event.
class NameOnly : public LogFormat {
 public:
  void write(const LogEvent& event, LogLines& lines) const override {
    lines.begin("postrider", event.level()).append(event.name());
  }
  void write_stamp(const LogEvent&, std::string_view, std::string&) const override {}
};

// Each event as two lines of two programs.
class TwoLines : public LogFormat {
 public:
  void write(const LogEvent& event, LogLines& lines) const override {
    lines.begin("postfix/smtpd", event.level()).append("one ").append(event.name());
    lines.begin("postfix/qmgr", Level::warn).append("two ").append(event.name());
  }
  void write_stamp(const LogEvent&, std::string_view, std::string&) const override {}
};

// A service that takes datagrams: syslog, or the journal.
class Service {
 public:
  explicit Service(std::string path)
      : path_(std::move(path)), socket_(socket(AF_UNIX, SOCK_DGRAM, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    REQUIRE(path_.size() < sizeof address.sun_path);
    std::memcpy(address.sun_path, path_.data(), path_.size());
    REQUIRE(bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  }
  ~Service() { unlink(path_.c_str()); }
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;

  std::optional<std::string> next() {
    pollfd ready{socket_.get(), POLLIN, 0};
    if (poll(&ready, 1, 30'000) != 1)
      return {};
    std::string datagram(65536, '\0');
    const auto size = recv(socket_.get(), datagram.data(), datagram.size(), 0);
    datagram.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
    return datagram;
  }

 private:
  std::string path_;
  FileDescriptor socket_;
};

using Fields = std::multimap<std::string, std::string>;

Fields fields_of(const std::string& datagram) {
  Fields fields;
  for (const auto line : split(datagram, '\n'))
    if (!line.empty()) {
      const auto equals = line.find('=');
      REQUIRE(equals != std::string_view::npos);
      fields.emplace(line.substr(0, equals), line.substr(equals + 1));
    }
  return fields;
}

std::vector<std::string> all_of(const Fields& fields, const std::string& name) {
  std::vector<std::string> values;
  const auto [first, last] = fields.equal_range(name);
  for (auto at = first; at != last; ++at)
    values.push_back(at->second);
  return values;
}

std::vector<std::string_view> lines_of(const std::string& text) {
  auto lines = split(text, '\n');
  lines.pop_back();
  return lines;
}

unsigned mode_of(const std::string& path) {
  struct stat file {};
  REQUIRE(stat(path.c_str(), &file) == 0);
  return file.st_mode & 07777U;
}

struct Umask {
  Umask() : before(umask(0077)) {}
  ~Umask() { umask(before); }
  mode_t before;
};

using Kind = LogTarget::Kind;

TEST_CASE("an event is one JSON object, with numbers as numbers", "[daemon][log]") {
  CHECK(json_of(sample("<a@b>")) ==
        "{\"time\":\"2026-11-23T13:34:44.123Z\",\"level\":\"info\",\"event\":\"accepted\","
        "\"id\":\"4F2\",\"from\":\"<a@b>\",\"size\":4096}");
  auto event = sample("x");
  event.add("reused", "no").add("resumed", "yes").add("delay", "0.12").add("port", "25");
  event.add("uid", "unknown").add("helo", "4096").add("queued", "18446744073709551615");
  event.add("count", "1,\"forged\":2").add("complete", "perhaps");
  const auto read = parse_json(json_of(event));
  REQUIRE(read.has_value());
  CHECK(read->at("size").as_int64() == 4096);
  CHECK(read->at("delay").as_double() == 0.12);
  CHECK_FALSE(read->at("reused").as_bool());
  CHECK(read->at("resumed").as_bool());
  CHECK(read->at("port").as_int64() == 25);
  CHECK(read->at("uid").is_null());
  CHECK(read->at("helo").as_string() == "4096");
  CHECK(read->at("queued").as_uint64() == 18446744073709551615U);
  CHECK(read->at("count").is_null());
  CHECK(read->at("complete").is_null());
}

TEST_CASE("what stands in JSON is read back as it was", "[daemon][log]") {
  for (const auto& value : {"\"odd name\"@box.example.net"s, "a\\b"s, "\r\n\t"s, "\x1b[2J"s,
                            "a\0b"s, "gr\xc3\xbc\xc3\x9f\x65"s, "\xe2\x80\xae"s,
                            "\xf0\x9f\x93\xac"s, "\xf3\xa0\x80\x81"s, "</script>"s, ""s}) {
    const auto line = json_of(sample(value));
    CHECK(line.find_first_of("\r\n\x1b"s + '\0') == std::string::npos);
    const auto read = parse_json(line);
    REQUIRE(read.has_value());
    CHECK(std::string_view(read->at("from").as_string()) == value);
  }
  // What is not UTF-8 leaves its mark, and a long value is cut between two characters.
  CHECK(parse_json(json_of(sample("a\xff\x62")))->at("from").as_string() == "a\xef\xbf\xbd\x62");
  std::string umlauts = "x";
  for (int i = 0; i < 2000; ++i)
    umlauts += "\xc3\xbc";
  const auto cut = parse_json(json_of(sample(umlauts)));
  REQUIRE(cut.has_value());
  const std::string_view kept = cut->at("from").as_string();
  CHECK(kept.size() == 1023 + 3);
  CHECK(umlauts.starts_with(kept.substr(0, 1023)));
  CHECK(kept.ends_with("..."));
}

TEST_CASE("I06: hostile values stay within their JSON string", "[daemon][log]") {
  for (const auto& evil :
       {"\",\"forged\":\"1"s, "\\\""s, "\\"s, "\xff\",\"forged\":1,\"x\":\"\xc3"s,
        std::string(1023, 'x') + "\"\"\"", std::string(65536, '"')}) {
    const auto line = json_of(LogEvent(Level::info, "e", evil).add("key", evil).add("last", "1"));
    const auto read = parse_json_object(line);
    REQUIRE(read.has_value());
    CHECK(read->size() == 6);  // time, level, event, id, key, last
    CHECK(is_utf8(line));
    CHECK(line.size() < 5000);
  }
}

TEST_CASE("the background log writes in order and survives rotation", "[daemon][log]") {
  const TemporaryFolder folder;
  const Umask hidden;
  {
    BackgroundLog log({Kind::file, folder / "log"}, std::make_shared<NameOnly>(), Level::info);
    CHECK_FALSE(log.enabled(Level::debug));
    log.write(LogEvent(Level::info, "first"));
    log.write(LogEvent(Level::debug, "silent"));
    log.flush();
    CHECK(*read_file(folder / "log") == "first\n");
    CHECK(mode_of(folder / "log") == 0640);
    std::filesystem::rename(folder / "log", folder / "log.1");
    log.reopen();
    log.write(LogEvent(Level::info, "second"));
    log.flush();
    CHECK(*read_file(folder / "log") == "second\n");
    log.reconfigure(std::make_shared<TextFormat>(), Level::debug);
    CHECK(log.enabled(Level::debug));
    log.write(LogEvent(Level::debug, "third"));
  }
  CHECK(std::regex_search(*read_file(folder / "log"),
                          std::regex("\n20\\d\\d-[0-9-]+T[0-9:.]+Z debug third\n$")));
  CHECK(*read_file(folder / "log.1") == "first\n");
}

TEST_CASE("a log that is there keeps the mode that it was given", "[daemon][log]") {
  const TemporaryFolder folder;
  REQUIRE(replace_file(folder / "log", "old\n", 0600).has_value());
  { BackgroundLog log({Kind::file, folder / "log"}, std::make_shared<NameOnly>(), Level::info); }
  CHECK(mode_of(folder / "log") == 0600);
  CHECK(*read_file(folder / "log") == "old\n");
}

TEST_CASE("a log whose file cannot be opened again keeps the old one", "[daemon][log]") {
  TemporaryFolder folder;
  REQUIRE(make_folder(folder / "logs", 0700).has_value());
  BackgroundLog log({Kind::file, folder / "logs/log"}, std::make_shared<TextFormat>(), Level::info);
  log.write(LogEvent(Level::info, "first"));
  log.flush();
  std::filesystem::rename(folder / "logs", folder / "moved");
  REQUIRE(replace_file(folder / "logs", "a file where the folder was", 0600).has_value());
  log.reopen();
  log.flush();
  CHECK(read_file(folder / "moved/log")->find("log_not_reopened") != std::string::npos);
  CHECK_THROWS_AS(
      BackgroundLog({Kind::file, folder / "logs/log"}, std::make_shared<TextFormat>(), Level::info),
      std::system_error);
}

TEST_CASE("X15: events from many threads all arrive, during reloads too", "[daemon][log]") {
  const TemporaryFolder folder;
  {
    BackgroundLog log({Kind::file, folder / "log"}, std::make_shared<TextFormat>(), Level::info);
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([&] {
        for (int i = 0; i < 2000; ++i)
          log.write(LogEvent(Level::info, "event", "id").add("i", std::to_string(i)));
      });
    for (int i = 0; i < 20; ++i) {
      if (i % 2 == 0)
        log.reconfigure(std::make_shared<JsonFormat>(), Level::info);
      else
        log.reconfigure(std::make_shared<TextFormat>(), Level::info);
      log.reopen();
    }
    for (auto& thread : threads)
      thread.join();
  }
  CHECK(lines_of(*read_file(folder / "log")).size() == 8000);
}

TEST_CASE("lines that a full disk did not take are counted", "[daemon][log]") {
  if (access("/dev/full", W_OK) != 0)
    return;
  const TemporaryFolder folder;
  std::filesystem::create_symlink("/dev/full", folder / "log");
  BackgroundLog log({Kind::file, folder / "log"}, std::make_shared<TextFormat>(), Level::info);
  for (int i = 0; i < 3; ++i) {
    log.write(LogEvent(Level::info, "lost"));
    log.flush();
  }
  CHECK(log.lost() == 3);
  // The disk has room again.
  std::filesystem::remove(folder / "log");
  log.reopen();
  log.write(LogEvent(Level::info, "kept"));
  log.flush();
  CHECK(log.lost() == 0);
  const auto text = *read_file(folder / "log");
  CHECK(std::regex_search(text,
                          std::regex("^[^\n]+ warn log_overrun dropped=3\n[^\n]+ info kept\n$")));
}

// A disk that has room for so many bytes of a file.
class Room {
 public:
  explicit Room(rlim_t bytes) {
    REQUIRE(getrlimit(RLIMIT_FSIZE, &before_) == 0);
    handler_ = std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{bytes, before_.rlim_max};
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
  }
  ~Room() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  Room(const Room&) = delete;
  Room& operator=(const Room&) = delete;

 private:
  rlimit before_{};
  void (*handler_)(int) = nullptr;
};

TEST_CASE("behind a line that the disk took in part the next one begins a line of its own",
          "[daemon][log]") {
  const TemporaryFolder folder;
  BackgroundLog log({Kind::file, folder / "log"}, std::make_shared<NameOnly>(), Level::info);
  {
    const Room little(9);  // "first\n" and three bytes
    log.write(LogEvent(Level::info, "first"));
    log.write(LogEvent(Level::info, "second"));
    log.flush();
  }
  log.write(LogEvent(Level::info, "third"));
  log.flush();
  CHECK(*read_file(folder / "log") == "first\nsec\nlog_overrun\nthird\n");
  CHECK(log.lost() == 0);
}

TEST_CASE("events for which there is no room while the log is slow are counted", "[daemon][log]") {
  const TemporaryFolder folder;
  REQUIRE(mkfifo((folder / "log").c_str(), 0600) == 0);
  const FileDescriptor reader(open((folder / "log").c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  REQUIRE(reader.is_open());
  constexpr std::size_t kWritten = 200'000;
  std::string all;
  std::thread reading;
  {
    BackgroundLog log({Kind::file, folder / "log"}, std::make_shared<TextFormat>(), Level::info);
    for (std::size_t i = 0; i < kWritten; ++i)
      log.write(LogEvent(Level::info, "event"));
    CHECK(log.lost() > 0);
    reading = std::thread([&] {
      std::string room(65536, ' ');
      pollfd ready{reader.get(), POLLIN, 0};
      while (poll(&ready, 1, 30'000) == 1) {
        const auto got = read(reader.get(), room.data(), room.size());
        if (got <= 0)
          break;
        all.append(room, 0, static_cast<std::size_t>(got));
      }
    });
  }
  reading.join();
  std::size_t written = 0, dropped = 0;
  for (const auto line : lines_of(all)) {
    const auto number = line.find("dropped=");
    written += line.ends_with(" info event") ? 1 : 0;
    if (number != std::string_view::npos)
      dropped += std::stoul(std::string(line.substr(number + 8)));
  }
  CHECK(written + dropped == kWritten);
}

TEST_CASE("syslog gets a datagram for each line: facility, priority, one stamp, the program",
          "[daemon][log]") {
  setenv("TZ", "UTC", 1);
  tzset();
  const TemporaryFolder folder;
  Service service(folder / "log");
  BackgroundLog log({Kind::syslog, folder / "log"}, std::make_shared<TextFormat>(), Level::debug);
  const auto pid = std::to_string(getpid());
  const auto line = [&](const char* priority, const char* text) {
    return std::regex("<" + std::string(priority) +
                      ">[A-Z][a-z]{2} [ \\d]\\d \\d\\d:\\d\\d:\\d\\d " + text);
  };
  for (const auto& [level, priority] : {std::pair(Level::debug, "23"),
                                        {Level::info, "22"},
                                        {Level::warn, "20"},
                                        {Level::error, "19"}}) {
    log.write(LogEvent(level, "site_open").add("site", "a"));
    const auto got = service.next();
    REQUIRE(got.has_value());
    INFO(*got);
    CHECK(std::regex_match(
        *got,
        line(priority,
             ("postrider\\[" + pid + "\\]: " + level_name(level) + " site_open site=a").c_str())));
  }
  log.reconfigure(std::make_shared<TwoLines>(), Level::info);
  log.write(LogEvent(Level::info, "x"));
  for (const auto& [priority, want] : {std::pair("22", "postfix/smtpd\\[\\d+\\]: one x"),
                                       {"20", "postfix/qmgr\\[\\d+\\]: two x"}}) {
    const auto got = service.next();
    REQUIRE(got.has_value());
    INFO(*got);
    CHECK(std::regex_match(*got, line(priority, want)));
  }
}

TEST_CASE("the journal gets priorities and fields, by which a message can be followed",
          "[daemon][log]") {
  const TemporaryFolder folder;
  Service service(folder / "journal");
  BackgroundLog log({Kind::journal, folder / "journal"}, std::make_shared<TextFormat>(),
                    Level::info);
  log.write(LogEvent(Level::warn, "notice_created", "K1")
                .add("notice", "K2")
                .add("tls_protocol", "TLSv1.3")
                .add("reason", "a\nPRIORITY=0"));
  const auto got = service.next();
  REQUIRE(got.has_value());
  const auto fields = fields_of(*got);
  const auto one = [&](const std::string& name) {
    const auto values = all_of(fields, name);
    return values.size() == 1 ? values[0] : std::to_string(values.size()) + " values";
  };
  CHECK(one("MESSAGE") ==
        "warn notice_created id=K1 notice=K2 tls_protocol=TLSv1.3 "
        "reason=\"a\\x0aPRIORITY=0\"");
  CHECK(one("PRIORITY") == "4");
  CHECK(one("SYSLOG_FACILITY") == "2");
  CHECK(one("SYSLOG_IDENTIFIER") == "postrider");
  CHECK(one("SYSLOG_PID") == std::to_string(getpid()));
  CHECK(one("POSTRIDER_EVENT") == "notice_created");
  CHECK(all_of(fields, "POSTRIDER_ID") == std::vector<std::string>{"K1", "K2"});
  CHECK(one("POSTRIDER_TLS_PROTOCOL") == "TLSv1.3");
  CHECK(one("POSTRIDER_REASON") == "a\\x0aPRIORITY=0");
}

TEST_CASE("a service of logs that starts again is used again, and what it missed is counted",
          "[daemon][log]") {
  const TemporaryFolder folder;
  std::optional<Service> service(std::in_place, folder / "log");
  BackgroundLog log({Kind::syslog, folder / "log"}, std::make_shared<TextFormat>(), Level::info);
  log.write(LogEvent(Level::info, "first"));
  REQUIRE(service->next().has_value());
  service.reset();
  for (int i = 0; i < 2; ++i)
    log.write(LogEvent(Level::info, "missed"));
  log.flush();
  service.emplace(folder / "log");
  log.write(LogEvent(Level::info, "second"));
  std::string all;
  while (all.find("info second") == std::string::npos) {
    const auto got = service->next();
    REQUIRE(got.has_value());
    all += *got + "\n";
  }
  CHECK(std::regex_search(all, std::regex("<20>.* warn log_overrun dropped=2")));
}

TEST_CASE("standard error is the journal's when the environment says so, and it is true",
          "[daemon][log]") {
  struct stat file {};
  REQUIRE(fstat(STDERR_FILENO, &file) == 0);
  const auto name = std::to_string(file.st_dev) + ":" + std::to_string(file.st_ino);
  setenv("JOURNAL_STREAM", name.c_str(), 1);
  CHECK(standard_error_target("/dev/null").kind == Kind::journal);
  CHECK(standard_error_target("/dev/null").path == "/dev/null");
  CHECK(standard_error_target("/nonexistent/socket").kind == Kind::standard_error);
  setenv("JOURNAL_STREAM", (name + "1").c_str(), 1);
  CHECK(standard_error_target("/dev/null").kind == Kind::standard_error);
  unsetenv("JOURNAL_STREAM");
  CHECK(standard_error_target("/dev/null").kind == Kind::standard_error);
}

}  // namespace
}  // namespace postrider::daemon
