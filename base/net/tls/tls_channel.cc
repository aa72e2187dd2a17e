#include "base/net/tls/tls_channel.h"

#include "base/assert.h"
#include "base/net/tls/tls_openssl.h"

#include <boost/asio/ip/address.hpp>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <cerrno>
#include <sys/socket.h>

namespace postrider {

namespace asio = boost::asio;

namespace {

// Records without data in a row: a greeting's tickets and a key update now and then are few.
constexpr unsigned kMostBarren = 128;
// What OpenSSL keeps for a handshake under way, beside what it keeps for a session.
constexpr std::size_t kOfHandshake = 40U << 10U;
// Octets of a session that is kept to be resumed, with the server's certificate.
constexpr int kMostKept = 8 << 10;

// A copy, since a connection that breaks marks its own session as spoiled. By its encoding, which has the server's own
// certificate only, not yet taken apart: a thousand sessions are kept, and a chain takes what a server likes.
// Null: too large.
SSL_SESSION* copy_without_chain(const SSL_SESSION& session) {
  unsigned char* encoded = nullptr;
  const int size = i2d_SSL_SESSION(&session, &encoded);
  if (size <= 0)
    return nullptr;
  const unsigned char* at = encoded;
  SSL_SESSION* copy = size <= kMostKept ? d2i_SSL_SESSION(nullptr, &at, size) : nullptr;
  OPENSSL_clear_free(encoded, static_cast<std::size_t>(size));
  ERR_clear_error();
  return copy;
}

}  // namespace

TlsClientOptions options_for_host(const std::string& host) {
  boost::system::error_code is_name;
  asio::ip::make_address(host, is_name);
  TlsClientOptions options;
  if (is_name)  // RFC 6066 §3: no address
    options.server_name = host;
  options.verify = TlsClientOptions::Verify::pkix;
  options.names.push_back(host);
  return options;
}

// OpenSSL's own socket BIO would raise SIGPIPE, and would not say whether it was the socket that
// had nothing more.
struct TlsChannel::Bio {
  static TlsChannel& channel_of(BIO* bio) { return *static_cast<TlsChannel*>(BIO_get_data(bio)); }

  static int read(BIO* bio, char* room, int size) {
    auto& channel = channel_of(bio);
    BIO_clear_retry_flags(bio);
    const auto got = channel.records_.read(channel.socket_, room, static_cast<std::size_t>(size));
    if (got == 0)
      channel.socket_ended_ = true;
    if (got < 0)
      channel.stopped(bio, BIO_FLAGS_READ);
    return static_cast<int>(got);
  }

  static int write(BIO* bio, const char* bytes, int size) {
    auto& channel = channel_of(bio);
    BIO_clear_retry_flags(bio);
    ssize_t sent = 0;
    do
      sent = ::send(channel.socket_, bytes, static_cast<std::size_t>(size), MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent < 0)
      channel.stopped(bio, BIO_FLAGS_WRITE);
    return static_cast<int>(sent);
  }

  static long control(BIO* bio, int what, long, void*) {
    if (what == BIO_CTRL_EOF)
      return channel_of(bio).socket_ended_ ? 1 : 0;
    return what == BIO_CTRL_FLUSH ? 1 : 0;
  }

  static const BIO_METHOD* method() {
    static BIO_METHOD* const made = [] {
      BIO_METHOD* fresh = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "postrider");
      if (fresh != nullptr) {
        BIO_meth_set_read(fresh, read);
        BIO_meth_set_write(fresh, write);
        BIO_meth_set_ctrl(fresh, control);
      }
      return fresh;
    }();
    return made;
  }

  static void count_record(int is_write, int, int type, const void*, std::size_t, SSL*,
                           void* channel) {
    if (is_write == 0 && type == SSL3_RT_HEADER)
      ++static_cast<TlsChannel*>(channel)->barren_;
  }
};

void TlsChannel::stopped(bio_st* bio, int direction) {
  if (errno == EAGAIN || errno == EWOULDBLOCK) {
    socket_waits_ = true;
    BIO_set_flags(bio, direction | BIO_FLAGS_SHOULD_RETRY);
  } else {
    socket_error_ = errno;
  }
}

TlsChannel::TlsChannel(std::shared_ptr<const TlsContext> context, int socket)
    : context_(std::move(context)), socket_(socket) {}

