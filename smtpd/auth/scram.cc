// SCRAM-SHA-256 and -PLUS, server side (RFC 5802, 7677, 9266).
#include "base/base64.h"
#include "base/digest.h"
#include "base/text.h"
#include "smtpd/auth/sasl.h"

namespace postrider::smtpd::auth {

namespace {

constexpr std::size_t kMostMessage = 4096;  // octets of a client's message
constexpr std::size_t kMostNonce = 512;

// "n=", "r=", ... in the order of the grammar; an unknown one is skipped where it may stand.
std::optional<std::string_view> take_attribute(std::string_view& rest, char name) {
  if (rest.size() < 2 || rest[0] != name || rest[1] != '=')
    return std::nullopt;
  const auto end = rest.find(',');
  const auto value = rest.substr(2, end == std::string_view::npos ? end : end - 2);
  rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
  return value;
}

// RFC 5802 §5.1: "=2C" is a comma, "=3D" an equals sign; a lone one is an error.
std::optional<std::string> decode_saslname(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '=') {
      out.push_back(text[i]);
      continue;
    }
    const auto code = text.substr(i, 3);
    if (code != "=2C" && code != "=3D")
      return std::nullopt;
    out.push_back(code == "=2C" ? ',' : '=');
    i += 2;
  }
  if (out.empty() || out.size() > kMostUserName || out.find('\0') != std::string::npos ||
      !is_utf8(out))
    return std::nullopt;
  return out;
}

bool is_nonce(std::string_view text) {
  if (text.empty() || text.size() > kMostNonce)
    return false;
  for (const char c : text)
    if (c < '!' || c > '~' || c == ',')
      return false;
  return true;
}

std::string exclusive_or(std::string_view a, std::string_view b) {
  std::string out(a);
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = static_cast<char>(out[i] ^ b[i]);
  return out;
}

class Scram : public Mechanism {
 public:
  Scram(bool plus, Bindings bindings, std::string nonce)
      : plus_(plus), bindings_(std::move(bindings)), nonce_(std::move(nonce)) {}

  Move on_response(std::string_view response) override {
    if (response.size() > kMostMessage)
      return Move::end(Move::Kind::malformed);
    switch (state_) {
      case State::first:
        return on_first(response);
      case State::final:
        return on_final(response);
      case State::done:
        return response.empty() ? Move::granted(user_) : Move::end(Move::Kind::malformed);
    }
    return Move::end(Move::Kind::malformed);
  }
  Move on_answer(const Answer& answer) override;

 private:
  enum class State : std::uint8_t { first, final, done };

  Move on_first(std::string_view message);
  Move on_final(std::string_view message);
  bool read_gs2_header(std::string_view& rest);
  bool is_proof(std::string_view proof, std::string_view auth_message) const;

  const bool plus_;
  const Bindings bindings_;
  std::string nonce_;  // ours; then the client's and ours
  State state_ = State::first;
  std::string user_;
  std::string gs2_header_;
  std::string binding_data_;
  std::string first_bare_;
  std::string server_first_;
  std::string server_final_;
  ScramKeys keys_;
};

// gs2-header = "n" / "y" / "p=" cb-name, "," [ "a=" saslname ] ","
bool Scram::read_gs2_header(std::string_view& rest) {
  const auto whole = rest;
  const auto comma = rest.find(',');
  if (comma == std::string_view::npos)
    return false;
  const auto flag = rest.substr(0, comma);
  rest.remove_prefix(comma + 1);
  if (plus_) {
    if (flag == "p=tls-exporter")
      binding_data_ = bindings_.tls_exporter;
    else if (flag == "p=tls-server-end-point")
      binding_data_ = bindings_.server_end_point;
    if (binding_data_.empty())
      return false;
  } else if (flag != "n" && (flag != "y" || bindings_.offered)) {
    return false;  // "y": it saw no -PLUS, which we did offer: somebody took it away
  }
  const auto end = rest.find(',');
  if (end == std::string_view::npos || (end > 0 && !rest.starts_with("a=")))
    return false;
  const auto authorization = end > 0 ? rest.substr(2, end - 2) : std::string_view();
  rest.remove_prefix(end + 1);
  gs2_header_ = whole.substr(0, whole.size() - rest.size());
  if (authorization.empty())
    return end == 0;
  const auto name = decode_saslname(authorization);
  if (!name)
    return false;
  user_ = *name;  // to be compared with the user's name
  return true;
}

