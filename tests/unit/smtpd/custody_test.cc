// Receiving into a real queue: what was said over TCP is what is kept on disk.
#include "smtpd/custody.h"

#include "support.h"

#include "base/file.h"
#include "queue/queue.h"
#include "smtpd/replies.h"
#include "tests/unit/base/temporary_folder.h"

#include <catch2/catch.hpp>

#include <filesystem>

using namespace postrider;
using namespace postrider::tests;

namespace {

struct RealQueue {
  TemporaryFolder folder;
  SystemClock clock;
  NullLog log;
  std::unique_ptr<queue::Queue> queue;
  std::unique_ptr<smtpd::QueueCustody> custody;

  RealQueue() {
    queue::Settings settings;
    settings.spool = folder / "spool";
    settings.room_needed = 0;
    auto opened = queue::Queue::open(settings, clock, log);
    REQUIRE(opened);
    queue = *std::move(opened);
    queue->start(nullptr);
    custody = std::make_unique<smtpd::QueueCustody>(*queue);
  }
  std::string content(mail::MessageId id) {
    const auto message = queue->load(id);
    REQUIRE(message);
    const auto& kept = (*message)->content;
    if (kept.bytes)
      return *kept.bytes;
    return read_file(queue->body_path(kept.file)).value();
  }
  std::vector<queue::ListedMessage> list() {
    return queue->list({}, mail::MessageId{0}, 100).value();
  }
  std::size_t body_files() const {
    std::size_t count = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder / "spool/body"))
      count += entry.is_regular_file() ? 1 : 0;
    return count;
  }
};

std::string text_of(std::size_t octets) {
  std::string text = "Subject: large\r\n\r\n";
  for (std::size_t i = 0; text.size() + 2 < octets; ++i)
    text += i % 70 == 69 ? "\r\n" : i % 70 == 0 ? "." : "x";
  return text + "\r\n";
}

std::string stuffed(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '.' && i > 0 && text[i - 1] == '\n')
      out.push_back('.');
    out.push_back(text[i]);
  }
  return out + ".\r\n";
}

mail::MessageId id_in(const std::string& reply) {
  const auto at = reply.find("queued as ");
  REQUIRE(at != std::string::npos);
  return mail::parse_message_id(reply.substr(at + 10, reply.find('\r') - at - 10)).value();
}

Peer ready_to_send(RunningServer& server, std::size_t steps) {
  Peer peer(server.port());
  peer.reply();
  const auto script = with_data("");
  for (std::size_t i = 0; i < steps; ++i)
    peer.say(script[i]);
  return peer;
}

}  // namespace

TEST_CASE("messages of any size arrive in the queue as they were sent", "[smtpd][queue][tcp]") {
  RealQueue real;
  RunningServer server(strict_settings(), 2, real.custody.get());
  for (const std::size_t size : {20U, 4096U, 65535U, 65536U, 65537U, 100000U, 3000000U}) {
    const auto text = text_of(size);
    INFO("octets: " << text.size());
    auto by_data = ready_to_send(server, 4);
    by_data.send(stuffed(text));
    CHECK(real.content(id_in(by_data.reply())) == text);
    auto by_chunks = ready_to_send(server, 3);
    for (std::size_t at = 0; at < text.size(); at += 50000) {
      const auto chunk = text.substr(at, 50000);
      const bool last = at + 50000 >= text.size();
      by_chunks.send("BDAT " + std::to_string(chunk.size()) + (last ? " LAST\r\n" : "\r\n"));
      by_chunks.send(chunk);
      const auto reply = by_chunks.reply();
      CHECK(codes_of(reply) == "250");
      if (last)
        CHECK(real.content(id_in(reply)) == text);
    }
  }
  CHECK(real.list().size() == 14);
  CHECK(real.body_files() == 6);
  const auto listed = real.list().front();
  CHECK(listed.sender == "x@ext.test");
  CHECK(listed.recipients.at(0).address == "y@us.test");
  CHECK(listed.origin.client == "client.test[127.0.0.1]");
}

TEST_CASE("a large message that is refused or cut off leaves no file", "[smtpd][queue][tcp]") {
  RealQueue real;
  auto settings = strict_settings();
  settings.message_size = 1U << 20U;
  RunningServer server(settings, 1, real.custody.get());
  SECTION("too large") {
    auto peer = ready_to_send(server, 4);
    peer.send(stuffed(text_of(3U << 20U)));
    CHECK(peer.reply() == smtpd::replies::kTooLarge);
    CHECK(codes_of(peer.say("NOOP\r\n")) == "250");
  }
  SECTION("poisoned late") {
    auto peer = ready_to_send(server, 4);
    peer.send(text_of(500000) + "a\nb\r\n.\r\n");
    CHECK(peer.reply() == smtpd::replies::kBadContent);
  }
  SECTION("cut off") {
    auto peer = ready_to_send(server, 4);
    peer.send(text_of(500000));
    peer.finish();
    CHECK(peer.is_closed());
    CHECK(server.log().wait_for("disconnected").at(0).value("reason") == "lost");
  }
  server.drain(Duration(1000));
  CHECK(real.list().empty());
  CHECK(real.body_files() == 0);
}
