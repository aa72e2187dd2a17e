#include "fake_mx.h"

#include "base/random.h"

#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <chrono>
#include <poll.h>
#include <stdexcept>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <thread>
#include <unistd.h>

namespace postrider::delivery {

struct FakeMx::Conversation {
  int socket;
  std::atomic<int>& working;
  Behaviour behaviour = {};
  std::string buffer = {};
  std::size_t sent = 0;

  bool fill() {
    char room[65536];
    pollfd next{socket, POLLIN, 0};
    --working;
    ::poll(&next, 1, -1);  // what has come is taken by one that works
    ++working;
    const auto got = ::recv(socket, room, sizeof room, 0);
    if (got <= 0)
      return false;
    buffer.append(room, static_cast<std::size_t>(got));
    return true;
  }
  bool line(std::string& out) {
    std::size_t end = 0;
    while ((end = buffer.find("\r\n")) == buffer.npos)
      if (!fill())
        return false;
    out = buffer.substr(0, end);
    buffer.erase(0, end + 2);
    return true;
  }
  void say(const std::string& text) {
    const auto size = std::min(text.size(), behaviour.drop_after_sent - sent);
    (void)!::send(socket, text.data(), size, MSG_NOSIGNAL);
    sent += size;
    if (size < text.size())
      ::shutdown(socket, SHUT_RDWR);
  }
  // The reply of the behaviour with the longest matching key, or the usual one.
  std::string reply_to(const std::string& command, const std::string& usual) const {
    std::string reply = usual;
    std::size_t longest = 0;
    for (const auto& [key, text] : behaviour.replies)
      if (!key.empty() && command.starts_with(key) && key.size() >= longest) {
        longest = key.size();
        reply = text;
      }
    return reply;
  }
  bool drops(const std::string& command) const {
    return !behaviour.drop_at.empty() && command.starts_with(behaviour.drop_at);
  }
  bool content(std::string& out) {
    std::string text;
    while (line(text)) {
      if (text == ".")
        return true;
      out += (text.starts_with('.') ? text.substr(1) : text) + "\r\n";
      if (out.size() > behaviour.drop_in_content)
        return false;
    }
    return false;
  }
  bool chunk(std::size_t size, std::string& out) {
    while (buffer.size() < size)
      if (!fill())
        return false;
    out += buffer.substr(0, size);
    buffer.erase(0, size);
    return out.size() <= behaviour.drop_in_content;
  }
};

FakeMx::FakeMx(Behaviour behaviour, const std::string& address, std::uint16_t port)
    : behaviour_(std::move(behaviour)) {
  if (address.starts_with('/'))
    listen_at_path(address);
  else
    listen_at(address, port);
  acceptor_ = std::thread([this] { accept_loop(); });
}

void FakeMx::listen_at_path(const std::string& path) {
  listener_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un where{};
  where.sun_family = AF_UNIX;
  path.copy(where.sun_path, sizeof where.sun_path - 1);
  if (::bind(listener_, reinterpret_cast<sockaddr*>(&where), sizeof where) != 0 ||
      ::listen(listener_, 128) != 0)
    throw std::runtime_error("cannot listen on " + path);
}

namespace {

// Nobody listens on it at any address, so that hosts of one test can share it. Below the ports that
// the kernel gives to connections: none of those takes it while nobody listens.
std::uint16_t port_free_everywhere() {
  SystemRandom random;
  for (int i = 0; i < 1000; ++i) {
    const int probe = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const auto port = static_cast<std::uint16_t>(10000 + random.below(22000));
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_port = htons(port);
    const bool is_free = ::bind(probe, reinterpret_cast<sockaddr*>(&where), sizeof where) == 0;
    ::close(probe);
    if (is_free)
      return port;
  }
  throw std::runtime_error("no port is free");
}

}  // namespace

void FakeMx::listen_at(const std::string& address, std::uint16_t port) {
  if (port == 0)
    port = port_free_everywhere();
  listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  ::setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in where{};
  where.sin_family = AF_INET;
  where.sin_port = htons(port);
  ::inet_pton(AF_INET, address.c_str(), &where.sin_addr);
  socklen_t size = sizeof where;
  if (::bind(listener_, reinterpret_cast<sockaddr*>(&where), size) != 0 ||
      ::listen(listener_, 128) != 0)
    throw std::runtime_error("cannot listen on " + address);
  ::getsockname(listener_, reinterpret_cast<sockaddr*>(&where), &size);
  port_ = ntohs(where.sin_port);
}

FakeMx::~FakeMx() {
  stop();
  {
    const std::lock_guard lock(mutex_);
    for (const int socket : open_)
      ::shutdown(socket, SHUT_RDWR);
  }
  for (auto& thread : threads_)
    thread.join();
}

void FakeMx::stop() {
  if (!acceptor_.joinable())
    return;
  ::shutdown(listener_, SHUT_RDWR);
  acceptor_.join();
  ::close(listener_);
}

void FakeMx::behave(Behaviour behaviour) {
  const std::lock_guard lock(mutex_);
  behaviour_ = std::move(behaviour);
}

std::vector<Taken> FakeMx::taken() const {
  const std::lock_guard lock(mutex_);
  return taken_;
}

std::size_t FakeMx::connections() const {
  const std::lock_guard lock(mutex_);
  return connections_;
}

std::size_t FakeMx::quits() const {
  const std::lock_guard lock(mutex_);
  return quits_;
}

std::size_t FakeMx::times(const std::string& verb) const {
  const std::lock_guard lock(mutex_);
  const auto found = heard_.find(verb);
  return found == heard_.end() ? 0 : found->second;
}

std::size_t FakeMx::connections_open() const {
  const std::lock_guard lock(mutex_);
  return open_.size();
}

std::size_t FakeMx::connections_refused() const {
  const std::lock_guard lock(mutex_);
  return refused_;
}

std::size_t FakeMx::contents() const {
  const std::lock_guard lock(mutex_);
  return contents_;
}

bool FakeMx::is_at_rest() const {
  const std::lock_guard lock(mutex_);
  pollfd knock{listener_, POLLIN, 0};
  if (working_ > 0 || (acceptor_.joinable() && ::poll(&knock, 1, 0) > 0))
    return false;
  return std::none_of(open_.begin(), open_.end(), [](int socket) {
    int unread = 0;
    return ::ioctl(socket, FIONREAD, &unread) == 0 && unread > 0;
  });
}

void FakeMx::accept_loop() {
  for (;;) {
    const int socket = ::accept(listener_, nullptr, nullptr);
    if (socket < 0 && errno == EMFILE) {  // a test takes them away, from this thread, too
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      continue;
    }
    if (socket < 0)
      return;
    const std::lock_guard lock(mutex_);
    ++connections_;
    open_.push_back(socket);
    ++working_;
    threads_.emplace_back([this, socket] {
      serve(socket);
      --working_;
      const std::lock_guard closing(mutex_);
      std::erase(open_, socket);
      ::close(socket);
    });
  }
}

// Several that come at once may all be refused: as many count as are open.
bool FakeMx::is_full(const Behaviour& how) {
  const std::lock_guard lock(mutex_);
  if (open_.size() <= how.most_connections)
    return false;
  ++refused_;
  return true;
}

void FakeMx::serve(int socket) {
  Conversation talk{socket, working_};
  {
    const std::lock_guard lock(mutex_);
    talk.behaviour = behaviour_;
  }
  const auto& how = talk.behaviour;
  if (how.drop_at == "greeting")
    return;
  if (is_full(how)) {
    talk.say(how.over_connections);
    return;
  }
  const auto greeting = how.replies.find("");
  talk.say(greeting == how.replies.end() ? "220 mx.test\r\n" : greeting->second);
  Taken message;
  std::size_t messages = 0;
  const bool is_lmtp = how.ehlo.find("lmtp") != how.ehlo.npos;
  std::string command;
  while (talk.line(command)) {
    {
      const std::lock_guard lock(mutex_);
      ++heard_[command.substr(0, command.find(' '))];
    }
    if (talk.drops(command))
      return;
    if (command.starts_with("EHLO") || command.starts_with("LHLO")) {
      talk.say(talk.reply_to(command, how.ehlo));
    } else if (command.starts_with("MAIL ") || command.starts_with("RCPT ")) {
      auto reply = talk.reply_to(command, "250 2.1.0 ok\r\n");
      if (messages >= how.messages_per_connection)
        reply = command.starts_with("MAIL ") ? how.over_limit : "503 5.5.1 MAIL first\r\n";
      if (command.starts_with("MAIL "))
        message = {command.substr(5), {}, {}};
      else if (reply.starts_with("25"))
        message.rcpts.push_back(command.substr(5));
      talk.say(reply);
    } else if (command == "DATA" || command.starts_with("BDAT ")) {
      const bool is_data = command == "DATA";
      if (is_data) {
        const auto reply =
            talk.reply_to(command, message.rcpts.empty() ? "554 5.5.1 none\r\n" : "354 go\r\n");
        talk.say(reply);
        if (!reply.starts_with("354"))
          continue;
      }
      const bool complete = is_data ? talk.content(message.content)
                                    : talk.chunk(std::stoul(command.substr(5)), message.content);
      if (!complete || talk.drops("."))
        return;
      {
        const std::lock_guard lock(mutex_);
        ++contents_;
      }
      if (!is_data && !how.refuses_chunks.empty()) {
        talk.say(how.refuses_chunks);
        continue;
      }
      --working_;
      std::this_thread::sleep_for(how.end_takes);
      ++working_;
      if (message.rcpts.empty()) {
        talk.say("503 5.5.1 no recipients\r\n");
        continue;
      }
      const auto reply = talk.reply_to(".", "250 2.0.0 taken\r\n");
      if (reply.starts_with("25")) {
        const std::lock_guard lock(mutex_);
        taken_.push_back(message);
      }
      for (std::size_t i = 0; i < (is_lmtp ? message.rcpts.size() : 1); ++i)
        talk.say(reply);
      if (++messages >= how.messages_per_connection && how.over_limit.empty())
        return;
    } else if (command == "QUIT") {
      {
        const std::lock_guard lock(mutex_);
        ++quits_;
      }
      talk.say("221 bye\r\n");
      return;
    } else {
      talk.say(talk.reply_to(command, "250 ok\r\n"));
    }
  }
}

}  // namespace postrider::delivery
