// The fields that hold a signature: DKIM-Signature (RFC 6376 §3.5), ARC-Message-Signature and
// ARC-Seal (RFC 8617 §4.1), read with every rule that does not need the message or a key.
#pragma once

#include "mailauth/canonical.h"
#include "mailauth/header_index.h"
#include "mailauth/keys.h"
#include "mailauth/sha256.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::mailauth {

enum class SignatureKind : std::uint8_t { dkim, arc_message, arc_seal };

// A longer field is not read.
constexpr std::size_t kMostSignatureSize = std::size_t{16} << 10U;

struct Signature {
  // Why it cannot be verified, in words fit for a report; empty: all below is set. With a fault
  // there is as much as could be read.
  std::string fault;

  std::string algorithm;  // a=
  KeyType key_type = KeyType::rsa;
  std::string domain;              // d=, lower-case A-labels
  std::string selector;            // s=, likewise
  std::string identity;            // i=, decoded, its domain as written; by default "@" and d=
  bool identity_is_domain = true;  // the domain of i= is d= itself, not one below it
  std::string data;                // b=, decoded
  std::string data_text;           // b= in Base64, without white space
  std::size_t data_begin = 0;      // where b='s value stands in the field's value, with the white
  std::size_t data_end = 0;        // space around it
  std::optional<std::uint64_t> time;
  std::optional<std::uint64_t> expires;

  // Not of an ARC-Seal:
  Form header_form = Form::simple;
  Form body_form = Form::simple;
  std::string body_hash;            // bh=, decoded: 32 octets
  std::vector<std::string> fields;  // h=, in its order, lower case
  std::optional<std::uint64_t> length;

  // Of ARC:
  unsigned instance = 0;    // i=, 1 to 50
  std::string chain_state;  // cv= of a seal
};

// value: of the field, folding kept.
Signature parse_signature(std::string_view value, SignatureKind kind);

// The instance of an ARC field (RFC 8617 §4.2.1), if its text is a number of 1 to 50.
std::optional<unsigned> parse_instance(std::string_view text);

// The hash of the fields that these names pick from the bottom up (§5.4.2), never the one at place
// `except`; to be gone on with by the signature's own field.
Sha256 hash_of_fields(const HeaderIndex& header, Form form, const std::vector<std::string>& names,
                      std::size_t except = FieldPicker::kNone);
// What of the signature's own field is signed: its canonical form, b= emptied, without a line end.
std::string own_field_input(Form form, const mail::HeaderField& field, const Signature& signature);

}  // namespace postrider::mailauth
