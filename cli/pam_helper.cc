// postrider-pam SERVICE: asks PAM, for a daemon that must not link it. It speaks
// smtpd/auth/pam_helper.h's packets on descriptor 3 and answers each from a process of its own, so
// that modules that block or crash disturb nobody else. It ends when the daemon does.
//
// Whoever has taken the daemon over can ask, but not choose the service, and not try for ever:
// wrong passwords are counted here too, for an account and in all, far above what the daemon
// allows.
//
// postrider-pam SERVICE UID READ CHANGE, with a socket that listens on descriptor 3: the same for
// those who log in to the page of postrider-web. It takes one question from each connection of the
// user UID, and from nobody else; the answer goes back on the connection, and instead of 'y' it is
// 'r' or 'c': what this user may. READ and CHANGE are lists with commas of users, and of groups
// with @. Who is on neither is refused whatever the password is, and PAM is asked about nobody
// instead: so nobody's password is tested but theirs, and their names are not to be told by time.
//
// Not for people; without a socket on descriptor 3 it only says so.
#include "cli/page_users.h"
#include "cli/wrong_tries.h"
#include "daemon/privsep/sandbox.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <map>
#include <optional>
#include <poll.h>
#include <security/pam_appl.h>
#include <string>
#include <sys/socket.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>
#include <utility>

