#include "smtpd/auth/pam_helper.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace postrider::smtpd::auth {

namespace {

constexpr int kPatience = 25000;  // milliseconds; PAM delays its refusals

Result<void> send_question(int socket, const std::string& packet, int pipe_end) {
  iovec part{const_cast<char*>(packet.data()), packet.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  auto* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof pipe_end);
  std::memcpy(CMSG_DATA(header), &pipe_end, sizeof pipe_end);
  while (sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
    if (errno != EINTR)
      return system_error("ask the PAM helper");
  return {};
}

}  // namespace

std::string find_pam_program() {
  std::array<char, 4096> room{};
  const auto size = readlink("/proc/self/exe", room.data(), room.size() - 1);
  const std::string own(room.data(), size > 0 ? static_cast<std::size_t>(size) : 0);
  const auto folder = own.substr(0, own.rfind('/') + 1);
  for (const char* place :
       {"postrider-pam", "../libexec/postrider/postrider-pam", "../lib/postrider/postrider-pam"})
    if (access((folder + place).c_str(), X_OK) == 0)
      return folder + place;
  return {};
}

Result<PamHelper::Answer> PamHelper::ask(const std::string& user, const std::string& password,
                                         const std::string& client) const {
  const auto packet = user + '\0' + password + '\0' + client;
  if (packet.size() > kMostPamPacket)
    return Error(Errc::too_long, "ask the PAM helper");
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0)
    return system_error("make a pipe for the PAM helper");
  const FileDescriptor in(ends[0]);
  FileDescriptor out(ends[1]);
  if (auto sent = send_question(socket_.get(), packet, out.get()); !sent)
    return sent.error();
  out.reset();  // so that a helper that dies is the end of the pipe
  pollfd waiting{in.get(), POLLIN, 0};
  if (poll(&waiting, 1, kPatience) <= 0)
    return Error(boost::system::errc::make_error_code(boost::system::errc::timed_out),
                 "wait for the PAM helper");
  std::uint32_t microseconds = 0;
  std::array<char, 1 + sizeof microseconds> said{};
  const auto got = read(in.get(), said.data(), said.size());
  if (got < 1)
    return Error(Errc::stopped, "read from the PAM helper");
  if (got == static_cast<ssize_t>(said.size()))
    std::memcpy(&microseconds, &said[1], sizeof microseconds);
  Answer answer;
  answer.verdict = said[0] == 'y'   ? Verdict::yes
                   : said[0] == 'n' ? Verdict::no
                                    : Verdict::cannot_tell;
  answer.delay = std::min(Duration(microseconds / 1000), kMostDelay);
  return answer;
}

}  // namespace postrider::smtpd::auth
