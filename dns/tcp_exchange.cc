#include "base/net/tls/stream.h"
#include "base/random.h"
#include "dns/counters.h"
#include "dns/dns_exchange.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/ip/tcp.hpp>

#include <algorithm>

namespace postrider::dns {

struct TcpExchange::Open {
  std::vector<Stream*> streams;
  bool stopped = false;

  void add(Stream& stream) { streams.push_back(&stream); }
  void remove(Stream& stream) { std::erase(streams, &stream); }
};

namespace {

constexpr auto use_tuple = asio::as_tuple(use_task);
constexpr std::size_t kFrame = 2;  // octets of length before each message (RFC 1035 section 4.2.2)

std::size_t read_length(std::string_view frame) {
  return static_cast<std::size_t>(static_cast<unsigned char>(frame[0])) << 8U |
         static_cast<unsigned char>(frame[1]);
}

Task<Result<void>> connect(Stream& stream, Server server) {
  const asio::ip::tcp::endpoint to(server.address, server.port);
  const auto [failed] = co_await stream.socket().async_connect(to, use_tuple);
  if (failed)
    co_return Error(stream.timed_out() ? asio::error::timed_out : failed, "connect over TCP");
  co_return Result<void>{};
}

// One frame, without its length.
Task<Result<std::string>> read_frame(Stream& stream) {
  std::string frame;
  std::size_t want = kFrame;
  std::size_t got = 0;
  for (bool has_length = false;;) {
    frame.resize(want);
    while (got < want) {
      const auto more = co_await stream.read_some(frame.data() + got, want - got);
      if (!more)
        co_return more.error().during("receive over TCP");
      got += *more;
    }
    if (has_length)
      co_return frame.substr(kFrame);
    has_length = true;
    want += read_length(frame);
  }
}

Task<Result<std::string>> converse(Stream& stream, Server server, std::string query) {
  const auto connected = co_await connect(stream, std::move(server));
  if (!connected)
    co_return connected.error();
  std::string frame;
  frame += static_cast<char>(query.size() >> 8U);
  frame += static_cast<char>(query.size() & 0xffU);
  frame += query;
  const auto sent = co_await stream.write(frame);
  if (!sent)
    co_return sent.error().during("send over TCP");
  auto packet = co_await read_frame(stream);
  if (packet && !is_answer_to(query, *packet))
    co_return malformed("receive over TCP: not the answer to our question");
  co_return packet;
}

}  // namespace

TcpExchange::TcpExchange(Loop& loop, Random& random, Counters& counters)
    : loop_(loop), random_(random), counters_(counters), open_(std::make_shared<Open>()) {}

TcpExchange::~TcpExchange() {
  stop();
}

void TcpExchange::stop() {
  open_->stopped = true;
  for (auto* stream : open_->streams)
    stream->close();
}

Task<Reply> TcpExchange::ask(Server server, Question question, bool edns, Duration limit) {
  const auto open = open_;
  Reply reply;
  Socket socket(loop_.context());
  boost::system::error_code failed;
  const asio::ip::tcp::endpoint to(server.address, server.port);
  socket.open(asio::generic::stream_protocol(to.protocol()), failed);
  if (failed || open->stopped) {
    reply.end = open->stopped ? Reply::End::stopped : Reply::End::unreachable;
    reply.trouble = Error(failed, "open socket").describe();
    co_return reply;
  }
  Stream stream(loop_, std::move(socket));
  open->add(stream);
  stream.set_deadline(limit);
  ++counters_.queries;
  ++counters_.over_tcp;
  std::string query = encode_query(static_cast<std::uint16_t>(random_.next()), question, edns);
  auto packet = co_await converse(stream, std::move(server), std::move(query));
  open->remove(stream);
  if (open->stopped)
    co_return reply;
  if (packet) {
    reply.end = Reply::End::answered;
    reply.packet = std::move(*packet);
  } else {
    reply.end = stream.timed_out() ? Reply::End::timed_out : Reply::End::unreachable;
    reply.trouble = packet.error().describe();
  }
  co_return reply;
}

}  // namespace postrider::dns
