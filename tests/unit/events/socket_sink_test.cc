#include "events/socket_sink.h"

#include "tests/unit/base/temporary_folder.h"

#include <catch2/catch.hpp>

#include <cstring>
#include <functional>
#include <sys/socket.h>
#include <sys/un.h>
#include <thread>
#include <unistd.h>

using namespace postrider;
using namespace postrider::events;

namespace {

constexpr Duration kLong{60'000};

FileDescriptor listening(const std::string& path) {
  FileDescriptor made(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  REQUIRE(::bind(made.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  REQUIRE(::listen(made.get(), 4) == 0);
  return made;
}

// A batch with the empty line that ends it; less if the other side has gone.
std::string batch_from(int socket) {
  std::string text;
  char byte = 0;
  while (!text.ends_with("\n\n") && ::read(socket, &byte, 1) == 1)
    text.push_back(byte);
  return text;
}

}  // namespace

TEST_CASE("a batch is given to a program, and only its ok counts", "[socket]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  const auto door = listening(folder / "door");
  SocketSink sink(folder / "door", kLong, clock);
  std::vector<std::string> seen;
  std::thread program([&] {
    // Two batches on a connection; a refusal; an end without an answer; and well again.
    for (const auto& answers :
         {std::vector<std::string>{"ok\n", "ok\n", "no, the broker is away\n"}, {""}, {"ok\n"}}) {
      const FileDescriptor socket(::accept(door.get(), nullptr, nullptr));
      for (const auto& answer : answers) {
        seen.push_back(batch_from(socket.get()));
        (void)!::write(socket.get(), answer.data(), answer.size());
      }
    }
  });
  CHECK(sink.deliver("1", {"a", "b"}).has_value());
  CHECK(sink.deliver("2", {"c"}).has_value());
  const auto refused = sink.deliver("3", {"d"});
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().describe().find("no, the broker is away") != std::string::npos);
  CHECK_FALSE(sink.deliver("3", {"d"}).has_value());
  CHECK(sink.deliver("3", {"d"}).has_value());
  program.join();
  CHECK(seen == std::vector<std::string>{"a\nb\n\n", "c\n\n", "d\n\n", "d\n\n", "d\n\n"});
}

TEST_CASE("nobody there, a name too long, and silence are failures", "[socket]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  CHECK_FALSE(SocketSink(folder / "none", kLong, clock).deliver("1", {"a"}).has_value());
  CHECK_FALSE(SocketSink(std::string(500, 'x'), kLong, clock).deliver("1", {"a"}).has_value());
  CHECK_FALSE(SocketSink("", kLong, clock).deliver("1", {"a"}).has_value());
  // It listens, takes nothing and says nothing: more than the socket's buffers hold, and less.
  const auto door = listening(folder / "door");
  for (const std::size_t size : {std::size_t(10), std::size_t(8) << 20U}) {
    const auto done =
        SocketSink(folder / "door", Duration(1), clock).deliver("1", {std::string(size, 'x')});
    REQUIRE_FALSE(done.has_value());
    CHECK(done.error().code() == boost::system::errc::timed_out);
  }
}
