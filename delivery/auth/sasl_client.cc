#include "delivery/auth/sasl_client.h"

#include "base/base64.h"
#include "base/digest.h"
#include "base/saslprep.h"
#include "base/text.h"

#include <algorithm>

namespace postrider::delivery {

namespace {

// More than any server asks for, less than a minute of our time (attacks.md X07).
constexpr std::uint32_t kLeastIterations = 4096;
constexpr std::uint32_t kMostIterations = 2'000'000;

constexpr std::size_t kMostRefusal = 500;  // octets

// Requires can_be_prepared().
Credentials prepared(Credentials credentials) {
  credentials.user = *saslprep(credentials.user);
  credentials.secret = *saslprep(credentials.secret);
  return credentials;
}

// RFC 4616.
class Plain : public SaslClient {
 public:
  explicit Plain(const Credentials& credentials) : credentials_(prepared(credentials)) {}
  const char* mechanism() const override { return "PLAIN"; }
  std::optional<std::string> initial() override {
    std::string message(1, '\0');
    message += credentials_.user;
    message.push_back('\0');
    return message + credentials_.secret;
  }
  // There are servers that do not look at what came with AUTH, and ask, whatever their words.
  Result<std::string> step(std::string_view) override {
    if (std::exchange(asked_, true))
      return malformed("a second challenge in PLAIN");
    return *initial();
  }

 private:
  Credentials credentials_;
  bool asked_ = false;
};

// Two challenges, whatever their words: user, password.
class Login : public SaslClient {
 public:
  explicit Login(const Credentials& credentials) : credentials_(credentials) {}
  const char* mechanism() const override { return "LOGIN"; }
  Result<std::string> step(std::string_view) override {
    switch (step_++) {
      case 0:
        return credentials_.user;
      case 1:
        return credentials_.secret;
      default:
        return malformed("a third challenge in LOGIN");
    }
  }

 private:
  Credentials credentials_;
  int step_ = 0;
};

// RFC 2195.
class CramMd5 : public SaslClient {
 public:
  explicit CramMd5(const Credentials& credentials) : credentials_(credentials) {}
  const char* mechanism() const override { return "CRAM-MD5"; }
  Result<std::string> step(std::string_view challenge) override {
    if (std::exchange(done_, true))
      return malformed("a second challenge in CRAM-MD5");
    return credentials_.user + " " + encode_hex(hmac_md5(credentials_.secret, challenge));
  }

 private:
  Credentials credentials_;
  bool done_ = false;
};

// Google's and Microsoft's form: after a refusal comes a challenge with the reason, answered by
// nothing.
class XOAuth2 : public SaslClient {
 public:
  explicit XOAuth2(const Credentials& credentials) : credentials_(credentials) {}
  const char* mechanism() const override { return "XOAUTH2"; }
  std::optional<std::string> initial() override {
    return "user=" + credentials_.user + "\1auth=Bearer " + credentials_.secret + "\1\1";
  }
  Result<std::string> step(std::string_view challenge) override {
    if (std::exchange(failed_, true))
      return malformed("a second challenge in XOAUTH2");
    refusal_ = escaped(challenge, kMostRefusal);
    return std::string();
  }
  bool may_succeed() const override { return !failed_; }
  std::string refusal() const override { return refusal_; }

 private:
  Credentials credentials_;
  std::string refusal_;
  bool failed_ = false;
};

// RFC 7628.
class OAuthBearer : public SaslClient {
 public:
  OAuthBearer(const Credentials& credentials, SaslContext context)
      : credentials_(credentials), context_(std::move(context)) {}
  const char* mechanism() const override { return "OAUTHBEARER"; }
  std::optional<std::string> initial() override {
    return "n,a=" + escape_name(credentials_.user) + ",\1host=" + context_.host +
           "\1port=" + context_.port + "\1auth=Bearer " + credentials_.secret + "\1\1";
  }
  Result<std::string> step(std::string_view challenge) override {
    if (std::exchange(failed_, true))
      return malformed("a second challenge in OAUTHBEARER");
    refusal_ = escaped(challenge, kMostRefusal);
    return std::string("\1");
  }
  bool may_succeed() const override { return !failed_; }
  std::string refusal() const override { return refusal_; }

  // RFC 5801: a saslname.
  static std::string escape_name(std::string_view name) {
    std::string out;
    for (const char c : name) {
      if (c == ',')
        out += "=2C";
      else if (c == '=')
        out += "=3D";
      else
        out.push_back(c);
    }
    return out;
  }

 private:
  Credentials credentials_;
  SaslContext context_;
  std::string refusal_;
  bool failed_ = false;
};

// RFC 5802, RFC 7677; with channel binding SCRAM-SHA-256-PLUS, by tls-exporter (RFC 9266).
//
//   client-first --r,s,i--> client-final (proof) --v--> nothing, and 235 counts
class Scram : public SaslClient {
 public:
  Scram(const Credentials& credentials, SaslContext context, bool plus)
      : credentials_(prepared(credentials)), context_(std::move(context)), plus_(plus) {}
  const char* mechanism() const override { return plus_ ? "SCRAM-SHA-256-PLUS" : "SCRAM-SHA-256"; }
  std::optional<std::string> initial() override { return header() + first_bare(); }
  Result<std::string> step(std::string_view challenge) override {
    switch (step_++) {
      case 0:
        return on_first(challenge);
      case 1:
        return on_final(challenge);
      default:
        return malformed("a third challenge in SCRAM");
    }
  }
  bool may_succeed() const override { return proven_; }

