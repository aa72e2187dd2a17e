#include "base/net/tls/stream.h"

#include "base/log.h"

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <catch2/catch.hpp>

#include <functional>
#include <string>
#include <sys/socket.h>
#include <unistd.h>

namespace postrider {
namespace {

using namespace std::chrono_literals;

struct Pair {
  explicit Pair(Loop& loop) {
    int ends[2] = {-1, -1};
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    const asio::generic::stream_protocol protocol(AF_UNIX, 0);
    near = std::make_unique<Stream>(loop, Socket(loop.context(), protocol, ends[0]));
    far = std::make_unique<Stream>(loop, Socket(loop.context(), protocol, ends[1]));
  }
  std::unique_ptr<Stream> near;
  std::unique_ptr<Stream> far;
};

// Starts the coroutines and runs the loop until they have ended.
void run(Loop& loop, std::initializer_list<std::function<Task<void>()>> tasks) {
  NullLog log;
  for (const auto& task : tasks)
    loop.spawn(task(), log, "test");
  const auto limit = std::chrono::steady_clock::now() + 120s;
  while (loop.children() > 0 && std::chrono::steady_clock::now() < limit)
    loop.context().run_one_for(1s);
  REQUIRE(loop.children() == 0);
}

Task<void> write_and_close(Stream& stream, std::string bytes, Result<void>& result) {
  result = co_await stream.write(bytes);
  stream.shut_down_sending();
}

Task<void> read_to_end(Stream& stream, std::string& into, Error& end) {
  char room[65536];
  for (;;) {
    const auto got = co_await stream.read_some(room, sizeof room);
    if (!got) {
      end = got.error();
      co_return;
    }
    into.append(room, *got);
  }
}

TEST_CASE("what is written is read, however large", "[base][stream]") {
  Loop loop(0);
  const Pair pair(loop);
  std::string bytes;
  while (bytes.size() < (8U << 20U))
    bytes.append(std::to_string(bytes.size())).append(" ");
  Result<void> written = Error(Errc::stopped, "not run");
  std::string read;
  Error end;
  run(loop, {[&] { return write_and_close(*pair.near, bytes, written); },
             [&] { return read_to_end(*pair.far, read, end); }});
  CHECK(written.has_value());
  CHECK(read == bytes);
  CHECK(end.code() == asio::error::eof);
}

Task<void> write_parts(Stream& stream, const std::string_view* parts, std::size_t count,
                       Result<void>& result) {
  result = co_await stream.write(parts, count);
  stream.shut_down_sending();
}

TEST_CASE("parts are gathered in order, empty ones included", "[base][stream]") {
  Loop loop(0);
  const Pair pair(loop);
  const std::string large(3U << 20U, 'l');
  const std::string_view parts[] = {"", "first ", large, "", " last", ""};
  Result<void> written = Error(Errc::stopped, "not run");
  std::string read;
  Error end;
  run(loop, {[&] { return write_parts(*pair.near, parts, 6, written); },
             [&] { return read_to_end(*pair.far, read, end); }});
  CHECK(written.has_value());
  CHECK(read == "first " + large + " last");
}

Task<void> read_until_deadline(Stream& stream, Error& end) {
  char room[16];
  stream.set_deadline(150ms);
  const auto got = co_await stream.read_some(room, sizeof room);
  if (!got)
    end = got.error();
}

TEST_CASE("a read that waits too long ends with timed_out, for good", "[base][stream]") {
  Loop loop(0);
  const Pair pair(loop);
  Error end;
  run(loop, {[&] { return read_until_deadline(*pair.near, end); }});
  CHECK(end.code() == asio::error::timed_out);
  CHECK(pair.near->timed_out());
  CHECK(pair.near->write_now("421 bye\r\n") == 9);
  run(loop, {[&] { return read_until_deadline(*pair.near, end); }});
  CHECK(end.code() == asio::error::timed_out);
}

Task<void> read_once(Stream& stream, Error& end) {
  char room[16];
  const auto got = co_await stream.read_some(room, sizeof room);
  end = got ? Error() : got.error();
}

TEST_CASE("what comes behind a deadline that has passed is not read", "[base][stream]") {
  Loop loop(0);
  const Pair pair(loop);
  Error end;
  run(loop, {[&] { return read_until_deadline(*pair.near, end); }});
  REQUIRE(pair.near->timed_out());
  CHECK(pair.far->write_now("x") == 1);
  run(loop, {[&] { return read_once(*pair.near, end); }});
  CHECK(end.code() == asio::error::timed_out);
}

Task<void> write_until_deadline(Stream& stream, Error& end) {
  const std::string bytes(16U << 20U, 'x');
  stream.set_deadline(150ms);
  const auto written = co_await stream.write(bytes);
  if (!written)
    end = written.error();
}

TEST_CASE("P12, X08: a write to a peer that does not read ends with timed_out", "[base][stream]") {
  Loop loop(0);
  const Pair pair(loop);
  Error end;
  run(loop, {[&] { return write_until_deadline(*pair.near, end); }});
  CHECK(end.code() == asio::error::timed_out);
}

Task<void> wait_then_read(Stream& stream, std::string& read, Error& later) {
  char room[16];
  later = stream.read_now(room, sizeof room).error();
  if (!(co_await stream.wait_readable()))
    co_return;
  const auto got = stream.read_now(room, sizeof room);
  if (got)
    read.assign(room, *got);
}

Task<void> write_now(Stream& stream) {
  stream.write_now("bytes");
  co_return;
}

TEST_CASE("a stream can be waited for without a buffer", "[base][stream]") {
  Loop loop(0);
  const Pair pair(loop);
  std::string read;
  Error before;
  run(loop, {[&] { return wait_then_read(*pair.near, read, before); },
             [&] { return write_now(*pair.far); }});
  CHECK(before.code() == asio::error::would_block);
  CHECK(read == "bytes");
  pair.far->close();
  char room[16];
  CHECK(pair.near->read_now(room, sizeof room).error().code() == asio::error::eof);
  CHECK(pair.far->write_now("x") == 0);
}

Task<void> close_soon(Stream& stream) {
  stream.close();
  co_return;
}

TEST_CASE("closing ends a pending read", "[base][stream]") {
  Loop loop(0);
  const Pair pair(loop);
  std::string read;
  Error end;
  run(loop,
      {[&] { return read_to_end(*pair.near, read, end); }, [&] { return close_soon(*pair.near); }});
  CHECK(end.code() == asio::error::operation_aborted);
}

TEST_CASE("writing to a closed peer is an error, not a signal", "[base][stream]") {
  Loop loop(0);
  const Pair pair(loop);
  pair.far->close();
  Error end;
  run(loop, {[&] { return write_until_deadline(*pair.near, end); }});
  CHECK(end.code() == asio::error::broken_pipe);
}

Task<void> connect_to(Loop& loop, asio::generic::stream_protocol::endpoint to, Duration limit,
                      std::unique_ptr<Stream>& into, Error& error) {
  auto stream = co_await Stream::connect(loop, to, limit);
  if (stream)
    into = std::move(*stream);
  else
    error = stream.error();
}

TEST_CASE("a connection is opened, refused or given up", "[base][stream]") {
  Loop loop(0);
  asio::ip::tcp::acceptor acceptor(loop.context(),
                                   asio::ip::tcp::endpoint(asio::ip::address_v4::loopback(), 0));
  const auto open = acceptor.local_endpoint();
  std::unique_ptr<Stream> stream;
  Error error;
  run(loop, {[&] { return connect_to(loop, open, 5s, stream, error); }});
  REQUIRE(stream != nullptr);
  CHECK(stream->is_open());
  acceptor.close();
  stream.reset();
  run(loop, {[&] { return connect_to(loop, open, 5s, stream, error); }});
  CHECK(stream == nullptr);
  CHECK(error.code() == asio::error::connection_refused);
  CHECK(error.step() == "connect");
}

TEST_CASE("P13: a loop that is stopped abandons its streams cleanly", "[base][stream]") {
  NullLog log;
  std::string read;
  Error end;
  std::unique_ptr<Pair> pair;
  auto loop = std::make_unique<Loop>(0);
  pair = std::make_unique<Pair>(*loop);
  pair->near->set_deadline(1h);
  loop->spawn(
      [](std::unique_ptr<Stream> mine, std::string& into, Error& error) -> Task<void> {
        mine->set_deadline(1h);
        co_await read_to_end(*mine, into, error);
      }(std::move(pair->near), read, end),
      log, "test");
  loop->context().poll();
  CHECK(loop->children() == 1);
  pair.reset();
  loop.reset();  // the coroutine, with its stream and deadline, goes with the context
  CHECK(!end.code());
}

}  // namespace
}  // namespace postrider
