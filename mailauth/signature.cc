#include "mailauth/signature.h"

#include "base/text.h"
#include "mail/address.h"
#include "mailauth/key_record.h"
#include "mailauth/tag_list.h"

#include <algorithm>
#include <limits>

namespace postrider::mailauth {

namespace {

constexpr std::size_t kMostDataSize = kMostRsaBits / 8;
constexpr unsigned kMostInstance = 50;

// Digits; a number beyond 64 bits is as good as endless.
std::optional<std::uint64_t> parse_saturated(std::string_view text) {
  if (text.empty() || text.size() > 76 || text.find_first_not_of("0123456789") != text.npos)
    return std::nullopt;
  return parse_unsigned(text).value_or(std::numeric_limits<std::uint64_t>::max());
}

// Lower-case A-labels. Names of others are taken as DNS resolves them.
std::optional<std::string> dns_name(std::string_view text) {
  if (is_ascii(text))
    return mail::is_dns_name(text) ? std::optional(ascii_lower(text)) : std::nullopt;
  auto name = mail::to_ascii_domain(text);
  return name ? std::optional(*name) : std::nullopt;
}

std::optional<Form> parse_form(std::string_view text) {
  if (text == "simple")
    return Form::simple;
  return text == "relaxed" ? std::optional(Form::relaxed) : std::nullopt;
}

bool is_field_name(std::string_view name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return static_cast<unsigned char>(c) > 0x20 && static_cast<unsigned char>(c) < 0x7F && c != ':';
  });
}

bool is_below(std::string_view name, std::string_view parent) {
  return name.size() > parent.size() && name.ends_with(parent) &&
         name[name.size() - parent.size() - 1] == '.';
}

// Reads the tags one by one. Each function gives false, and sets the fault, where a rule is broken.
class Reader {
 public:
  Reader(std::string_view value, SignatureKind kind, Signature& out)
      : value_(value), kind_(kind), out_(out) {}

  void read() {
    if (value_.size() > kMostSignatureSize)
      return set_fault("signature too long");
    const auto tags = TagList::parse(value_);
    if (!tags)
      return set_fault(tags.error().step());
    tags_ = &*tags;
    // Who signed is read first, so that a report can name it whatever else is wrong.
    read_domain();
    read_selector();
    read_data();
    read_algorithm();
    if (out_.fault.empty() && read_version() && read_identity() && read_times())
      read_rest();
  }

 private:
  bool fault(std::string text) {
    if (out_.fault.empty())
      out_.fault = std::move(text);
    return false;
  }
  void set_fault(std::string text) { fault(std::move(text)); }

  std::optional<std::string_view> needed(std::string_view name) {
    const auto value = tags_->value(name);
    if (!value)
      fault("no tag " + std::string(name) + "=");
    return value;
  }

  bool read_domain() {
    const auto value = needed("d");
    if (!value)
      return false;
    const auto name = dns_name(*value);
    if (!name)
      return fault("invalid d=");
    out_.domain = out_.identity = *name;
    out_.identity.insert(0, 1, '@');
    return true;
  }

  bool read_selector() {
    const auto value = needed("s");
    if (!value)
      return false;
    const auto name = dns_name(*value);
    if (!name)
      return fault("invalid s=");
    out_.selector = *name;
    if (!out_.domain.empty() && !key_name(*name, out_.domain))
      return fault("the name of the key is too long");
    return true;
  }

  bool read_data() {
    const auto value = needed("b");
    if (!value)
      return false;
    const auto* tag = tags_->find("b");
    out_.data_begin = tag->begin;
    out_.data_end = tag->end;
    out_.data_text = without_white_space(*value);
    const auto data = decode_folded_base64(*value);
    if (!data || data->empty())
      return fault("invalid b=");
    if (data->size() > kMostDataSize)
      return fault("b= too long");
    out_.data = *data;
    return true;
  }

  bool read_algorithm() {
    const auto value = needed("a");
    if (!value)
      return false;
    out_.algorithm = *value;
    if (*value == "rsa-sha1")
      return fault("rsa-sha1 does not count any more (RFC 8301)");
    if (*value != "rsa-sha256" && *value != "ed25519-sha256")
      return fault("unknown algorithm in a=");
    out_.key_type = *value == "rsa-sha256" ? KeyType::rsa : KeyType::ed25519;
    return true;
  }

  bool read_version() {
    if (kind_ != SignatureKind::dkim)
      return true;
    const auto value = needed("v");
    return value && (*value == "1" || fault("unknown version in v="));
  }

  bool read_identity() {
    if (kind_ != SignatureKind::dkim)
      return read_instance();
    const auto value = tags_->value("i");
    if (!value)
      return true;
    const auto identity = decode_dkim_quoted_printable(*value);
    const auto at = identity ? identity->rfind('@') : std::string::npos;
    if (at == std::string::npos)
      return fault("invalid i=");
    const auto domain = dns_name(std::string_view(*identity).substr(at + 1));
    if (!domain)
      return fault("invalid i=");
    out_.identity_is_domain = *domain == out_.domain;
    if (!out_.identity_is_domain && !is_below(*domain, out_.domain))
      return fault("i= is not within d=");
    out_.identity = *identity;
    return true;
  }

