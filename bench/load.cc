// bench-load: sends messages over SMTP as fast as the server answers, and measures it.
//
// Each session sends MAIL, RCPT and DATA in one write when the server offers PIPELINING (RFC 2920),
// else one by one, then the content; it counts a message when 250 answers the end of data.
// With --tls it begins TLS by STARTTLS, with --handshakes it does nothing else: each connection
// shakes hands and ends, and what is counted are handshakes; with --resume, those after the first.
// Prints one JSON object: messages, refused, seconds, rate, latency of the end of data, own CPU.
#include "bench/connection_loop.h"

#include <CLI/CLI.hpp>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <netinet/tcp.h>
#include <string>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

namespace postrider::bench {
namespace {

struct Options {
  std::string server = "127.0.0.1:2525";
  unsigned sessions = 50;
  std::uint64_t messages = 10000;
  std::size_t size = 4096;
  unsigned recipients = 1;
  unsigned domains = 1;
  std::string suffix = "bench.example";
  std::string content;  // a file: the message as it is sent, but for the final dot
  bool connection_a_message = false;
  bool tls = false;         // STARTTLS
  bool implicit = false;    // TLS from the first octet
  bool handshakes = false;  // messages are handshakes
  bool resume = false;      // each takes up the session of the one before
  std::string tls_version;
  bool stamps = false;   // each message begins with a field that says when it was started
  unsigned hold_ms = 0;  // idle connections: open them, wait, close
  unsigned limit_s = 120;
};

enum class Phase : std::uint8_t {
  connecting,
  greeting,
  ehlo,
  starttls,
  hands,
  envelope,
  content,
  quit,
  idle
};

struct Session {
  int fd = -1;
  Tls tls;
  Phase phase = Phase::connecting;
  bool pipelining = false;
  unsigned expected = 0;  // replies still to come in this phase
  unsigned step = 0;      // without pipelining: the next envelope command
  std::string in;
  std::string out;
  std::size_t sent = 0;
  bool wants_write = false;
  std::int64_t began_at = 0;
  std::int64_t ended_at = 0;
};

class Load {
 public:
  explicit Load(const Options& options)
      : options_(options), server_(parse_address(options.server)) {
    make_content();
    if (options.tls || options.implicit)
      tls_context_ = Tls::client_context(options.tls_version);
  }
  int run();

 private:
  void make_content();
  std::string command(unsigned step, std::uint64_t number) const;
  unsigned steps() const { return options_.recipients + 2; }
  void open(Session& session);
  void close(Session& session, bool failed);
  void on_ready(Session& session, std::uint32_t events);
  void on_reply(Session& session, int code);
  void start_message(Session& session);
  void flush(Session& session);
  void begin_tls(Session& session);
  void shake_hands(Session& session);
  long receive(Session& session, char* room, std::size_t size);
  void read(Session& session);
  void report(double seconds) const;