 private:
  // "y": we could have bound the channel, but -PLUS was not in the list; a server that had offered
  // it knows now that somebody has cut it out.
  std::string header() const {
    if (plus_)
      return "p=tls-exporter,,";
    return context_.channel_binding.empty() ? "n,," : "y,,";
  }
  std::string first_bare() const {
    return "n=" + OAuthBearer::escape_name(credentials_.user) + ",r=" + context_.nonce;
  }
  Result<std::string> on_first(std::string_view challenge) {
    const auto parts = split(challenge, ',');
    if (parts.size() < 3 || parts[0].substr(0, 2) != "r=" || parts[1].substr(0, 2) != "s=" ||
        parts[2].substr(0, 2) != "i=")
      return malformed("first SCRAM challenge");
    const auto nonce = parts[0].substr(2);
    if (nonce.size() <= context_.nonce.size() ||
        nonce.substr(0, context_.nonce.size()) != context_.nonce)
      return malformed("nonce of SCRAM challenge");
    const auto salt = decode_base64(parts[1].substr(2));
    const auto iterations = parse_unsigned(parts[2].substr(2));
    if (!salt || salt->empty() || !iterations || *iterations < kLeastIterations ||
        *iterations > kMostIterations)
      return malformed("salt or iterations of SCRAM challenge");
    return prove(challenge, nonce, *salt, static_cast<std::uint32_t>(*iterations));
  }
  std::string prove(std::string_view challenge, std::string_view nonce, const std::string& salt,
                    std::uint32_t iterations) {
    const auto salted = pbkdf2_sha256(credentials_.secret, salt, iterations);
    const auto client_key = hmac_sha256(salted, "Client Key");
    const auto bound = header() + (plus_ ? context_.channel_binding : "");
    const auto without_proof = "c=" + encode_base64(bound) + ",r=" + std::string(nonce);
    const auto message = first_bare() + "," + std::string(challenge) + "," + without_proof;
    auto proof = hmac_sha256(sha256(client_key), message);
    for (std::size_t i = 0; i < proof.size(); ++i)
      proof[i] = static_cast<char>(proof[i] ^ client_key[i]);
    server_signature_ = hmac_sha256(hmac_sha256(salted, "Server Key"), message);
    return without_proof + ",p=" + encode_base64(proof);
  }
  Result<std::string> on_final(std::string_view challenge) {
    const auto signature = split(challenge, ',').front();
    const auto decoded =
        signature.substr(0, 2) == "v=" ? decode_base64(signature.substr(2)) : std::nullopt;
    if (!decoded || decoded->size() != server_signature_.size() ||
        !equal_in_constant_time(*decoded, server_signature_))
      return malformed("the server's proof that it knows the password");
    proven_ = true;
    return std::string();
  }

  Credentials credentials_;
  SaslContext context_;
  bool plus_;
  std::string server_signature_;
  int step_ = 0;
  bool proven_ = false;
};

}  // namespace

bool can_be_prepared(const Credentials& credentials) {
  return saslprep(credentials.user) && saslprep(credentials.secret);
}

std::vector<std::string> mechanisms_for(const Credentials& credentials,
                                        const SaslContext& context) {
  const bool may_show_secret = context.is_private || credentials.allow_clear;
  const auto& wanted = credentials.mechanisms;
  std::vector<std::string> names;
  if (!may_show_secret && wanted.empty())
    return names;
  if (credentials.is_token) {
    if (may_show_secret)
      names = {"OAUTHBEARER", "XOAUTH2"};
  } else {
    const bool has_form = can_be_prepared(credentials);
    if (has_form && !context.channel_binding.empty())
      names.emplace_back("SCRAM-SHA-256-PLUS");
    if (has_form)
      names.emplace_back("SCRAM-SHA-256");
    names.emplace_back("CRAM-MD5");
    if (has_form && may_show_secret)
      names.emplace_back("PLAIN");
    if (may_show_secret)
      names.emplace_back("LOGIN");
  }
  if (!wanted.empty())
    std::erase_if(names, [&](const auto& name) {
      return std::find(wanted.begin(), wanted.end(), name) == wanted.end();
    });
  return names;
}

std::shared_ptr<SaslClient> make_sasl_client(std::string_view mechanism,
                                             const Credentials& credentials, SaslContext context) {
  if (mechanism == "PLAIN")
    return std::make_shared<Plain>(credentials);
  if (mechanism == "LOGIN")
    return std::make_shared<Login>(credentials);
  if (mechanism == "CRAM-MD5")
    return std::make_shared<CramMd5>(credentials);
  if (mechanism == "XOAUTH2")
    return std::make_shared<XOAuth2>(credentials);
  if (mechanism == "OAUTHBEARER")
    return std::make_shared<OAuthBearer>(credentials, std::move(context));
  return std::make_shared<Scram>(credentials, std::move(context),
                                 mechanism == "SCRAM-SHA-256-PLUS");
}

}  // namespace postrider::delivery
