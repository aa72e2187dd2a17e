// Our own files count as hostile: what does not fit is held for the administrator, never followed,
// never fatal.
#include "queue/row_codec.h"
#include "tests/support/sync_record.h"
#include "tests/unit/queue/queue_fixture.h"

#include <catch2/catch.hpp>
#include <sqlite3.h>

#include <filesystem>
#include <fstream>
#include <sys/stat.h>
#include <unistd.h>

namespace postrider::queue::test {

using mail::MessageId;
using mail::Verdict;

namespace {

struct Hostile : QueueFixture {
  Hostile() {
    open();
    start();
  }
  std::string database() const { return settings.spool + "/queue.db"; }

  void execute(const std::string& sql) {
    sqlite3* handle = nullptr;
    REQUIRE(sqlite3_open(database().c_str(), &handle) == SQLITE_OK);
    char* error = nullptr;
    sqlite3_exec(handle, sql.c_str(), nullptr, nullptr, &error);
    INFO(sql << ": " << (error == nullptr ? "" : error));
    CHECK(error == nullptr);
    sqlite3_close(handle);
  }

  // A message that waits, and another beside it; the queue is stopped then.
  MessageId leave_one() {
    const auto id = must_accept("a@b.test", {"c@d.test"});
    record(answer(hand.next(id), Verdict::retry, clock.now()));
    beside = must_accept("a@b.test", {"c@e.test"});
    queue.reset();
    hand.clear();
    return id;
  }

  void open_quietly() {
    auto opened = Queue::open(settings, clock, log);
    if (opened) {
      queue = *std::move(opened);
      start();
    }
  }

  // The other message goes out whatever happened to this one.
  void check_alive() {
    REQUIRE(queue);
    record(answer(hand.next(beside), Verdict::delivered));
  }

  Result<MessageId> accept_large(std::size_t size) {
    auto message = make("a@b.test", {"c@d.test"});
    auto body = queue->create_body(message.id);
    if (!body)
      return body.error();
    const std::string bytes(size, 'x');
    if (auto written = body->append(bytes); !written)
      return written.error();
    message.content.bytes = nullptr;
    message.content.file = body->name();
    message.content.size = size;
    const auto id = message.id;
    Submission submission;
    submission.message = std::make_shared<const mail::Message>(std::move(message));
    submission.body = *std::move(body);
    if (auto stored = accept(std::move(submission)); !stored)
      return stored.error();
    return id;
  }

