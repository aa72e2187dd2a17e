// Messages, keys and signatures for the tests of DKIM and ARC.
#pragma once

#include "base/base64.h"
#include "mailauth/body_hashes.h"
#include "mailauth/dkim_sign.h"
#include "mailauth/dkim_verify.h"
#include "mailauth/key_record.h"
#include "tests/support/fake_zones.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::mailauth {

inline constexpr TimePoint kNow{std::chrono::seconds(1'764'000'000)};

inline const PrivateKey& rsa_key() {
  static const auto key = PrivateKey::generate(KeyType::rsa).value();
  return key;
}

inline const PrivateKey& ed25519_key() {
  static const auto key = PrivateKey::generate(KeyType::ed25519).value();
  return key;
}

// What stands behind the empty line.
inline std::string_view body_of(std::string_view message) {
  return message.substr(mail::header_section_size(message));
}

// Fed in pieces of a size that cuts lines anywhere.
inline void feed(BodyHashes& bodies, std::string_view body, std::size_t piece = 7) {
  for (std::size_t at = 0; at < body.size(); at += piece)
    bodies.feed(body.substr(at, piece));
  bodies.finish();
}

inline std::vector<SignatureReport> verify(std::string_view message, tests::FakeZones& dns,
                                           DkimLimits limits = {}, TimePoint now = kNow) {
  const HeaderIndex header(message);
  BodyHashes bodies;
  const DkimVerifier verifier(header, bodies, limits);
  feed(bodies, body_of(message));
  return dns.run(verifier.verify(now));
}

// "pass", "fail: body hash did not verify", ... one for each signature, joined by "; ".
inline std::string verdicts(std::string_view message, tests::FakeZones& dns, DkimLimits limits = {},
                            TimePoint now = kNow) {
  std::string out;
  for (const auto& report : verify(message, dns, limits, now)) {
    out.append(out.empty() ? "" : "; ").append(to_string(report.result));
    out.append(report.reason.empty() ? "" : ": ").append(report.reason);
  }
  return out;
}

inline std::string signed_message(std::string_view message, const std::vector<SigningKey>& keys,
                                  const SigningOptions& options = {}, TimePoint now = kNow) {
  BodyHashes bodies;
  const auto body = bodies.add(options.body_form);
  feed(bodies, body_of(message));
  const HeaderIndex header(message);
  return sign_dkim(header, bodies.digest(body), keys, options, now).value() + std::string(message);
}

// The message below a signature whose field's value is given with $BH for the body hash and $B for
// the signature: sound as far as its tags make sense, whatever rules they break.
inline std::string message_signed_as(std::string value, std::string_view message,
                                     const PrivateKey& key) {
  const auto replace = [&](std::string_view what, std::string_view with) {
    const auto at = value.find(what);
    if (at != std::string::npos)
      value.replace(at, what.size(), with);
  };
  BodyHashes bodies;
  const bool relaxed = value.find("/relaxed") != std::string::npos;
  const auto length_at = value.find(" l=");
  std::optional<std::uint64_t> length;
  if (length_at != std::string::npos)
    length = std::strtoull(value.c_str() + length_at + 3, nullptr, 10);
  const auto id = bodies.add(relaxed ? Form::relaxed : Form::simple, length);
  feed(bodies, body_of(message));
  replace("$BH",
          encode_base64(bodies.digest(id).empty() ? std::string(32, 'x') : bodies.digest(id)));
  const auto with = [&](std::string_view data) {
    auto whole = value;
    whole.replace(whole.find("$B"), 2, data);
    return "DKIM-Signature:" + whole + "\r\n" + std::string(message);
  };
  const auto draft = with("AAAA");
  const HeaderIndex header(draft);
  const auto signature = parse_signature(header.fields()[0].value, SignatureKind::dkim);
  if (!signature.fault.empty())
    return draft;
  return with(encode_base64(*key.sign(header_digest(header, 0, signature))));
}

}  // namespace postrider::mailauth
