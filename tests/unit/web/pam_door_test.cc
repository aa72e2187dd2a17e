#include "web/pam_door.h"

#include "base/file.h"
#include "tests/unit/base/temporary_folder.h"

#include <catch2/catch.hpp>

#include <cstring>
#include <string>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <thread>
#include <unistd.h>

using namespace postrider;
using namespace postrider::web;

namespace {

FileDescriptor listener_at(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  FileDescriptor made(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  REQUIRE(::bind(made.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  REQUIRE(::listen(made.get(), 4) == 0);
  return made;
}

}  // namespace

TEST_CASE("a password goes to the socket of root or of ones own, and to no other") {
  const TemporaryFolder folder;
  const auto path = folder.path() + "/web-login";

  SECTION("of ones own") {
    const auto door = listener_at(path);
    std::string heard;
    std::thread helper([&] {
      const FileDescriptor asker(::accept4(door.get(), nullptr, nullptr, SOCK_CLOEXEC));
      char room[256];
      const auto got = ::recv(asker.get(), room, sizeof room, 0);
      heard.assign(room, got > 0 ? static_cast<std::size_t>(got) : 0);
      (void)::send(asker.get(), "c", 1, MSG_NOSIGNAL);
    });
    const auto role = ask_pam(path, "ann", "secret", "192.0.2.1");
    helper.join();
    REQUIRE(role.has_value());
    CHECK((*role == Role::change));
    CHECK(heard == std::string("ann\0secret\0"
                               "192.0.2.1",
                               20));
  }

  SECTION("of another user") {
    if (::geteuid() != 0)
      return;
    constexpr uid_t kAnother = 12345;
    REQUIRE(::chmod(folder.path().c_str(), 0777) == 0);
    REQUIRE(::seteuid(kAnother) == 0);
    const auto door = listener_at(path);
    REQUIRE(::seteuid(0) == 0);
    const auto role = ask_pam(path, "ann", "secret", "192.0.2.1");
    REQUIRE_FALSE(role.has_value());
    CHECK(role.error().describe().find("uid 12345 listens there") != std::string::npos);
    const FileDescriptor asker(::accept4(door.get(), nullptr, nullptr, SOCK_CLOEXEC));
    char room[256];
    CHECK(::recv(asker.get(), room, sizeof room, 0) == 0);
  }
}

TEST_CASE("what PAM says is a role, or that it said none") {
  const TemporaryFolder folder;
  const auto path = folder.path() + "/web-login";
  const auto door = listener_at(path);
  const auto said = [&](const std::string& answer) {
    std::thread helper([&] {
      const FileDescriptor asker(::accept4(door.get(), nullptr, nullptr, SOCK_CLOEXEC));
      char room[256];
      (void)::recv(asker.get(), room, sizeof room, 0);
      if (!answer.empty())
        (void)::send(asker.get(), answer.data(), answer.size(), MSG_NOSIGNAL);
    });
    auto role = ask_pam(path, "ann", "secret", "192.0.2.1");
    helper.join();
    return role;
  };
  CHECK((said("r").value() == Role::read));
  CHECK((said("c").value() == Role::change));
  CHECK((said("n").value() == Role::none));
  for (const char* trouble : {"t", "x", "C", "", "\n"}) {
    INFO(trouble);
    CHECK_FALSE(said(trouble).has_value());
  }
  CHECK_FALSE(ask_pam(folder.path() + "/none", "ann", "secret", "").has_value());
  CHECK_FALSE(ask_pam(folder.path() + std::string(200, 'x'), "ann", "secret", "").has_value());
  CHECK_FALSE(ask_pam(path, "ann", std::string(5000, 'x'), "").has_value());
}
