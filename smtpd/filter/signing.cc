#include "smtpd/filter/signing.h"

#include "base/log.h"
#include "base/time.h"
#include "mailauth/body_hashes.h"

#include <functional>
#include <optional>
#include <utility>

namespace postrider::smtpd::filter {

namespace {

// Whoever asked for signatures wants no mail without: our trouble is the client's to wait for.
constexpr const char* kLater = "Signing failed, try again later";

class SigningFilter final : public Filter {
 public:
  SigningFilter(std::shared_ptr<const mailauth::LiveSigner> live, BlockingPool& pool,
                const Facts& facts, const Surroundings& surroundings)
      : live_(std::move(live)), pool_(pool), facts_(facts), surroundings_(surroundings) {}

  bool can_be_shown_again() const override { return true; }
  Task<Verdict> header(const mail::Envelope&, std::string& section) override;
  Task<Verdict> body(std::string_view piece) override;
  Task<Verdict> end(Ending& ending) override;
  void abort() override {
    signer_.reset();
    body_.reset();
  }

 private:
  std::shared_ptr<const mailauth::LiveSigner> live_;
  BlockingPool& pool_;
  const Facts& facts_;
  const Surroundings surroundings_;
  std::shared_ptr<const mailauth::Signer> signer_;  // of this message; null: it is not signed
  std::optional<mailauth::BodyHashes> body_;
  mailauth::BodyHashes::Id digest_ = 0;
};

Task<Verdict> SigningFilter::header(const mail::Envelope&, std::string& section) {
  using mailauth::SigningRole;
  abort();
  if (facts_.is_sendmail)
    signer_ = live_->now_for(SigningRole::sendmail);
  else if (facts_.is_ours())
    signer_ = live_->now_for(facts_.role == Role::submission ? SigningRole::submission
                                                             : SigningRole::relay_from);
  Verdict verdict;
  if (!signer_ || !signer_->has_key_for(section)) {
    signer_.reset();
    verdict.kind = Verdict::Kind::done;
    co_return verdict;
  }
  body_.emplace();
  digest_ = body_->add(signer_->body_form());
  co_return verdict;
}

Task<Verdict> SigningFilter::body(std::string_view piece) {
  body_->feed(piece);
  co_return Verdict{};
}

Task<Verdict> SigningFilter::end(Ending& ending) {
  body_->finish();
  using Outcome = Result<mailauth::Signer::Signed>;
  const std::function<Outcome()> job = [signer = signer_, digest = body_->digest(digest_),
                                        header = ending.on_top + std::string(ending.header),
                                        now = surroundings_.clock.now()] {
    return signer->sign(header, digest, now);
  };
  auto done = co_await pool_.run<Outcome>(surroundings_.loop, job);
  if (!done) {
    const auto why = done.error().during("sign the message").describe();
    co_return Verdict::refuse({451, mail::EnhancedCode{4, 7, 5}, kLater}, why);
  }
  mailauth::log_signing(surroundings_.log, ending.id, *done);
  ending.on_top.insert(0, done->fields);
  co_return Verdict{};
}

}  // namespace

std::unique_ptr<Filter> Signing::make(const Facts& facts, const Surroundings& surroundings) const {
  return std::make_unique<SigningFilter>(signer_, pool_, facts, surroundings);
}

}  // namespace postrider::smtpd::filter