namespace {

constexpr int kSocket = 3;
constexpr std::size_t kMostPacket = 4096;
constexpr std::size_t kMostChildren = 32;
constexpr unsigned kPatience = 30;  // seconds

struct Question {
  std::string user, password, client;
  unsigned delay = 0;  // microseconds, before a refusal
};

bool parse(std::string_view packet, Question& question) {
  std::string* const fields[] = {&question.user, &question.password, &question.client};
  for (auto* field : fields) {
    const auto end = packet.find('\0');
    *field = packet.substr(0, end);
    packet.remove_prefix(end == std::string_view::npos ? packet.size() : end + 1);
  }
  return !question.user.empty() && !question.password.empty();
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

// PAM would sleep here before it refuses. The daemon waits instead, where it holds up no other
// question. It is told of right passwords too: what refuses their account asks for no delay of its
// own.
void note_delay(int, unsigned microseconds, void* data) {
  auto& delay = static_cast<Question*>(data)->delay;
  delay = std::max(delay, microseconds);
}

// A right password of an account that may not log in is a wrong one, so that nobody learns that it
// is right; only where PAM itself has failed, that cannot be told.
char judge(const char* service, Question& question) {
  const pam_conv conversation{converse, &question};
  pam_handle_t* pam = nullptr;
  int result = pam_start(service, question.user.c_str(), &conversation, &pam);
  if (result != PAM_SUCCESS)
    return 't';
  if (!question.client.empty())
    pam_set_item(pam, PAM_RHOST, question.client.c_str());
  pam_set_item(pam, PAM_FAIL_DELAY, reinterpret_cast<const void*>(&note_delay));
  result = pam_authenticate(pam, PAM_SILENT | PAM_DISALLOW_NULL_AUTHTOK);
  if (result == PAM_SUCCESS)
    result = pam_acct_mgmt(pam, PAM_SILENT | PAM_DISALLOW_NULL_AUTHTOK);
  pam_end(pam, result);
  switch (result) {
    case PAM_SUCCESS:
      question.delay = 0;
      return 'y';
    case PAM_AUTH_ERR:
    case PAM_USER_UNKNOWN:
    case PAM_MAXTRIES:
    case PAM_PERM_DENIED:
    case PAM_ACCT_EXPIRED:
    case PAM_NEW_AUTHTOK_REQD:
    case PAM_AUTHTOK_EXPIRED:
    case PAM_AUTHTOK_ERR:
    case PAM_CRED_EXPIRED:
    case PAM_CRED_ERR:
    case PAM_CRED_INSUFFICIENT:
      return 'n';
    default:
      return 't';
  }
}

// The packet's size, and the descriptor that came with it; -1 without, or with more than one, all
// of which are closed.
ssize_t receive(std::array<char, kMostPacket>& room, int& answer) {
  iovec part{room.data(), room.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = CMSG_LEN(sizeof(int));  // alignment would leave room for two
  answer = -1;
  const auto size = recvmsg(kSocket, &message, MSG_CMSG_CLOEXEC);
  if (size <= 0)
    return size;
  bool is_one = (message.msg_flags & (MSG_CTRUNC | MSG_TRUNC)) == 0;
  for (auto* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
      continue;
    const auto count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
      if (answer >= 0)
        is_one = false;
      if (answer >= 0 || !is_one)
        close(fd);
      else
        answer = fd;
    }
  }
  if (!is_one && answer >= 0)
    close(std::exchange(answer, -1));
  return size;
}

// What a child found is its exit code, so that wrong passwords are counted.
enum Found { kRight = 0, kWrong = 1, kUnknown = 2 };

char judge_for_page(const char* service, Question& question,
                    const postrider::cli::PageUsers& users) {
  const char role = users.role_of(question.user);
  if (role == 'n')
    question.user = postrider::cli::kNobodysName;
  const char found = judge(service, question);
  return found == 'y' ? role : found;
}

[[noreturn]] void answer_question(const char* service, Question& question,
                                  const std::optional<postrider::cli::PageUsers>& users,
                                  int answer) {
  alarm(kPatience);
  close(kSocket);
  const char letter = users ? judge_for_page(service, question, *users) : judge(service, question);
  explicit_bzero(question.password.data(), question.password.size());
  std::array<char, 1 + sizeof question.delay> said{letter};
  std::memcpy(&said[1], &question.delay, sizeof question.delay);
  (void)!write(answer, said.data(), said.size());
  _exit(letter == 'n' ? kWrong : letter == 't' ? kUnknown : kRight);
}

// The next question of that user, and its connection. Who says nothing is not waited for.
ssize_t receive_from_caller(uid_t user, std::array<char, kMostPacket>& room, int& answer) {
  constexpr int kSilent = 1000;  // milliseconds
  answer = accept4(kSocket, nullptr, nullptr, SOCK_CLOEXEC);
  if (answer < 0)
    return -1;
  ucred caller{};
  socklen_t size = sizeof caller;
  pollfd waiting{answer, POLLIN, 0};
  const bool may_ask = getsockopt(answer, SOL_SOCKET, SO_PEERCRED, &caller, &size) == 0 &&
                       caller.uid == user && poll(&waiting, 1, kSilent) == 1;
  const auto got = may_ask ? recv(answer, room.data(), room.size(), MSG_DONTWAIT | MSG_TRUNC) : 0;
  if (got > 0 && static_cast<std::size_t>(got) <= room.size())
    return got;
  close(std::exchange(answer, -1));
  errno = EINTR;  // another may come
  return -1;
}

class Helper {
 public:
  explicit Helper(const char* service) : service_(service) {}
  Helper(const char* service, uid_t user, postrider::cli::PageUsers users)
      : service_(service), user_(user), users_(std::move(users)) {}

  // False: the daemon has gone.
  bool take() {
    int answer = -1;
    const auto got = users_ ? receive_from_caller(user_, room_, answer) : receive(room_, answer);
    if (got < 0 && errno == EINTR)
      return true;
    if (got <= 0)
      return false;
    reap();
    if (answer >= 0)
      judge_packet(std::string_view(room_.data(), static_cast<std::size_t>(got)), answer);
    explicit_bzero(room_.data(), room_.size());
    if (answer >= 0)
      close(answer);
    return true;
  }

 private:
  void judge_packet(std::string_view packet, int answer) {
    Question question;
    const bool may_ask =
        parse(packet, question) && !wrong_.is_exhausted(question.user, time(nullptr));
    const auto child = may_ask ? fork() : -1;
    if (child == 0)
      answer_question(service_, question, users_, answer);
    if (child > 0)
      children_[child] = question.user;
    else
      (void)!write(answer, "t", 1);
    explicit_bzero(question.password.data(), question.password.size());
  }

  void reap() {
    while (!children_.empty()) {
      int status = 0;
      // Beyond the limit it waits until one has ended.
      const auto ended = waitpid(-1, &status, children_.size() >= kMostChildren ? 0 : WNOHANG);
      if (ended <= 0)
        return;
      const auto child = children_.find(ended);
      if (child == children_.end())
        continue;
      if (WIFEXITED(status) && WEXITSTATUS(status) == kWrong)
        wrong_.count(child->second);
      else if (WIFEXITED(status) && WEXITSTATUS(status) == kUnknown)
        wrong_.count_untold(child->second);
      children_.erase(child);
    }
  }

  const char* service_;
  uid_t user_ = 0;
  std::optional<postrider::cli::PageUsers> users_;  // none: it is asked by the daemon
  std::array<char, kMostPacket> room_{};
  std::map<pid_t, std::string> children_;  // with the user that each asks for
  postrider::cli::WrongTries wrong_;
};

}  // namespace

int main(int count, char** arguments) {
  std::signal(SIGPIPE, SIG_IGN);
  int kind = 0;
  socklen_t size = sizeof kind;
  constexpr int kOfPage = 5;
  const bool is_started = getsockopt(kSocket, SOL_SOCKET, SO_TYPE, &kind, &size) == 0 &&
                          kind == SOCK_SEQPACKET && (count == 2 || count == kOfPage);
  // The service is a file's name below /etc/pam.d.
  if (!is_started || *arguments[1] == '\0' || std::strchr(arguments[1], '/') != nullptr) {
    std::fputs("postrider-pam is started by postrider\n", stderr);
    return EX_USAGE;
  }
  postrider::daemon::hide_memory(true);
  (void)postrider::daemon::restrict_signals();  // to the daemon and its parent, whose user this has
  if (const auto why = postrider::daemon::restrict_helper_calls(); !why.empty())
    std::fprintf(stderr, "postrider-pam: not restricted: %s\n", why.c_str());
  Helper helper =
      count == 2 ? Helper(arguments[1])
                 : Helper(arguments[1], static_cast<uid_t>(std::strtoul(arguments[2], nullptr, 10)),
                          postrider::cli::PageUsers(arguments[3], arguments[4]));
  while (helper.take()) {
  }
  return EX_OK;
}
