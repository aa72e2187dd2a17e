// Makes DKIM signatures (RFC 6376 §5, RFC 8301, RFC 8463):
//
//   BodyHashes bodies;
//   const auto body = bodies.add(options.body_form);
//   ... bodies.feed(piece) ...; bodies.finish();
//   sign_dkim(header, bodies.digest(body), keys, options, now)  // fields to put on top
#pragma once

#include "base/result.h"
#include "base/time.h"
#include "mailauth/canonical.h"
#include "mailauth/header_index.h"
#include "mailauth/keys.h"

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::mailauth {

struct SigningKey {
  std::string domain;    // d=; U-labels are written as A-labels
  std::string selector;  // s=
  PrivateKey key;
  std::string identity = {};  // i=, "local@domain" or "@domain" within d=; empty: not written
};

struct SigningOptions {
  Form header_form = Form::relaxed;
  Form body_form = Form::relaxed;
  // Each field of these names is signed; and of the second list's, that there is no other, so that
  // none can be added in front of the one that was signed (§8.15, attacks.md M11).
  std::vector<std::string> signed_fields = default_signed_fields();
  std::vector<std::string> oversigned_fields = default_oversigned_fields();
  std::optional<std::chrono::seconds> valid_for;  // x=
  unsigned least_rsa_bits = kLeastSigningRsaBits;

  static std::vector<std::string> default_signed_fields();
  static std::vector<std::string> default_oversigned_fields();
};

// More names would be needed in h=: the message is not signed.
constexpr std::size_t kMostSignedNames = 400;

// One DKIM-Signature field for each key, in their order, folded to 78 columns, each with CRLF at
// its end. None covers another. body_digest: of the whole canonical body, in options.body_form.
// Errc::refused: a message without a From field, or with two (§5.3: what it meant is open), or with
// too many fields to sign; an RSA key that is too short; a domain, selector or identity that cannot
// be written. Nothing is signed then. Never written: l=, z=.
Result<std::string> sign_dkim(const HeaderIndex& header, std::string_view body_digest,
                              const std::vector<SigningKey>& keys, const SigningOptions& options,
                              TimePoint now);

// The names of h= for this header: those of the options that are there, each as often as it is, and
// once more where it is oversigned.
Result<std::vector<std::string>> names_to_sign(const HeaderIndex& header,
                                               const SigningOptions& options);

}  // namespace postrider::mailauth
