// The seal on mail that an address here sends on to another system (ARC, RFC 8617): what we found
// out about the message when it came, for whoever gets it from us, where SPF and often DKIM no
// longer speak for its author.
//
// What was found stands in the Authentication-Results field that we put on top then; only that is
// sealed, and only in our trace, where no stranger can write. Mail without one, of our own users
// and of clients who may relay, is not sealed: DKIM speaks for it, or whoever checked it.
#pragma once

#include "base/result.h"
#include "base/time.h"
#include "delivery/job/message_body.h"
#include "mail/message.h"
#include "mailauth/signer.h"

#include <memory>
#include <string>

namespace postrider::delivery {

struct Seal {
  std::string fields;   // with CRLF at their ends; empty: not sealed
  std::string why_not;  // of a message that should have one; empty: it needs none
};

// Thread-safe.
class ForwardSealer {
 public:
  // domain: in whose name is sealed, by its key or that of the nearest domain above it.
  // authserv_id: under which we write results.
  ForwardSealer(std::shared_ptr<const mailauth::LiveSigner> keys, std::string domain,
                std::string authserv_id)
      : keys_(std::move(keys)), domain_(std::move(domain)), authserv_id_(std::move(authserv_id)) {}

  // Reads and hashes the whole content: blocks. An error is about reading it.
  // A chain that came broken is sealed as such once (§5.1.2), one that ended so is left alone.
  Result<Seal> seal(const mail::Message& message, const OpenBody& open_body, TimePoint now) const;

 private:
  std::shared_ptr<const mailauth::LiveSigner> keys_;
  std::string domain_;
  std::string authserv_id_;
};

}  // namespace postrider::delivery
