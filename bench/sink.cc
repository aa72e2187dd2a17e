// bench-sink: takes mail as fast as it comes and counts it. Offers PIPELINING, 8BITMIME, SMTPUTF8
// and, unless told otherwise, CHUNKING, as the large receivers do.
// With --tls it offers STARTTLS too.
// Ends when the wanted number has arrived, or by SIGTERM; prints one JSON object.
#include "bench/connection_loop.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <netinet/tcp.h>
#include <string>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

namespace postrider::bench {
namespace {

struct Options {
  std::string listen = "127.0.0.1:2526";
  std::uint64_t recipients = 0;  // 0: until SIGTERM
  bool chunking = true;
  bool tls = false;
  bool stamps = false;  // measure from bench-load's X-Sent field to the end of the message
  unsigned limit_s = 600;
};

volatile std::sig_atomic_t stopped = 0;

struct Client {
  int fd = -1;
  Tls tls;
  bool starts_tls = false;
  bool in_data = false;
  std::uint64_t chunk_left = 0;
  bool chunk_last = false;
  unsigned matched = 0;  // of the five octets CRLF.CRLF
  std::string in;
  std::string out;
  unsigned recipients = 0;  // of the message under way
  bool quit = false;
  std::string head;  // the first octets of the message, to find the stamp in
};

class Sink {
 public:
  explicit Sink(const Options& options)
      : options_(options), tls_context_(options.tls ? Tls::server_context() : nullptr) {}
  int run();

 private:
  void accept_all(int listener);
  void on_ready(Client& client, std::uint32_t events);
  bool exchange(Client& client);
  void consume(Client& client, std::string_view bytes);
  std::size_t take_data(Client& client, std::string_view bytes);
  void command(Client& client, std::string_view line);
  void count(Client& client);
  void keep_head(Client& client, std::string_view bytes) const;
  void report() const;

