#include "bench/connection_loop.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <cstdio>
#include <cstdlib>

namespace postrider::bench {

namespace {

[[noreturn]] void give_up() {
  ERR_print_errors_fp(stderr);
  std::fprintf(stderr, "TLS cannot be set up\n");
  std::exit(70);
}

// An ECDSA certificate of a day, as a receiver's usually is.
void use_own_certificate(SSL_CTX* context) {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* certificate = X509_new();
  if (key == nullptr || certificate == nullptr)
    give_up();
  X509_set_version(certificate, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
  X509_gmtime_adj(X509_getm_notAfter(certificate), 86400);
  X509_set_pubkey(certificate, key);
  X509_NAME* name = X509_get_subject_name(certificate);
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>("sink.bench.example"), -1, -1,
                             0);
  X509_set_issuer_name(certificate, name);
  if (X509_sign(certificate, key, EVP_sha256()) == 0 ||
      SSL_CTX_use_certificate(context, certificate) != 1 ||
      SSL_CTX_use_PrivateKey(context, key) != 1)
    give_up();
  X509_free(certificate);
  EVP_PKEY_free(key);
}

void set_modes(SSL_CTX* context) {
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_read_ahead(context, 1);
}

}  // namespace

ssl_ctx_st* Tls::client_context(const std::string& version) {
  SSL_CTX* context = SSL_CTX_new(TLS_client_method());
  if (context == nullptr)
    give_up();
  set_modes(context);
  SSL_CTX_set_verify(context, SSL_VERIFY_NONE, nullptr);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  const int number = version == "1.2" ? TLS1_2_VERSION : version == "1.3" ? TLS1_3_VERSION : 0;
  if (number != 0) {
    SSL_CTX_set_min_proto_version(context, number);
    SSL_CTX_set_max_proto_version(context, number);
  }
  return context;
}

ssl_ctx_st* Tls::server_context() {
  SSL_CTX* context = SSL_CTX_new(TLS_server_method());
  if (context == nullptr)
    give_up();
  set_modes(context);
  use_own_certificate(context);
  return context;
}

void Tls::begin(ssl_ctx_st* context, int fd, bool as_server) {
  end();
  ssl_ = SSL_new(context);
  if (ssl_ == nullptr || SSL_set_fd(ssl_, fd) != 1)
    give_up();
  if (as_server)
    SSL_set_accept_state(ssl_);
  else
    SSL_set_connect_state(ssl_);
  if (kept_ != nullptr && SSL_set_session(ssl_, kept_) != 1)
    give_up();
}

Tls::~Tls() {
  end();
  SSL_SESSION_free(kept_);
}

void Tls::keep_session() {
  SSL_SESSION_free(kept_);
  kept_ = SSL_get1_session(ssl_);
}

bool Tls::is_resumed() const {
  return SSL_session_reused(ssl_) == 1;
}

void Tls::end() {
  if (ssl_ != nullptr)  // or the session would not be resumed again
    SSL_set_shutdown(ssl_, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
  SSL_free(ssl_);
  ssl_ = nullptr;
  open_ = false;
}

Tls::Step Tls::judge(int result) {
  switch (SSL_get_error(ssl_, result)) {
    case SSL_ERROR_NONE:
      return Step::done;
    case SSL_ERROR_WANT_READ:
      return Step::wait_read;
    case SSL_ERROR_WANT_WRITE:
      return Step::wait_write;
    default:
      return Step::broken;
  }
}

Tls::Step Tls::handshake() {
  ERR_clear_error();
  const auto step = judge(SSL_do_handshake(ssl_));
  open_ = step == Step::done;
  return step;
}

Tls::Step Tls::receive(char* room, std::size_t size, std::size_t& got) {
  ERR_clear_error();
  return judge(SSL_read_ex(ssl_, room, size, &got));
}

bool Tls::send_some(std::string_view bytes, std::size_t& sent) {
  while (sent < bytes.size()) {
    ERR_clear_error();
    std::size_t taken = 0;
    const auto step = judge(SSL_write_ex(ssl_, bytes.data() + sent, bytes.size() - sent, &taken));
    if (step != Step::done)
      return step != Step::broken;
    sent += taken;
  }
  return true;
}

}  // namespace postrider::bench
