#include "web/web_server.h"

#include "web/http_request.h"
#include "web/web_site.h"

#include "base/log.h"
#include "base/net/tls/local_socket.h"
#include "base/text.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>

#include <algorithm>
#include <list>
#include <optional>
#include <utility>
#include <vector>

namespace postrider::web {

namespace {

using tcp = asio::ip::tcp;
using Acceptor = asio::basic_socket_acceptor<tcp, Executor>;

constexpr std::size_t kRoom = 16384;
constexpr int kBacklog = 1024;
constexpr std::string_view kUnix = "unix:";
constexpr Duration kPauseAfterFailure{1000};
using SteadyClock = std::chrono::steady_clock;

Result<tcp::endpoint> endpoint_of(const std::string& address) {
  const auto colon = address.rfind(':');
  const auto port = colon == address.npos
                        ? std::nullopt
                        : parse_unsigned(std::string_view(address).substr(colon + 1));
  if (!port || *port > 65535)
    return malformed("'" + address + "' is not an address with a port");
  auto host = address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']')
    host = host.substr(1, host.size() - 2);
  boost::system::error_code bad;
  const auto parsed = asio::ip::make_address(host, bad);
  if (bad)
    return malformed("'" + address + "' is not an address with a port");
  return tcp::endpoint(parsed, static_cast<std::uint16_t>(*port));
}

Response unread(const Error& error) {
  Response response;
  response.status = error.code() == Errc::too_long ? 413 : 400;
  response.content_type = "text/plain; charset=utf-8";
  response.body = "the request is not one that is understood here\n";
  return response;
}

// No descriptors are left, perhaps: the loop does not spin.
Task<void> pause(Loop& loop) {
  asio::basic_waitable_timer<SteadyClock, asio::wait_traits<SteadyClock>, Executor> timer(
      loop.executor(), kPauseAfterFailure);
  co_await timer.async_wait(asio::as_tuple(use_task));
}

}  // namespace

struct WebServer::State {
  State(Loop& loop_, WebSite& site_, Log& log_, Limits limits_)
      : loop(loop_), site(site_), log(log_), limits(limits_) {}

  struct Connection {
    std::unique_ptr<Stream> stream;
    std::string client;
    bool is_asking = true;                 // no complete request is in hand
    std::uint64_t large = 0;               // octets of a large body that was admitted
    std::optional<Response> refused = {};  // why none was
    SteadyTime since = SteadyClock::now();
  };

  Loop& loop;
  BlockingPool* pool = nullptr;
  WebSite& site;
  Log& log;
  const Limits limits;
  std::vector<std::unique_ptr<Acceptor>> acceptors;
  std::vector<std::unique_ptr<LocalListener>> local;
  std::list<Connection> connections;
  std::uint64_t large = 0;  // octets of all large bodies
  bool stopping = false;

  Result<void> listen_on_any(const std::shared_ptr<State>& self,
                             const std::vector<std::string>& addresses);
  Result<void> listen_on(const std::shared_ptr<State>& self, const std::string& address);
  static Task<void> accept(std::shared_ptr<State> self, Acceptor* acceptor);
  static Task<void> accept_local(std::shared_ptr<State> self, LocalListener* listener);
  static Task<void> serve(std::shared_ptr<State> self, std::list<Connection>::iterator connection);
  void begin(const std::shared_ptr<State>& self, std::unique_ptr<Stream> stream,
             std::string client);
  void make_room();
  bool admit(Connection& connection, const Request& head, std::uint64_t octets);
  void forget_large(Connection& connection);
  Duration time_for(const Connection& connection) const;
  static Task<void> read_out(State& state, Stream& stream);
  static Task<void> hold_back(State& state, Connection& connection, SteadyTime until);
  Task<Result<bool>> read_request(Connection& connection, RequestReader& reader);
  Task<Result<void>> answer(Connection& connection, RequestReader& reader);
};

// Over the limit the one that asks for longest is closed, unless all have a request in hand: then
// the newcomer is, and may try again.
void WebServer::State::make_room() {
  if (connections.size() < limits.connections)
    return;
  Connection* oldest = nullptr;
  for (auto& one : connections)
    if (one.is_asking && one.stream->is_open() && (oldest == nullptr || one.since < oldest->since))
      oldest = &one;
  if (oldest != nullptr)
    oldest->stream->close();
}

