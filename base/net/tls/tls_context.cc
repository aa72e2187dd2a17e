#include "base/net/tls/tls_context.h"

#include "base/net/tls/tls_channel.h"
#include "base/net/tls/tls_openssl.h"
#include "base/text.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <sys/stat.h>

namespace postrider {

namespace {

// OpenSSL opens it by its name, and would wait at a pipe for who writes into it.
Result<void> check_roots(const std::string& path) {
  struct stat found {};
  if (::stat(path.c_str(), &found) != 0)
    return system_error("read trusted roots " + path);
  if (!S_ISREG(found.st_mode))
    return Error(Errc::refused, "read trusted roots " + path + ": it is no regular file");
  return {};
}

// Mozilla's "intermediate" list without finite-field DHE, which costs much and is needed by nobody.
constexpr const char* kCiphers =
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";
// None of finite fields: a client can make us work hard for them.
constexpr const char* kGroups = "X25519:P-256:P-384";
constexpr std::string_view kAlpn = "smtp";
constexpr long kMostCertificates = 64 << 10;  // octets of a peer's chain (attacks.md T18)
// Of a client's, of which the first alone counts, and which is kept as long as its session.
constexpr long kMostOfClient = 16 << 10;

int number_of(TlsVersion version) {
  switch (version) {
    case TlsVersion::tls1_0:
      return TLS1_VERSION;
    case TlsVersion::tls1_1:
      return TLS1_1_VERSION;
    case TlsVersion::tls1_2:
      return TLS1_2_VERSION;
    case TlsVersion::tls1_3:
      return TLS1_3_VERSION;
  }
  return TLS1_2_VERSION;
}

void set_common(SSL_CTX* context, TlsVersion lowest) {
  SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_min_proto_version(context, number_of(lowest));
  // Buffers are given back between records; read ahead, or each record takes two system calls;
  // a record without data returns, so that it can be counted.
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_clear_mode(context, SSL_MODE_AUTO_RETRY);
  SSL_CTX_set_read_ahead(context, 1);
  SSL_CTX_set_max_cert_list(context, kMostCertificates);
}

bool use_identity(SSL_CTX* context, const TlsIdentity& identity) {
  if (SSL_CTX_use_certificate(context, identity.certificate()) != 1 ||
      SSL_CTX_use_PrivateKey(context, identity.key()) != 1)
    return false;
  for (std::size_t i = 1; i < identity.chain().size(); ++i)
    if (SSL_CTX_add1_chain_cert(context, identity.chain()[i].get()) != 1)
      return false;
  return true;
}

TlsContext* context_of(SSL* ssl) {
  return static_cast<TlsContext*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
}

// RFC 6066 §3: one name, of type host_name. Empty: none, or not well formed.
std::string server_name_of(SSL* ssl) {
  const unsigned char* body = nullptr;
  std::size_t size = 0;
  if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &body, &size) != 1 || size < 6)
    return {};
  const std::size_t list = (std::size_t{body[0]} << 8U) + body[1];
  const std::size_t name = (std::size_t{body[3]} << 8U) + body[4];
  if (list + 2 != size || body[2] != TLSEXT_NAMETYPE_host_name || name + 5 != size ||
      name > TLSEXT_MAXLEN_host_name)
    return {};
  auto text = ascii_lower(std::string_view(reinterpret_cast<const char*>(body) + 5, name));
  if (text.ends_with('.'))
    text.pop_back();
  return text;
}

// What a ticket is bound to: the listener and the name asked for (attacks.md T16).
bool set_scope(SSL* ssl, const std::string& listener, const std::string& server_name) {
  const auto scope = listener + '\n' + server_name;
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  return EVP_Digest(scope.data(), scope.size(), digest, &size, EVP_sha256(), nullptr) == 1 &&
         SSL_set_session_id_context(ssl, digest, size) == 1;
}

int choose_alpn(SSL*, const unsigned char** out, unsigned char* out_size, const unsigned char* in,
                unsigned size, void*) {
  for (unsigned at = 0; at < size && at + 1 + in[at] <= size; at += 1U + in[at]) {
    if (std::string_view(reinterpret_cast<const char*>(in) + at + 1, in[at]) != kAlpn)
      continue;
    *out = in + at + 1;
    *out_size = in[at];
    return SSL_TLSEXT_ERR_OK;
  }
  return SSL_TLSEXT_ERR_ALERT_FATAL;
}

