#include "mailauth/dkim_sign.h"

#include "base/base64.h"
#include "base/text.h"
#include "mail/address.h"
#include "mailauth/folding.h"
#include "mailauth/key_record.h"
#include "mailauth/signature.h"

#include <algorithm>
#include <cstdio>

namespace postrider::mailauth {

namespace {

Error refused(std::string why) {
  return Error(Errc::refused, std::move(why));
}

struct Names {
  std::string domain;
  std::string selector;
  std::string identity;  // encoded for i=; or empty
};

// dkim-quoted-printable (§2.11), of everything that is not plainly harmless in a tag's value.
std::string quoted_printable(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto octet = static_cast<unsigned char>(c);
    if (octet > 0x20 && octet < 0x7F && c != ';' && c != '=') {
      out.push_back(c);
    } else {
      char hex[4];
      std::snprintf(hex, sizeof hex, "=%02X", octet);
      out.append(hex);
    }
  }
  return out;
}

Result<std::string> identity_text(std::string_view identity, std::string_view domain) {
  const auto at = identity.rfind('@');
  if (at == std::string_view::npos)
    return refused("i= without \"@\"");
  const auto own = mail::to_ascii_domain(identity.substr(at + 1));
  if (!own || (*own != domain && !own->ends_with("." + std::string(domain))))
    return refused("i= is not within d=");
  return quoted_printable(identity.substr(0, at)) + "@" + *own;
}

Result<Names> names_of(const SigningKey& key) {
  Names names;
  auto domain = mail::to_ascii_domain(key.domain);
  auto selector = mail::to_ascii_domain(key.selector);
  if (!domain || !selector || !key_name(*selector, *domain))
    return refused("invalid domain or selector");
  if (!key.identity.empty()) {
    auto identity = identity_text(key.identity, *domain);
    if (!identity)
      return identity.error();
    names.identity = *identity;
  }
  names.domain = *domain;
  names.selector = *selector;
  return names;
}

void put_names(FoldedField& field, const std::vector<std::string>& names) {
  for (std::size_t i = 0; i < names.size(); ++i) {
    std::string piece(i == 0 ? "h=" : "");
    piece.append(names[i]).append(1, i + 1 == names.size() ? ';' : ':');
    field.put(piece, i == 0);
  }
}

// The whole field with an empty b= at its end.
FoldedField unsigned_field(const SigningKey& key, const Names& names,
                           const std::vector<std::string>& fields, std::string_view body_digest,
                           const SigningOptions& options, TimePoint now) {
  const auto time = std::chrono::floor<std::chrono::seconds>(now).time_since_epoch();
  FoldedField field("DKIM-Signature");
  const auto put = [&](std::string_view tag, std::string_view value) {
    field.put(std::string(tag).append(value).append(";"), true);
  };
  put("v=", "1");
  put("a=", algorithm_of(key.key.type()));
  put("c=", std::string(to_string(options.header_form)) + "/" +
                std::string(to_string(options.body_form)));
  put("d=", names.domain);
  put("s=", names.selector);
  if (!names.identity.empty())
    put("i=", names.identity);
  put("t=", std::to_string(time.count()));
  if (options.valid_for)
    put("x=", std::to_string((time + *options.valid_for).count()));
  put_names(field, fields);
  put("bh=", encode_base64(body_digest));
  field.put("b=", true);
  return field;
}

Result<std::string> signed_field(FoldedField field, const PrivateKey& key, Form form, Sha256 hash) {
  mail::HeaderField own;
  own.whole = field.text();
  own.name = own.whole.substr(0, own.whole.find(':'));
  own.value = own.whole.substr(own.name.size() + 1);
  std::string canonical;
  append_canonical(form, own, canonical);
  hash.update(std::string_view(canonical).substr(0, canonical.size() - 2));
  auto signature = key.sign(hash.digest());
  if (!signature)
    return signature.error();
  field.put_breakable(encode_base64(*signature));
  return field.finish();
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
  const auto names = names_to_sign(header, options);
  if (!names)
    return names.error();
  const auto is_from = [](const std::string& name) { return equals_ignoring_case(name, "From"); };
  if (std::none_of(names->begin(), names->end(), is_from))
    return refused("From would not be signed");
  const auto hash = hash_of_fields(header, options.header_form, *names);
  std::string fields;
  for (const auto& key : keys) {
    if (key.key.type() == KeyType::rsa && key.key.bits() < options.least_rsa_bits)
      return refused("RSA key of " + std::to_string(key.key.bits()) + " bits is too short");
    const auto key_names = names_of(key);
    if (!key_names)
      return key_names.error();
    auto field = signed_field(unsigned_field(key, *key_names, *names, body_digest, options, now),
                              key.key, options.header_form, hash);
    if (!field)
      return field.error();
    fields.append(*field);
  }
  return fields;
}

}  // namespace postrider::mailauth
