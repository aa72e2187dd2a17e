// OpenSSL on a non-blocking socket: tries, and says what it waits for. No waiting, no event loop;
// Stream drives it. One thread at a time; handshake() may run on another one than the rest.
//
// Between records nothing is held: OpenSSL gives its buffers back, and gets whole records only. A
// client that has not finished its first one costs no session of OpenSSL either. A step takes one
// record that carries no data at most, and they are counted: a peer that sends key updates, empty
// records or alerts for ever costs little and is cut off (attacks.md T11, T20).
#pragma once

#include "base/net/tls/tls.h"
#include "base/net/tls/tls_context.h"
#include "base/net/tls/tls_records.h"
#include "base/result.h"

#include <cstddef>
#include <memory>
#include <string_view>

struct bio_st;
struct ssl_st;

namespace postrider {

// A trusted certificate that names the host, which is a name or an address.
TlsClientOptions options_for_host(const std::string& host);

enum class TlsStep : std::uint8_t { done, wait_readable, wait_writable, end, failed };

class TlsChannel {
 public:
  // A record's worth of data.
  static constexpr std::size_t kRecord = 16384;

  // The socket must stay open while the channel lives. received: what was read from it already.
  static Result<std::unique_ptr<TlsChannel>> server(std::shared_ptr<const TlsContext> context,
                                                    int socket, std::string received);
  static Result<std::unique_ptr<TlsChannel>> client(std::shared_ptr<const TlsContext> context,
                                                    int socket, const TlsClientOptions& options);
  ~TlsChannel();
  TlsChannel(const TlsChannel&) = delete;
  TlsChannel& operator=(const TlsChannel&) = delete;

  // done: handshake() has something to do. Cheap, and not for a worker.
  TlsStep await_hello();
  TlsStep handshake();
  // These fail before the handshake is done.
  TlsStep read(char* room, std::size_t size, std::size_t& got);
  // done: data, the end or an error can be read without waiting.
  TlsStep look();
  // After wait_writable the same bytes must be offered again.
  TlsStep write(const char* bytes, std::size_t size, std::size_t& taken);
  // close_notify, if the session is in order and the socket takes it at once.
  void say_end();

  // After `failed`.
  Error error(const char* step) const { return Error(code_, std::string(step) + ": " + reason_); }
  const TlsFacts& facts() const { return facts_; }
  // Of memory that is kept for the end of a handshake or a record to come, and for the peer's certificates.
  std::size_t octets() const;
  // Of these, for the certificates.
  std::size_t certificate_octets() const;
  Result<std::string> binding(ChannelBinding kind) const;
  TlsSession session() const;

  bool is_busy = false;  // another thread is in handshake()

 private:
  struct Bio;  // the callbacks that OpenSSL reads and writes with
  friend struct TlsCallbacks;

  TlsChannel(std::shared_ptr<const TlsContext> context, int socket);
  Result<void> open();
  Result<void> expect(const TlsClientOptions& options);
  Result<void> expect_dane(const TlsClientOptions& options);
  void stopped(bio_st* bio, int direction);
  TlsStep judge(int result);
  TlsStep fail();
  bool is_patient();
  void learn();
  void learn_peer();
  std::size_t count_certificates() const;
  Result<std::string> end_point_binding() const;

  std::shared_ptr<const TlsContext> context_;
  int socket_;
  ssl_st* ssl_ = nullptr;
  bool must_verify_ = false;
  bool is_open_ = false;       // the handshake is done
  bool has_failed_ = false;    // OpenSSL wants nothing more of it
  bool socket_waits_ = false;  // the last step stopped at the socket, not at a record
  bool socket_ended_ = false;
  int socket_error_ = 0;
  unsigned barren_ = 0;  // records without data since the last data
  boost::system::error_code code_ = make_error_code(Errc::tls);
  std::string reason_;
  std::size_t certificates_ = 0;  // octets of the peer's, in memory
  TlsRecords records_;
  std::string server_name_;  // of a client's hello
  TlsFacts facts_;
};

}  // namespace postrider
