// A connected socket, TCP or Unix, with one deadline. Reads take what has arrived in one call;
// writes gather. Lives on one loop. After start_tls() the same functions speak TLS; a stream
// without TLS pays one comparison for it.
#pragma once

#include "base/net/loop.h"
#include "base/net/signal.h"
#include "base/net/tls/outgoing_tls.h"
#include "base/net/tls/tls.h"
#include "base/result.h"

#include <boost/asio/basic_stream_socket.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/generic/stream_protocol.hpp>

#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>

namespace postrider {

class BlockingPool;
class TlsChannel;
class TlsContext;

using Socket = asio::basic_stream_socket<asio::generic::stream_protocol, Executor>;

class Stream {
 public:
  // The socket must belong to the loop.
  Stream(Loop& loop, Socket socket);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  // Opens a connection. `from` may be null. Fails with asio::error::timed_out after `limit`.
  static Task<Result<std::unique_ptr<Stream>>> connect(Loop& loop,
                                                       asio::generic::stream_protocol::endpoint to,
                                                       Duration limit);

  // The deadline covers every wait until it is set again or cleared; when it passes, the wait
  // ends with asio::error::timed_out and the stream is only good for a last write_now().
  void set_deadline(Duration from_now);
  void clear_deadline();
  bool timed_out() const { return timed_out_; }

  // The handshake, under the deadline. Whatever has been read before must have been used up: what
  // is in hand when TLS begins came in clear. After an error the stream is only good for close(),
  // and tls() tells how far it came. Errc::tls: the handshake failed; Errc::untrusted: the peer's
  // certificate is not what `options` ask for; asio::error::eof: the peer hung up.
  // received: the beginning of the client's handshake that came along with what stood before it.
  Task<Result<void>> start_tls_server(std::shared_ptr<const TlsContext> context,
                                      std::string received);
  // Of a client: where the context's books have no room it waits for its turn first, for two minutes at most, and the
  // deadline begins again behind that; not_enough_memory says nothing about the peer, but that its certificates may be
  // very large.
  Task<Result<void>> start_tls_client(std::shared_ptr<const TlsContext> context,
                                      TlsClientOptions options);
  // Asked before each wait under TLS, with the memory that is kept for the rest of a handshake or
  // of a record. False: the wait ends with not_enough_memory. Not to end the stream.
  void watch_memory(std::function<bool(std::size_t octets)> is_allowed) {
    is_allowed_ = std::move(is_allowed);
  }
  // Null: in clear.
  const TlsFacts* tls() const;
  Result<std::string> channel_binding(ChannelBinding kind) const;
  // Of a client, to be asked for before close(): with TLS 1.3 it comes with the first data that is
  // read. None when the server gave none.
  TlsSession tls_session() const;

  // What has arrived, at least one byte. asio::error::eof when the peer has finished sending; under
  // TLS, Errc::truncated when the connection ended and the peer had not said that it would.
  // Tries at once, then waits.
  Task<Result<std::size_t>> read_some(char* room, std::size_t size);
  // The same without waiting: asio::error::would_block when nothing has arrived.
  Result<std::size_t> read_now(char* room, std::size_t size);
  // Waits until something has arrived, without holding a buffer.
  Task<Result<void>> wait_readable();

  // Everything, or an error. The bytes must live until the coroutine resumes.
  Task<Result<void>> write(std::string_view bytes);
  Task<Result<void>> write(const std::string_view* parts, std::size_t count);  // at most 64 parts
  // Writes what fits at once; the number of bytes taken. The rest must come next, or nothing.
  std::size_t write_now(std::string_view bytes);

  // Both tell a TLS peer that this is the end, so that it knows it from a broken connection.
  void shut_down_sending();
  void close();  // ends pending waits with operation_aborted
  bool is_open() const { return socket_.is_open() && !closing_; }
  Loop& loop() { return loop_; }
  Socket& socket() { return socket_; }

 private:
  static constexpr std::size_t kMostParts = 64;

  Error error(const boost::system::error_code& code, const char* step) const;
  Task<Result<std::size_t>> read_some_in_clear(char* room, std::size_t size);
  Task<Result<void>> wait_readable_in_clear();
  Task<Result<void>> write_in_clear(const std::string_view* parts, std::size_t count);
  Task<Result<void>> wait_for_turn();
  Result<void> count_memory(bool is_done);
  Task<Result<void>> shake_hands(BlockingPool* workers);
  Task<Result<void>> wait_for(bool writable, const char* step);
  Task<void> let_others_run();
  Result<std::size_t> read_now_tls(char* room, std::size_t size);
  Task<Result<std::size_t>> read_some_tls(char* room, std::size_t size);
  Task<Result<void>> wait_readable_tls();
  std::size_t write_now_tls(std::string_view bytes);
  Task<Result<void>> write_tls(const std::string_view* parts, std::size_t count);
  void end_tls();

  Loop& loop_;
  Socket socket_;
  Deadline deadline_;
  bool timed_out_ = false;
  bool is_local_ = false;  // a Unix socket, over which descriptors may be passed
  bool closing_ = false;   // as soon as the handshake lets go of the socket
  std::unique_ptr<TlsChannel> tls_;
  std::function<bool(std::size_t)> is_allowed_;
  std::size_t in_turn_ = 0;                    // octets of TLS since the last wait
  std::unique_ptr<OutgoingTls::Share> share_;  // of a client's TLS
  std::shared_ptr<Signal> turn_;               // while it waits for one
  Duration limit_{0};                          // of the deadline, when it was set last
};

}  // namespace postrider
