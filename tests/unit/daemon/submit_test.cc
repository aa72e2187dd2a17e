#include "doors.h"

#include "daemon/control_client.h"
#include "daemon/submit_protocol.h"
#include "daemon/submit_server.h"

#include <sysexits.h>
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
    auto opened = SubmitServer::open(path, loop, *queue, clock, log, std::move(limits));
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
    connection->set_timeout(Duration(10'000));
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
  for (int i = 0; i < 200 && !swept; ++i) {
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

}  // namespace
}  // namespace postrider::daemon
