#include "events/webhook_sink.h"

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>
#include <catch2/catch.hpp>

#include <map>
#include <thread>

using namespace postrider;
using namespace postrider::events;
using asio::ip::tcp;

namespace {

// Answers one connection after another with the statuses given, and keeps what was asked.
class Receiver {
 public:
  explicit Receiver(std::vector<std::string> answers)
      : acceptor_(context_, tcp::endpoint(asio::ip::make_address("127.0.0.1"), 0)),
        thread_([this, answers = std::move(answers)] { serve(answers); }) {}
  ~Receiver() { thread_.join(); }
  std::uint16_t port() const { return acceptor_.local_endpoint().port(); }
  struct Asked {
    std::string head, body;
  };
  std::vector<Asked> finish() {
    thread_.join();
    thread_ = std::thread([] {});
    return asked_;
  }

 private:
  void serve(const std::vector<std::string>& answers) {
    for (const auto& answer : answers) {
      tcp::socket socket(context_);
      boost::system::error_code error;
      acceptor_.accept(socket, error);
      asked_.push_back(read(socket));
      asio::write(socket, asio::buffer(answer), error);
    }
  }

  static Asked read(tcp::socket& socket) {
    boost::system::error_code error;
    std::string text;
    const auto end = asio::read_until(socket, asio::dynamic_buffer(text), "\r\n\r\n", error);
    Asked asked{text.substr(0, end), text.substr(end)};
    const auto at = asked.head.find("Content-Length: ");
    if (at == std::string::npos)
      return asked;
    const auto size = std::stoul(asked.head.substr(at + 16));
    while (asked.body.size() < size && !error) {
      char piece[512];
      const auto got = socket.read_some(asio::buffer(piece), error);
      asked.body.append(piece, got);
    }
    return asked;
  }

  asio::io_context context_;
  tcp::acceptor acceptor_;
  std::vector<Asked> asked_;
  std::thread thread_;
};

std::string answer(const std::string& status) {
  return "HTTP/1.1 " + status + "\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
}

std::string field(const std::string& head, const std::string& name) {
  const auto at = head.find("\r\n" + name + ": ");
  if (at == std::string::npos)
    return {};
  const auto from = at + name.size() + 4;
  return head.substr(from, head.find("\r\n", from) - from);
}

WebhookSettings settings_for(std::uint16_t port) {
  WebhookSettings settings;
  settings.url = *parse_http_url("http://hooks.example:" + std::to_string(port) + "/in");
  settings.keys = {std::string(32, 'k')};
  return settings;
}

Result<std::vector<asio::ip::address>> loopback(const std::string&, const std::atomic<bool>&) {
  return std::vector{asio::ip::make_address("127.0.0.1")};
}

}  // namespace

TEST_CASE("a batch is posted and signed, and a refused one comes again with its id", "[webhook]") {
  const SystemClock clock;
  NullLog log;
  Receiver receiver({answer("503 Busy"), answer("302 Found"), answer("204 No Content")});
  WebhookSink sink(settings_for(receiver.port()), loopback, clock, log);
  CHECK_FALSE(sink.deliver("o-1-2", {"{\"a\":1}", "{\"b\":2}"}).has_value());
  CHECK_FALSE(sink.deliver("o-1-2", {"{\"a\":1}", "{\"b\":2}"}).has_value());
  CHECK(sink.deliver("o-1-2", {"{\"a\":1}", "{\"b\":2}"}).has_value());
  const auto asked = receiver.finish();
  REQUIRE(asked.size() == 3);
  for (const auto& [head, body] : asked) {
    CHECK(head.starts_with("POST /in HTTP/1.1\r\n"));
    CHECK(body == "[{\"a\":1},{\"b\":2}]");
    CHECK(field(head, "webhook-id") == "o-1-2");
    CHECK(field(head, "webhook-signature") == webhook_signature({std::string(32, 'k')}, "o-1-2",
                                                                field(head, "webhook-timestamp"),
                                                                body));
  }
}

TEST_CASE("a receiver that is gone is not asked again", "[webhook]") {
  const SystemClock clock;
  NullLog log;
  Receiver receiver({answer("410 Gone")});
  WebhookSink sink(settings_for(receiver.port()), loopback, clock, log);
  CHECK_FALSE(sink.deliver("o-1-1", {"{}"}).has_value());
  CHECK(sink.is_gone());
  CHECK_FALSE(sink.deliver("o-1-1", {"{}"}).has_value());
}

TEST_CASE("nobody there, no name, rubbish as an answer: all are failures", "[webhook]") {
  const SystemClock clock;
  NullLog log;
  {
    std::uint16_t port = 0;
    {
      asio::io_context context;
      port = tcp::acceptor(context, tcp::endpoint(asio::ip::make_address("127.0.0.1"), 0))
                 .local_endpoint()
                 .port();
    }
    WebhookSink sink(settings_for(port), loopback, clock, log);
    CHECK_FALSE(sink.deliver("o-1-1", {"{}"}).has_value());
  }
  WebhookSink nameless(
      settings_for(1),
      [](const std::string&, const std::atomic<bool>&) -> Result<std::vector<asio::ip::address>> {
        return Error(Errc::not_found, "resolve");
      },
      clock, log);
  CHECK_FALSE(nameless.deliver("o-1-1", {"{}"}).has_value());
  Receiver receiver({"rubbish\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n"});
  WebhookSink sink(settings_for(receiver.port()), loopback, clock, log);
  CHECK_FALSE(sink.deliver("o-1-1", {"{}"}).has_value());
  CHECK_FALSE(sink.deliver("o-1-1", {"{}"}).has_value());
}