  Options options_;
  ssl_ctx_st* tls_context_;
  Epoll epoll_;
  std::uint64_t messages_ = 0;
  std::uint64_t recipients_ = 0;
  std::uint64_t connections_ = 0;
  std::uint64_t bytes_ = 0;
  std::int64_t first_ = 0;
  std::int64_t last_ = 0;
  std::vector<std::uint32_t> latencies_us_;
};

void Sink::accept_all(int listener) {
  for (;;) {
    const int fd = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
      return;
    const int one = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    auto* client = new Client;
    client->fd = fd;
    ++connections_;
    epoll_.add(fd, EPOLLIN, client);
    constexpr std::string_view greeting = "220 sink.bench.example ESMTP\r\n";
    std::size_t sent = 0;
    send_some(fd, greeting, sent);
  }
}

void Sink::count(Client& client) {
  recipients_ += client.recipients;
  client.recipients = 0;
  last_ = now_ns();
  if (messages_++ == 0)
    first_ = last_;
  constexpr std::string_view field = "X-Sent: ";
  if (const auto at = client.head.find(field); at != std::string::npos) {
    const auto sent = std::strtoll(client.head.c_str() + at + field.size(), nullptr, 10);
    latencies_us_.push_back(static_cast<std::uint32_t>((last_ - sent) / 1000));
  }
  client.head.clear();
}

void Sink::keep_head(Client& client, std::string_view bytes) const {
  constexpr std::size_t most = 2048;
  if (options_.stamps && client.head.size() < most)
    client.head.append(bytes.substr(0, most - client.head.size()));
}

// Looks for the end of data; the number of bytes that belong to the content.
std::size_t Sink::take_data(Client& client, std::string_view bytes) {
  constexpr std::string_view end = "\r\n.\r\n";
  std::size_t at = 0;
  while (at < bytes.size()) {
    if (client.matched == 0) {
      const auto* cr =
          static_cast<const char*>(std::memchr(bytes.data() + at, '\r', bytes.size() - at));
      if (cr == nullptr)
        return bytes.size();
      at = static_cast<std::size_t>(cr - bytes.data());
    }
    const char c = bytes[at++];
    if (c == end[client.matched])
      ++client.matched;
    else
      client.matched = c == '\r' ? 1 : 0;
    if (client.matched == end.size()) {
      client.in_data = false;
      count(client);
      client.out += "250 2.0.0 Ok\r\n";
      return at;
    }
  }
  return at;
}

void Sink::command(Client& client, std::string_view line) {
  const auto verb = line.substr(0, 4);
  if (verb == "EHLO") {
    client.out += "250-sink.bench.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n";
    if (tls_context_ != nullptr && !client.tls.is_on())
      client.out += "250-STARTTLS\r\n";
    client.out += options_.chunking ? "250-CHUNKING\r\n250 SIZE\r\n" : "250 SIZE\r\n";
  } else if (verb == "RCPT") {
    ++client.recipients;
    client.out += "250 2.1.5 Ok\r\n";
  } else if (verb == "DATA") {
    client.in_data = true;
    client.matched = 2;  // an empty message begins at a line start
    client.out += "354 Go on\r\n";
  } else if (verb == "BDAT") {
    client.chunk_left = std::strtoull(std::string(line.substr(5)).c_str(), nullptr, 10);
    client.chunk_last = line.find("LAST") != std::string_view::npos;
  } else if (verb == "STAR" && tls_context_ != nullptr && !client.tls.is_on()) {
    client.out += "220 2.0.0 Go on\r\n";
    client.starts_tls = true;
  } else if (verb == "QUIT") {
    client.out += "221 2.0.0 Bye\r\n";
    client.quit = true;
  } else {
    client.out += "250 2.0.0 Ok\r\n";
  }
}

void Sink::consume(Client& client, std::string_view bytes) {
  bytes_ += bytes.size();
  while (!bytes.empty() || (client.chunk_last && client.chunk_left == 0)) {
    if (client.in_data) {
      keep_head(client, bytes);
      bytes.remove_prefix(take_data(client, bytes));
      continue;
    }
    if (client.chunk_left > 0 || client.chunk_last) {
      const auto taken = std::min<std::uint64_t>(client.chunk_left, bytes.size());
      client.chunk_left -= taken;
      keep_head(client, bytes.substr(0, static_cast<std::size_t>(taken)));
      bytes.remove_prefix(static_cast<std::size_t>(taken));
      if (client.chunk_left > 0)
        return;
      if (client.chunk_last)
        count(client);
      client.chunk_last = false;
      client.out += "250 2.0.0 Ok\r\n";
      continue;
    }
    const auto end = bytes.find('\n');
    client.in.append(bytes.substr(0, end == std::string_view::npos ? end : end + 1));
    if (end == std::string_view::npos)
      return;
    bytes.remove_prefix(end + 1);
    const std::string line = std::move(client.in);
    client.in.clear();
    command(client, line);
  }
}

// One read and what follows from it; false: the connection is over.
bool Sink::exchange(Client& client) {
  static char room[1 << 16];
  for (;;) {
    std::size_t got = 0;
    if (client.tls.is_open()) {
      const auto step = client.tls.receive(room, sizeof room, got);
      if (step != Tls::Step::done)
        return step != Tls::Step::broken;
    } else {
      const auto octets = ::recv(client.fd, room, sizeof room, 0);
      if (octets <= 0)
        return octets < 0 && (errno == EAGAIN || errno == EINTR);
      got = static_cast<std::size_t>(octets);
    }
    consume(client, std::string_view(room, got));
    std::size_t sent = 0;
    if (!client.out.empty() && client.tls.is_open())
      client.tls.send_some(client.out, sent);
    else if (!client.out.empty())
      send_some(client.fd, client.out, sent);
    client.out.clear();
    if (client.quit)
      return false;
    if (client.starts_tls) {
      client.starts_tls = false;
      client.tls.begin(tls_context_, client.fd, true);
      return true;
    }
    if (!client.tls.is_open())
      return true;
  }
}

void Sink::on_ready(Client& client, std::uint32_t) {
  bool goes_on = true;
  if (client.tls.is_on() && !client.tls.is_open())
    goes_on = client.tls.handshake() != Tls::Step::broken;
  if (goes_on && (!client.tls.is_on() || client.tls.is_open()))
    goes_on = exchange(client);
  if (!goes_on) {
    ::close(client.fd);
    delete &client;
  }
}

void Sink::report() const {
  const auto [median, worst] = median_and_p99_ms(latencies_us_);
  const double seconds = static_cast<double>(last_ - first_) / 1e9;
  std::printf(
      "{\"messages\":%llu,\"recipients\":%llu,\"connections\":%llu,\"bytes\":%llu,\"seconds\":%.3f,"
      "\"rate\":%.1f,"
      "\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"cpu_s\":%.3f}\n",
      static_cast<unsigned long long>(messages_), static_cast<unsigned long long>(recipients_),
      static_cast<unsigned long long>(connections_), static_cast<unsigned long long>(bytes_),
      seconds, seconds > 0 ? static_cast<double>(messages_) / seconds : 0.0, median, worst,
      own_cpu_seconds());
}

int Sink::run() {
  const auto address = parse_address(options_.listen);
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int one = 1;
  ::setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (::bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(listener, 4096) != 0) {
    std::perror("listen");
    return 71;
  }
  epoll_.add(listener, EPOLLIN, nullptr);
  const auto limit = now_ns() + options_.limit_s * 1'000'000'000LL;
  while (stopped == 0 && (options_.recipients == 0 || recipients_ < options_.recipients) &&
         now_ns() < limit)
    epoll_.wait(100, [&](void* subject, std::uint32_t events) {
      if (subject == nullptr)
        accept_all(listener);
      else
        on_ready(*static_cast<Client*>(subject), events);
    });
  report();
  return options_.recipients == 0 || recipients_ >= options_.recipients ? 0 : 1;
}

}  // namespace
}  // namespace postrider::bench

int main(int argc, char** argv) {
  postrider::bench::Options options;
  CLI::App app("Takes mail and counts it");
  app.add_option("--listen", options.listen, "address and port");
  app.add_option("--recipients", options.recipients, "ends after deliveries to this many");
  app.add_flag("--tls", options.tls, "offer STARTTLS");
  app.add_flag("!--no-chunking", options.chunking, "do not offer CHUNKING");
  app.add_flag("--stamps", options.stamps, "measure from bench-load's stamps");
  app.add_option("--limit-s", options.limit_s, "gives up after this long");
  CLI11_PARSE(app, argc, argv);
  std::signal(SIGTERM, [](int) { postrider::bench::stopped = 1; });
  std::signal(SIGPIPE, SIG_IGN);
  return postrider::bench::Sink(options).run();
}
