#include "base/net/signal.h"
#include "delivery/auth/credential_source.h"

#include <catch2/catch.hpp>

#include <deque>

using namespace postrider;
using namespace postrider::delivery;
using namespace std::chrono_literals;

namespace {

struct HandClock : Clock {
  TimePoint now() const override { return TimePoint(); }
  SteadyTime steady() const override { return at; }
  SteadyTime at{1h};
};

HttpResponse good(const std::string& token, int lifetime, const std::string& refresh = "") {
  HttpResponse response;
  response.status = 200;
  response.body = R"({"access_token":")" + token + R"(","expires_in":)" + std::to_string(lifetime) +
                  (refresh.empty() ? "" : R"(,"refresh_token":")" + refresh + "\"") + "}";
  return response;
}

HttpResponse bad() {
  HttpResponse response;
  response.status = 400;
  response.body = R"({"error":"invalid_grant"})";
  return response;
}

// A keeper whose endpoint answers from a list; everything on one loop.
struct Rig {
  HandClock clock;
  NullLog log;
  Loop loop{0};
  BlockingPool pool{1};
  std::deque<HttpResponse> answers;
  std::vector<std::string> asked;  // bodies
  std::string kept;                // a refresh token on disk
  std::vector<std::string> outputs;
  Signal* hold = nullptr;  // the endpoint waits for it
  bool throws = false;
  std::shared_ptr<CredentialSource> keeper;

  explicit Rig(const std::string& source =
                   "token_endpoint = https://login.test/\nclient_id = c\nrefresh_token = r0\n") {
    TokenMeans means;
    means.ask = [this](HttpRequest request, std::shared_ptr<HttpCall> call) {
      return answer(std::move(request), std::move(call));
    };
    means.run = [this](const std::string&) -> Result<std::string> {
      if (outputs.empty())
        return Error(Errc::refused, "exit code 1");
      auto output = outputs.front();
      outputs.erase(outputs.begin());
      return output;
    };
    means.load = [this](const std::string&) { return kept; };
    means.save = [this](const std::string&, const std::string& refresh) { kept = refresh; };
    keeper = std::make_shared<CredentialSource>(parse_credentials("user = u\n" + source).file, "/f",
                                                loop, clock, log, pool, std::move(means));
  }

  Task<Result<HttpResponse>> answer(HttpRequest request, std::shared_ptr<HttpCall> call) {
    asked.push_back(request.body);
    if (hold != nullptr)
      co_await hold->wait();
    if (throws)
      throw std::runtime_error("no memory");
    if (call->is_aborted() || answers.empty())
      co_return Error(asio::error::connection_refused, "connect");
    auto first = answers.front();
    answers.pop_front();
    co_return first;
  }

  // Runs the coroutine to its end.
  void run(std::function<Task<void>(Rig&)> work) {
    loop.spawn(work(*this), log, "test");
    loop.finish();
    loop.run();
  }
  // "token", "token fresh" or the error.
  Task<std::string> get() {
    auto got = co_await keeper->get(loop);
    if (!got)
      co_return got.error().describe();
    co_return (*got)->secret + ((*got)->is_fresh ? " fresh" : "");
  }
};

Task<void> wait_for_first(Rig& rig, unsigned& done) {
  CHECK(co_await rig.get() == "t1 fresh");
  ++done;
}

}  // namespace

TEST_CASE("a token is kept until shortly before it expires", "[delivery][token]") {
  Rig rig;
  rig.answers = {good("t1", 3600), good("t2", 60), good("t3", 0)};
  rig.run([](Rig& r) -> Task<void> {
    CHECK(co_await r.get() == "t1 fresh");
    CHECK(co_await r.get() == "t1");
    r.clock.at += 3539s;
    CHECK(co_await r.get() == "t1");
    r.clock.at += 1s;
    CHECK(co_await r.get() == "t2 fresh");
    r.clock.at += 29s;  // half of a life that is shorter than the margin
    CHECK(co_await r.get() == "t2");
    r.clock.at += 1s;
    CHECK(co_await r.get() == "t3 fresh");
    r.clock.at += 1000h;  // a lifetime that was not told
    CHECK(co_await r.get() == "t3");
  });
  CHECK(rig.asked.size() == 3);
}

TEST_CASE("what a fetch throws is an answer to all that wait", "[delivery][token]") {
  Rig rig;
  rig.throws = true;
  rig.run([](Rig& r) -> Task<void> {
    CHECK((co_await r.get()).find("no memory") != std::string::npos);
    r.throws = false;
    r.answers = {good("t1", 3600)};
    r.clock.at += 1h;
    CHECK(co_await r.get() == "t1 fresh");
  });
}

