// postrider-pam: asks PAM, for a daemon that must not link it. It speaks smtpd/auth/pam_helper.h's
// packets on descriptor 3 and answers each from a process of its own, so that modules that block
// or crash disturb nobody else. It ends when the daemon does.
//
// Not for people; without a socket on descriptor 3 it only says so.
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <security/pam_appl.h>
#include <string>
#include <sys/socket.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

namespace {

constexpr int kSocket = 3;
constexpr std::size_t kMostPacket = 4096;
constexpr int kMostChildren = 32;
constexpr unsigned kPatience = 30;  // seconds

struct Question {
  std::string service, user, password, client;
};

bool parse(std::string_view packet, Question& question) {
  std::string* const fields[] = {&question.service, &question.user, &question.password,
                                 &question.client};
  for (auto* field : fields) {
    const auto end = packet.find('\0');
    *field = packet.substr(0, end);
    packet.remove_prefix(end == std::string_view::npos ? packet.size() : end + 1);
  }
  // The service is a file's name below /etc/pam.d.
  return !question.service.empty() && question.service.find('/') == std::string::npos &&
         !question.user.empty() && !question.password.empty();
}

// Answers every question with the password; that is all a mail client has.
int converse(int count, const pam_message** messages, pam_response** responses, void* data) {
  const auto* question = static_cast<const Question*>(data);
  if (count <= 0 || count > PAM_MAX_NUM_MSG)
    return PAM_CONV_ERR;
  auto* out = static_cast<pam_response*>(
      std::calloc(static_cast<std::size_t>(count), sizeof(pam_response)));
  if (out == nullptr)
    return PAM_BUF_ERR;
  for (int i = 0; i < count; ++i)
    if (messages[i]->msg_style == PAM_PROMPT_ECHO_OFF)
      out[i].resp = strdup(question->password.c_str());
    else if (messages[i]->msg_style == PAM_PROMPT_ECHO_ON)
      out[i].resp = strdup(question->user.c_str());
  *responses = out;
  return PAM_SUCCESS;
}

char judge(Question& question) {
  const pam_conv conversation{converse, &question};
  pam_handle_t* pam = nullptr;
  int result = pam_start(question.service.c_str(), question.user.c_str(), &conversation, &pam);
  if (result != PAM_SUCCESS)
    return 't';
  if (!question.client.empty())
    pam_set_item(pam, PAM_RHOST, question.client.c_str());
  result = pam_authenticate(pam, PAM_SILENT | PAM_DISALLOW_NULL_AUTHTOK);
  if (result == PAM_SUCCESS)
    result = pam_acct_mgmt(pam, PAM_SILENT | PAM_DISALLOW_NULL_AUTHTOK);
  pam_end(pam, result);
  switch (result) {
    case PAM_SUCCESS:
      return 'y';
    case PAM_AUTH_ERR:
    case PAM_USER_UNKNOWN:
    case PAM_MAXTRIES:
    case PAM_PERM_DENIED:
    case PAM_ACCT_EXPIRED:
    case PAM_NEW_AUTHTOK_REQD:
    case PAM_CRED_INSUFFICIENT:
      return 'n';
    default:
      return 't';
  }
}

// The packet's size, and the descriptor that came with it; -1 without.
ssize_t receive(std::array<char, kMostPacket>& room, int& answer) {
  iovec part{room.data(), room.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  answer = -1;
  const auto size = recvmsg(kSocket, &message, MSG_CMSG_CLOEXEC);
  const auto* header = CMSG_FIRSTHDR(&message);
  if (size > 0 && header != nullptr && header->cmsg_type == SCM_RIGHTS)
    std::memcpy(&answer, CMSG_DATA(header), sizeof answer);
  return size;
}

void answer_question(std::string_view packet, int answer) {
  Question question;
  alarm(kPatience);
  close(kSocket);
  const char letter = parse(packet, question) ? judge(question) : 't';
  const auto written = write(answer, &letter, 1);
  explicit_bzero(question.password.data(), question.password.size());
  _exit(written == 1 ? EX_OK : EX_IOERR);
}

void reap(int& children) {
  while (children > 0) {
    // Beyond the limit it waits until one has ended.
    const auto ended = waitpid(-1, nullptr, children >= kMostChildren ? 0 : WNOHANG);
    if (ended <= 0)
      return;
    --children;
  }
}

}  // namespace

int main() {
  std::signal(SIGPIPE, SIG_IGN);
  int kind = 0;
  socklen_t size = sizeof kind;
  if (getsockopt(kSocket, SOL_SOCKET, SO_TYPE, &kind, &size) != 0 || kind != SOCK_SEQPACKET) {
    std::fputs("postrider-pam is started by postrider\n", stderr);
    return EX_USAGE;
  }
  std::array<char, kMostPacket> room{};
  int children = 0;
  for (;;) {
    int answer = -1;
    const auto got = receive(room, answer);
    if (got < 0 && errno == EINTR)
      continue;
    if (got <= 0)
      return EX_OK;  // the daemon has gone
    reap(children);
    if (answer < 0)
      continue;
    const auto child = fork();
    if (child == 0)
      answer_question(std::string_view(room.data(), static_cast<std::size_t>(got)), answer);
    if (child > 0)
      ++children;
    explicit_bzero(room.data(), room.size());
    close(answer);
  }
}
