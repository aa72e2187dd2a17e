#include "mailauth/dkim_sign.h"

#include "base/base64.h"
#include "base/text.h"
#include "mailauth/sha256.h"
#include "mailauth/signature.h"
#include "mailauth/signature_writer.h"

#include <algorithm>

namespace postrider::mailauth {

namespace {

Error refused(std::string why) {
  return Error(Errc::refused, std::move(why));
}

// All tags but b=.
SignatureWriter unsigned_field(const SigningKey& key, const SigningNames& names,
                               const std::vector<std::string>& fields, std::string_view body_digest,
                               const SigningOptions& options, TimePoint now) {
  const auto time = std::chrono::floor<std::chrono::seconds>(now).time_since_epoch();
  SignatureWriter field("DKIM-Signature");
  field.put("v", "1");
  field.put("a", algorithm_of(key.key.type()));
  field.put_forms(options.header_form, options.body_form);
  field.put("d", names.domain);
  field.put("s", names.selector);
  if (!names.identity.empty())
    field.put("i", names.identity);
  field.put("t", std::to_string(time.count()));
  if (options.valid_for)
    field.put("x", std::to_string((time + *options.valid_for).count()));
  field.put_names(fields);
  field.put("bh", encode_base64(body_digest));
  return field;
}

}  // namespace

// RFC 6376 §5.4.1, and what tells how a message is to be read.
std::vector<std::string> SigningOptions::default_signed_fields() {
  return {"Sender",
          "Resent-From",
          "Resent-To",
          "Resent-Cc",
          "Resent-Date",
          "In-Reply-To",
          "References",
          "Content-Description",
          "Content-ID",
          "List-Id",
          "List-Help",
          "List-Unsubscribe",
          "List-Unsubscribe-Post",
          "List-Subscribe",
          "List-Post",
          "List-Owner",
          "List-Archive",
          "Autocrypt"};
}

std::vector<std::string> SigningOptions::default_oversigned_fields() {
  return {"From",     "To",         "Cc",           "Subject",      "Date",
          "Reply-To", "Message-ID", "MIME-Version", "Content-Type", "Content-Transfer-Encoding"};
}

Result<std::vector<std::string>> names_to_sign(const HeaderIndex& header,
                                               const SigningOptions& options) {
  std::vector<std::string> names;
  for (const auto* list : {&options.oversigned_fields, &options.signed_fields})
    for (const auto& name : *list) {
      const auto count = header.named(name).size() + (list == &options.oversigned_fields ? 1U : 0U);
      if (names.size() + count > kMostSignedNames)
        return refused("too many header fields to sign");
      names.insert(names.end(), count, name);
    }
  return names;
}

Result<std::string> sign_dkim(const HeaderIndex& header, std::string_view body_digest,
                              const std::vector<SigningKey>& keys, const SigningOptions& options,
                              TimePoint now) {
  if (header.too_large())
    return refused("header section too large");
  if (header.named("From").size() != 1)
    return refused("not exactly one From field");
  if (body_digest.size() != Sha256::kSize)
    return refused("the body was not hashed");
  const auto names = names_to_sign(header, options);
  if (!names)
    return names.error();
  const auto is_from = [](const std::string& name) { return equals_ignoring_case(name, "From"); };
  if (std::none_of(names->begin(), names->end(), is_from))
    return refused("From would not be signed");
  const auto hash = hash_of_fields(header, options.header_form, *names);
  std::string fields;
  for (const auto& key : keys) {
    if (auto fault = fault_of(key.key, options))
      return *fault;
    const auto key_names = signing_names(key);
    if (!key_names)
      return key_names.error();
    auto field = unsigned_field(key, *key_names, *names, body_digest, options, now)
                     .sign(key.key, options.header_form, hash);
    if (!field)
      return field.error();
    fields.append(*field);
  }
  return fields;
}

}  // namespace postrider::mailauth