// Whoever shows a certificate is known by its fingerprint, so no chain is built.
int take_any_certificate(X509_STORE_CTX* store, void*) {
  X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_UNTRUSTED);
  return 1;
}

bool prepare_ticket(EVP_CIPHER_CTX* cipher, EVP_MAC_CTX* mac, const TlsTicketKeys::Key& key,
                    unsigned char* iv, bool seals) {
  char digest[] = "SHA256";
  auto secret = key.mac;
  OSSL_PARAM parameters[] = {
      OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, secret.data(), secret.size()),
      OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
      OSSL_PARAM_construct_end()};
  const bool ready = EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), nullptr, key.cipher.data(), iv,
                                       seals ? 1 : 0) == 1 &&
                     EVP_MAC_CTX_set_params(mac, parameters) == 1;
  OPENSSL_cleanse(secret.data(), secret.size());
  return ready;
}

}  // namespace

struct TlsCallbacks {
  static int hello(SSL* ssl, int* alert, void*) {
    auto& channel = *static_cast<TlsChannel*>(SSL_get_app_data(ssl));
    channel.server_name_ = server_name_of(ssl);
    const auto& context = *channel.context_;
    SSL_CTX* wanted = context.context_for(channel.server_name_);
    if (wanted != SSL_get_SSL_CTX(ssl))
      SSL_set_SSL_CTX(ssl, wanted);
    if (set_scope(ssl, context.name(), channel.server_name_))
      return SSL_CLIENT_HELLO_SUCCESS;
    *alert = SSL_AD_INTERNAL_ERROR;
    return SSL_CLIENT_HELLO_ERROR;
  }

  static int ticket(SSL* ssl, unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher,
                    EVP_MAC_CTX* mac, int seals) {
    auto& tickets = *context_of(ssl)->tickets_;
    if (seals == 1) {
      const auto key = tickets.current();
      if (!key || RAND_bytes(iv, EVP_MAX_IV_LENGTH) != 1)
        return -1;
      std::copy(key->name.begin(), key->name.end(), name);
      return prepare_ticket(cipher, mac, *key, iv, true) ? 1 : -1;
    }
    const auto found = tickets.find(name);
    if (!found)
      return 0;
    if (!prepare_ticket(cipher, mac, found->key, iv, false))
      return -1;
    // RFC 8446 §C.4: each ticket once; so each connection gets a new one.
    return found->is_current && SSL_version(ssl) < TLS1_3_VERSION ? 1 : 2;
  }
};

void TlsContext::Free::operator()(ssl_ctx_st* context) const {
  SSL_CTX_free(context);
}

ssl_ctx_st* TlsContext::context_for(std::string_view server_name) const {
  if (names_.empty() || server_name.empty())
    return fallback_;
  if (const auto exact = names_.find(server_name); exact != names_.end())
    return exact->second;
  const auto dot = server_name.find('.');
  if (dot != std::string_view::npos) {
    const auto star = names_.find("*" + std::string(server_name.substr(dot)));
    if (star != names_.end())
      return star->second;
  }
  return fallback_;
}

Result<std::shared_ptr<const TlsContext>> TlsContext::server(const TlsServerSettings& settings) {
  if (settings.identities.empty())
    return Error(Errc::not_found, "no certificate");
  const std::shared_ptr<TlsContext> made(new TlsContext);
  made->is_server_ = true;
  made->workers_ = settings.workers;
  made->name_ = settings.name;
  made->tickets_ = settings.tickets;
  if (auto added = made->add_names(settings); !added)
    return added.error();
  return std::shared_ptr<const TlsContext>(made);
}

// The first identity of each key type among those that `fits` approves of.
template <class Fits>
static std::vector<std::size_t> first_of_each_type(
    const std::vector<std::shared_ptr<const TlsIdentity>>& identities, Fits fits) {
  std::vector<std::size_t> chosen;
  std::set<std::string> types;
  for (std::size_t i = 0; i < identities.size(); ++i)
    if (fits(*identities[i]) && types.insert(identities[i]->key_type()).second)
      chosen.push_back(i);
  return chosen;
}

