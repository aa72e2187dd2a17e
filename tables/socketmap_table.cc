// Another program, asked by Postfix's socketmap protocol over a few connections that stay open. An
// answer has a time limit; a program that is not there, or does not answer, is left alone for a
// moment, so that not everybody waits for it. Answers are remembered as those of databases are.
#include "base/memory_only.h"
#include "base/network.h"
#include "base/text.h"
#include "base/user_mounts.h"
#include "tables/netstring.h"
#include "tables/recent_answers.h"
#include "tables/table_source.h"

#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

namespace postrider::tables {

namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kPatience = std::chrono::seconds(5);  // for an answer, with the connection
constexpr auto kRemember = std::chrono::seconds(10);
constexpr auto kFailedFor = std::chrono::seconds(1);
constexpr std::size_t kMostConnections = 8;
constexpr uid_t kNobody = 65534;

struct Place {
  sockaddr_storage address{};
  socklen_t size = 0;
  std::string path;  // of a socket; empty: TCP
};

// "unix:/path", "inet:127.0.0.1:10001", "inet:[::1]:10001", "inet:localhost:10001".
Result<Place> parse_place(std::string_view text) {
  Place place;
  if (text.starts_with("unix:/")) {
    place.path = text.substr(5);
    auto& address = reinterpret_cast<sockaddr_un&>(place.address);
    if (place.path.size() >= sizeof address.sun_path)
      return malformed("the path of the socket is too long");
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, place.path.c_str(), place.path.size() + 1);
    place.size = sizeof address;
    return place;
  }
  const auto colon = text.rfind(':');
  if (!text.starts_with("inet:") || colon < 5)
    return malformed("unix:/path or inet:ADDRESS:PORT");
  auto host = std::string(text.substr(5, colon - 5));
  const auto port = parse_unsigned(text.substr(colon + 1));
  if (host.starts_with('[') && host.ends_with(']'))
    host = host.substr(1, host.size() - 2);
  const auto address = IpAddress::parse(host == "localhost" ? "127.0.0.1" : host);
  if (!address || !port || *port == 0 || *port > 65535)
    return malformed("an address, not a name, and a port");
  const auto number = htons(static_cast<std::uint16_t>(*port));
  if (address->is_v4()) {
    auto& four = reinterpret_cast<sockaddr_in&>(place.address);
    four.sin_family = AF_INET;
    four.sin_port = number;
    ::inet_pton(AF_INET, address->str().c_str(), &four.sin_addr);
    place.size = sizeof four;
  } else {
    auto& six = reinterpret_cast<sockaddr_in6&>(place.address);
    six.sin6_family = AF_INET6;
    six.sin6_port = number;
    ::inet_pton(AF_INET6, address->str().c_str(), &six.sin6_addr);
    place.size = sizeof six;
  }
  return place;
}

// One connection, one question at a time.
class Line {
 public:
  Result<void> open(const Place& place, Clock::time_point until) {
    if (!place.path.empty())
      if (auto found = find_place(place.path); !found)
        return found.error();
    socket_ = FileDescriptor(
        ::socket(place.address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket_.is_open())
      return system_error("socket");
    if (::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&place.address), place.size) ==
        0)
      return {};
    if (errno != EINPROGRESS)
      return system_error("connect");
    if (auto ready = wait(POLLOUT, until); !ready)
      return ready;
    int failed = 0;
    socklen_t size = sizeof failed;
    ::getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &failed, &size);
    errno = failed;
    return failed == 0 ? Result<void>() : Result<void>(system_error("connect"));
  }
  bool is_open() const { return socket_.is_open(); }

  Result<std::string> ask(std::string_view question, Clock::time_point until) {
    const auto bytes = netstring(question);
    for (std::size_t sent = 0; sent < bytes.size();) {
      const auto wrote =
          ::send(socket_.get(), bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (wrote > 0)
        sent += static_cast<std::size_t>(wrote);
      else if (errno != EAGAIN && errno != EINTR)
        return system_error("send");
      else if (auto ready = wait(POLLOUT, until); !ready)
        return ready.error();
    }
    std::string got;
    std::array<char, 4096> room{};
    for (;;) {
      auto answer = parse_netstring(got);
      if (!answer)
        return answer.error();
      if (*answer)
        return **std::move(answer);
      const auto size = ::recv(socket_.get(), room.data(), room.size(), 0);
      if (size > 0)
        got.append(room.data(), static_cast<std::size_t>(size));
      else if (size == 0)
        return Error(Errc::truncated, "it has hung up");
      else if (errno != EAGAIN && errno != EINTR)
        return system_error("receive");
      else if (auto ready = wait(POLLIN, until); !ready)
        return ready.error();
    }
  }

 private:
  Result<void> wait(short what, Clock::time_point until) const {
    for (;;) {
      const auto left =
          std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now()).count();
      if (left <= 0)
        return Error(make_error_code(boost::system::errc::timed_out), "wait for it");
      pollfd look{socket_.get(), what, 0};
      const int ready = ::poll(&look, 1, static_cast<int>(left));
      if (ready > 0)
        return {};
      if (ready < 0 && errno != EINTR)
        return system_error("poll");
    }
  }

  FileDescriptor socket_;
};