  MessageId beside;
};

}  // namespace

TEST_CASE_METHOD(Hostile, "damaged rows are held, and the rest goes on (I11)", "[queue][hostile]") {
  struct Case {
    std::string name;
    std::string sql;
  };
  const Case cases[] = {
      {"an empty head", "UPDATE message SET head = x''"},
      {"half a head", "UPDATE message SET head = substr(head, 1, length(head) / 2)"},
      {"a head of zeros", "UPDATE message SET head = zeroblob(100)"},
      {"an oversize head", "UPDATE message SET head = zeroblob(2000000)"},
      {"a body that is gone", "DELETE FROM body"},
      {"a body cut short", "UPDATE body SET data = substr(data, 1, 3)"},
      {"a body too long", "UPDATE body SET data = zeroblob(100000)"},
      {"a recipient beyond the envelope", "UPDATE recipient SET idx = 77"},
      {"an unknown state", "UPDATE recipient SET state = -5"},
      {"a negative count", "UPDATE recipient SET attempts = -5"},
      {"an unknown domain", "UPDATE recipient SET domain = 4711"},
      {"an outcome of garbage", "UPDATE recipient SET last = x'ffffffffffffffffffffff'"},
  };
  for (const auto& c : cases) {
    DYNAMIC_SECTION(c.name) {
      const auto id = leave_one();
      execute(c.sql);
      open_quietly();
      check_alive();
      clock.pass(std::chrono::hours(1));
      queue->wake();
      settle();
      CHECK(list().size() <= 1);
      Filter one;
      one.ids = {id};
      CHECK(change(Verb::remove, one).messages <= 1);
    }
  }
}

TEST_CASE_METHOD(Hostile, "a damaged head at the landing is held at the next start (I11)",
                 "[queue][hostile]") {
  const auto id = must_accept("a@b.test", {"c@d.test"});
  beside = must_accept("a@b.test", {"c@e.test"});
  queue.reset();
  hand.clear();
  execute("UPDATE incoming SET head = x'01' WHERE id = " + std::to_string(id.value));
  open_quietly();
  check_alive();
  auto listed = list();
  REQUIRE(listed.size() == 1);
  CHECK(listed[0].id == id);
  CHECK(listed[0].status == "held");
  REQUIRE(listed[0].recipients[0].last);
  CHECK(listed[0].recipients[0].last->text.starts_with("quarantined: "));
  CHECK(log.count("quarantined") == 1);
  CHECK(change(Verb::remove, {}).messages == 1);
}

TEST_CASE_METHOD(Hostile, "every flipped byte of a stored head is refused or harmless (I11)",
                 "[queue][hostile]") {
  auto message = make("a@b.test", {"c@d.test", "e@f.test"});
  const std::string head = encode_head(message);
  for (std::size_t at = 0; at < head.size(); ++at)
    for (const int bit : {0x01, 0x80, 0xff}) {
      std::string flipped = head;
      flipped[at] = static_cast<char>(flipped[at] ^ bit);
      auto decoded = decode_head(message.id, flipped);
      if (decoded)
        CHECK(decoded->envelope.recipients.size() <= flipped.size());
    }
  for (std::size_t size = 0; size < head.size(); ++size)
    CHECK_FALSE(decode_head(message.id, head.substr(0, size)).has_value());
  CHECK_FALSE(decode_head(message.id, head + "x").has_value());
}

TEST_CASE_METHOD(Hostile, "times and sizes that cannot be are refused (I11)", "[queue][codec]") {
  auto message = make("a@b.test", {"c@d.test"});
  constexpr auto kMost = std::int64_t{1} << 62U;
  const auto decoded = [&] { return decode_head(message.id, encode_head(message)).has_value(); };
  CHECK(decoded());
  message.received = TimePoint(Duration(kMost));
  CHECK(decoded());
  message.received = TimePoint(Duration(kMost + 1));  // what a sum with it would overflow
  CHECK_FALSE(decoded());
  message.received = clock.now();
  message.content.size = static_cast<std::uint64_t>(kMost) + 1;
  CHECK_FALSE(decoded());
  message.content.size = 5;
  message.content.file = "../../etc/passwd";
  CHECK_FALSE(decoded());
}

TEST_CASE_METHOD(Hostile, "what is stored comes back the same", "[queue][codec]") {
  auto message = make("\xc3\xa9@b.test", {"c@d.test"});
  message.content.has_8bit = true;
  message.content.ends_with_crlf = false;
  message.content.longest_line = 998;
  message.content.file = "0ABC";
  message.envelope.smtputf8 = true;
  const auto decoded = decode_head(message.id, encode_head(message));
  REQUIRE(decoded.has_value());
  CHECK(decoded->envelope == message.envelope);
  CHECK(decoded->received == message.received);
  CHECK(decoded->content.has_8bit);
  CHECK_FALSE(decoded->content.has_8bit_header);
  CHECK_FALSE(decoded->content.ends_with_crlf);
  CHECK(decoded->content.longest_line == 998);
  CHECK(decoded->content.file == "0ABC");
  CHECK(decoded->origin.client == message.origin.client);
  CHECK(decoded->origin.trace_parent.empty());

  CHECK(decoded->precedence == mail::Precedence::none);
  for (const auto precedence : {mail::Precedence::bulk, mail::Precedence::junk}) {
    message.precedence = precedence;
    const auto marked = decode_head(message.id, encode_head(message));
    REQUIRE(marked.has_value());
    CHECK(marked->precedence == precedence);
    CHECK(marked->content.has_8bit);
    CHECK_FALSE(marked->content.has_8bit_header);
    CHECK(client_in_head(encode_head(message)) == message.origin.client);
  }

  message.origin.trace_parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  for (const auto& tls : {std::string(), std::string("TLSv1.3")})
    for (const auto checksum : {std::optional<std::uint32_t>(), std::optional(7U)}) {
      message.origin.tls = tls;
      std::optional<std::uint32_t> wanted;
      const auto traced = decode_head(message.id, encode_head(message, checksum), &wanted);
      REQUIRE(traced.has_value());
      CHECK(traced->origin.user.empty());
      auto logged_in = message;
      for (const auto& trace : {std::string(), message.origin.trace_parent}) {
        logged_in.origin.user = "ann";
        logged_in.origin.trace_parent = trace;
        const auto with_user = decode_head(message.id, encode_head(logged_in, checksum), &wanted);
        REQUIRE(with_user.has_value());
        CHECK(with_user->origin.user == "ann");
        CHECK(with_user->origin.trace_parent == trace);
        CHECK(with_user->origin.tls == tls);
        CHECK(with_user->origin.next_hop.empty());
        CHECK(wanted == checksum);
        for (const auto& user : {std::string(), std::string("ann")}) {
          auto filtered = logged_in;
          filtered.origin.user = user;
          filtered.origin.next_hop = "smtp://127.0.0.1:10025";
          const auto first = decode_head(message.id, encode_head(filtered, checksum));
          REQUIRE(first.has_value());
          CHECK(first->origin.next_hop == filtered.origin.next_hop);
          CHECK(first->origin.user == user);
          CHECK(first->origin.trace_parent == trace);
        }
      }
      CHECK(traced->origin.tls == tls);
      CHECK(traced->origin.trace_parent == message.origin.trace_parent);
      CHECK(wanted == checksum);
    }

  auto given = outcome(Verdict::bounce, "no \xff such user");
  given.reply = {550, {5, 1, 1}, "gone\nfor good"};
  given.relayed_to_non_dsn = true;
  const auto back = decode_outcome(encode_outcome(given));
  REQUIRE(back.has_value());
  CHECK(back->verdict == given.verdict);
  CHECK(back->stage == given.stage);
  CHECK(back->status == given.status);
  CHECK(back->reply == given.reply);
  CHECK(back->text == given.text);
  CHECK(back->remote == given.remote);
  CHECK(back->relayed_to_non_dsn);

  // How often it was put off, and for what; without that it reads as earlier versions wrote it.
  const RetryTally tally{7, 300, 2};
  RetryTally known;
  CHECK(decode_outcome(encode_outcome(given, tally), &known)->reply == given.reply);
  CHECK(known == tally);
  CHECK(decode_outcome(encode_outcome(given), &known).has_value());
  CHECK(known == RetryTally());
  const auto tallied = encode_outcome(given, tally);
  for (std::size_t size = 0; size < tallied.size(); ++size)
    CHECK(!decode_outcome(std::string_view(tallied).substr(0, size)));
}

TEST_CASE_METHOD(Hostile, "a large body lives in a file as long as its message", "[queue][body]") {
  const auto id = accept_large(200'000);
  REQUIRE(id.has_value());
  const auto path = queue->body_path(to_string(*id));
  struct stat about {};
  REQUIRE(::stat(path.c_str(), &about) == 0);
  CHECK(about.st_size == 200'000);
  CHECK((about.st_mode & 0777) == 0600);
  const Lease lease = hand.next(*id);
  CHECK_FALSE(lease.message->content.bytes);
  CHECK(queue->open_body(*lease.message).has_value());
  record(answer(lease, Verdict::delivered));
  queue.reset();
  CHECK_FALSE(std::filesystem::exists(path));
}

TEST_CASE_METHOD(Hostile, "a large body and its name outlive a power cut once it is accepted",
                 "[queue][body]") {
  const SyncRecord record;
  const auto id = accept_large(200'000);
  REQUIRE(id.has_value());
  CHECK(SyncRecord::lack(queue->body_path(to_string(*id))).empty());
}

TEST_CASE_METHOD(Hostile, "an unaccepted body leaves no file", "[queue][body]") {
  std::string path;
  {
    auto body = queue->create_body(queue->next_id());
    REQUIRE(body.has_value());
    REQUIRE(body->append("some").has_value());
    path = queue->body_path(body->name());
    CHECK(std::filesystem::exists(path));
  }
  CHECK_FALSE(std::filesystem::exists(path));
}

TEST_CASE_METHOD(Hostile, "stray bodies are swept at the start, others stay", "[queue][body]") {
  const auto id = accept_large(100'000);
  REQUIRE(id.has_value());
  const auto path = queue->body_path(to_string(*id));
  queue.reset();
  execute("UPDATE meta SET value = 0 WHERE key = 'clean'");
  const auto stray = settings.spool + "/body/0123456789A";
  std::ofstream(stray) << "stray";
  hand.clear();
  open_quietly();
  CHECK_FALSE(std::filesystem::exists(stray));
  CHECK(std::filesystem::exists(path));
  CHECK(hand.next(*id).message->content.size == 100'000);
}

// A kill of its second life: what the first one's stop said does not count any more.
TEST_CASE_METHOD(QueueFixture, "a kill after a clean stop and a start is not a clean stop",
                 "[queue][start]") {
  constexpr std::size_t kMessages = 100;
  settings.leased_messages = 128;
  settings.fresh_messages = 0;
  open();
  start();
  for (std::size_t i = 0; i < kMessages; ++i)
    must_accept("a@b.test", {"c@d" + std::to_string(i) + ".test"});
  reopen();
  REQUIRE(hand.wait_for(kMessages));  // all at once: it was clean
  settle();
  const auto killed = folder.path() + "/killed";
  std::filesystem::create_directories(killed + "/body");
  std::filesystem::permissions(killed, std::filesystem::perms::owner_all);
  // In this order: what moves from the log to the database meanwhile is in both.
  for (const char* name : {"/queue.db", "/queue.db-wal"})
    std::filesystem::copy_file(settings.spool + name, killed + name);
  queue.reset();
  hand.clear();
  std::ofstream(killed + "/body/0123456789A") << "stray";
  settings.spool = killed;
  open();
  CHECK(log.count("swept") == 1);
  CHECK(std::filesystem::is_empty(killed + "/body"));
  // Slowly at first, twice as much each second: a crash loop must not hammer anybody.
  start();
  std::size_t most = 2;
  for (int second = 0; second < 5; ++second, most *= 2) {
    queue->wake();
    settle();
    CHECK(hand.count() >= 1);
    CHECK(hand.count() <= most);
    clock.pass(std::chrono::seconds(1));
  }
  clock.pass(std::chrono::seconds(2));
  queue->wake();
  CHECK(hand.wait_for(kMessages));
}

TEST_CASE_METHOD(Hostile, "a body file that is not what was stored is held, never followed (I12)",
                 "[queue][hostile]") {
  struct Case {
    std::string name;
    void (*spoil)(const std::string& path);
  };
  const Case cases[] = {
      {"truncated", [](const std::string& path) { REQUIRE(::truncate(path.c_str(), 10) == 0); }},
      {"empty", [](const std::string& path) { REQUIRE(::truncate(path.c_str(), 0) == 0); }},
      {"extended", [](const std::string& path) { std::ofstream(path, std::ios::app) << "more"; }},
      {"gone", [](const std::string& path) { REQUIRE(::unlink(path.c_str()) == 0); }},
      {"a symbolic link",
       [](const std::string& path) {
         REQUIRE(::rename(path.c_str(), (path + "x").c_str()) == 0);
         REQUIRE(::symlink((path + "x").c_str(), path.c_str()) == 0);
       }},
      {"a hard link",
       [](const std::string& path) { REQUIRE(::link(path.c_str(), (path + "x").c_str()) == 0); }},
      {"a FIFO",
       [](const std::string& path) {
         REQUIRE(::unlink(path.c_str()) == 0);
         REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
       }},
      {"a folder",
       [](const std::string& path) {
         REQUIRE(::unlink(path.c_str()) == 0);
         REQUIRE(::mkdir(path.c_str(), 0700) == 0);
       }},
  };
  for (const auto& c : cases) {
    DYNAMIC_SECTION(c.name) {
      const auto id = accept_large(100'000);
      REQUIRE(id.has_value());
      const Lease lease = hand.next(*id);
      c.spoil(queue->body_path(to_string(*id)));
      const auto opened = queue->open_body(*lease.message);
      REQUIRE_FALSE(opened.has_value());
      CHECK(opened.error().code() == Errc::corrupt);
      record(answer(lease, Verdict::retry, clock.now()));
      settle();
      CHECK(hand.count() == 0);
      REQUIRE(list().size() == 1);
      CHECK(list()[0].status == "held");
      CHECK(log.count("quarantined") == 1);
    }
  }
}

TEST_CASE_METHOD(Hostile, "delivery can quarantine a message that it has", "[queue][hostile]") {
  const auto id = must_accept("a@b.test", {"c@d.test"});
  const Lease lease = hand.next(id);
  queue->quarantine(id, "damaged");
  record(answer(lease, Verdict::retry, clock.now()));
  settle();
  CHECK(hand.count() == 0);
  CHECK(list()[0].status == "held");
}

TEST_CASE_METHOD(Hostile, "a second program is refused, with the first one's number (G13)",
                 "[queue][lock]") {
  auto second = Queue::open(settings, clock, log);
  REQUIRE_FALSE(second.has_value());
  CHECK(second.error().describe().find("is in use by process " + std::to_string(::getpid())) !=
        std::string::npos);
}

TEST_CASE_METHOD(QueueFixture, "what is no database of a queue is refused with what helps",
                 "[queue][failure]") {
  namespace errc = boost::system::errc;
  const auto path = settings.spool + "/queue.db";
  open();
  queue.reset();
  REQUIRE(::rename(path.c_str(), (path + ".old").c_str()) == 0);
  boost::system::error_code expected;
  SECTION("a folder") {
    REQUIRE(::mkdir(path.c_str(), 0700) == 0);
    expected = make_error_code(errc::is_a_directory);
  }
  SECTION("a link to nowhere") {
    REQUIRE(::symlink("away/queue.db", path.c_str()) == 0);
    expected = make_error_code(errc::no_such_file_or_directory);
  }
  SECTION("a pipe") {
    REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
    expected = make_error_code(errc::invalid_seek);
  }
  SECTION("a link to the database") {
    REQUIRE(::symlink("queue.db.old", path.c_str()) == 0);
    expected = make_error_code(errc::invalid_seek);
  }
  const auto refused = Queue::open(settings, clock, log);
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().code() == expected);
  CHECK(refused.error().step().find("move it away and put the database back") != std::string::npos);
  // Which is enough.
  REQUIRE(std::filesystem::remove(path));
  REQUIRE(::rename((path + ".old").c_str(), path.c_str()) == 0);
  CHECK(Queue::open(settings, clock, log).has_value());
}

TEST_CASE_METHOD(QueueFixture, "what stands where the database has its files is named at once",
                 "[queue][lock]") {
  open();
  queue.reset();
  const std::string name = GENERATE("queue.db-wal", "queue.db-shm", "lock");
  const auto path = settings.spool + "/" + name;
  std::filesystem::remove(path);
  const std::string kind = GENERATE("a folder", "a symbolic link", "a pipe", "a socket");
  INFO(kind << " " << name);
  if (kind == "a folder")
    REQUIRE(::mkdir(path.c_str(), 0700) == 0);
  if (kind == "a symbolic link")
    REQUIRE(::symlink("queue.db", path.c_str()) == 0);
  if (kind == "a pipe")
    REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  if (kind == "a socket")
    REQUIRE(::mknod(path.c_str(), S_IFSOCK | 0600, 0) == 0);
  const auto refused = Queue::open(settings, clock, log);
  REQUIRE_FALSE(refused.has_value());
  const auto said = refused.error().step();
  CHECK(said.find(path + " is " + kind + " and not a regular file") != said.npos);
  REQUIRE(std::filesystem::remove(path));
  CHECK(Queue::open(settings, clock, log).has_value());
}

TEST_CASE_METHOD(QueueFixture, "a spool is refused that others may read or change",
                 "[queue][lock]") {
  for (const unsigned mode : {0704U, 0707U, 0770U}) {
    std::filesystem::remove_all(settings.spool);
    REQUIRE(::mkdir(settings.spool.c_str(), 0700) == 0);
    REQUIRE(::chmod(settings.spool.c_str(), mode) == 0);
    CHECK_FALSE(Queue::open(settings, clock, log).has_value());
  }
}

TEST_CASE_METHOD(Hostile, "a database of another program or of a newer version is left alone",
                 "[queue][schema]") {
  struct Case {
    std::string name, sql, want;
  };
  const Case cases[] = {
      {"newer", "PRAGMA user_version = 99", "written by a newer version (99"},
      {"foreign", "PRAGMA application_id = 1", "belongs to another program"},
  };
  for (const auto& c : cases) {
    DYNAMIC_SECTION(c.name) {
      queue.reset();
      execute(c.sql);
      auto opened = Queue::open(settings, clock, log);
      REQUIRE_FALSE(opened.has_value());
      CHECK(opened.error().describe().find(c.want) != std::string::npos);
    }
  }
}

TEST_CASE_METHOD(Hostile, "a file that is not a database is refused", "[queue][schema]") {
  queue.reset();
  std::ofstream(database(), std::ios::trunc) << std::string(20'000, 'x');
  CHECK_FALSE(Queue::open(settings, clock, log).has_value());
}

}  // namespace postrider::queue::test
