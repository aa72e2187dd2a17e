// Writes fields that hold a signature: tag by tag, folded, then signed.
#pragma once

#include "base/result.h"
#include "mailauth/canonical.h"
#include "mailauth/dkim_sign.h"
#include "mailauth/folding.h"
#include "mailauth/keys.h"
#include "mailauth/sha256.h"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::mailauth {

// What a key's names are written as.
struct SigningNames {
  std::string domain;    // lower-case A-labels
  std::string selector;  // likewise
  std::string identity;  // in dkim-quoted-printable; or empty
};
// Errc::refused: names that cannot be written, or i= outside d=.
Result<SigningNames> signing_names(const SigningKey& key);
// Errc::refused: an RSA key below the least of the options.
std::optional<Error> fault_of(const PrivateKey& key, const SigningOptions& options);

class SignatureWriter {
 public:
  explicit SignatureWriter(std::string_view field_name) : field_(field_name) {}

  // Requires: values without semicolons and white space.
  void put(std::string_view tag, std::string_view value);
  void put_forms(Form header, Form body);                 // c=
  void put_names(const std::vector<std::string>& names);  // h=
  // Puts b=, with the signature of what was hashed so far and of this field. Gives the field.
  Result<std::string> sign(const PrivateKey& key, Form form, Sha256 hash) &&;

 private:
  FoldedField field_;
};

}  // namespace postrider::mailauth
