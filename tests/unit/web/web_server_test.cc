#include "web/web_server.h"

#include "web/web_site.h"

#include "base/digest.h"
#include "base/file.h"
#include "base/log.h"
#include "base/net/blocking_pool.h"
#include "base/net/loop.h"
#include "tests/unit/base/temporary_folder.h"

#include <catch2/catch.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <string>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <thread>

using namespace postrider;
using namespace postrider::web;

namespace {

class NoDaemon : public ControlPort {
 public:
  Result<daemon::ControlEnd> ask(const daemon::ControlRequest&, const OnLine&) override {
    return Error(Errc::stopped, "connect");
  }
};

// A server at a socket in a folder of its own.
class Served {
 public:
  explicit Served(WebServer::Limits limits)
      : site_(settings(), port_, clock_, log_), server_(loop_, site_, log_, limits) {
    REQUIRE(server_.listen("unix:" + path()));
    server_.answer_by(pool_);
    thread_ = std::thread([this] { loop_.run(); });
  }
  ~Served() {
    loop_.post([this] {
      server_.stop();
      loop_.finish();
    });
    thread_.join();
  }
  std::string path() const { return folder_ / "web"; }

 private:
  static WebSite::Settings settings() {
    WebSite::Settings made;
    made.hosts = {"localhost"};
    made.request_size = 100'000;
    made.tokens = []() -> Result<std::vector<Token>> {
      return std::vector<Token>{{Role::send, encode_hex(sha256("sender")), "shop"}};
    };
    made.submit = [](const auto&, auto) -> Result<daemon::SubmitAnswer> {
      return daemon::SubmitAnswer{
          .id = "01ABC", .exit_code = 0, .error = {}, .busy = false, .cause = {}};
    };
    return made;
  }

  TemporaryFolder folder_;
  NoDaemon port_;
  SystemClock clock_;
  NullLog log_;
  WebSite site_;
  Loop loop_{0};
  BlockingPool pool_{1};
  WebServer server_;
  std::thread thread_;
};

class Visitor {
 public:
  explicit Visitor(const Served& served)
      : socket_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const auto path = served.path();
    REQUIRE(path.size() < sizeof address.sun_path);
    std::memcpy(address.sun_path, path.data(), path.size());
    const timeval patience{30, 0};
    REQUIRE(::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0);
    REQUIRE(::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) ==
            0);
  }
  void say(std::string_view text) {
    while (!text.empty()) {
      const auto sent = ::send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL);
      REQUIRE(sent > 0);
      text.remove_prefix(static_cast<std::size_t>(sent));
    }
  }
  // The next one, without the body that its Content-Length announces.
  std::string head() {
    constexpr std::string_view kEnd = "\r\n\r\n";
    while (heard_.find(kEnd) == heard_.npos && hear())
      continue;
    const auto end = heard_.find(kEnd);
    auto found = heard_.substr(0, end == heard_.npos ? end : end + kEnd.size());
    heard_.erase(0, found.size());
    return found;
  }
  // The status of the next answer, whose body is read, too; 0: the connection has ended.
  int status() {
    const auto found = head();
    if (found.size() < 12)
      return 0;
    const auto at = found.find("Content-Length: ");
    const auto length = at == found.npos ? 0 : std::stoul(found.substr(at + 16));
    while (heard_.size() < length && hear())
      continue;
    heard_.erase(0, std::min<std::size_t>(length, heard_.size()));
    return std::stoi(found.substr(9, 3));
  }
  // Within the patience of a test.
  bool is_sent_away() {
    while (hear())
      continue;
    return failure_ != EAGAIN && failure_ != EWOULDBLOCK;
  }

 private:
  bool hear() {
    std::array<char, 4096> room{};
    const auto got = ::recv(socket_.get(), room.data(), room.size(), 0);
    failure_ = got < 0 ? errno : 0;
    if (got <= 0)
      return false;
    heard_.append(room.data(), static_cast<std::size_t>(got));
    return true;
  }

  FileDescriptor socket_;
  std::string heard_;
  int failure_ = 0;
};

const std::string kHealth = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
const std::string kBegin = "GET /healthz HTTP/1.1\r\nHost: loc";
const std::string kRest = "alhost\r\n\r\n";