TEST_CASE("a token that was refused is not given again, another one is", "[delivery][token]") {
  Rig rig;
  rig.answers = {good("t1", 3600), good("t2", 3600)};
  rig.run([](Rig& r) -> Task<void> {
    CHECK(co_await r.get() == "t1 fresh");
    r.keeper->refuse("t0");
    CHECK(co_await r.get() == "t1");
    r.keeper->refuse("t1");
    r.keeper->refuse("t1");
    CHECK(co_await r.get() == "t2 fresh");
    r.keeper->refuse("t1");  // a late word of another connection
    CHECK(co_await r.get() == "t2");
  });
}

TEST_CASE("however many wait, one request is under way", "[delivery][token]") {
  Rig rig;
  Signal release;
  rig.hold = &release;
  rig.answers = {good("t1", 3600)};
  unsigned done = 0;
  rig.run([&](Rig& r) -> Task<void> {
    for (int i = 0; i < 10; ++i)
      r.loop.spawn(wait_for_first(r, done), r.log, "waiter");
    r.loop.post([&r, &release] { r.loop.post([&release] { release.set(); }); });
    co_return;
  });
  CHECK(done == 10);
  CHECK(rig.asked.size() == 1);
}

TEST_CASE("an endpoint that fails is left in peace for longer and longer", "[delivery][token]") {
  Rig rig;
  rig.answers = {bad(), bad(), bad(), good("t1", 3600)};
  rig.run([](Rig& r) -> Task<void> {
    const std::string why = "ask login.test: HTTP status 400, invalid_grant: refused";
    CHECK(co_await r.get() == why);
    r.clock.at += 9s;
    CHECK(co_await r.get() == why);
    CHECK(r.asked.size() == 1);
    r.clock.at += 1s;
    CHECK(co_await r.get() == why);
    r.clock.at += 19s;
    CHECK(co_await r.get() == why);
    CHECK(r.asked.size() == 2);
    r.clock.at += 1s;
    CHECK(co_await r.get() == why);
    CHECK(r.asked.size() == 3);
    r.keeper->forgive();  // a reload
    CHECK(co_await r.get() == "t1 fresh");
  });
}

TEST_CASE("a new refresh token takes the place of the old one", "[delivery][token]") {
  Rig rig;
  rig.answers = {good("t1", 60, "r1"), good("t2", 60), good("t3", 60)};
  rig.run([](Rig& r) -> Task<void> {
    CHECK(co_await r.get() == "t1 fresh");
    r.clock.at += 1h;
    CHECK(co_await r.get() == "t2 fresh");
    r.clock.at += 1h;
    CHECK(co_await r.get() == "t3 fresh");
  });
  CHECK(rig.asked[0].find("refresh_token=r0&") != std::string::npos);
  CHECK(rig.asked[1].find("refresh_token=r1&") != std::string::npos);
  CHECK(rig.asked[2].find("refresh_token=r1&") != std::string::npos);
  Rig after;  // a restart
  after.kept = "r1";
  after.answers = {good("t4", 60)};
  after.run([](Rig& r) -> Task<void> { CHECK(co_await r.get() == "t4 fresh"); });
  CHECK(after.asked[0].find("refresh_token=r1&") != std::string::npos);
  CHECK(rig.keeper->kept_name() == after.keeper->kept_name());
  const Rig other("token_endpoint = https://login.test/\nclient_id = c\nrefresh_token = new\n");
  CHECK(other.keeper->kept_name() != after.keeper->kept_name());
}

TEST_CASE("a stop answers who waits, and who comes later", "[delivery][token]") {
  Rig rig;
  Signal release;
  rig.hold = &release;
  rig.run([&](Rig& r) -> Task<void> {
    r.loop.post([&r] { r.keeper->stop(); });
    CHECK(co_await r.get() == "get an access token: shutting down");
    CHECK(co_await r.get() == "get an access token: shutting down");
    release.set();
  });
  CHECK(rig.asked.size() == 1);
}

TEST_CASE("a token command's output is a token, or its failure waits", "[delivery][token]") {
  Rig rig("token_command = /usr/bin/token\n");
  rig.outputs = {"t1\n", "not a token\n"};
  rig.run([](Rig& r) -> Task<void> {
    CHECK(co_await r.get() == "t1 fresh");
    r.keeper->refuse("t1");
    CHECK(co_await r.get() ==
          "token_command: what it prints is not a token on one line: malformed");
    r.clock.at += 10s;
    CHECK(co_await r.get() == "token_command: exit code 1: refused");
  });
}

TEST_CASE("a password is given without a question", "[delivery][token]") {
  Rig rig("password = p\n");
  rig.run([](Rig& r) -> Task<void> { CHECK(co_await r.get() == "p"); });
}
