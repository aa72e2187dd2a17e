// Dovecot's auth client protocol, version 1 (pure): lines of fields with tabs between them, text
// in fields escaped with \001.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace postrider::smtpd::auth {

struct DovecotReply {
  enum class Kind { granted, refused, unavailable, go_on, other } kind = Kind::other;
  std::string user;  // granted: as Dovecot knows the user; refused: whom it looked up
  std::string data;  // go_on: the challenge, decoded; granted: what goes with success
};

constexpr std::size_t kMostDovecotLine = 16384;
constexpr std::string_view kDovecotVersion = "VERSION\t1\t1\n";

// line: without its end. Nothing: not of this protocol, or about another request than this.
std::optional<DovecotReply> parse_dovecot(std::string_view line, unsigned id = 1);
// Whether a line would be a reply, were it right.
bool is_dovecot_reply(std::string_view line);
// Whether a line of the greeting is its last, and whether we speak the version of "VERSION".
bool is_dovecot_done(std::string_view line);
bool is_dovecot_version(std::string_view line);

struct DovecotRequest {
  unsigned id = 1;
  std::string mechanism;
  std::string client;  // address; may be empty
  bool is_private = true;
  bool is_without_penalty = false;  // Dovecot's delay for addresses that have failed before
  std::optional<std::string> initial;
};
std::string format_dovecot(const DovecotRequest& request);
// name: for the first message of SCRAM (RFC 5802 §5.1, saslname)
std::string escape_sasl_name(std::string_view name);
std::string format_dovecot_continuation(std::string_view response);

}  // namespace postrider::smtpd::auth