Move Scram::on_first(std::string_view message) {
  auto rest = message;
  if (!read_gs2_header(rest))
    return Move::end(Move::Kind::malformed);
  first_bare_ = rest;
  const auto name = take_attribute(rest, 'n');  // "m=" is a mandatory extension we do not know
  const auto nonce = name ? take_attribute(rest, 'r') : std::nullopt;
  if (!nonce || !is_nonce(*nonce))
    return Move::end(Move::Kind::malformed);
  const auto user = decode_saslname(*name);
  if (!user)
    return Move::end(Move::Kind::malformed);
  if (!user_.empty() && user_ != *user)
    return Move::end(Move::Kind::refused);
  user_ = *user;
  nonce_.insert(0, *nonce);
  Question question;
  question.kind = Question::Kind::scram_keys;
  question.user = user_;
  return Move::ask(std::move(question));
}

Move Scram::on_answer(const Answer& answer) {
  if (state_ == State::first && answer.verdict == Answer::Verdict::go_on) {
    keys_ = answer.keys;
    server_first_ = "r=" + nonce_ + ",s=" + encode_base64(keys_.salt) +
                    ",i=" + std::to_string(keys_.iterations);
    state_ = State::final;
    return Move::challenge(server_first_);
  }
  if (state_ == State::final && answer.verdict == Answer::Verdict::granted) {
    user_ = answer.user;
    state_ = State::done;
    return Move::challenge(server_final_);
  }
  return Move::of(answer);
}

// client-final-message = "c=" base64 "," "r=" nonce ["," extensions] "," "p=" base64
Move Scram::on_final(std::string_view message) {
  const auto proof_at = message.rfind(",p=");
  auto rest = message;
  const auto binding = take_attribute(rest, 'c');
  const auto nonce = binding ? take_attribute(rest, 'r') : std::nullopt;
  if (!nonce || proof_at == std::string_view::npos)
    return Move::end(Move::Kind::malformed);
  const auto proof = decode_base64(message.substr(proof_at + 3));
  if (!proof || proof->size() != keys_.stored_key.size())
    return Move::end(Move::Kind::malformed);
  const auto auth_message =
      first_bare_ + "," + server_first_ + "," + std::string(message.substr(0, proof_at));
  Question question;
  question.kind = Question::Kind::proved;
  question.user = user_;
  question.secret = *proof;
  question.holds = is_proof(*proof, auth_message) && equal_in_constant_time(*nonce, nonce_) &&
                   equal_in_constant_time(*binding, encode_base64(gs2_header_ + binding_data_));
  server_final_ = "v=" + encode_base64(hmac_sha256(keys_.server_key, auth_message));
  return Move::ask(std::move(question));
}

bool Scram::is_proof(std::string_view proof, std::string_view auth_message) const {
  const auto signature = hmac_sha256(keys_.stored_key, auth_message);
  const auto client_key = exclusive_or(proof, signature);
  return equal_in_constant_time(sha256(client_key), keys_.stored_key);
}

}  // namespace

// gs2-header "n=" saslname ... (RFC 5802 §7)
std::optional<std::string> user_of_scram(std::string_view message) {
  if (message.size() > kMostMessage)
    return std::nullopt;
  const auto flag = message.find(',');
  const auto end = flag == std::string_view::npos ? flag : message.find(',', flag + 1);
  if (end == std::string_view::npos)
    return std::nullopt;
  auto rest = message.substr(end + 1);
  const auto name = take_attribute(rest, 'n');
  return name ? decode_saslname(*name) : std::nullopt;
}

std::unique_ptr<Mechanism> make_scram_sha256(bool plus, Bindings bindings, std::string nonce) {
  return std::make_unique<Scram>(plus, std::move(bindings), std::move(nonce));
}

}  // namespace postrider::smtpd::auth