void WebServer::State::begin(const std::shared_ptr<State>& self, std::unique_ptr<Stream> stream,
                             std::string client) {
  make_room();
  if (connections.size() >= 2 * limits.connections)
    return;  // closed ones have not ended yet
  connections.push_front(Connection{std::move(stream), std::move(client)});
  loop.spawn(serve(self, connections.begin()), log, "web connection");
}

Task<void> WebServer::State::accept(std::shared_ptr<State> self, Acceptor* acceptor) {
  while (!self->stopping) {
    auto [code, socket] = co_await acceptor->async_accept(asio::as_tuple(use_task));
    if (self->stopping)
      co_return;
    if (code) {
      co_await pause(self->loop);
      continue;
    }
    boost::system::error_code ignored;
    const auto peer = socket.remote_endpoint(ignored);
    socket.set_option(tcp::no_delay(true), ignored);
    self->begin(self, std::make_unique<Stream>(self->loop, Socket(std::move(socket))),
                peer.address().to_string());
  }
}

Task<void> WebServer::State::accept_local(std::shared_ptr<State> self, LocalListener* listener) {
  while (!self->stopping) {
    auto stream = co_await listener->accept();
    if (self->stopping)
      co_return;
    if (!stream) {
      co_await pause(self->loop);
      continue;
    }
    self->begin(self, *std::move(stream), "local");
  }
}

// A body beyond the usual is kept in memory for those alone who may send mail, and of all together
// no more than there is room for.
bool WebServer::State::admit(Connection& connection, const Request& head, std::uint64_t octets) {
  auto asked = head;
  asked.client = connection.client;
  connection.refused = site.refusal_of_large(asked, octets);
  if (connection.refused)
    return false;
  if (large + octets > limits.large) {
    connection.refused = WebSite::no_room();
    return false;
  }
  large += octets;
  connection.large = octets;
  connection.stream->set_deadline(time_for(connection));
  return true;
}

// For what has begun to come.
Duration WebServer::State::time_for(const Connection& connection) const {
  return limits.request + Duration(connection.large / limits.octets_per_ms);
}

void WebServer::State::forget_large(Connection& connection) {
  large -= std::exchange(connection.large, 0);
}

// What a client that was refused still sends, so that it reads the answer.
Task<void> WebServer::State::read_out(State& state, Stream& stream) {
  constexpr std::uint64_t kMost = 64U << 20U;
  stream.set_deadline(state.limits.request);
  std::vector<char> room(kRoom);
  for (std::uint64_t read = 0; read < kMost && !state.stopping;) {
    const auto got = co_await stream.read_some(room.data(), room.size());
    if (!got)
      co_return;
    read += *got;
  }
}

// False: the client has ended the connection.
Task<Result<bool>> WebServer::State::read_request(Connection& connection, RequestReader& reader) {
  auto& stream = *connection.stream;
  connection.is_asking = true;
  connection.since = SteadyClock::now();
  auto complete = reader.feed({});
  bool has_begun = reader.has_begun();
  stream.set_deadline(has_begun ? time_for(connection) : limits.idle);
  std::vector<char> room(kRoom);
  while (complete && !*complete) {
    const auto got = co_await stream.read_some(room.data(), room.size());
    if (!got)
      co_return false;
    if (!has_begun)
      stream.set_deadline(limits.request);
    has_begun = true;
    complete = reader.feed({room.data(), *got});
    if (complete && reader.wants_continue())
      stream.write_now("HTTP/1.1 100 Continue\r\n\r\n");
  }
  connection.is_asking = false;
  co_return complete;
}

// Holds no thread, and gives way to others.
Task<void> WebServer::State::hold_back(State& state, Connection& connection, SteadyTime until) {
  constexpr Duration kLookUp{200};  // whether the server stops
  asio::basic_waitable_timer<SteadyClock, asio::wait_traits<SteadyClock>, Executor> timer(
      state.loop.executor());
  connection.is_asking = true;
  while (!state.stopping && connection.stream->is_open() && SteadyClock::now() < until) {
    timer.expires_at(std::min(until, SteadyClock::now() + kLookUp));
    co_await timer.async_wait(asio::as_tuple(use_task));
  }
  connection.is_asking = false;
}

