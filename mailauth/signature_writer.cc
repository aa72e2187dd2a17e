#include "mailauth/signature_writer.h"

#include "base/base64.h"
#include "mail/address.h"
#include "mailauth/key_record.h"

#include <cstdio>

namespace postrider::mailauth {

namespace {

Error refused(std::string why) {
  return Error(Errc::refused, std::move(why));
}

// dkim-quoted-printable (RFC 6376 §2.11), of everything that is not plainly harmless in a tag.
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

}  // namespace

Result<SigningNames> signing_names(const SigningKey& key) {
  SigningNames names;
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

std::optional<Error> fault_of(const PrivateKey& key, const SigningOptions& options) {
  if (key.type() != KeyType::rsa || key.bits() >= options.least_rsa_bits)
    return std::nullopt;
  return refused("RSA key of " + std::to_string(key.bits()) + " bits is too short");
}

void SignatureWriter::put(std::string_view tag, std::string_view value) {
  field_.put(std::string(tag).append("=").append(value).append(";"), true);
}

void SignatureWriter::put_forms(Form header, Form body) {
  put("c", std::string(to_string(header)).append("/").append(to_string(body)));
}

void SignatureWriter::put_names(const std::vector<std::string>& names) {
  for (std::size_t i = 0; i < names.size(); ++i) {
    std::string piece(i == 0 ? "h=" : "");
    piece.append(names[i]).append(1, i + 1 == names.size() ? ';' : ':');
    field_.put(piece, i == 0);
  }
}

Result<std::string> SignatureWriter::sign(const PrivateKey& key, Form form, Sha256 hash) && {
  field_.put("b=", true);
  mail::HeaderField own;
  own.whole = field_.text();
  own.name = own.whole.substr(0, own.whole.find(':'));
  own.value = own.whole.substr(own.name.size() + 1);
  std::string canonical;
  append_canonical(form, own, canonical);
  hash.update(std::string_view(canonical).substr(0, canonical.size() - 2));
  const auto signature = key.sign(hash.digest());
  if (!signature)
    return signature.error();
  field_.put_breakable(encode_base64(*signature));
  return field_.finish();
}

}  // namespace postrider::mailauth
