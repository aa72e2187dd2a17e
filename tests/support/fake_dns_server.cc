#include "tests/support/fake_dns_server.h"

#include "base/log.h"
#include "base/text.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>

#include <stdexcept>

namespace postrider::tests {

namespace {

using asio::ip::tcp;
using asio::ip::udp;
using UdpSocket = asio::basic_datagram_socket<udp, Executor>;
using TcpSocket = asio::basic_stream_socket<tcp, Executor>;
using Acceptor = asio::basic_socket_acceptor<tcp, Executor>;
using Timer = asio::basic_waitable_timer<std::chrono::steady_clock,
                                         asio::wait_traits<std::chrono::steady_clock>, Executor>;
constexpr auto use_tuple = asio::as_tuple(use_task);

Script does_not_exist() {
  dns::Message message;
  message.rcode = dns::Rcode::name_error;
  message.authority = {record(".", 300, "SOA a.root. b.root. 1 1 1 1 300")};
  return says(std::move(message));
}

}  // namespace

struct FakeDnsServer::State : std::enable_shared_from_this<State> {
  State(Loop& loop_, Log& log_)
      : loop(loop_),
        log(log_),
        socket(loop_.context()),
        other_socket(loop_.context()),
        acceptor(loop_.context()) {}

  void open();
  void receive();
  void take_datagram(std::size_t size);
  void send(std::vector<Packet> packets, udp::endpoint to);
  std::vector<Packet> react(Asked asked);
  static Task<void> accept(std::shared_ptr<State> self);
  static Task<void> serve(std::shared_ptr<State> self, std::shared_ptr<TcpSocket> peer);
  void close_tcp();

