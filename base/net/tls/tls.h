// What TLS is asked for and what came of it, as data: no OpenSSL, no event loop. The session, the
// policy and the log read these; base/net/tls/stream.h does the work with a
// base/net/tls/tls_context.h.
#pragma once

#include "base/result.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

struct ssl_session_st;

namespace postrider {

// What one end knows of the other after the handshake. Strings of the peer are raw: escape them.
struct TlsFacts {
  enum class Peer : std::uint8_t {
    no_certificate,  // none was asked for, or none was shown
    unverified,      // a certificate that nothing vouches for; verify_reason says why
    verified,        // by PKIX and the name asked for, or by DANE
  };
  std::string protocol;  // "TLSv1.3"
  std::string cipher;    // the name of the IANA registry: "TLS_AES_256_GCM_SHA384"
  int bits = 0;          // of the cipher's key
  std::string group;     // of the key exchange: "x25519"; empty when unknown
  std::string alpn;      // agreed on; empty: none
  std::string sni;       // asked for by the client
  bool resumed = false;
  Peer peer = Peer::no_certificate;
  int verify_code = 0;        // X509_V_ERR_*, 0: nothing wrong
  std::string verify_reason;  // OpenSSL's words for it; empty: nothing wrong
  std::string peer_subject;   // the common name of the certificate, cut to 256 octets
  std::string fingerprint;    // SHA-256 of the peer's certificate, 64 lower-case hex digits
  std::string public_key;     // the same of its SubjectPublicKeyInfo
  int dane_usage = -1;        // of the TLSA record that matched; -1: none
};

// RFC 5929, RFC 9266. `exporter` exists with TLS 1.3, and with 1.2 where the extended master secret
// is used; `unique` with 1.2 only.
enum class ChannelBinding : std::uint8_t { exporter, unique, server_end_point };

// RFC 6698. Only records that were validated by DNSSEC belong here.
struct TlsaRecord {
  std::uint8_t usage = 0;
  std::uint8_t selector = 0;
  std::uint8_t matching = 0;
  std::string data;
};

// A session to resume, of a client; immutable, for any thread. To be offered to the same host under
// the same policy only, and with TLS 1.3 once.
class TlsSession {
 public:
  TlsSession() = default;  // none
  // Takes over the reference.
  explicit TlsSession(ssl_session_st* session);
  explicit operator bool() const { return session_ != nullptr; }
  ssl_session_st* get() const { return session_.get(); }

 private:
  std::shared_ptr<ssl_session_st> session_;
};

struct TlsClientOptions {
  enum class Verify : std::uint8_t {
    none,  // any certificate; the facts still tell whether PKIX would be content with it
    pkix,  // a trusted chain, and one of the names
    dane,  // one of the TLSA records; `names` count for DANE-TA (RFC 7672 §3.2.3)
  };
  std::string server_name;  // SNI; empty: none. For DANE the TLSA base domain
  Verify verify = Verify::none;
  std::vector<std::string> names;  // any of them; "*.example.org" in certificates counts, here not
  std::vector<TlsaRecord> tlsa;    // at least one usable, else Errc::unsupported
  TlsSession session;
};

}  // namespace postrider
