// A connected socket, TCP or Unix, with one deadline. Reads take what has arrived in one call;
// writes gather. Lives on one loop.
#pragma once

#include "base/loop.h"
#include "base/result.h"

#include <boost/asio/basic_stream_socket.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/generic/stream_protocol.hpp>

#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>

namespace postrider {

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

  // What has arrived, at least one byte. asio::error::eof when the peer has finished sending.
  // Tries at once, then waits.
  Task<Result<std::size_t>> read_some(char* room, std::size_t size);
  // The same without waiting: asio::error::would_block when nothing has arrived.
  Result<std::size_t> read_now(char* room, std::size_t size);
  // Waits until something has arrived, without holding a buffer.
  Task<Result<void>> wait_readable();

  // Everything, or an error. The bytes must live until the coroutine resumes.
  Task<Result<void>> write(std::string_view bytes);
  Task<Result<void>> write(const std::string_view* parts, std::size_t count);  // at most 64 parts
  // Writes what fits at once; the number of bytes taken.
  std::size_t write_now(std::string_view bytes);

  void shut_down_sending();
  void close();  // ends pending waits with operation_aborted
  bool is_open() const { return socket_.is_open(); }
  Loop& loop() { return loop_; }
  Socket& socket() { return socket_; }

 private:
  Error error(const boost::system::error_code& code, const char* step) const;

  Loop& loop_;
  Socket socket_;
  Deadline deadline_;
  bool timed_out_ = false;
};

}  // namespace postrider
