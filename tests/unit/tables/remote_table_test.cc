// A table that a server answers, whatever the server does.
#include "tables/remote_table.h"

#include "base/memory_only.h"

#include <catch2/catch.hpp>

#include <atomic>
#include <future>
#include <map>
#include <mutex>

using namespace postrider;
using namespace postrider::tables;
using namespace std::chrono_literals;

namespace {

// A server in memory. answers: "=value", "-" none, "!why" a refusal, "x" a lost connection, "t" none in
// time.
struct Server {
  std::mutex mutex;
  std::map<std::string, std::string> answers;
  std::atomic<int> opened{0}, open{0}, most_open{0}, asked{0};
  std::atomic<bool> is_down{false}, has_closed{false};
  std::promise<void> go_on;  // awaited by the answer "wait"
  std::shared_future<void> may_go_on = go_on.get_future();
};

class Connection : public RemoteConnection {
 public:
  explicit Connection(Server& server) : server_(server) {
    ++server_.opened;
    server_.most_open = std::max<int>(server_.most_open, ++server_.open);
  }
  ~Connection() override { --server_.open; }
  Answer ask(const std::string& key, RemoteClock::time_point) override {
    ++server_.asked;
    std::string answer;
    {
      const std::lock_guard lock(server_.mutex);
      answer = server_.answers[key];
    }
    if (answer == "wait") {
      server_.may_go_on.wait();
      answer = "=waited";
    }
    if (server_.has_closed.exchange(false) || answer == "x" || answer == "t") {
      is_lost_ = true;
      return Error(answer == "t" ? make_error_code(boost::system::errc::timed_out)
                                 : make_error_code(Errc::truncated),
                   "it is lost");
    }
    if (answer.starts_with('!'))
      return Error(Errc::storage, answer.substr(1));
    if (answer.starts_with('='))
      return std::optional<std::string>(answer.substr(1));
    return std::optional<std::string>();
  }
  bool is_usable() const override { return !is_lost_; }

 private:
  Server& server_;
  bool is_lost_ = false;
};

std::shared_ptr<const Table> table_of(Server& server) {
  RemoteRules rules;
  rules.name = "test:t";
  rules.connections = 2;
  rules.connect = [&server](RemoteClock::time_point) -> Result<std::unique_ptr<RemoteConnection>> {
    if (server.is_down)
      return Error(Errc::storage, "nobody is there");
    return std::make_unique<Connection>(server);
  };
  rules.may_have = [](std::string_view key) { return key != "foreign"; };
  return make_remote_table(std::move(rules));
}

std::string find(const Table& table, const std::string& key) {
  const auto found = table.find(key);
  if (!found)
    return "error: " + found.error().step();
  return *found ? (*found)->value : "-";
}

std::string find_later(const Table& table, const std::string& key) {
  for (;;) {  // a server that was down is left alone for a second
    auto found = find(table, key);
    if (found.find("nobody is there") == found.npos && found.find("it is lost") == found.npos)
      return found;
    std::this_thread::yield();
  }
}

}  // namespace

TEST_CASE("an answer of a server is remembered, and its connection is used again",
          "[tables][remote]") {
  Server server;
  server.answers = {{"ann", "=bob"}, {"bad", "!database is down"}, {"empty", "= "}};
  const auto table = table_of(server);
  CHECK(find(*table, "ANN") == "bob");
  CHECK(find(*table, "ann") == "bob");
  CHECK(find(*table, "nobody") == "-");
  CHECK(find(*table, "empty") == "-");
  CHECK(find(*table, "foreign") == "-");
  CHECK(server.asked == 3);
  CHECK(find(*table, "bad") == "error: test:t: database is down");
  CHECK(find(*table, "bad") == "error: test:t: database is down");  // it may know better now
  CHECK(server.asked == 5);
  CHECK(server.opened == 1);
  const auto entry = *table->find("ann");
  CHECK(entry->where == "test:t");
  CHECK(entry->owner == kNobody);
}

TEST_CASE("a connection that was closed while it was idle is made anew", "[tables][remote]") {
  Server server;
  server.answers = {{"ann", "=bob"}, {"carl", "=dan"}};
  const auto table = table_of(server);
  CHECK(find(*table, "ann") == "bob");
  server.has_closed = true;
  CHECK(find(*table, "carl") == "dan");
  CHECK(server.opened == 2);
  CHECK(server.open == 1);
}

TEST_CASE("a server that is down is no answer, and is asked again soon", "[tables][remote]") {
  Server server;
  server.answers = {{"ann", "=bob"}, {"lost", "x"}, {"slow", "t"}};
  const auto table = table_of(server);
  server.is_down = true;
  CHECK(find(*table, "ann") == "error: test:t: nobody is there");
  server.is_down = false;
  CHECK(find(*table, "ann") ==
        "error: test:t: nobody is there");  // for a moment nobody waits for it
  CHECK(find_later(*table, "ann") == "bob");
  CHECK(find(*table, "lost").starts_with("error: test:t: it is lost"));
  CHECK(server.open == 0);
  CHECK(find(*table, "ann") == "bob");  // it is remembered
  CHECK(find_later(*table, "new") == "-");
  CHECK(find(*table, "slow").starts_with("error: test:t: it is lost"));
  CHECK(find_later(*table, "newer") == "-");
  const int asked = server.asked;
  CHECK(find(*table, "slow").starts_with("error: test:t: it is lost"));  // not waited for again
  CHECK(server.asked == asked);
}

TEST_CASE("questions have a few connections, and none where nobody may wait", "[tables][remote]") {
  Server server;
  for (const char* key : {"a", "b", "c", "d"})
    server.answers[key] = "wait";
  const auto table = table_of(server);
  std::vector<std::future<std::string>> all;
  for (const char* key : {"a", "b", "c", "d"})
    all.push_back(std::async(std::launch::async, [&, key] { return find(*table, key); }));
  while (server.asked < 2)
    std::this_thread::yield();
  {
    const MemoryOnly memory;
    CHECK(find(*table, "other").starts_with("error: "));
    CHECK(memory.was_not_enough());
  }
  server.go_on.set_value();
  for (auto& one : all)
    CHECK(one.get() == "waited");
  CHECK(server.most_open == 2);
}
