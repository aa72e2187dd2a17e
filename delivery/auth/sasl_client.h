// How we prove to a smarthost who we are: SASL mechanisms, the client's side, without the socket.
// Pure, but that step() of SCRAM takes as long as the server's iterations say: not on a network
// loop.
#pragma once

#include "base/result.h"

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::delivery {

// What a route's credentials come to for one connection.
struct Credentials {
  std::string user;
  std::string secret;                   // a password, or an access token
  bool is_token = false;                // OAuth: OAUTHBEARER, XOAUTH2
  bool is_fresh = false;                // a token that was got just now: another would be no better
  bool allow_clear = false;             // the password may be sent without TLS
  std::vector<std::string> mechanisms;  // upper case; only these. Empty: the strongest offered
};

// What is known of the connection that a mechanism speaks over.
struct SaslContext {
  bool is_private = false;      // under TLS with a verified host, or to this machine
  std::string channel_binding;  // tls-exporter (RFC 9266); empty: none
  std::string nonce;            // fresh for each connection; printable, no comma
  std::string host;             // for OAUTHBEARER
  std::string port;
};

class SaslClient {
 public:
  virtual ~SaslClient() = default;
  virtual const char* mechanism() const = 0;
  // What goes with AUTH; nullopt: the server speaks first.
  virtual std::optional<std::string> initial() { return std::nullopt; }
  // The answer to a challenge, both without base64. An error: the server does not play by the
  // rules, or is not who it should be; cancel.
  virtual Result<std::string> step(std::string_view challenge) = 0;
  // Whether the server may say now that we are in: with SCRAM only after it has proven that it
  // knows the password too (RFC 5802 §3).
  virtual bool may_succeed() const { return true; }
  // What the server gave as the reason of a refusal, escaped: the challenge of RFC 7628 §3.2.2.
  virtual std::string refusal() const { return {}; }
};

// Whether name and password can be had in the form in which PLAIN and SCRAM send them (RFC 4013);
// the other mechanisms send them as they are.
bool can_be_prepared(const Credentials& credentials);
// In order of preference, those that these credentials can use on this connection. Without privacy
// none, unless the credentials allow it or name the mechanism: what SCRAM and CRAM-MD5 show of a
// password is enough to guess at it for as long as one likes.
std::vector<std::string> mechanisms_for(const Credentials& credentials, const SaslContext& context);
// mechanism: one of mechanisms_for().
std::shared_ptr<SaslClient> make_sasl_client(std::string_view mechanism,
                                             const Credentials& credentials, SaslContext context);

}  // namespace postrider::delivery
