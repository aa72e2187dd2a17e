#include "base/random.h"
#include "dns/counters.h"
#include "dns/dns_exchange.h"

#include <boost/asio/ip/udp.hpp>

#include <algorithm>
#include <sys/socket.h>
#include <unordered_map>

namespace postrider::dns {

namespace {

using UdpSocket = asio::basic_datagram_socket<asio::ip::udp, Executor>;
constexpr std::size_t kRoom = 4096;
constexpr int kMostAtOnce = 64;

}  // namespace

struct UdpExchange::Query {
  std::shared_ptr<Socket> socket;
  std::uint16_t id = 0;
  std::string packet;
  Reply reply;
  Signal done;
};

// Outlives its place in the list while a handler of its waits.
class UdpExchange::Socket : public std::enable_shared_from_this<Socket> {
 public:
  Socket(UdpExchange& owner, const Server& server)
      : server_(server), owner_(&owner), socket_(owner.loop_.context()) {}

  Error open();
  const Server& server() const { return server_; }
  bool takes_more() const { return sent_ < kMostQueries; }
  bool has(std::uint16_t id) const { return queries_.contains(id); }
  bool is_idle() const { return queries_.empty(); }

  bool send(Query& query);
  void remove(const Query& query) { queries_.erase(query.id); }
  void end_all(Reply::End end, const std::string& trouble);
  void close();

 private:
  void wait_readable();
  void read_datagrams();
  void take(std::string_view packet, bool cut);

  Server server_;
  UdpExchange* owner_;  // null when closed
  UdpSocket socket_;
  std::unordered_map<std::uint16_t, Query*> queries_;
  std::size_t sent_ = 0;
};

Error UdpExchange::Socket::open() {
  const asio::ip::udp::endpoint to(server_.address, server_.port);
  boost::system::error_code failed;
  socket_.open(to.protocol(), failed);
  if (!failed)
    socket_.non_blocking(true, failed);
  if (!failed)
    socket_.connect(to, failed);
  if (!failed)
    wait_readable();
  return Error(failed, "open socket");
}

void UdpExchange::Socket::close() {
  owner_ = nullptr;
  boost::system::error_code ignored;
  socket_.close(ignored);
}

void UdpExchange::Socket::wait_readable() {
  socket_.async_wait(UdpSocket::wait_read,
                     [self = shared_from_this()](const boost::system::error_code& failed) {
                       if (!failed && self->owner_ != nullptr)
                         self->read_datagrams();
                     });
}

// A query that is taken off may end this socket, the whole exchange, or start another query here.
void UdpExchange::Socket::read_datagrams() {
  std::array<char, kRoom> room;
  for (int i = 0; i < kMostAtOnce && owner_ != nullptr; ++i) {
    const auto got =
        ::recv(socket_.native_handle(), room.data(), room.size(), MSG_TRUNC | MSG_DONTWAIT);
    if (got < 0) {
      if (errno == EINTR)
        continue;
      if (errno != EAGAIN && errno != EWOULDBLOCK)  // ICMP: nobody listens there
        end_all(Reply::End::unreachable, system_error(errno, {}).describe());
      break;
    }
    const auto size = static_cast<std::size_t>(got);
    take(std::string_view(room.data(), std::min(size, room.size())), size > room.size());
  }
  if (owner_ != nullptr)
    wait_readable();
}

void UdpExchange::Socket::take(std::string_view packet, bool cut) {
  if (packet.size() >= 2) {
    const auto id = static_cast<std::uint16_t>(static_cast<unsigned char>(packet[0]) << 8U |
                                               static_cast<unsigned char>(packet[1]));
    const auto known = queries_.find(id);
    if (known != queries_.end() && is_answer_to(known->second->packet, packet)) {
      known->second->reply.packet = packet;
      known->second->reply.cut = cut;
      finish(*known->second, Reply::End::answered);
      return;
    }
  }
  ++owner_->counters_.dropped;
  for (auto& [id, query] : queries_)
    query->reply.saw_strays = true;
}

bool UdpExchange::Socket::send(Query& query) {
  queries_.emplace(query.id, &query);
  ++sent_;
  const auto sent =
      ::send(socket_.native_handle(), query.packet.data(), query.packet.size(), MSG_NOSIGNAL);
  // What did not fit into the send buffer is lost as on the way: the timeout will tell.
  if (sent >= 0 || errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS)
    return true;
  query.reply.trouble = system_error(errno, {}).describe();
  return false;
}

void UdpExchange::Socket::end_all(Reply::End end, const std::string& trouble) {
  const auto self = shared_from_this();
  sent_ = kMostQueries;  // those who resume ask elsewhere
  while (!queries_.empty()) {
    Query& query = *queries_.begin()->second;
    query.reply.trouble = trouble;
    finish(query, end);
  }
}

UdpExchange::UdpExchange(Loop& loop, Random& random, Counters& counters)
    : loop_(loop), random_(random), counters_(counters) {}

UdpExchange::~UdpExchange() {
  stop();
}

void UdpExchange::stop() {
  const auto sockets = std::move(sockets_);
  sockets_.clear();
  for (const auto& socket : sockets) {
    socket->end_all(Reply::End::stopped, {});
    socket->close();
  }
}

Result<std::shared_ptr<UdpExchange::Socket>> UdpExchange::pick(const Server& server) {
  std::vector<const std::shared_ptr<Socket>*> usable;
  for (const auto& socket : sockets_)
    if (socket->server() == server && socket->takes_more())
      usable.push_back(&socket);
  if (usable.size() >= kMostSockets)
    return *usable[random_.below(usable.size())];
  auto socket = std::make_shared<Socket>(*this, server);
  if (const auto failed = socket->open(); failed.code()) {
    socket->close();
    return failed;
  }
  sockets_.push_back(socket);
  return socket;
}

std::uint16_t UdpExchange::pick_id(const Socket& socket) {
  for (;;) {
    const auto id = static_cast<std::uint16_t>(random_.next());
    if (!socket.has(id))  // at most kMostQueries of 65536 are taken
      return id;
  }
}

void UdpExchange::drop(const Socket& socket) {
  std::erase_if(sockets_, [&](const auto& one) { return one.get() == &socket; });
}

// Takes the query off its socket first: resuming it may do anything.
void UdpExchange::finish(Query& query, Reply::End end) {
  query.socket->remove(query);
  query.reply.end = end;
  query.done.set();
}

Task<Reply> UdpExchange::ask(Server server, Question question, bool edns, Duration limit) {
  Query query;
  auto socket = pick(server);
  if (!socket) {
    query.reply.end = Reply::End::unreachable;
    query.reply.trouble = socket.error().describe();
    co_return std::move(query.reply);
  }
  query.socket = *socket;
  query.id = pick_id(*query.socket);
  query.packet = encode_query(query.id, question, edns);
  ++counters_.queries;
  if (query.socket->send(query)) {
    Deadline deadline(loop_.deadlines(), [&query] { finish(query, Reply::End::timed_out); });
    deadline.set(limit);
    co_await query.done.wait();
  } else {
    query.socket->remove(query);
    query.reply.end = Reply::End::unreachable;
  }
  if (query.reply.end != Reply::End::stopped && query.socket->is_idle()) {
    query.socket->close();
    drop(*query.socket);
  }
  co_return std::move(query.reply);
}

}  // namespace postrider::dns
