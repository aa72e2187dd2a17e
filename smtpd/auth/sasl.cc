#include "smtpd/auth/sasl.h"

namespace postrider::smtpd::auth {

Move Move::challenge(std::string bytes) {
  Move move;
  move.kind = Kind::challenge;
  move.bytes = std::move(bytes);
  return move;
}

Move Move::ask(Question question) {
  Move move;
  move.kind = Kind::ask;
  move.question = std::move(question);
  return move;
}

Move Move::granted(std::string user) {
  Move move;
  move.kind = Kind::granted;
  move.user = std::move(user);
  return move;
}

Move Move::end(Kind kind) {
  Move move;
  move.kind = kind;
  return move;
}

Move Move::of(const Answer& answer) {
  switch (answer.verdict) {
    case Answer::Verdict::granted:
      return granted(answer.user);
    case Answer::Verdict::refused:
      return end(Kind::refused);
    case Answer::Verdict::limited:
      return end(Kind::limited);
    case Answer::Verdict::go_on:
    case Answer::Verdict::unavailable:
      break;
  }
  return end(Kind::unavailable);
}

namespace {

// Acting for somebody else is not offered: the authorization identity is empty or the same.
bool is_same_or_empty(std::string_view authorization, std::string_view user) {
  return authorization.empty() || authorization == user;
}

bool is_name(std::string_view text) {
  return !text.empty() && text.size() <= kMostUserName && text.find('\0') == std::string_view::npos;
}

bool is_password(std::string_view text) {
  return !text.empty() && text.size() <= kMostPassword && text.find('\0') == std::string_view::npos;
}

Question password_question(std::string_view user, std::string_view password) {
  Question question;
  question.kind = Question::Kind::password;
  question.user = user;
  question.secret = password;
  return question;
}

class Plain : public Mechanism {
 public:
  Move on_response(std::string_view response) override {
    const auto first = response.find('\0');
    const auto second = first == std::string_view::npos ? first : response.find('\0', first + 1);
    if (second == std::string_view::npos)
      return Move::end(Move::Kind::malformed);
    const auto authorization = response.substr(0, first);
    const auto user = response.substr(first + 1, second - first - 1);
    const auto password = response.substr(second + 1);
    if (!is_name(user) || !is_password(password))
      return Move::end(Move::Kind::malformed);
    if (!is_same_or_empty(authorization, user))
      return Move::end(Move::Kind::refused);
    return Move::ask(password_question(user, password));
  }
};

class Login : public Mechanism {
 public:
  Move start() override { return Move::challenge("Username:"); }
  // Some clients send the name as an initial response.
  Move on_response(std::string_view response) override {
    if (user_.empty()) {
      if (!is_name(response))
        return Move::end(Move::Kind::malformed);
      user_ = response;
      return Move::challenge("Password:");
    }
    if (!is_password(response))
      return Move::end(Move::Kind::malformed);
    return Move::ask(password_question(user_, response));
  }

 private:
  std::string user_;
};

class External : public Mechanism {
 public:
  Move on_response(std::string_view response) override {
    if (!response.empty() && !is_name(response))
      return Move::end(Move::Kind::malformed);
    Question question;
    question.kind = Question::Kind::certificate;
    question.user = response;
    return Move::ask(std::move(question));
  }
};

class Relayed : public Mechanism {
 public:
  explicit Relayed(std::string_view name) : name_(name) {}

  Move on_response(std::string_view response) override {
    if (!granted_.empty())
      return response.empty() ? Move::granted(granted_) : Move::end(Move::Kind::malformed);
    if (!user_)
      user_ = name_ == "OAUTHBEARER" ? user_of_oauthbearer(response)
              : name_ == "XOAUTH2"   ? user_of_xoauth2(response)
                                     : user_of_scram(response);
    if (!user_)
      return Move::end(Move::Kind::malformed);
    Question question;
    question.kind = Question::Kind::relayed;
    question.user = *user_;
    question.secret = response;
    return Move::ask(std::move(question));
  }
  Move on_answer(const Answer& answer) override {
    if (answer.verdict == Answer::Verdict::go_on)
      return Move::challenge(answer.challenge);
    // RFC 4954 §4: 235 carries no data, so a last challenge does, with an empty response.
    if (answer.verdict == Answer::Verdict::granted && !answer.challenge.empty()) {
      granted_ = answer.user;
      return Move::challenge(answer.challenge);
    }
    return Move::of(answer);
  }

 private:
  const std::string name_;
  std::optional<std::string> user_;  // once the first message has come
  std::string granted_;              // once the far server is content
};

}  // namespace

std::unique_ptr<Mechanism> make_plain() {
  return std::make_unique<Plain>();
}

std::unique_ptr<Mechanism> make_login() {
  return std::make_unique<Login>();
}

std::unique_ptr<Mechanism> make_external() {
  return std::make_unique<External>();
}

std::unique_ptr<Mechanism> make_relayed(std::string_view name) {
  return std::make_unique<Relayed>(name);
}

}  // namespace postrider::smtpd::auth