  bool read_instance() {
    const auto value = needed("i");
    if (!value)
      return false;
    const auto instance = parse_instance(*value);
    out_.instance = instance.value_or(0);
    return instance || fault("invalid i=");
  }

  bool read_times() {
    if (const auto time = tags_->value("t")) {
      out_.time = parse_saturated(*time);
      if (!out_.time)
        return fault("invalid t=");
    }
    if (const auto expires = tags_->value("x"); expires && kind_ != SignatureKind::arc_seal) {
      out_.expires = parse_saturated(*expires);
      if (!out_.expires || (out_.time && *out_.expires <= *out_.time))
        return fault("invalid x=");
    }
    return true;
  }

  bool read_rest() {
    if (kind_ == SignatureKind::arc_seal)
      return read_seal();
    return read_forms() && read_query() && read_body_hash() && read_fields() && read_length();
  }

  bool read_seal() {
    if (tags_->value("h"))
      return fault("h= in a seal");
    const auto value = needed("cv");
    if (!value)
      return false;
    out_.chain_state = *value;
    return *value == "none" || *value == "pass" || *value == "fail" || fault("invalid cv=");
  }

  bool read_forms() {
    const auto value = tags_->value("c").value_or("simple/simple");
    const auto slash = value.find('/');
    const auto header = parse_form(trim_white_space(value.substr(0, slash)));
    const auto body =
        slash == value.npos ? Form::simple : parse_form(trim_white_space(value.substr(slash + 1)));
    if (!header || !body)
      return fault("invalid c=");
    out_.header_form = *header;
    out_.body_form = *body;
    return true;
  }

  bool read_query() {
    const auto methods = split_trimmed(tags_->value("q").value_or("dns/txt"), ':');
    return std::find(methods.begin(), methods.end(), "dns/txt") != methods.end() ||
           fault("unknown method in q=");
  }

  bool read_body_hash() {
    const auto value = needed("bh");
    if (!value)
      return false;
    const auto hash = decode_folded_base64(*value);
    if (!hash || hash->size() != Sha256::kSize)
      return fault("invalid bh=");
    out_.body_hash = *hash;
    return true;
  }

  bool read_fields() {
    const auto value = needed("h");
    if (!value)
      return false;
    for (const auto name : split_trimmed(*value, ':')) {
      if (!is_field_name(name))
        return fault("invalid h=");
      out_.fields.push_back(ascii_lower(name));
    }
    const auto has = [this](std::string_view name) {
      return std::find(out_.fields.begin(), out_.fields.end(), name) != out_.fields.end();
    };
    if (!has("from"))
      return fault("From is not signed");
    if (kind_ == SignatureKind::arc_message && has("arc-seal"))
      return fault("ARC-Seal is signed");
    return true;
  }

  bool read_length() {
    const auto value = tags_->value("l");
    if (!value)
      return true;
    out_.length = parse_saturated(*value);
    return out_.length || fault("invalid l=");
  }

  std::string_view value_;
  SignatureKind kind_;
  Signature& out_;
  const TagList* tags_ = nullptr;
};

}  // namespace

Signature parse_signature(std::string_view value, SignatureKind kind) {
  Signature signature;
  Reader(value, kind, signature).read();
  return signature;
}

std::optional<unsigned> parse_instance(std::string_view text) {
  const auto number = text.size() <= 2 ? parse_unsigned(text) : std::nullopt;
  if (!number || *number < 1 || *number > kMostInstance)
    return std::nullopt;
  return static_cast<unsigned>(*number);
}

Sha256 hash_of_fields(const HeaderIndex& header, Form form, const std::vector<std::string>& names,
                      std::size_t except) {
  Sha256 hash;
  FieldPicker picker(header, except);
  std::string canonical;
  for (const auto& name : names)
    if (const auto* field = picker.pick(name)) {
      canonical.clear();
      append_canonical(form, *field, canonical);
      hash.update(canonical);
    }
  return hash;
}

std::string own_field_input(Form form, const mail::HeaderField& field, const Signature& signature) {
  const auto before_value = static_cast<std::size_t>(field.value.data() - field.whole.data());
  const auto value_end = before_value + field.value.size();
  std::string emptied(field.whole.substr(0, before_value + signature.data_begin));
  const auto value_at = before_value;
  emptied.append(field.whole.substr(before_value + signature.data_end,
                                    value_end - before_value - signature.data_end));
  mail::HeaderField own;
  own.name = field.name;
  own.whole = emptied;
  own.value = own.whole.substr(value_at);
  std::string out;
  append_canonical(form, own, out);
  out.resize(out.size() - 2);
  return out;
}

}  // namespace postrider::mailauth
