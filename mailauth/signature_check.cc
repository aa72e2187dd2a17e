#include "mailauth/signature_check.h"

#include "mailauth/key_record.h"

#include <utility>

namespace postrider::mailauth {

namespace {

KeyCheck permanent(std::string reason) {
  return {SignatureResult::permerror, std::move(reason)};
}

// Whether a key record may be used for this signature at all; a reason if not.
std::string unsuitable(const KeyRecord& record, const Signature& signature) {
  if (record.is_revoked())
    return "key revoked";
  if (record.type != signature.key_type)
    return "key is not for this algorithm";
  if (!record.allows_sha256)
    return "key does not allow sha256";
  if (!record.allows_email)
    return "key is not for email";
  if (record.same_domain && !signature.identity_is_domain)
    return "key does not allow i= below d=";
  return {};
}

KeyCheck check_with_record(const KeyRecord& record, const Signature& signature,
                           std::string_view digest) {
  if (auto reason = unsuitable(record, signature); !reason.empty())
    return permanent(std::move(reason));
  const auto key = PublicKey::from_bytes(record.type, record.key);
  if (!key)
    return permanent(key.error().step());
  KeyCheck check;
  check.testing = record.testing;
  check.key_bits = key->bits();
  check.result =
      key->verifies(digest, signature.data) ? SignatureResult::pass : SignatureResult::fail;
  if (check.result == SignatureResult::fail)
    check.reason = "signature did not verify";
  return check;
}

// The more was done with a record, the better it explains why none verified.
int weight(const KeyCheck& check) {
  return check.result == SignatureResult::pass ? 2 : check.result == SignatureResult::fail ? 1 : 0;
}

KeyCheck check_with_records(const std::vector<std::string>& texts, const Signature& signature,
                            std::string_view digest) {
  auto best = permanent("no key");
  bool first = true;
  std::size_t read = 0, tried = 0;
  for (const auto& text : texts) {
    if (++read > kMostKeyAnswers || tried == kMostKeyRecords)
      break;
    const auto record = parse_key_record(text);
    tried += record ? 1U : 0U;
    auto check =
        record ? check_with_record(*record, signature, digest) : permanent(record.error().step());
    if (std::exchange(first, false) || weight(check) > weight(best))
      best = std::move(check);
    if (best.result == SignatureResult::pass)
      break;
  }
  return best;
}

}  // namespace

std::string_view to_string(SignatureResult result) {
  switch (result) {
    case SignatureResult::none:
      return "none";
    case SignatureResult::pass:
      return "pass";
    case SignatureResult::fail:
      return "fail";
    case SignatureResult::policy:
      return "policy";
    case SignatureResult::neutral:
      return "neutral";
    case SignatureResult::temperror:
      return "temperror";
    case SignatureResult::permerror:
      break;
  }
  return "permerror";
}

std::string header_digest(const HeaderIndex& header, std::size_t own, const Signature& signature) {
  auto hash = hash_of_fields(header, signature.header_form, signature.fields, own);
  hash.update(own_field_input(signature.header_form, header.fields()[own], signature));
  return hash.digest();
}

Asking<KeyCheck> check_with_key(Signature signature, std::string digest) {
  const auto name = key_name(signature.selector, signature.domain);
  if (!name)
    co_return permanent("the name of the key is too long");
  const auto answer = co_await ask({*name, Type::txt});
  if (answer.is_failure())
    co_return KeyCheck{SignatureResult::temperror, "key lookup failed"};
  if (answer.is_none())
    co_return permanent("no key");
  co_return check_with_records(answer.texts, signature, digest);
}

}  // namespace postrider::mailauth
