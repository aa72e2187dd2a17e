// SASL mechanisms, server side (RFC 4422), without I/O, clock or randomness of their own (pure).
//
// A mechanism takes the client's responses and makes moves: a challenge for the client, a question
// for the authenticator (smtpd/auth/authenticator.h), whose answer comes back by on_answer(), or
// an end. What only the world knows - passwords, keys, tokens - is in the questions; a mechanism
// never decides alone that somebody may log in.
//
//   start() --challenge--> on_response() --ask--> on_answer() --granted | refused--> (over)
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace postrider::smtpd::auth {

inline constexpr std::size_t kMostUserName = 255;   // octets
inline constexpr std::size_t kMostPassword = 1024;  // octets
inline constexpr std::size_t kMostToken = 8192;     // octets

// What RFC 5802 §3 keeps of a password.
struct ScramKeys {
  std::string salt;
  std::uint32_t iterations = 0;
  std::string stored_key;
  std::string server_key;
};

struct Question {
  enum class Kind : std::uint8_t {
    password,     // is `secret` the password of `user`?
    scram_keys,   // the keys of `user`; for one who does not exist, or has none, made-up ones
    proved,       // the client has proved that it is `user`, or `holds` is false: the verdict
    token,        // whose is the token in `secret`? `user`: who it claims to be, or empty
    certificate,  // whose is the client's certificate? `user`: who it claims to be, or empty
    relayed,      // for a server that speaks the mechanism itself: `secret`, its response; `user`:
                  // whom the first one named, or empty
  };
  Kind kind = Kind::password;
  std::string user;
  std::string secret;
  bool holds = false;
};

struct Answer {
  enum class Verdict : std::uint8_t {
    granted,      // to `user`
    refused,      // wrong name, password, token, ...
    go_on,        // scram_keys: here they are; relayed: `challenge` is next
    limited,      // too many tries; nothing was checked
    unavailable,  // cannot be checked now
  };
  Verdict verdict = Verdict::unavailable;
  std::string user;       // as the program knows it from now on
  std::string challenge;  // relayed: the next, or data that goes with success
  ScramKeys keys;
};

struct Move {
  enum class Kind : std::uint8_t {
    challenge,  // `bytes` to the client; its answer to on_response()
    ask,        // `question` to the authenticator; its answer to on_answer()
    granted,    // to `user`
    refused,
    limited,
    unavailable,
    malformed,  // the client does not speak the mechanism
  };
  Kind kind = Kind::malformed;
  std::string bytes;
  Question question;
  std::string user;

  static Move challenge(std::string bytes);
  static Move ask(Question question);
  static Move granted(std::string user);
  static Move end(Kind kind);
  // The end that a verdict means, where it is one.
  static Move of(const Answer& answer);
};

class Mechanism {
 public:
  virtual ~Mechanism() = default;
  // The client has sent no initial response. Most mechanisms then ask for it with an empty
  // challenge (RFC 4422 §3).
  virtual Move start() { return Move::challenge({}); }
  // response: decoded, any octets, at most 9 KiB.
  virtual Move on_response(std::string_view response) = 0;
  virtual Move on_answer(const Answer& answer) { return Move::of(answer); }
};

// What the channel below offers for channel bindings; empty: none of that kind.
struct Bindings {
  bool offered = false;          // a -PLUS mechanism was advertised on this connection
  std::string tls_exporter;      // RFC 9266
  std::string server_end_point;  // RFC 5929 §4
};

std::unique_ptr<Mechanism> make_plain();     // RFC 4616
std::unique_ptr<Mechanism> make_login();     // draft-murchison-sasl-login
std::unique_ptr<Mechanism> make_external();  // RFC 4422 appendix A
// RFC 5802 and 7677. nonce: ours, printable without commas, fresh for every exchange.
std::unique_ptr<Mechanism> make_scram_sha256(bool plus, Bindings bindings, std::string nonce);
std::unique_ptr<Mechanism> make_oauthbearer();  // RFC 7628
std::unique_ptr<Mechanism> make_xoauth2();      // Google's, which Microsoft speaks too
// The responses and challenges go through (Dovecot); only whom the first one names is read. name:
// one of a mechanism in which the client speaks first.
std::unique_ptr<Mechanism> make_relayed(std::string_view name);
// Whom the first message of SCRAM, OAUTHBEARER or XOAUTH2 names; empty: nobody, which OAUTHBEARER
// allows. Nothing: it is none.
std::optional<std::string> user_of_scram(std::string_view message);
std::optional<std::string> user_of_oauthbearer(std::string_view message);
std::optional<std::string> user_of_xoauth2(std::string_view message);

}  // namespace postrider::smtpd::auth