Task<Result<void>> WebServer::State::answer(Connection& connection, RequestReader& reader) {
  auto request = reader.take();
  request.client = connection.client;
  const bool keeps_alive = reader.keeps_alive() && !stopping;
  const bool is_head = request.method == "HEAD";
  connection.stream->clear_deadline();
  SteadyTime not_before{};
  const std::function<std::string()> job = [this, &request, &not_before, keeps_alive, is_head] {
    auto response = site.answer(request);
    const auto length = response.body.size();
    if (is_head)
      response.body.clear();
    not_before = response.not_before;
    return encode(response, length, keeps_alive);
  };
  const auto bytes = co_await pool->run<std::string>(loop, job);
  std::string().swap(request.body);
  forget_large(connection);
  if (not_before > SteadyClock::now())
    co_await hold_back(*this, connection, not_before);
  connection.stream->set_deadline(limits.write);
  auto written = co_await connection.stream->write(bytes);
  if (written && !keeps_alive)
    co_return Error(Errc::stopped, "answer");
  co_return written;
}

Task<void> WebServer::State::serve(std::shared_ptr<State> self,
                                   std::list<Connection>::iterator connection) {
  RequestReader reader([self, connection](const Request& head, std::uint64_t octets) {
    return self->admit(*connection, head, octets);
  });
  for (;;) {
    const auto complete = co_await self->read_request(*connection, reader);
    if (!complete) {
      const auto response = connection->refused.value_or(unread(complete.error()));
      connection->stream->write_now(encode(response, response.body.size(), false));
      if (!connection->refused)
        break;
      connection->is_asking = true;  // it gives way to others
      connection->stream->shut_down_sending();
      co_await read_out(*self, *connection->stream);
      break;
    }
    if (!*complete || self->stopping)
      break;
    if (const auto answered = co_await self->answer(*connection, reader); !answered)
      break;
  }
  self->forget_large(*connection);
  connection->stream->shut_down_sending();
  self->connections.erase(connection);
}

WebServer::WebServer(Loop& loop, WebSite& site, Log& log, Limits limits)
    : state_(std::make_shared<State>(loop, site, log, limits)) {}

void WebServer::answer_by(BlockingPool& pool) {
  state_->pool = &pool;
}

WebServer::~WebServer() = default;

Result<void> WebServer::listen(const std::string& address) {
  auto& state = *state_;
  if (address.rfind(kUnix, 0) == 0) {
    constexpr unsigned kMode = 0660;
    auto listener = LocalListener::bind(address.substr(kUnix.size()), kMode, state.loop);
    if (!listener)
      return listener.error();
    state.local.push_back(*std::move(listener));
    state.loop.spawn(State::accept_local(state_, state.local.back().get()), state.log,
                     "web accept");
    return {};
  }
  // "localhost" and "*" are what the machine has of IPv4 and IPv6.
  const auto port = address.substr(std::min(address.rfind(':'), address.size()));
  if (address == "localhost" + port)
    return state.listen_on_any(state_, {"127.0.0.1" + port, "[::1]" + port});
  if (address == "*" + port)
    return state.listen_on_any(state_, {"0.0.0.0" + port, "[::]" + port});
  return state.listen_on(state_, address);
}

Result<void> WebServer::State::listen_on_any(const std::shared_ptr<State>& self,
                                             const std::vector<std::string>& addresses) {
  Result<void> last;
  bool is_open = false;
  for (const auto& address : addresses) {
    last = listen_on(self, address);
    is_open = is_open || last;
    if (!last && last.error().code() == boost::asio::error::address_in_use)
      return last;
  }
  return is_open ? Result<void>() : last;
}

Result<void> WebServer::State::listen_on(const std::shared_ptr<State>& self,
                                         const std::string& address) {
  const auto endpoint = endpoint_of(address);
  if (!endpoint)
    return endpoint.error();
  auto acceptor = std::make_unique<Acceptor>(loop.executor());
  boost::system::error_code code;
  acceptor->open(endpoint->protocol(), code);
  if (!code)
    acceptor->set_option(asio::socket_base::reuse_address(true), code);
  if (!code && endpoint->protocol() == tcp::v6())
    acceptor->set_option(asio::ip::v6_only(true), code);
  if (!code)
    acceptor->bind(*endpoint, code);
  if (!code)
    acceptor->listen(kBacklog, code);
  if (code)
    return Error(code, "listen on " + address);
  acceptors.push_back(std::move(acceptor));
  loop.spawn(accept(self, acceptors.back().get()), log, "web accept");
  return {};
}

void WebServer::stop() {
  state_->stopping = true;
  for (auto& acceptor : state_->acceptors) {
    boost::system::error_code ignored;
    acceptor->close(ignored);
  }
  for (auto& listener : state_->local)
    listener->close();
  for (auto& connection : state_->connections)
    if (connection.is_asking)
      connection.stream->close();
}

}  // namespace postrider::web
