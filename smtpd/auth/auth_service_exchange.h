// For smtpd/auth/auth_service*.cc: how one AUTH is answered.
//
// Every attempt is charged to the login limiter before anything is looked up, and its result is
// reported to the limiter afterwards; a refusal is never sent before the configured delay, so that
// neither the time of a lookup nor that of a hash tells who exists.
#pragma once

#include "smtpd/auth/auth_service_impl.h"
#include "smtpd/auth/dovecot.h"
#include "smtpd/auth/sasl_exchange.h"

#include <memory>

namespace postrider::smtpd::auth {

class ServiceExchange : public Exchange {
 public:
  ServiceExchange(std::shared_ptr<AuthService::Impl> service, Loop& loop, Attempt attempt);
  ~ServiceExchange() override;
  Task<Answer> ask(Question question) override;

 private:
  bool may_try(const Question& question);
  Task<Answer> find(Question question);
  Task<Answer> check_password(Question question);
  Task<Answer> ask_file(Question question);
  Task<Answer> ask_pam(Question question);
  Task<Answer> ask_dovecot(Question question);
  Task<Answer> relay(Question question);
  struct Inquiry;
  static Task<void> inquire(std::shared_ptr<Inquiry> inquiry, DovecotRequest request);
  static Task<void> ask_spelling(std::shared_ptr<Inquiry> inquiry, DovecotRequest request);
  struct FormQuestion;
  static Task<void> ask_form(std::shared_ptr<FormQuestion> question);
  Task<void> learn_form(std::string name);
  Task<Answer> relay_scram_first(Question question);
  Task<Answer> refuse_made_up();
  bool is_at_home() const;
  Task<void> pause_until(SteadyTime when);
  Task<Answer> find_keys(Question question);
  Task<Answer> check_token(Question question);
  Task<Result<Token>> introspect_token(std::string token);
  Answer check_certificate(const Question& question) const;
  Answer unavailable(const char* what, const Error& error);
  Answer from_dovecot(const Result<DovecotReply>& reply);
  void conclude(Answer& answer);

  const std::shared_ptr<AuthService::Impl> kept_;  // this may outlive the service
  AuthService::Impl& service_;
  Loop& loop_;
  const Attempt attempt_;
  const std::shared_ptr<const AuthService::Tables> tables_;
  const SteadyTime began_;
  std::string account_;  // as charged
  LoginLimiter::Try charged_;
  Duration backend_delay_{};  // that PAM wants before a refusal
  bool is_charged_ = false;
  bool awaits_proof_ = false;         // nothing that could be right or wrong has been said yet
  std::unique_ptr<Dovecot> dovecot_;  // while it is relayed
  std::shared_ptr<Inquiry> inquiry_;  // SCRAM, relayed
  bool is_made_up_ = false;           // the challenge that the client has
};

}  // namespace postrider::smtpd::auth
