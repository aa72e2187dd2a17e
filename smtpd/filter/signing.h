// Signs the mail of our own clients (DKIM): the last of the filters, so that what the others have
// changed is what is signed. The body is hashed as it passes, and once more if a filter has changed
// it since; the signatures are made on a pool.
#pragma once

#include "base/net/blocking_pool.h"
#include "mailauth/signer.h"
#include "smtpd/filter/mail_filter.h"

#include <memory>

namespace postrider::smtpd::filter {

class Signing final : public Source {
 public:
  // The pool outlives all sessions.
  Signing(std::shared_ptr<const mailauth::LiveSigner> signer, BlockingPool& pool)
      : signer_(std::move(signer)), pool_(pool) {}

  std::unique_ptr<Filter> make(const Facts& facts, const Surroundings& surroundings) const override;

 private:
  std::shared_ptr<const mailauth::LiveSigner> signer_;
  BlockingPool& pool_;
};

}  // namespace postrider::smtpd::filter