class SocketmapTable : public Table {
 public:
  SocketmapTable(Spec spec, Place place) : spec_(std::move(spec)), place_(std::move(place)) {}

  Result<std::optional<Entry>> find(std::string_view key) const override {
    const std::string asked(key);
    if (auto known = recall(asked))
      return *std::move(known);
    if (MemoryOnly::forbids_waiting())
      return Error(Errc::storage, name() + ": must be asked");
    auto entry = ask(asked);
    if (entry)
      recent_.keep(asked, *entry);
    return entry;
  }

 private:
  std::string name() const { return spec_.str(); }

  std::optional<Result<std::optional<Entry>>> recall(const std::string& key) const {
    if (auto known = recent_.find(key))
      return known;
    const std::lock_guard lock(mutex_);
    if (down_until_ > Clock::now())
      return Result<std::optional<Entry>>(Error(Errc::storage, name() + ": " + why_));
    return std::nullopt;
  }

  Result<std::optional<Entry>> ask(const std::string& key) const {
    const auto until = Clock::now() + kPatience;
    auto line = take(until);
    if (!line)
      return Error(Errc::storage, name() + ": too many questions are open");
    const bool was_open = line->is_open();
    auto said = ask_on(*line, key, until);
    // It may have closed a connection that was idle.
    if (!said && was_open && Clock::now() < until) {
      *line = Line();
      said = ask_on(*line, key, until);
    }
    if (!said) {
      give_back(Line());
      const std::lock_guard lock(mutex_);
      down_until_ = Clock::now() + kFailedFor;
      why_ = said.error().describe();
      return Error(Errc::storage, name() + ": " + why_);
    }
    give_back(*std::move(line));
    auto answer = parse_socketmap_answer(*said);
    if (!answer)
      return Error(answer.error().code(), name() + ": " + answer.error().step());
    if (!*answer || trim(**answer).empty())
      return std::optional<Entry>();
    Entry entry;
    entry.value = **std::move(answer);
    entry.where = name();
    entry.owner = owner();
    return std::optional<Entry>(std::move(entry));
  }

  Result<std::string> ask_on(Line& line, const std::string& key, Clock::time_point until) const {
    if (!line.is_open())
      if (auto opened = line.open(place_, until); !opened)
        return opened.error();
    return line.ask(spec_.detail + " " + key, until);
  }

  // Whose program it is, as far as can be known: commands in its answers run as that user's would.
  uid_t owner() const {
    struct stat about {};
    return !place_.path.empty() && look_at(place_.path, about) ? about.st_uid : kNobody;
  }

  std::optional<Line> take(Clock::time_point until) const {
    std::unique_lock lock(mutex_);
    if (!given_back_.wait_until(lock, until, [&] { return in_use_ < kMostConnections; }))
      return std::nullopt;
    ++in_use_;
    if (idle_.empty())
      return Line();
    auto line = std::move(idle_.back());
    idle_.pop_back();
    return line;
  }

  void give_back(Line line) const {
    {
      const std::lock_guard lock(mutex_);
      --in_use_;
      if (line.is_open())
        idle_.push_back(std::move(line));
      else
        idle_.clear();  // the others are of the same program
    }
    given_back_.notify_one();
  }

  const Spec spec_;
  const Place place_;
  mutable std::mutex mutex_;  // never held for long
  mutable std::condition_variable given_back_;
  mutable std::size_t in_use_ = 0;
  mutable std::vector<Line> idle_;
  mutable RecentAnswers recent_{kRemember};
  mutable Clock::time_point down_until_;
  mutable std::string why_;
};

}  // namespace

Result<void> check_socketmap(const Spec& spec) {
  auto place = parse_place(spec.path);
  return place ? Result<void>() : Result<void>(place.error());
}

// It need not run yet.
Opened open_socketmap(const Spec& spec) {
  auto place = parse_place(spec.path);
  if (!place)
    return place.error();
  return std::shared_ptr<const Table>(std::make_shared<SocketmapTable>(spec, *std::move(place)));
}

}  // namespace postrider::tables