  Loop& loop;
  Log& log;
  UdpSocket socket, other_socket;
  Acceptor acceptor;
  std::vector<std::shared_ptr<TcpSocket>> peers;
  std::map<std::string, Script> scripts;
  Script any = does_not_exist();
  bool held = false;
  std::vector<std::pair<Asked, udp::endpoint>> waiting;
  Duration delay{0};
  std::vector<std::string> asked;
  std::vector<Asked> queries;
  std::function<void()> when_asked;
  std::array<char, 4096> room{};
  udp::endpoint from;
};

// UDP and TCP want the same number; now and then another program has one of the two.
void FakeDnsServer::State::open() {
  const asio::ip::address loopback = asio::ip::address_v4::loopback();
  for (;;) {
    socket = UdpSocket(loop.context(), udp::endpoint(loopback, 0));
    const tcp::endpoint same(loopback, socket.local_endpoint().port());
    boost::system::error_code taken;
    acceptor = Acceptor(loop.context());
    acceptor.open(same.protocol());
    acceptor.bind(same, taken);
    if (!taken)
      break;
  }
  acceptor.listen();
  other_socket = UdpSocket(loop.context(), udp::endpoint(loopback, 0));
}

void FakeDnsServer::State::receive() {
  socket.async_receive_from(
      asio::buffer(room), from,
      [self = shared_from_this()](const boost::system::error_code& failed, std::size_t size) {
        if (failed == asio::error::operation_aborted || !self->socket.is_open())
          return;
        if (!failed)
          self->take_datagram(size);
        self->receive();
      });
}

void FakeDnsServer::State::take_datagram(std::size_t size) {
  Asked query;
  query.packet.assign(room.data(), size);
  query.from_port = from.port();
  auto message = dns::decode(query.packet);
  if (!message || !message->question)
    return;
  query.message = std::move(*message);
  if (held) {
    waiting.emplace_back(query, from);
    asked.push_back(dns::describe(*query.message.question));
    if (when_asked)
      when_asked();
    return;
  }
  send(react(std::move(query)), from);
}

std::vector<Packet> FakeDnsServer::State::react(Asked query) {
  const std::string question = dns::describe(*query.message.question);
  asked.push_back((query.over_tcp ? "tcp " : "") + question);
  queries.push_back(query);
  const auto script = scripts.find(question);
  auto packets = (script == scripts.end() ? any : script->second)(query);
  if (when_asked)
    when_asked();
  return packets;
}

void FakeDnsServer::State::send(std::vector<Packet> packets, udp::endpoint to) {
  const auto send_now = [self = shared_from_this(), packets = std::move(packets), to] {
    for (const auto& packet : packets) {
      boost::system::error_code ignored;
      auto& through = packet.from_other_port ? self->other_socket : self->socket;
      if (through.is_open())
        through.send_to(asio::buffer(packet.bytes), to, 0, ignored);
    }
  };
  if (delay == Duration(0))
    return send_now();
  auto timer = std::make_shared<Timer>(loop.context(), delay);
  timer->async_wait([timer, send_now](const boost::system::error_code& failed) {
    if (!failed)
      send_now();
  });
}

Task<void> FakeDnsServer::State::accept(std::shared_ptr<State> self) {
  while (self->acceptor.is_open()) {
    auto peer = std::make_shared<TcpSocket>(self->loop.context());
    const auto [failed] = co_await self->acceptor.async_accept(*peer, use_tuple);
    if (failed)
      continue;
    self->peers.push_back(peer);
    self->loop.spawn(serve(self, std::move(peer)), self->log, "fake dns over tcp");
  }
}

Task<void> FakeDnsServer::State::serve(std::shared_ptr<State> self,
                                       std::shared_ptr<TcpSocket> peer) {
  for (;;) {
    std::array<unsigned char, 2> length{};
    const auto [no_length, n] = co_await asio::async_read(*peer, asio::buffer(length), use_tuple);
    if (no_length)
      break;
    Asked query;
    query.over_tcp = true;
    query.packet.resize(static_cast<std::size_t>(length[0]) << 8U | length[1]);
    const auto [no_packet, m] =
        co_await asio::async_read(*peer, asio::buffer(query.packet), use_tuple);
    auto message = dns::decode(query.packet);
    if (no_packet || !message || !message->question)
      break;
    query.message = std::move(*message);
    const auto packets = self->react(std::move(query));
    std::string out;
    bool last = packets.empty();
    for (const auto& packet : packets) {
      if (!packet.unframed) {
        out += static_cast<char>(packet.bytes.size() >> 8U);
        out += static_cast<char>(packet.bytes.size() & 0xffU);
      }
      out += packet.bytes;
      last = last || packet.unframed;
    }
    const auto [not_sent, k] = co_await asio::async_write(*peer, asio::buffer(out), use_tuple);
    if (not_sent || last)
      break;
  }
  std::erase(self->peers, peer);
}

void FakeDnsServer::State::close_tcp() {
  boost::system::error_code ignored;
  acceptor.close(ignored);
  for (const auto& peer : peers)
    peer->close(ignored);
}

FakeDnsServer::FakeDnsServer(Loop& loop, Log& log) : state_(std::make_shared<State>(loop, log)) {
  state_->open();
  state_->receive();
  loop.spawn(State::accept(state_), log, "fake dns");
}

FakeDnsServer::~FakeDnsServer() {
  stop();
}

dns::Server FakeDnsServer::address() const {
  const auto local = state_->acceptor.is_open() ? state_->acceptor.local_endpoint().port()
                                                : state_->socket.local_endpoint().port();
  return {asio::ip::address_v4::loopback(), local};
}

void FakeDnsServer::on(const std::string& question, Script script) {
  state_->scripts[question] = std::move(script);
}

void FakeDnsServer::on_any(Script script) {
  state_->any = std::move(script);
}

void FakeDnsServer::hold() {
  state_->held = true;
}

void FakeDnsServer::release() {
  state_->held = false;
  const auto waiting = std::move(state_->waiting);
  state_->waiting.clear();
  for (const auto& [query, from] : waiting) {
    auto packets = state_->react(query);
    state_->asked.pop_back();  // noted when it came
    state_->send(std::move(packets), from);
  }
}

void FakeDnsServer::set_delay(Duration delay) {
  state_->delay = delay;
}

const std::vector<std::string>& FakeDnsServer::asked() const {
  return state_->asked;
}

const std::vector<Asked>& FakeDnsServer::queries() const {
  return state_->queries;
}

void FakeDnsServer::when_asked(std::function<void()> call) {
  state_->when_asked = std::move(call);
}

void FakeDnsServer::refuse_tcp() {
  state_->close_tcp();
}

void FakeDnsServer::stop() {
  boost::system::error_code ignored;
  state_->close_tcp();
  state_->socket.close(ignored);
  state_->other_socket.close(ignored);
}

}  // namespace postrider::tests
