#include "doors.h"

#include "base/file.h"
#include "base/memory_only.h"
#include "base/text.h"
#include "daemon/pickup/drop_folder.h"
#include "daemon/pickup/submit_server.h"
#include "daemon/protocol/control_client.h"
#include "daemon/protocol/submit_protocol.h"

#include <atomic>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <functional>
#include <future>
#include <map>
#include <optional>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sysexits.h>
#include <thread>
#include <unistd.h>

namespace postrider::daemon {
namespace {

SubmitSettings settings() {
  SubmitSettings settings;
  settings.hostname = "mx.test";
  settings.origin = "mx.test";
  settings.message_size = 1U << 20U;
  settings.recipients = 5;
  return settings;
}

SubmitHeader header(std::size_t size) {
  SubmitHeader header;
  header.sender = "me";
  header.recipients = {"you@there.test"};
  header.author = "me@mx.test";
  header.size = size;
  return header;
}

struct SubmitDoor : Doors {
  std::string path = folder.path() + "/submit";
  std::unique_ptr<SubmitServer> server;

  explicit SubmitDoor(SubmitSettings limits = settings()) {
    auto opened = SubmitServer::open(path, loop, *pool, *queue, clock, log, std::move(limits));
    REQUIRE(opened);
    server = std::move(*opened);
    server->start();
    run();
  }
  ~SubmitDoor() {
    on_loop([this] { server->stop(); });
    loop.finish();
    thread.join();
  }
  LocalConnection connect() {
    auto connection = LocalConnection::connect(path);
    REQUIRE(connection);
    connection->set_timeout(Duration(120'000));
    return std::move(*connection);
  }
  SubmitAnswer send(const SubmitHeader& header, const std::string& content) {
    auto connection = connect();
    (void)connection.write(encode(header));
    (void)connection.write(content);
    const auto line = connection.read_line(65536);
    REQUIRE(line);
    auto answer = decode_submit_answer(*line);
    REQUIRE(answer);
    return std::move(*answer);
  }
};

TEST_CASE("a local message is in custody when it was answered", "[daemon][unit]") {
  SubmitDoor door;
  const std::string content = "Subject: s\n\nbody\n";
  const auto answer = door.send(header(content.size()), content);
  REQUIRE(answer.exit_code == EX_OK);
  const auto listed = door.listed();
  REQUIRE(listed.size() == 1);
  CHECK(to_string(listed[0].id) == answer.id);
  CHECK(listed[0].sender == "me@mx.test");
  CHECK(listed[0].origin.client == "local uid " + std::to_string(::getuid()));
  const auto message = door.queue->load(listed[0].id);
  REQUIRE(message);
  CHECK(*(*message)->content.bytes == "Subject: s\r\n\r\nbody\r\n");
  CHECK((*message)->content.trace.find("From: me@mx.test\r\n") != std::string::npos);
}

TEST_CASE("a token has limits of its own, and its keys make a request one message",
          "[daemon][unit][token]") {
  auto limits = settings();
  std::map<std::string, int> counted;
  limits.speaks_for_tokens = [](std::uint64_t uid) { return uid == ::getuid(); };
  limits.admit = [&](std::uint64_t, std::size_t) {
    ++counted["user"];
    return std::optional<SubmitAnswer>();
  };
  limits.admit_token = [&](const std::string& token, std::size_t recipients) {
    std::optional<SubmitAnswer> refused;
    if (++counted[token] + static_cast<int>(recipients) > 5)
      refused = SubmitAnswer{{}, EX_TEMPFAIL, "enough", false, std::string(kCauseLimit)};
    return refused;
  };
  SubmitDoor door(limits);
  auto mail = header(2);
  mail.token = "shop";
  mail.key = submit_key("shop", "order 17", "request");
  const auto first = door.send(mail, "x\n");
  REQUIRE(first.exit_code == EX_OK);
  CHECK(first.cause.empty());
  mail.hand_over = new_hand_over();  // the key has the say
  const auto again = door.send(mail, "x\n");
  CHECK(again.id == first.id);
  CHECK(again.cause == kCauseKey);
  mail.key = submit_key("shop", "order 17", "another request");
  const auto other = door.send(mail, "x\n");
  CHECK(other.exit_code == EX_DATAERR);
  CHECK(other.cause == kCauseKey);
  mail.key = submit_key("shop", "order 18", "request");
  CHECK(door.send(mail, "x\n").id != first.id);
  CHECK(door.listed().size() == 2);
  const auto limited = door.send(mail, "x\n");
  CHECK(limited.exit_code == EX_TEMPFAIL);
  CHECK(limited.cause == kCauseLimit);
  CHECK(counted["user"] == 0);
  CHECK(door.queue->dropped().value().empty());  // keys are no names of files or hand-overs
}

TEST_CASE("nobody but the programs for it speaks for a token", "[daemon][unit][token]") {
  auto limits = settings();
  limits.speaks_for_tokens = [](std::uint64_t) { return false; };
  SubmitDoor door(limits);
  auto mail = header(2);
  mail.token = "shop";
  // Whoever asks is set up wrong; the mail is not.
  CHECK(door.send(mail, "x\n").exit_code == EX_CONFIG);
  mail.token.clear();
  mail.key = submit_key("shop", "order 17", "request");
  CHECK(door.send(mail, "x\n").exit_code == EX_CONFIG);
  mail.key = "rubbish";
  CHECK(door.send(mail, "x\n").exit_code == EX_PROTOCOL);
  CHECK(door.listed().empty());
}

TEST_CASE("O01: what is not an address does not come into From", "[daemon][unit]") {
  SubmitDoor door;
  for (const auto& author :
       {std::string("a@x\n.\nMAIL FROM:<evil@x>\n"), std::string("a@x\r\nBcc: b@x"),
        std::string("a\0b@x", 5), std::string("a@x>"), std::string(), std::string("nobody")}) {
    INFO(escaped(author));
    auto odd = header(2);
    odd.author = author;
    odd.full_name = "A\r\nB: \n\nc";
    const auto answer = door.send(odd, "x\n");
    REQUIRE(answer.exit_code == EX_OK);
    const auto message = door.queue->load(mail::parse_message_id(answer.id).value());
    REQUIRE(message);
    const auto& trace = (*message)->content.trace;
    CHECK(trace.find("evil") == std::string::npos);
    CHECK(trace.find("Bcc") == std::string::npos);
    CHECK(trace.find('\0') == std::string::npos);
    CHECK(trace.find("<uid" + std::to_string(::getuid()) + "@mx.test>\r\n") != std::string::npos);
    CHECK(std::count(trace.begin(), trace.end(), '\n') ==
          std::count(trace.begin(), trace.end(), '\r'));
  }
}

// A table that has no answer about one address for a while, and none in memory.
struct SlowTable {
  std::promise<void> asked, open;
  std::shared_future<void> opened = open.get_future().share();
  std::atomic<bool> is_first{true};
  ~SlowTable() {
    if (opened.wait_for(std::chrono::seconds(0)) == std::future_status::timeout)
      open.set_value();
  }
  std::shared_ptr<const mail::Rewriter> rewriter() {
    mail::Rewriter::Rules rules;
    rules.sender = [this](const std::string& key,
                          bool) -> Result<std::optional<mail::Rewriter::Entry>> {
      if (key != "slow@mx.test")
        return std::optional<mail::Rewriter::Entry>();
      if (MemoryOnly::forbids_waiting())
        return Error(Errc::storage, "table: must be asked");
      if (is_first.exchange(false))
        asked.set_value();
      opened.wait();
      return std::optional(mail::Rewriter::Entry{"fast@us.test", "table:1"});
    };
    return std::make_shared<mail::Rewriter>(rules);
  }
};

TEST_CASE("a table that hangs holds up the local message that it is asked about alone",
          "[daemon][unit]") {
  const bool is_in_header = GENERATE(true, false);
  INFO("in the header: " << is_in_header);
  SlowTable table;
  auto limits = settings();
  limits.rewriter = table.rewriter();
  SubmitDoor door(limits);
  std::string content = std::string("From: ") + (is_in_header ? "slow" : "me") + "@mx.test\n\n";
  while (content.size() < 300'000)
    content.append("a line of a message that does not stay in memory\n");
  auto slow = header(content.size());
  slow.sender = is_in_header ? "me" : "slow";
  auto waiting = std::async(std::launch::async, [&] { return door.send(slow, content); });
  table.asked.get_future().wait();
  for (int i = 0; i < 3; ++i)  // of the same user
    CHECK(door.send(header(20), "From: me@mx.test\n\nx\n").exit_code == EX_OK);
  CHECK(waiting.wait_for(std::chrono::seconds(0)) == std::future_status::timeout);
  table.open.set_value();
  const auto answer = waiting.get();
  REQUIRE(answer.exit_code == EX_OK);
  const auto message = door.queue->load(mail::parse_message_id(answer.id).value());
  REQUIRE(message);
  CHECK((*message)->envelope.sender == (is_in_header ? "me@mx.test" : "fast@us.test"));
  const auto stored = read_file(door.queue->body_path((*message)->content.file));
  REQUIRE(stored);
  CHECK(stored->starts_with(is_in_header ? "From: fast@us.test\r\n\r\na line"
                                         : "From: me@mx.test\r\n\r\na line"));
  CHECK(stored->size() == (*message)->content.size);
}

// It went to the drop folder when the daemon did not answer, and would be sent twice.
TEST_CASE("nothing is stored for a sender who has left without an answer", "[daemon][unit]") {
  SlowTable table;
  auto limits = settings();
  limits.rewriter = table.rewriter();
  SubmitDoor door(limits);
  auto slow = header(2);
  slow.sender = "slow";
  {
    auto connection = door.connect();
    REQUIRE(connection.write(encode(slow) + "x\n"));
    table.asked.get_future().wait();
  }
  table.open.set_value();
  bool is_noticed = false;
  for (int i = 0; i < 12000 && !is_noticed; ++i) {
    is_noticed = door.log.text().find("submission_broken") != std::string::npos;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  CHECK(is_noticed);
  CHECK(door.send(header(2), "x\n").exit_code == EX_OK);
  CHECK(door.listed().size() == 1);
}

// It was stored, and its sender never heard so: he leaves it in the drop folder.
TEST_CASE("a hand-over counts once, on whichever way it comes again", "[daemon][unit]") {
  SubmitDoor door;
  DropFolder::Rests rests;
  rests.usual = std::chrono::hours(1);
  auto opened = DropFolder::open(door.spool, door.loop, *door.pool, *door.queue, door.clock,
                                 door.log, settings(), rests);
  REQUIRE(opened);
  auto& drop = **opened;
  const auto path = door.spool + "/drop/";
  const auto wait_until = [](const std::function<bool()>& is_so) {
    for (int i = 0; i < 12000 && !is_so(); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return is_so();
  };
  const auto leave = [&](const SubmitHeader& header, const std::string& name) {
    REQUIRE(replace_file(path + "tmp." + name, encode(header) + "x\n", 0640));
    std::filesystem::rename(path + "tmp." + name, path + "msg." + name);
    return wait_until([&] { return std::filesystem::is_empty(path); });
  };
  const auto known = [&] { return door.queue->dropped().value(); };
  auto unheard = header(2);
  unheard.hand_over = new_hand_over();
  {
    auto connection = door.connect();
    REQUIRE(connection.write(encode(unheard) + "x\n"));
    REQUIRE(wait_until([&] { return door.listed().size() == 1; }));
  }
  door.on_loop([&] { drop.start(); });
  auto heard = header(2);
  heard.hand_over = new_hand_over();
  CHECK(door.send(heard, "x\n").exit_code == EX_OK);
  const std::vector<std::string> kept{hand_over_id(unheard, ::geteuid())};
  CHECK(wait_until([&] { return known() == kept; }));
  CHECK(leave(unheard, "a"));
  CHECK(door.listed().size() == 2);
  // By the socket, too, and it hears of the message that there is.
  const auto again = door.send(unheard, "x\n");
  CHECK(again.exit_code == EX_OK);
  CHECK(door.listed().size() == 2);
  bool is_there = false;
  for (const auto& entry : door.listed())
    is_there = is_there || to_string(entry.id) == again.id;
  CHECK(is_there);
  // Another hand-over of the same message is another one.
  unheard.hand_over = new_hand_over();
  CHECK(leave(unheard, "b"));
  CHECK(door.listed().size() == 3);
  CHECK(door.send(unheard, "x\n").exit_code == EX_OK);
  CHECK(door.listed().size() == 3);
  door.on_loop([&] { drop.stop(); });
}

TEST_CASE("a table's failure is not a fault of a local message", "[daemon][unit]") {
  for (const char* content : {"From: bad@mx.test\n\nx\n", "x\n"}) {
    INFO(content);
    auto limits = settings();
    mail::Rewriter::Rules rules;
    rules.sender = [](const std::string& key,
                      bool) -> Result<std::optional<mail::Rewriter::Entry>> {
      if (key != "bad@mx.test")
        return std::optional<mail::Rewriter::Entry>();
      (void)MemoryOnly::forbids_waiting();
      return Error(Errc::malformed, "table: nonsense");
    };
    limits.rewriter = std::make_shared<mail::Rewriter>(rules);
    SubmitDoor door(limits);
    auto wrong = header(std::string_view(content).size());
    wrong.sender = std::string_view(content).starts_with("From") ? "me" : "bad";
    CHECK(door.send(wrong, content).exit_code == EX_TEMPFAIL);
    CHECK(door.send(header(2), "x\n").exit_code == EX_OK);
    CHECK(door.listed().size() == 1);
  }
}

TEST_CASE("a large local message goes to a file as it comes", "[daemon][unit]") {
  SubmitDoor door;
  std::string content = "Subject: s\n\n";
  while (content.size() < 700'000)
    content.append("a line of the body of this large message\n");
  REQUIRE(door.send(header(content.size()), content).exit_code == EX_OK);
  const auto message = door.queue->load(door.listed().at(0).id);
  REQUIRE(message);
  REQUIRE_FALSE((*message)->content.file.empty());
  const auto stored = read_file(door.queue->body_path((*message)->content.file));
  REQUIRE(stored);
  CHECK(stored->size() == (*message)->content.size);
  CHECK(stored->substr(0, 30) == "Subject: s\r\n\r\na line of the bo");
}

TEST_CASE("a large local message that cannot be stored is to be sent again", "[daemon][unit]") {
  SubmitDoor door;
  // No file becomes longer than this, as on a full disk; the database is shorter.
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  auto* const ignored = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit low{400'000, before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &low) == 0);
  const auto answer = door.send(header(700'000), "Subject: s\n\n" + std::string(699'988, 'x'));
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &before) == 0);
  std::signal(SIGXFSZ, ignored);
  CHECK(answer.exit_code == EX_TEMPFAIL);
  CHECK(answer.error.find("could not be stored") != std::string::npos);
  CHECK(answer.error.find("try again later") != std::string::npos);
  CHECK(door.listed().empty());
  CHECK(door.send(header(2), "x\n").exit_code == EX_OK);
}

TEST_CASE("a local message over a limit is refused with a sentence", "[daemon][unit]") {
  SubmitDoor door;
  CHECK(door.send(header(2U << 20U), std::string(2U << 20U, 'x')).exit_code == EX_DATAERR);
  auto many = header(2);
  many.recipients = {"a@b", "b@b", "c@b", "d@b", "e@b", "f@b"};
  CHECK(door.send(many, "x\n").exit_code == EX_DATAERR);
  auto wrong = header(2);
  wrong.recipients = {"a@b\nDATA"};
  CHECK(door.send(wrong, "x\n").exit_code == EX_DATAERR);
  CHECK(door.listed().empty());
}

TEST_CASE("a local message that breaks off leaves nothing behind", "[daemon][unit]") {
  SubmitDoor door;
  for (const std::size_t sent : {0U, 10U, 200'000U}) {
    auto connection = door.connect();
    REQUIRE(connection.write(encode(header(300'000))));
    if (sent > 0)
      REQUIRE(connection.write(std::string(sent, 'x')));
  }
  CHECK(door.send(header(2), "x\n").exit_code == EX_OK);
  CHECK(door.listed().size() == 1);
  bool swept = false;
  for (int i = 0; i < 12000 && !swept; ++i) {
    swept = std::filesystem::is_empty(door.spool + "/body");
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  CHECK(swept);
}

TEST_CASE("a submission whose header is nonsense is refused", "[daemon][unit]") {
  SubmitDoor door;
  for (const char* line : {"\n", "MAIL FROM:<a@b>\r\n", "{}\n", "{\"recipients\":[]}\n"}) {
    auto connection = door.connect();
    REQUIRE(connection.write(line));
    const auto answer = connection.read_line(65536);
    REQUIRE(answer);
    CHECK(decode_submit_answer(*answer)->exit_code == EX_PROTOCOL);
  }
}

TEST_CASE("one user's connections are capped", "[daemon][unit]") {
  auto limits = settings();
  limits.connections_per_user = 3;
  SubmitDoor door(limits);
  std::vector<LocalConnection> idle;
  for (int i = 0; i < 3; ++i)
    idle.push_back(door.connect());
  auto over = door.connect();
  const auto line = over.read_line(65536);
  REQUIRE(line);
  CHECK(decode_submit_answer(*line)->exit_code == EX_TEMPFAIL);
}

TEST_CASE("a submission that stands still ends at its deadline", "[daemon][unit]") {
  auto limits = settings();
  limits.idle = Duration(200);
  SubmitDoor door(limits);
  auto connection = door.connect();
  REQUIRE(connection.write(encode(header(100))));
  const auto line = connection.read_line(65536);
  REQUIRE(line);
  CHECK(decode_submit_answer(*line)->exit_code == EX_TEMPFAIL);
  CHECK(door.listed().empty());
}

std::string members(std::size_t count) {
  std::string line = "{";
  for (std::size_t i = 0; i < count; ++i)
    line.append(i > 0 ? "," : "").append("\"k").append(std::to_string(i)).append("\":0");
  return line + "}";
}

TEST_CASE("a header line with members that are not ours costs nothing", "[daemon][unit]") {
  JsonWork work;
  const auto many = decode_submit_header(members(100'000), &work);
  REQUIRE_FALSE(many);
  CHECK(work.members == 17);
  CHECK_FALSE(decode_submit_header(R"({"recipients":["a@b"],"size":1,"color":"red"})"));
  // The same without it is fine.
  CHECK(decode_submit_header(R"({"recipients":["a@b"],"size":1})"));
  // Nor does what hides them deeper down.
  work = {};
  CHECK_FALSE(decode_submit_header(R"({"size":1,"recipients":[)" + members(100'000) + "]}", &work));
  CHECK(work.members < 20);
}

TEST_CASE("a header line has at most so many values", "[daemon][unit]") {
  const auto line = [](std::size_t recipients) {
    std::string text = R"({"size":1,"recipients":["a@b")";
    for (std::size_t i = 1; i < recipients; ++i)
      text.append(R"(,"a@b")");
    return text + "]}";
  };
  CHECK(decode_submit_header(line(kMostSubmitRecipients)));
  JsonWork work;
  CHECK_FALSE(decode_submit_header(line(500'000), &work));
  CHECK(work.values <= 2 * kMostSubmitRecipients + 20);
}

SubmitAnswer answer_on(LocalConnection& connection) {
  const auto line = connection.read_line(65536);
  REQUIRE(line);
  auto answer = decode_submit_answer(*line);
  REQUIRE(answer);
  return *answer;
}

TEST_CASE("a long header line is read on the pool, the loop goes on", "[daemon][unit]") {
  auto limits = settings();
  limits.recipients = 20'000;
  SubmitDoor door(limits);
  // With the pool held up, only what needs it waits.
  std::promise<void> let_go;
  const auto held = let_go.get_future().share();
  for (int i = 0; i < 2; ++i)
    door.pool->post([held] { held.wait(); });
  auto many = header(2);
  for (int i = 0; i < 10'000; ++i)
    many.recipients.push_back("user" + std::to_string(i) + "@there.test");
  auto slow = door.connect();
  REQUIRE(slow.write(encode(many) + "x\n"));
  CHECK(door.send(header(2), "y\n").exit_code == EX_OK);
  CHECK(door.listed().size() == 1);
  let_go.set_value();
  CHECK(answer_on(slow).exit_code == EX_OK);
  CHECK(door.listed().size() == 2);
}

TEST_CASE("octet by octet, a header line has no more time than in one piece", "[daemon][unit]") {
  auto limits = settings();
  limits.header = Duration(300);
  limits.idle = Duration(60'000);
  SubmitDoor door(limits);
  auto connection = door.connect();
  // Never still for as long as the limit, never done.
  for (int i = 0; i < 2000 && connection.write("{"); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  CHECK(answer_on(connection).exit_code == EX_PROTOCOL);
}

TEST_CASE("long header lines of one user share their octets", "[daemon][unit]") {
  SubmitDoor door;
  std::vector<LocalConnection> holding;
  const std::string almost(3U << 20U, ' ');
  for (int i = 0; i < 2; ++i) {
    holding.push_back(door.connect());
    REQUIRE(holding.back().write(almost));
  }
  auto over = door.connect();
  (void)over.write(almost);
  const auto answer = answer_on(over);
  CHECK(answer.exit_code == EX_TEMPFAIL);
  CHECK(answer.busy);
  CHECK(door.send(header(2), "x\n").exit_code == EX_OK);
  // What they held is free when they are gone.
  holding.clear();
  bool is_free = false;
  for (int i = 0; i < 500 && !is_free; ++i) {
    auto again = door.connect();
    (void)again.write(almost + "\n");
    is_free = answer_on(again).exit_code == EX_PROTOCOL;
  }
  CHECK(is_free);
}

// More octets in all than there is room for at one time: what each held must be free again, of its
// user's share and of all users'.
TEST_CASE("long header lines one after another never use up the room", "[daemon][unit]") {
  SubmitDoor door;
  const std::string almost = std::string(3U << 20U, ' ') + "\n";
  for (int line = 0; line < 20; ++line) {
    bool is_judged = false;
    for (int i = 0; i < 500 && !is_judged; ++i) {
      auto connection = door.connect();
      (void)connection.write(almost);
      is_judged = answer_on(connection).exit_code == EX_PROTOCOL;  // else the last one still leaves
    }
    INFO(line);
    REQUIRE(is_judged);
  }
}

TEST_CASE("octet by octet, content has no more time than in one piece", "[daemon][unit]") {
  auto limits = settings();
  limits.whole = Duration(300);
  limits.idle = Duration(60'000);
  SubmitDoor door(limits);
  auto connection = door.connect();
  REQUIRE(connection.write(encode(header(1'000'000))));
  for (int i = 0; i < 2000 && connection.write("x"); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  CHECK(answer_on(connection).exit_code == EX_TEMPFAIL);
  CHECK(door.listed().empty());
}

// Who the peer is the kernel notes when a thread connects, whose user is its own.
LocalConnection connect_as(const SubmitDoor& door, uid_t uid) {
  std::optional<LocalConnection> connection;
  std::thread([&] {
    if (::syscall(SYS_setresuid, -1, uid, -1) != 0)
      return;
    if (auto connected = LocalConnection::connect(door.path))
      connection = std::move(*connected);
  }).join();
  REQUIRE(connection);
  connection->set_timeout(Duration(10'000));
  return std::move(*connection);
}

// As subuid(5) lends 100000 and up to 4001.
std::uint64_t party_of_4001(std::uint64_t uid) {
  return uid >= 100'000 ? 4001 : uid;
}

TEST_CASE("the ids that a user was lent have one share of the places", "[daemon][unit]") {
  if (::geteuid() != 0)
    return;  // only root is several users
  auto limits = settings();
  limits.connections = 6;
  limits.connections_per_user = 5;
  limits.party = party_of_4001;
  SubmitDoor door(limits);
  REQUIRE(::chmod(door.folder.path().c_str(), 0755) == 0);
  std::vector<LocalConnection> idle;
  for (uid_t i = 0; i < 5; ++i)
    idle.push_back(connect_as(door, i == 0 ? 4001 : 100'000 + i));
  auto over = connect_as(door, 100'010);
  CHECK(answer_on(over).busy);
  auto first = connect_as(door, 4002);
  auto second = connect_as(door, 4002);
  CHECK(answer_on(idle.front()).busy);  // who has the most makes room, with the oldest
  for (auto* connection : {&first, &second}) {
    REQUIRE(connection->write(encode(header(2)) + "x\n"));
    CHECK(answer_on(*connection).exit_code == EX_OK);
  }
}

TEST_CASE("whose message is being stored makes no room for others", "[daemon][unit]") {
  if (::geteuid() != 0)
    return;  // only root is several users
  auto limits = settings();
  limits.connections = 3;
  std::promise<void> whole;  // all of the message is there, and its taking has begun
  limits.admit = [&](std::uint64_t uid, std::size_t) -> std::optional<SubmitAnswer> {
    if (uid == 4001)
      whole.set_value();
    return std::nullopt;
  };
  SubmitDoor door(limits);
  REQUIRE(::chmod(door.folder.path().c_str(), 0755) == 0);
  door.clock.hold_all_but(door.thread.get_id());  // so the queue stores nothing
  auto storing = connect_as(door, 4001);
  REQUIRE(storing.write(encode(header(2)) + "x\n"));
  whole.get_future().wait();
  auto idle = connect_as(door, 4001);
  auto other = connect_as(door, 4001);
  auto newcomer = connect_as(door, 4002);
  // The oldest goes that has not come whole.
  CHECK(answer_on(idle).busy);
  door.clock.let_go();
  CHECK(answer_on(storing).exit_code == EX_OK);
  REQUIRE(newcomer.write(encode(header(2)) + "x\n"));
  CHECK(answer_on(newcomer).exit_code == EX_OK);
  CHECK(door.listed().size() == 2);
}

}  // namespace
}  // namespace postrider::daemon
