// Signs mail in the name of our domains: finds the keys by the domains in From, and makes the
// fields to put on top.
#pragma once

#include "base/log.h"
#include "base/result.h"
#include "base/time.h"
#include "mail/message.h"
#include "mailauth/canonical.h"
#include "mailauth/dkim_sign.h"

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::mailauth {

// How a message came to us.
enum class SigningRole : std::uint8_t {
  submission,  // a first submission over SMTP
  sendmail,    // a program of this machine
  relay_from,  // a client that may relay
  notices,     // made by us: notices and reports
};

// Immutable; all functions are thread-safe.
class Signer {
 public:
  // By domain, in lower case and A-labels. A domain without keys has those of the nearest one above
  // it.
  using Keys = std::map<std::string, std::vector<SigningKey>, std::less<>>;
  Signer(Keys keys, SigningOptions options, std::set<SigningRole> roles)
      : keys_(std::move(keys)), options_(std::move(options)), roles_(std::move(roles)) {}

  bool signs(SigningRole role) const { return !keys_.empty() && roles_.contains(role); }
  Form body_form() const { return options_.body_form; }
  const SigningOptions& options() const { return options_; }
  // Of this domain, or of the nearest one above it that has any; null: none.
  const std::vector<SigningKey>* keys_for(std::string_view domain) const;
  // Whether a message with this header section would be signed, as far as its From field tells.
  bool has_key_for(std::string_view header) const;

  struct Signed {
    std::string fields;           // with CRLF at their ends; empty: not signed
    std::vector<std::string> by;  // "example.org/selector", in the order of the fields
    std::string why_not;          // of a message that there are keys for; empty: there are none
  };
  // header: the whole header section as it will be sent, ours on top. body_digest: in body_form().
  // An error is about our keys: the message may be signed later.
  Result<Signed> sign(std::string_view header, std::string_view body_digest, TimePoint now) const;

  const Keys& keys() const { return keys_; }

 private:
  std::vector<const std::vector<SigningKey>*> keys_of(const HeaderIndex& header) const;

  Keys keys_;
  SigningOptions options_;
  std::set<SigningRole> roles_;
};

// What signs now: keys are changed while everything runs. Thread-safe.
class LiveSigner {
 public:
  // Null: nothing is signed.
  std::shared_ptr<const Signer> now() const {
    const std::lock_guard lock(mutex_);
    return signer_;
  }
  void replace(std::shared_ptr<const Signer> signer) {
    const std::lock_guard lock(mutex_);
    signer_.swap(signer);
  }
  // The same, if mail that comes so is signed at all; else null.
  std::shared_ptr<const Signer> now_for(SigningRole role) const {
    auto signer = now();
    return signer && signer->signs(role) ? signer : nullptr;
  }

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const Signer> signer_;
};

// The same message with fields on top.
std::shared_ptr<const mail::Message> with_fields_on_top(const mail::Message& message,
                                                        std::string_view fields);

// What became of a message that there are keys for.
void log_signing(Log& log, mail::MessageId id, const Signer::Signed& about);

// Signs a message that we wrote ourselves, whose content is in memory; hashes it. It goes without a
// signature rather than not at all, and the log says so. Slow; not for a network loop.
void sign_own(const LiveSigner& signer, std::shared_ptr<const mail::Message>& message, Log& log,
              TimePoint now);

}  // namespace postrider::mailauth