TlsChannel::~TlsChannel() {
  SSL_free(ssl_);
}

Result<std::unique_ptr<TlsChannel>> TlsChannel::server(std::shared_ptr<const TlsContext> context,
                                                       int socket, std::string received) {
  POSTRIDER_ASSERT(context->is_server());
  std::unique_ptr<TlsChannel> channel(new TlsChannel(std::move(context), socket));
  channel->records_ = TlsRecords(std::move(received));
  return channel;
}

Result<std::unique_ptr<TlsChannel>> TlsChannel::client(std::shared_ptr<const TlsContext> context,
                                                       int socket,
                                                       const TlsClientOptions& options) {
  POSTRIDER_ASSERT(!context->is_server());
  std::unique_ptr<TlsChannel> channel(new TlsChannel(std::move(context), socket));
  if (auto opened = channel->open(); !opened)
    return opened.error();
  SSL_set_connect_state(channel->ssl_);
  if (auto expected = channel->expect(options); !expected)
    return expected.error();
  return channel;
}

Result<void> TlsChannel::open() {
  ERR_clear_error();
  ssl_ = SSL_new(context_->context_for({}));
  BIO* bio = ssl_ == nullptr ? nullptr : BIO_new(Bio::method());
  if (bio == nullptr)
    return tls_error("open TLS session");
  BIO_set_data(bio, this);
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl_, bio, bio);
  SSL_set_app_data(ssl_, this);
  return {};
}