Result<void> TlsContext::add_names(const TlsServerSettings& settings) {
  const auto& all = settings.identities;
  const auto any = first_of_each_type(all, [](const TlsIdentity&) { return true; });
  auto fallback = context_with(settings, any);
  if (!fallback)
    return fallback.error();
  fallback_ = *fallback;
  for (const auto& identity : all)
    for (const auto& name : identity->names()) {
      if (names_.contains(name))
        continue;
      const auto fitting =
          first_of_each_type(all, [&](const TlsIdentity& one) { return one.is_for(name); });
      auto context = context_with(settings, fitting);
      if (!context)
        return context.error();
      names_.emplace(name, *context);
    }
  return {};
}

Result<ssl_ctx_st*> TlsContext::context_with(const TlsServerSettings& settings,
                                             const std::vector<std::size_t>& identities) {
  auto& place = contexts_[identities];
  if (place)
    return place.get();
  ERR_clear_error();
  Handle context(SSL_CTX_new(TLS_server_method()));
  if (!context)
    return tls_error("make TLS context");
  set_common(context.get(), settings.lowest);
  SSL_CTX_set_options(context.get(), SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
  if (settings.lowest < TlsVersion::tls1_2)
    SSL_CTX_set_security_level(context.get(), 0);
  else if (SSL_CTX_set_cipher_list(context.get(), kCiphers) != 1)
    return tls_error("set ciphers");
  for (const auto index : identities)
    if (!use_identity(context.get(), *settings.identities[index]))
      return tls_error("use certificate of " + settings.identities[index]->names().front());
  if (SSL_CTX_set1_groups_list(context.get(), kGroups) != 1)
    return tls_error("set groups");
  SSL_CTX_set_app_data(context.get(), this);
  SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
  SSL_CTX_set_client_hello_cb(context.get(), TlsCallbacks::hello, nullptr);
  SSL_CTX_set_alpn_select_cb(context.get(), choose_alpn, nullptr);
  if (settings.asks_for_certificate) {
    SSL_CTX_set_max_cert_list(context.get(), kMostOfClient);
    SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
    SSL_CTX_set_cert_verify_callback(context.get(), take_any_certificate, nullptr);
  }
  if (settings.tickets) {
    const auto life = std::chrono::duration_cast<std::chrono::seconds>(settings.tickets->period());
    SSL_CTX_set_timeout(context.get(), static_cast<long>(life.count()));
    SSL_CTX_set_num_tickets(context.get(), 1);
    SSL_CTX_set_tlsext_ticket_key_evp_cb(context.get(), TlsCallbacks::ticket);
  } else {
    SSL_CTX_set_options(context.get(), SSL_OP_NO_TICKET);
    SSL_CTX_set_num_tickets(context.get(), 0);
  }
  place = std::move(context);
  return place.get();
}

Result<std::shared_ptr<const TlsContext>> TlsContext::client(const TlsClientSettings& settings) {
  ERR_clear_error();
  const std::shared_ptr<TlsContext> made(new TlsContext);
  Handle context(SSL_CTX_new(TLS_client_method()));
  if (!context)
    return tls_error("make TLS context");
  set_common(context.get(), settings.lowest);
  if (settings.lenient)
    SSL_CTX_set_security_level(context.get(), settings.lowest < TlsVersion::tls1_2 ? 0 : 1);
  if (!settings.roots.empty())
    if (auto fit = check_roots(settings.roots); !fit)
      return fit.error();
  if (settings.roots.empty())
    SSL_CTX_set_default_verify_paths(context.get());
  else if (SSL_CTX_load_verify_file(context.get(), settings.roots.c_str()) != 1)
    return tls_error("load trusted roots " + settings.roots);
  if (SSL_CTX_dane_enable(context.get()) != 1)
    return tls_error("enable DANE");
  if (settings.identity && !use_identity(context.get(), *settings.identity))
    return tls_error("use client certificate");
  if (!settings.alpn.empty()) {
    const auto wire = static_cast<char>(settings.alpn.size()) + settings.alpn;
    SSL_CTX_set_alpn_protos(context.get(), reinterpret_cast<const unsigned char*>(wire.data()),
                            static_cast<unsigned>(wire.size()));
  }
  made->workers_ = settings.workers;
  made->memory_ = settings.memory ? settings.memory : OutgoingTls::of_process();
  made->fallback_ = context.get();
  made->contexts_.emplace(std::vector<std::size_t>{}, std::move(context));
  return std::shared_ptr<const TlsContext>(made);
}

}  // namespace postrider
