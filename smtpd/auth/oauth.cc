// OAUTHBEARER (RFC 7628) and XOAUTH2: the client shows a token (RFC 6750); whose it is, the
// authenticator finds out. A refusal is a challenge with JSON, which the client must answer before
// it hears 535.
#include "base/text.h"
#include "smtpd/auth/sasl.h"

namespace postrider::smtpd::auth {

namespace {

constexpr char kSeparator = '\x01';
constexpr std::string_view kBearer = "Bearer ";

// RFC 6750 §2.1: b64token
bool is_token(std::string_view text) {
  if (text.empty() || text.size() > kMostToken)
    return false;
  for (const char c : text) {
    const bool is_letter =
        (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z') || (c >= '0' && c <= '9');
    if (!is_letter && std::string_view("-._~+/=").find(c) == std::string_view::npos)
      return false;
  }
  return true;
}

class Bearer : public Mechanism {
 public:
  Move on_response(std::string_view response) override {
    if (refused_)  // whatever it says (RFC 7628 §3.2.3)
      return Move::end(Move::Kind::refused);
    Question question;
    question.kind = Question::Kind::token;
    if (!read(response, question))
      return Move::end(Move::Kind::malformed);
    return Move::ask(std::move(question));
  }
  Move on_answer(const Answer& answer) override {
    if (answer.verdict != Answer::Verdict::refused)
      return Move::of(answer);
    refused_ = true;
    return Move::challenge(refusal());
  }

 protected:
  virtual bool read(std::string_view response, Question& question) const = 0;
  virtual std::string refusal() const = 0;

  // "key=value" fields, each with its separator behind it, and one more at the end.
  static bool read_fields(std::string_view rest, Question& question) {
    while (!rest.empty() && rest.front() != kSeparator) {
      const auto end = rest.find(kSeparator);
      if (end == std::string_view::npos)
        return false;
      const auto field = rest.substr(0, end);
      rest.remove_prefix(end + 1);
      if (!starts_with_ignoring_case(field, "auth="))
        continue;
      const auto value = field.substr(5);
      if (!question.secret.empty() || !starts_with_ignoring_case(value, kBearer))
        return false;
      question.secret = trim(value.substr(kBearer.size()));
    }
    return rest.size() == 1 && is_token(question.secret);
  }

 private:
  bool refused_ = false;
};

// A saslname (RFC 5801 §4).
bool read_name(std::string_view text, std::string& name) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text.substr(i, 3) == "=2C" || text.substr(i, 3) == "=3D") {
      name.push_back(text[i + 2] == 'C' ? ',' : '=');
      i += 2;
    } else if (text[i] == '=' || text[i] == ',' || text[i] == '\0') {
      return false;
    } else {
      name.push_back(text[i]);
    }
  }
  return !name.empty() && name.size() <= kMostUserName && is_utf8(name);
}

class OauthBearer : public Bearer {
  // gs2-header kvsep *kvpair kvsep
  bool read(std::string_view response, Question& question) const override {
    const auto user = user_of_oauthbearer(response);
    question.user = user.value_or("");
    return user && read_fields(response.substr(response.find(kSeparator) + 1), question);
  }
  std::string refusal() const override { return R"({"status":"invalid_token"})"; }
};

class Xoauth2 : public Bearer {
  // "user=" name kvsep "auth=Bearer " token kvsep kvsep
  bool read(std::string_view response, Question& question) const override {
    const auto user = user_of_xoauth2(response);
    question.user = user.value_or("");
    return user && read_fields(response.substr(response.find(kSeparator) + 1), question);
  }
  std::string refusal() const override { return R"({"status":"400","schemes":"Bearer"})"; }
};

}  // namespace

std::optional<std::string> user_of_oauthbearer(std::string_view message) {
  auto header = message.substr(0, message.find(kSeparator));
  if (header.size() == message.size())
    return std::nullopt;
  if (!header.starts_with("n,") && !header.starts_with("y,"))  // channel binding: not of ours
    return std::nullopt;
  header.remove_prefix(2);
  if (!header.ends_with(','))
    return std::nullopt;
  header.remove_suffix(1);
  std::string user;
  if (!header.empty() && (!header.starts_with("a=") || !read_name(header.substr(2), user)))
    return std::nullopt;
  return user;
}

std::optional<std::string> user_of_xoauth2(std::string_view message) {
  const auto end = message.find(kSeparator);
  if (end == std::string_view::npos || !starts_with_ignoring_case(message, "user="))
    return std::nullopt;
  const auto user = message.substr(5, end - 5);
  if (user.empty() || user.size() > kMostUserName || user.find('\0') != std::string_view::npos ||
      !is_utf8(user))
    return std::nullopt;
  return std::string(user);
}

std::unique_ptr<Mechanism> make_oauthbearer() {
  return std::make_unique<OauthBearer>();
}

std::unique_ptr<Mechanism> make_xoauth2() {
  return std::make_unique<Xoauth2>();
}

}  // namespace postrider::smtpd::auth
