// What the TLS sessions of one listener, or of one outbound policy, have in common: certificates,
// ciphers, ticket keys. Immutable once made and good for every thread; a reload makes a new one and
// sessions under way keep theirs.
#pragma once

#include "base/net/blocking_pool.h"
#include "base/net/tls/outgoing_tls.h"
#include "base/net/tls/tls.h"
#include "base/net/tls/tls_identity.h"
#include "base/net/tls/tls_tickets.h"
#include "base/result.h"

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

struct ssl_ctx_st;
struct ssl_st;

namespace postrider {

enum class TlsVersion : std::uint8_t { tls1_0, tls1_1, tls1_2, tls1_3 };

struct TlsServerSettings {
  std::string name;  // of the listener; a ticket is good only where the name is the same
  // At least one. Without SNI, or for a name that nobody has, the first of each key type is shown.
  std::vector<std::shared_ptr<const TlsIdentity>> identities;
  std::shared_ptr<TlsTicketKeys> tickets;  // null: no tickets
  TlsVersion lowest = TlsVersion::tls1_2;
  bool asks_for_certificate = false;  // of the client; none is still accepted, and any
  BlockingPool* workers = nullptr;    // for handshakes; null: on the loop itself
};

struct TlsClientSettings {
  // PEM file of trusted roots; empty: the system's.
  std::string roots;
  TlsVersion lowest = TlsVersion::tls1_2;
  bool lenient = false;  // small keys and old signatures too: better than clear text
  std::shared_ptr<const TlsIdentity> identity;  // shown when asked for; null: none
  std::string alpn;                             // offered; empty: none
  BlockingPool* workers = nullptr;              // for handshakes; null: on the loop itself
  std::shared_ptr<OutgoingTls> memory;          // null: of the process
};

class TlsContext {
 public:
  static Result<std::shared_ptr<const TlsContext>> server(const TlsServerSettings& settings);
  static Result<std::shared_ptr<const TlsContext>> client(const TlsClientSettings& settings);

  bool is_server() const { return is_server_; }
  BlockingPool* workers() const { return workers_; }
  // Of a client: the books that its sessions are in.
  const std::shared_ptr<OutgoingTls>& memory() const { return memory_; }
  // The context with the certificates for this name; the name may be empty.
  ssl_ctx_st* context_for(std::string_view server_name) const;
  const std::string& name() const { return name_; }

 private:
  friend struct TlsCallbacks;
  struct Free {
    void operator()(ssl_ctx_st* context) const;
  };
  using Handle = std::unique_ptr<ssl_ctx_st, Free>;

  TlsContext() = default;
  Result<void> add_names(const TlsServerSettings& settings);
  Result<ssl_ctx_st*> context_with(const TlsServerSettings& settings,
                                   const std::vector<std::size_t>& identities);

  bool is_server_ = false;
  BlockingPool* workers_ = nullptr;
  std::string name_;
  std::shared_ptr<TlsTicketKeys> tickets_;
  ssl_ctx_st* fallback_ = nullptr;
  std::map<std::vector<std::size_t>, Handle> contexts_;    // by the identities in them
  std::map<std::string, ssl_ctx_st*, std::less<>> names_;  // "a.example", "*.example"
  std::shared_ptr<OutgoingTls> memory_;
};

}  // namespace postrider