Result<void> TlsChannel::expect(const TlsClientOptions& options) {
  using Verify = TlsClientOptions::Verify;
  const auto& server = options.server_name;
  facts_.sni = server;
  must_verify_ = options.verify != Verify::none;
  SSL_set_verify(ssl_, must_verify_ ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nullptr);
  SSL_set_hostflags(ssl_, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  if (options.verify == Verify::dane) {
    if (auto set = expect_dane(options); !set)
      return set;
  } else if (!server.empty() && SSL_set_tlsext_host_name(ssl_, server.c_str()) != 1) {
    return tls_error("set server name");
  }
  if (options.verify == Verify::pkix && options.names.empty())
    return Error(Errc::unsupported, "verify without a name");
  for (const auto& name : options.names)
    if (SSL_add1_host(ssl_, name.c_str()) != 1)
      return tls_error("set name to verify");
  if (options.session && SSL_set_session(ssl_, options.session.get()) != 1)
    return tls_error("set session to resume");
  return {};
}

Result<void> TlsChannel::expect_dane(const TlsClientOptions& options) {
  if (SSL_dane_enable(ssl_, options.server_name.c_str()) <= 0)
    return tls_error("enable DANE");
  SSL_dane_set_flags(ssl_, DANE_FLAG_NO_DANE_EE_NAMECHECKS);  // RFC 7672 §3.1.1
  std::size_t usable = 0;
  for (const auto& record : options.tlsa) {
    if (record.usage < 2)  // PKIX-TA, PKIX-EE: of no use to SMTP (RFC 7672 §3.1.3)
      continue;
    const auto* data = reinterpret_cast<const unsigned char*>(record.data.data());
    if (SSL_dane_tlsa_add(ssl_, record.usage, record.selector, record.matching, data,
                          record.data.size()) > 0)
      ++usable;
  }
  ERR_clear_error();
  if (usable == 0)
    return Error(Errc::unsupported, "no usable TLSA record");
  return {};
}

std::size_t TlsChannel::octets() const {
  if (ssl_ == nullptr || is_open_)
    return records_.octets() + certificates_;
  return records_.octets() + kOfHandshake + count_certificates();
}

std::size_t TlsChannel::certificate_octets() const {
  return ssl_ == nullptr || is_open_ ? certificates_ : count_certificates();
}

std::size_t TlsChannel::count_certificates() const {
  const X509* own = SSL_get0_peer_certificate(ssl_);
  if (own == nullptr)
    return 0;
  auto sum = octets_in_memory(*own);
  const auto* chain = SSL_get_peer_cert_chain(ssl_);  // of a server with its own
  for (int i = 0; i < sk_X509_num(chain); ++i)
    if (const X509* one = sk_X509_value(chain, i); one != own)
      sum += octets_in_memory(*one);
  return sum;
}

TlsStep TlsChannel::await_hello() {
  if (ssl_ != nullptr)
    return TlsStep::done;
  const auto got = records_.collect(socket_);
  if (got > 0)
    return TlsStep::done;
  if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
    return TlsStep::wait_readable;
  socket_ended_ = got == 0;
  socket_error_ = got < 0 ? errno : 0;
  return fail();
}

TlsStep TlsChannel::handshake() {
  if (has_failed_)
    return TlsStep::failed;
  if (ssl_ == nullptr) {
    if (auto opened = open(); !opened) {
      has_failed_ = true;
      code_ = opened.error().code();
      reason_ = opened.error().describe();
      return TlsStep::failed;
    }
    SSL_set_accept_state(ssl_);
  }
  ERR_clear_error();
  const auto step = judge(SSL_do_handshake(ssl_));
  if (step == TlsStep::done) {
    is_open_ = true;
    certificates_ = count_certificates();
    SSL_set_msg_callback(ssl_, Bio::count_record);
    SSL_set_msg_callback_arg(ssl_, this);
  }
  if (step == TlsStep::done || step == TlsStep::failed)
    learn();
  return step;
}

TlsStep TlsChannel::read(char* room, std::size_t size, std::size_t& got) {
  for (;;) {
    if (has_failed_ || !is_open_)
      return TlsStep::failed;
    socket_waits_ = false;
    ERR_clear_error();
    const auto step = judge(SSL_read_ex(ssl_, room, size, &got));
    if (step == TlsStep::done)
      barren_ = 0;
    if (step != TlsStep::wait_readable || !is_patient())
      return has_failed_ ? TlsStep::failed : step;
    if (socket_waits_)
      return step;
  }
}

TlsStep TlsChannel::look() {
  for (;;) {
    if (has_failed_ || !is_open_)
      return TlsStep::done;
    socket_waits_ = false;
    ERR_clear_error();
    char first = 0;
    std::size_t got = 0;
    const auto step = judge(SSL_peek_ex(ssl_, &first, 1, &got));
    if (step == TlsStep::done || step == TlsStep::end || step == TlsStep::failed)
      return TlsStep::done;
    if (is_patient() && (socket_waits_ || step == TlsStep::wait_writable))
      return step;
  }
}

bool TlsChannel::is_patient() {
  if (barren_ <= kMostBarren)
    return true;
  has_failed_ = true;
  code_ = Errc::tls;
  reason_ = "records without data";
  return false;
}

TlsStep TlsChannel::write(const char* bytes, std::size_t size, std::size_t& taken) {
  if (has_failed_ || !is_open_)
    return TlsStep::failed;
  ERR_clear_error();
  return judge(SSL_write_ex(ssl_, bytes, size, &taken));
}

void TlsChannel::say_end() {
  if (!is_open_ || has_failed_ || socket_error_ != 0)
    return;
  ERR_clear_error();
  SSL_shutdown(ssl_);
  ERR_clear_error();
}

TlsStep TlsChannel::judge(int result) {
  const int error = SSL_get_error(ssl_, result);
  switch (error) {
    case SSL_ERROR_NONE:
      return TlsStep::done;
    case SSL_ERROR_WANT_READ:
      return TlsStep::wait_readable;
    case SSL_ERROR_WANT_WRITE:
      return TlsStep::wait_writable;
    case SSL_ERROR_ZERO_RETURN:
      return TlsStep::end;
    default:
      return fail();
  }
}

TlsStep TlsChannel::fail() {
  has_failed_ = true;
  if (socket_error_ != 0) {
    code_ = boost::system::error_code(socket_error_, boost::system::system_category());
    reason_ = is_open_ ? "under TLS" : "during the handshake";
  } else if (socket_ended_) {
    code_ = Errc::truncated;
    reason_ = is_open_ ? "no close_notify" : "during the handshake";
  } else {
    code_ = must_verify_ && SSL_get_verify_result(ssl_) != X509_V_OK ? Errc::untrusted : Errc::tls;
    reason_ = tls_reason();
  }
  ERR_clear_error();
  return !is_open_ && socket_ended_ ? TlsStep::end : TlsStep::failed;
}

void TlsChannel::learn() {
  if (!server_name_.empty())
    facts_.sni = server_name_;
  if (is_open_) {
    const SSL_CIPHER* cipher = SSL_get_current_cipher(ssl_);
    facts_.protocol = SSL_get_version(ssl_);
    facts_.cipher = SSL_CIPHER_standard_name(cipher);
    facts_.bits = SSL_CIPHER_get_bits(cipher, nullptr);
    facts_.resumed = SSL_session_reused(ssl_) == 1;
    if (const char* group =
            SSL_group_to_name(ssl_, static_cast<int>(SSL_get_negotiated_group(ssl_))))
      facts_.group = group;
    const unsigned char* alpn = nullptr;
    unsigned size = 0;
    SSL_get0_alpn_selected(ssl_, &alpn, &size);
    if (alpn != nullptr)
      facts_.alpn.assign(reinterpret_cast<const char*>(alpn), size);
  }
  learn_peer();
  ERR_clear_error();
}

void TlsChannel::learn_peer() {
  const long verdict = SSL_get_verify_result(ssl_);
  const X509* certificate = SSL_get0_peer_certificate(ssl_);
  if (certificate == nullptr && verdict == X509_V_OK)
    return;
  facts_.peer = TlsFacts::Peer::unverified;
  facts_.verify_code = static_cast<int>(verdict);
  if (verdict != X509_V_OK)
    facts_.verify_reason = X509_verify_cert_error_string(verdict);
  else if (is_open_)
    facts_.peer = TlsFacts::Peer::verified;
  if (certificate != nullptr) {
    facts_.peer_subject = common_name(*certificate).substr(0, 256);
    facts_.fingerprint = certificate_digest(*certificate);
    facts_.public_key = public_key_digest(*certificate);
  }
  if (must_verify_ && SSL_get0_dane_authority(ssl_, nullptr, nullptr) >= 0) {
    std::uint8_t usage = 0;
    if (SSL_get0_dane_tlsa(ssl_, &usage, nullptr, nullptr, nullptr, nullptr) >= 0)
      facts_.dane_usage = usage;
  }
}

Result<std::string> TlsChannel::binding(ChannelBinding kind) const {
  const Error absent(Errc::unsupported, "bind to the channel");
  if (!is_open_)
    return absent;
  const bool is_new = SSL_version(ssl_) >= TLS1_3_VERSION;
  if (kind == ChannelBinding::server_end_point)
    return end_point_binding();
  // Older handshakes can be made to agree on the same keys with two peers (RFC 7627).
  if (!is_new && SSL_get_extms_support(ssl_) != 1)
    return absent;
  unsigned char room[64];
  std::size_t size = 0;
  if (kind == ChannelBinding::exporter) {
    constexpr std::string_view kLabel = "EXPORTER-Channel-Binding";
    size = 32;
    if (SSL_export_keying_material(ssl_, room, size, kLabel.data(), kLabel.size(), nullptr, 0, 0) !=
        1)
      return absent;
  } else {
    if (is_new)
      return absent;
    // RFC 5929 §3: the first Finished of the handshake, which is the server's when it resumes.
    const bool is_ours = context_->is_server() == (SSL_session_reused(ssl_) == 1);
    size = is_ours ? SSL_get_finished(ssl_, room, sizeof room)
                   : SSL_get_peer_finished(ssl_, room, sizeof room);
  }
  return std::string(reinterpret_cast<const char*>(room), size);
}

Result<std::string> TlsChannel::end_point_binding() const {
  const Error absent(Errc::unsupported, "bind to the server's certificate");
  // A resumed session does not tell which of our certificates began it.
  if (context_->is_server() && SSL_session_reused(ssl_) == 1)
    return absent;
  const X509* certificate =
      context_->is_server() ? SSL_get_certificate(ssl_) : SSL_get0_peer_certificate(ssl_);
  if (certificate == nullptr)
    return absent;
  return binding_digest(*certificate);
}

TlsSession TlsChannel::session() const {
  const SSL_SESSION* current = is_open_ ? SSL_get0_session(ssl_) : nullptr;
  if (current == nullptr || SSL_SESSION_is_resumable(current) != 1)
    return {};
  return TlsSession(copy_without_chain(*current));
}

TlsSession::TlsSession(ssl_session_st* session) {
  if (session != nullptr)
    session_.reset(session, SSL_SESSION_free);
}

}  // namespace postrider