  Options options_;
  sockaddr_in server_;
  ssl_ctx_st* tls_context_ = nullptr;
  Epoll epoll_;
  std::vector<std::unique_ptr<Session>> sessions_;
  std::string content_;
  std::uint64_t started_ = 0;
  std::uint64_t opened_ = 0;
  std::uint64_t done_ = 0;
  std::uint64_t refused_ = 0;
  std::uint64_t broken_ = 0;
  std::uint64_t resumed_ = 0;
  unsigned open_ = 0;
  std::vector<std::uint32_t> latencies_us_;
};

void Load::make_content() {
  if (!options_.content.empty()) {
    std::ifstream file(options_.content, std::ios::binary);
    content_.assign(std::istreambuf_iterator<char>(file), {});
    if (!file || !content_.ends_with("\r\n")) {
      std::fprintf(stderr, "bench-load: --content: expected a message that ends with CRLF\n");
      std::exit(64);
    }
    content_ += ".\r\n";
    return;
  }
  content_ =
      "From: <sender@bench.example>\r\nTo: <recipient@bench.example>\r\nSubject: benchmark\r\n"
      "Date: Mon, 23 Nov 2026 13:34:44 +0000\r\nMessage-ID: <bench@bench.example>\r\n\r\n";
  const std::string line =
      "All work and no play makes a message of ordinary text, line by line..\r\n";
  while (content_.size() + line.size() <= options_.size)
    content_ += line;
  if (content_.size() + 2 < options_.size)
    content_ += std::string(options_.size - content_.size() - 2, 'x') + "\r\n";
  content_ += ".\r\n";
}

std::string Load::command(unsigned step, std::uint64_t number) const {
  if (step == 0)
    return "MAIL FROM:<sender@bench.example>\r\n";
  if (step == steps() - 1)
    return "DATA\r\n";
  const auto domain = (number * options_.recipients + step) % options_.domains;
  return "RCPT TO:<r" + std::to_string(step) + "@d" + std::to_string(domain) + "." +
         options_.suffix + ">\r\n";
}

void Load::open(Session& session) {
  session.tls.end();
  session.pipelining = session.wants_write = false;
  session.in.clear();
  session.out.clear();
  session.sent = 0;
  session.fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int one = 1;
  ::setsockopt(session.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (options_.connection_a_message || options_.handshakes) {
    // Thousands of short connections a second: spread them over loopback addresses, so that ports
    // in TIME_WAIT do not run out.
    sockaddr_in from{};
    from.sin_family = AF_INET;
    from.sin_addr.s_addr = htonl(0x7F000002U + static_cast<std::uint32_t>(opened_++ % 100));
    ::bind(session.fd, reinterpret_cast<sockaddr*>(&from), sizeof from);
  }
  ::connect(session.fd, reinterpret_cast<const sockaddr*>(&server_), sizeof server_);
  session.phase = Phase::greeting;
  session.expected = 1;
  ++open_;
  epoll_.add(session.fd, EPOLLIN, &session);
  if (options_.implicit)
    begin_tls(session);
}

void Load::close(Session& session, bool failed) {
  if (session.fd < 0)
    return;
  session.tls.end();
  ::close(session.fd);
  session.fd = -1;
  --open_;
  if (failed)
    ++broken_;
  if (options_.hold_ms == 0 && started_ < options_.messages && broken_ < 1000)
    open(session);
}

void Load::begin_tls(Session& session) {
  session.phase = Phase::hands;
  session.in.clear();  // the reply to STARTTLS; nothing may follow it in clear
  session.ended_at = now_ns();
  session.tls.begin(tls_context_, session.fd, false);
  if (!options_.implicit)  // else as soon as the connection is there
    shake_hands(session);
  else
    epoll_.change(session.fd, EPOLLOUT, &session);
}

void Load::shake_hands(Session& session) {
  switch (session.tls.handshake()) {
    case Tls::Step::wait_read:
      epoll_.change(session.fd, EPOLLIN, &session);
      return;
    case Tls::Step::wait_write:
      epoll_.change(session.fd, EPOLLOUT, &session);
      return;
    case Tls::Step::broken:
      close(session, true);
      return;
    case Tls::Step::done:
      break;
  }
  epoll_.change(session.fd, EPOLLIN, &session);
  if (options_.handshakes) {
    latencies_us_.push_back(static_cast<std::uint32_t>((now_ns() - session.ended_at) / 1000));
    ++done_;
    ++started_;
    resumed_ += session.tls.is_resumed() ? 1 : 0;
    if (!options_.resume) {
      close(session, false);
      return;
    }
  }
  session.expected = 1;
  session.phase = options_.implicit ? Phase::greeting : Phase::ehlo;
  if (!options_.implicit) {
    session.out = "EHLO load.bench.example\r\n";
    flush(session);
  }
}

void Load::flush(Session& session) {
  const bool sent = session.tls.is_open() ? session.tls.send_some(session.out, session.sent)
                                          : send_some(session.fd, session.out, session.sent);
  if (!sent) {
    close(session, true);
    return;
  }
  const bool left = session.sent < session.out.size();
  if (left != session.wants_write)
    epoll_.change(session.fd, left ? EPOLLIN | EPOLLOUT : EPOLLIN, &session);
  session.wants_write = left;
  if (!left) {
    session.out.clear();
    session.sent = 0;
    if (session.phase == Phase::content)
      session.ended_at = now_ns();
  }
}

void Load::start_message(Session& session) {
  if (options_.hold_ms > 0) {
    session.phase = Phase::idle;
    return;
  }
  if (started_ >= options_.messages) {
    session.phase = Phase::quit;
    session.expected = 1;
    session.out = "QUIT\r\n";
    flush(session);
    return;
  }
  const auto number = started_++;
  session.phase = Phase::envelope;
  session.step = 0;
  session.began_at = now_ns();
  if (session.pipelining) {
    for (unsigned step = 0; step < steps(); ++step)
      session.out += command(step, number);
    session.expected = steps();
  } else {
    session.out = command(0, number);
    session.expected = 1;
  }
  flush(session);
}

void Load::on_reply(Session& session, int code) {
  if (--session.expected > 0 && code < 400)
    return;
  switch (session.phase) {
    case Phase::greeting:
      if (options_.resume && session.tls.is_open()) {
        session.tls.keep_session();
        close(session, false);
        return;
      }
      session.phase = Phase::ehlo;
      session.expected = 1;
      session.out = "EHLO load.bench.example\r\n";
      flush(session);
      return;
    case Phase::ehlo:
      if (options_.tls && !session.tls.is_open()) {
        session.phase = Phase::starttls;
        session.expected = 1;
        session.out = "STARTTLS\r\n";
        flush(session);
        return;
      }
      start_message(session);
      return;
    case Phase::starttls:
      if (code != 220)
        close(session, true);
      else
        begin_tls(session);
      return;
    case Phase::hands:
      return;
    case Phase::envelope:
      if (code >= 400) {
        ++refused_;
        close(session, false);
        return;
      }
      if (!session.pipelining && ++session.step < steps()) {
        session.out = command(session.step, started_);
        session.expected = 1;
        flush(session);
        return;
      }
      session.phase = Phase::content;
      session.expected = 1;
      if (options_.stamps)
        session.out = "X-Sent: " + std::to_string(session.began_at) + "\r\n";
      session.out += content_;
      flush(session);
      return;
    case Phase::content:
      if (code == 250) {
        ++done_;
        latencies_us_.push_back(static_cast<std::uint32_t>((now_ns() - session.ended_at) / 1000));
      } else {
        ++refused_;
      }
      if (options_.connection_a_message) {
        session.phase = Phase::quit;
        session.expected = 1;
        session.out = "QUIT\r\n";
        flush(session);
      } else {
        start_message(session);
      }
      return;
    case Phase::quit:
      close(session, false);
      return;
    case Phase::connecting:
    case Phase::idle:
      return;
  }
}

// Octets; 0: the end, -1: nothing for now.
long Load::receive(Session& session, char* room, std::size_t size) {
  if (session.tls.is_open()) {
    std::size_t got = 0;
    const auto step = session.tls.receive(room, size, got);
    return step == Tls::Step::done ? static_cast<long>(got) : step == Tls::Step::broken ? 0 : -1;
  }
  const auto got = ::recv(session.fd, room, size, 0);
  return got >= 0 ? got : errno == EAGAIN || errno == EINTR ? -1 : 0;
}

void Load::read(Session& session) {
  char room[16384];
  for (;;) {
    const auto got = receive(session, room, sizeof room);
    if (got < 0)
      break;
    if (got == 0) {
      close(session, session.phase != Phase::quit);
      return;
    }
    session.in.append(room, static_cast<std::size_t>(got));
    if (!session.tls.is_open())
      break;  // TLS may hold more than the socket tells
  }
  std::size_t at = 0;
  for (;;) {
    const auto end = session.in.find('\n', at);
    if (end == std::string::npos)
      break;
    const std::string_view line = std::string_view(session.in).substr(at, end - at);
    at = end + 1;
    if (session.phase == Phase::ehlo && line.find("PIPELINING") != std::string_view::npos)
      session.pipelining = true;
    if (line.size() >= 4 && line[3] == '-')
      continue;
    const int fd = session.fd;
    on_reply(session, std::atoi(std::string(line.substr(0, 3)).c_str()));
    if (session.fd != fd || session.phase == Phase::hands)
      return;  // closed, perhaps opened again; or the rest would be TLS
  }
  session.in.erase(0, at);
}

void Load::on_ready(Session& session, std::uint32_t events) {
  if (session.fd < 0)
    return;
  if (session.phase == Phase::hands) {
    shake_hands(session);
    return;
  }
  if ((events & EPOLLOUT) != 0)
    flush(session);
  if (session.fd >= 0 && (events & ~static_cast<std::uint32_t>(EPOLLOUT)) != 0)
    read(session);
}

void Load::report(double seconds) const {
  const auto [median, worst] = median_and_p99_ms(latencies_us_);
  std::printf(
      "{\"messages\":%llu,\"refused\":%llu,\"broken\":%llu,\"resumed\":%llu,\"seconds\":%.3f,"
      "\"rate\":%.1f,\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"cpu_s\":%.3f}\n",
      static_cast<unsigned long long>(done_), static_cast<unsigned long long>(refused_),
      static_cast<unsigned long long>(broken_), static_cast<unsigned long long>(resumed_), seconds,
      static_cast<double>(done_) / seconds, median, worst, own_cpu_seconds());
}

int Load::run() {
  const auto begin = now_ns();
  const auto limit = begin + options_.limit_s * 1'000'000'000LL;
  for (unsigned i = 0; i < options_.sessions; ++i) {
    sessions_.push_back(std::make_unique<Session>());
    open(*sessions_.back());
  }
  const auto hold_until = begin + options_.hold_ms * 1'000'000LL;
  while (open_ > 0 && now_ns() < limit) {
    if (options_.hold_ms > 0 && now_ns() > hold_until)
      break;
    epoll_.wait(100, [this](void* subject, std::uint32_t events) {
      on_ready(*static_cast<Session*>(subject), events);
    });
  }
  report(static_cast<double>(now_ns() - begin) / 1e9);
  return done_ >= options_.messages || options_.hold_ms > 0 ? 0 : 1;
}

}  // namespace
}  // namespace postrider::bench

int main(int argc, char** argv) {
  postrider::bench::Options options;
  CLI::App app("Sends messages over SMTP and measures it");
  app.add_option("--server", options.server, "address and port");
  app.add_option("--sessions", options.sessions, "connections at one time");
  app.add_option("--messages", options.messages, "how many in all");
  app.add_option("--size", options.size, "octets of content");
  app.add_option("--content", options.content, "a file with the message; no line begins with a dot")
      ->check(CLI::ExistingFile);
  app.add_option("--recipients", options.recipients, "of each message");
  app.add_option("--domains", options.domains, "that the recipients are spread over");
  app.add_option("--suffix", options.suffix, "of the recipients' domains");
  app.add_flag("--stamps", options.stamps, "each message says when it was started");
  app.add_flag("--connection-a-message", options.connection_a_message);
  app.add_flag("--tls", options.tls, "begin TLS by STARTTLS");
  app.add_flag("--implicit-tls", options.implicit, "speak TLS from the first octet");
  app.add_option("--tls-version", options.tls_version, "1.2 or 1.3");
  app.add_flag("--handshakes", options.handshakes, "count handshakes instead of messages");
  app.add_flag("--resume", options.resume, "with --handshakes and --implicit-tls: resume sessions");
  app.add_option("--hold-ms", options.hold_ms, "only hold the connections open, idle");
  app.add_option("--limit-s", options.limit_s, "gives up after this long");
  CLI11_PARSE(app, argc, argv);
  return postrider::bench::Load(options).run();
}