std::string mail_head(std::size_t octets, const std::string& more = {}) {
  return "POST /api/v1/messages HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sender\r\n"
         "Content-Type: application/json\r\n" +
         more + "Content-Length: " + std::to_string(octets) + "\r\n\r\n";
}

std::string mail_body(std::size_t octets) {
  std::string body = R"({"from":"a@b.example","to":"c@d.example","text":"x"})";
  body.resize(octets, ' ');
  return body;
}

}  // namespace

TEST_CASE("server: a request that has begun and does not end is cut at its limit", "[web]") {
  WebServer::Limits limits;
  limits.request = Duration(300);
  const Served served(limits);
  Visitor slow(served), late(served);
  late.say(kHealth);
  CHECK(late.status() == 200);
  slow.say(kBegin);
  CHECK(slow.is_sent_away());
  late.say(kHealth);  // for it the limit between two requests holds
  CHECK(late.status() == 200);
  late.say(kBegin);
  CHECK(late.is_sent_away());
}

TEST_CASE("server: who says nothing is sent away after a while", "[web]") {
  WebServer::Limits limits;
  limits.idle = Duration(300);
  const Served served(limits);
  Visitor silent(served), done(served);
  done.say(kHealth);
  CHECK(done.status() == 200);
  CHECK(done.is_sent_away());
  CHECK(silent.is_sent_away());
}

TEST_CASE("server: where all places are taken, who asks for longest gives way", "[web]") {
  WebServer::Limits limits;
  limits.connections = 3;
  const Served served(limits);
  Visitor oldest(served), second(served), third(served);
  oldest.say(kBegin);
  second.say(kBegin);
  third.say(kBegin);
  Visitor newcomer(served);
  newcomer.say(kHealth);
  CHECK(newcomer.status() == 200);
  CHECK(oldest.is_sent_away());
  second.say(kRest);
  CHECK(second.status() == 200);
  third.say(kRest);
  CHECK(third.status() == 200);
}

TEST_CASE("server: large bodies share their room, and give it back with the answer", "[web]") {
  WebServer::Limits limits;
  constexpr std::size_t kSize = 90'000;
  limits.large = 2 * kSize;
  const Served served(limits);
  Visitor first(served);
  for (int i = 0; i < 4; ++i) {  // over one connection
    first.say(mail_head(kSize) + mail_body(kSize));
    REQUIRE(first.status() == 202);
  }
  first.say(mail_head(kSize, "Expect: 100-continue\r\n"));
  CHECK(first.head().starts_with("HTTP/1.1 100 "));
  {
    Visitor gone(served);
    gone.say(mail_head(kSize, "Expect: 100-continue\r\n"));
    CHECK(gone.head().starts_with("HTTP/1.1 100 "));
    Visitor third(served);
    third.say(mail_head(kSize));
    CHECK(third.status() == 503);
  }
  const auto taken = [&] {  // once the server has seen that it is gone
    Visitor next(served);
    next.say(mail_head(kSize) + mail_body(kSize));
    return next.status();
  };
  int last = 503;
  for (int i = 0; i < 1000 && last == 503; ++i)
    last = taken();
  CHECK(last == 202);
  first.say(mail_body(kSize));
  CHECK(first.status() == 202);
}

TEST_CASE("server: what is asked with HEAD has a length and no body", "[web]") {
  const Served served(WebServer::Limits{});
  Visitor visitor(served);
  visitor.say("HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" + kHealth);
  const auto head = visitor.head();
  CHECK(head.starts_with("HTTP/1.1 200 "));
  CHECK(head.find("\r\nContent-Length: 3\r\n") != head.npos);
  const auto next = visitor.head();
  CHECK(next.starts_with("HTTP/1.1 200 "));
}

TEST_CASE("server: its end waits for nobody who says nothing", "[web]") {
  auto served = std::make_unique<const Served>(WebServer::Limits{});
  Visitor silent(*served), slow(*served), done(*served);
  slow.say(kBegin);
  done.say(kHealth);
  CHECK(done.status() == 200);
  const auto begun = std::chrono::steady_clock::now();
  served.reset();
  CHECK(std::chrono::steady_clock::now() - begun < WebServer::Limits{}.request);
  CHECK(silent.is_sent_away());
  CHECK(slow.is_sent_away());
  CHECK(done.is_sent_away());
}
