#include "mail/smtp_command.h"

#include "base/text.h"

#include <limits>

namespace postrider::mail {

namespace {

constexpr std::size_t kMostEnvelopeId = 100;  // RFC 3461 §4.4, before encoding
constexpr std::size_t kMostOriginal = 500;    // RFC 3461 §4.2
constexpr std::size_t kMostDigits = 20;       // RFC 1870 §4

constexpr EnhancedCode kBadArguments{5, 5, 4};
constexpr EnhancedCode kBadSender{5, 1, 7};
constexpr EnhancedCode kBadRecipient{5, 1, 3};

Reply bad_parameter(const char* name) {
  return Reply(501, kBadArguments, std::string("Bad ") + name + " parameter");
}

Reply refused_path(const Error& error, EnhancedCode status) {
  if (error.code() == make_error_code(Errc::unsupported))
    return Reply(553, {5, 6, 7}, "Address needs SMTPUTF8");
  const bool is_sender = status == kBadSender;
  return Reply(501, status,
               (is_sender ? "Bad sender address: " : "Bad recipient address: ") + error.step());
}

struct Parameter {
  std::string_view keyword;
  std::string_view value;
  bool has_value = false;
};

bool is_space(char c) {
  return c == ' ' || c == '\t';
}

bool is_keyword(std::string_view text) {
  if (text.empty() || text.front() == '-')
    return false;
  for (const char c : text)
    if (!((c >= '0' && c <= '9') || (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z') || c == '-'))
      return false;
  return true;
}

// esmtp-value of RFC 5321 §4.1.2, with UTF-8 as of RFC 6531 §3.3, and with the "=" that stands in
// addresses of programs which know no xtext.
bool is_value(std::string_view text) {
  for (const char c : text)
    if (static_cast<unsigned char>(c) <= 0x20 || c == 0x7F)
      return false;
  return !text.empty() && is_utf8(text);
}

// The next parameter from the front of the text, which starts with white space or is empty.
// nullopt: malformed.
std::optional<Parameter> take_parameter(std::string_view& text) {
  if (!is_space(text.front()))
    return std::nullopt;
  while (!text.empty() && is_space(text.front()))
    text.remove_prefix(1);
  const auto whole = text.substr(0, text.find_first_of(" \t"));
  text.remove_prefix(whole.size());
  Parameter parameter;
  const auto equals = whole.find('=');
  parameter.keyword = whole.substr(0, equals);
  parameter.has_value = equals != std::string_view::npos;
  if (parameter.has_value)
    parameter.value = whole.substr(equals + 1);
  if (!is_keyword(parameter.keyword) || (parameter.has_value && !is_value(parameter.value)))
    return std::nullopt;
  return parameter;
}

// What a parameter does to the command; an empty code means accepted.
template <class Command, class Rules>
struct Handler {
  std::string_view keyword;
  bool wants_value;
  Reply (*apply)(std::string_view value, const Rules& rules, Command& command);
};

// Reads all parameters by the table; the reply's code is 0 when all is well.
template <class Command, class Rules, std::size_t N>
Reply read_parameters(std::string_view text, const Handler<Command, Rules> (&table)[N],
                      const Rules& rules, Command& command) {
  unsigned seen = 0;
  text = text.substr(0, text.find_last_not_of(" \t") + 1);
  while (!text.empty()) {
    const auto parameter = take_parameter(text);
    if (!parameter)
      return Reply(501, kBadArguments, "Bad parameter syntax");
    std::size_t i = 0;
    while (i < N && !equals_ignoring_case(table[i].keyword, parameter->keyword))
      ++i;
    if (i == N)
      return Reply(555, kBadArguments, "Unknown parameter");
    if ((seen & (1U << i)) != 0)
      return Reply(501, kBadArguments, "Repeated parameter");
    seen |= 1U << i;
    if (table[i].wants_value != parameter->has_value)
      return bad_parameter(table[i].keyword.data());
    if (auto refused = table[i].apply(parameter->value, rules, command); refused.code != 0)
      return refused;
  }
  return {};
}

Reply apply_size(std::string_view value, const MailRules& rules, MailCommand& command) {
  const bool is_number = value.find_first_not_of("0123456789") == std::string_view::npos;
  if (!is_number || value.empty() || value.size() > kMostDigits)
    return bad_parameter("SIZE");
  // RFC 1870 §4: 20 digits are a number, though one beyond ours.
  command.size = parse_unsigned(value).value_or(std::numeric_limits<std::uint64_t>::max());
  if (rules.size_limit > 0 && *command.size > rules.size_limit)
    return Reply(552, {5, 3, 4}, "Message too large");
  return {};
}

Reply apply_body(std::string_view value, const MailRules& rules, MailCommand& command) {
  command.body_given = true;
  if (equals_ignoring_case(value, "7BIT"))
    command.body = BodyType::seven_bit;
  else if (equals_ignoring_case(value, "8BITMIME"))
    command.body = BodyType::eight_bit_mime;
  else if (equals_ignoring_case(value, "BINARYMIME") && rules.binary_mime)
    command.body = BodyType::binary_mime;
  else
    return bad_parameter("BODY");
  return {};
}

Reply apply_smtputf8(std::string_view, const MailRules& rules, MailCommand& command) {
  if (!rules.smtputf8)
    return Reply(555, kBadArguments, "Unknown parameter");
  command.smtputf8 = true;
  return {};
}

Reply apply_require_tls(std::string_view, const MailRules& rules, MailCommand& command) {
  if (!rules.require_tls)
    return Reply(555, kBadArguments, "Unknown parameter");
  command.require_tls = true;
  return {};
}

Reply apply_ret(std::string_view value, const MailRules&, MailCommand& command) {
  if (equals_ignoring_case(value, "FULL"))
    command.ret = Return::full;
  else if (equals_ignoring_case(value, "HDRS"))
    command.ret = Return::headers;
  else
    return bad_parameter("RET");
  return {};
}

// Controls, and what means them badly, have no business in a parameter (attacks.md A16); all else
// that is wrong with one is its sender's clumsiness.
std::optional<std::string> decode_liberally(std::string_view text) {
  if (!is_ascii(text) || text.find('=') != std::string_view::npos) {
    // Not xtext: then a "+" is only that.
    return is_utf8(text) ? std::optional(std::string(text)) : std::nullopt;
  }
  return decode_xtext(text);
}

Reply apply_envid(std::string_view value, const MailRules&, MailCommand& command) {
  const auto decoded = decode_liberally(value);
  if (!decoded || !is_ascii(value))
    return bad_parameter("ENVID");
  if (decoded->size() <= kMostEnvelopeId && is_ascii(*decoded))
    command.envelope_id = encode_xtext(*decoded);
  return {};
}

// RFC 4954 §5: who is not believed counts as unknown.
Reply apply_auth(std::string_view value, const MailRules& rules, MailCommand& command) {
  const auto decoded = decode_liberally(value);
  if (!decoded)
    return bad_parameter("AUTH");
  const bool is_known = decoded->size() <= kMostOriginal && parse_mailbox(*decoded, rules.smtputf8);
  command.auth = is_known ? *decoded : std::string();
  return {};
}

Reply apply_by(std::string_view value, const MailRules& rules, MailCommand& command) {
  if (!rules.wishes)
    return Reply(555, kBadArguments, "Unknown parameter");
  command.by = parse_by(value);
  return command.by ? Reply() : bad_parameter("BY");
}

// RFC 4865 §4: one of the two, for no longer than was offered. What is past cannot be meant.
Reply hold_until(TimePoint release, const MailRules& rules, MailCommand& command) {
  if (command.release)
    return Reply(501, kBadArguments, "HOLDFOR and HOLDUNTIL exclude each other");
  if (release <= rules.now)
    return Reply(501, kBadArguments, "The time to hold the message until has passed");
  if (release - rules.now > rules.future_release)
    return Reply(501, kBadArguments, "The message would be held for too long");
  // Whole seconds, and never before its time.
  command.release = std::chrono::ceil<std::chrono::seconds>(release);
  return {};
}

Reply apply_hold_for(std::string_view value, const MailRules& rules, MailCommand& command) {
  if (rules.future_release <= Duration(0))
    return Reply(555, kBadArguments, "Unknown parameter");
  const auto wait = parse_hold_for(value);
  return wait ? hold_until(rules.now + *wait, rules, command) : bad_parameter("HOLDFOR");
}

Reply apply_hold_until(std::string_view value, const MailRules& rules, MailCommand& command) {
  if (rules.future_release <= Duration(0))
    return Reply(555, kBadArguments, "Unknown parameter");
  const auto time = parse_date_time(value);
  return time ? hold_until(*time, rules, command) : bad_parameter("HOLDUNTIL");
}

Reply apply_priority(std::string_view value, const MailRules& rules, MailCommand& command) {
  if (!rules.wishes)
    return Reply(555, kBadArguments, "Unknown parameter");
  command.priority = parse_priority(value);
  return command.priority ? Reply() : bad_parameter("MT-PRIORITY");
}

constexpr Handler<MailCommand, MailRules> kMailParameters[] = {
    {"SIZE", true, apply_size},
    {"BODY", true, apply_body},
    {"SMTPUTF8", false, apply_smtputf8},
    {"RET", true, apply_ret},
    {"ENVID", true, apply_envid},
    {"AUTH", true, apply_auth},
    {"REQUIRETLS", false, apply_require_tls},
    {"BY", true, apply_by},
    {"HOLDFOR", true, apply_hold_for},
    {"HOLDUNTIL", true, apply_hold_until},
    {"MT-PRIORITY", true, apply_priority},
};

Reply apply_notify(std::string_view value, const RcptRules&, Recipient& recipient) {
  constexpr std::pair<std::string_view, std::uint8_t> kNames[] = {
      {"NEVER", Notify::kNever},
      {"SUCCESS", Notify::kSuccess},
      {"FAILURE", Notify::kFailure},
      {"DELAY", Notify::kDelay},
  };
  unsigned bits = 0;
  for (const auto part : split(value, ',')) {
    if (part.empty())
      continue;
    unsigned bit = 0;
    for (const auto& [name, number] : kNames)
      if (equals_ignoring_case(part, name))
        bit = number;
    if (bit == 0)
      return bad_parameter("NOTIFY");
    bits |= bit;
  }
  if (bits == 0 || ((bits & Notify::kNever) != 0 && bits != Notify::kNever))
    return bad_parameter("NOTIFY");  // RFC 3461 §4.1: NEVER stands alone
  recipient.notify.bits = static_cast<std::uint8_t>(bits);
  return {};
}

// RFC 6533 §3: a non-ASCII address in a form that is ASCII, "r\x{FC}@example.org", so that every
// hop can have it.
std::string utf8_original(std::string_view address) {
  constexpr char kHex[] = "0123456789ABCDEF";
  std::string out = "utf-8;";
  for (std::size_t at = 0; at < address.size();) {
    const auto lead = static_cast<unsigned char>(address[at]);
    const std::size_t size = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    std::uint32_t point = size == 1 ? lead : lead & (0xFFU >> (size + 1));
    for (std::size_t i = 1; i < size; ++i)
      point = point << 6U | (static_cast<unsigned char>(address[at + i]) & 0x3FU);
    if (size == 1 && lead > 0x20 && lead != '\\' && lead != '+' && lead != '=') {
      out.push_back(address[at]);
    } else {
      std::string digits;
      for (; point != 0 || digits.size() < 2; point >>= 4U)
        digits.insert(digits.begin(), kHex[point & 0x0FU]);
      out.append("\\x{").append(digits).append(1, '}');
    }
    at += size;
  }
  return out;
}

// RFC 3461 §4.2, RFC 6533 §3. Postfix sends the octets of UTF-8 in xtext, as rfc822: what is meant
// is plain. Empty: it is of no use; none: it holds what no parameter may.
std::optional<std::string> usable_original(std::string_view value, bool smtputf8) {
  const auto semicolon = value.find(';');
  if (semicolon == std::string_view::npos || !is_keyword(value.substr(0, semicolon)))
    return decode_liberally(value) ? std::optional(std::string()) : std::nullopt;
  const auto type = value.substr(0, semicolon);
  const auto address = value.substr(semicolon + 1);
  const auto decoded = decode_liberally(address);
  if (!decoded)
    return std::nullopt;
  const bool is_utf8_type = equals_ignoring_case(type, "utf-8");
  std::string original;
  if (is_ascii(*decoded) && (is_ascii(address) && address.find('=') == std::string_view::npos))
    original = value;
  else if (is_ascii(*decoded))
    original = std::string(type) + ";" + encode_xtext(*decoded);
  else if (is_utf8_type && !is_ascii(address) && smtputf8)
    original = value;
  else if (is_utf8(*decoded) && (is_utf8_type || equals_ignoring_case(type, "rfc822")))
    original = utf8_original(*decoded);
  if (decoded->empty() || original.size() > kMostOriginal)
    original.clear();
  return original;
}

Reply apply_orcpt(std::string_view value, const RcptRules& rules, Recipient& recipient) {
  auto original = usable_original(value, rules.smtputf8);
  if (!original)
    return bad_parameter("ORCPT");
  if (!original->empty())
    recipient.original_recipient = *std::move(original);
  return {};
}

constexpr Handler<Recipient, RcptRules> kRcptParameters[] = {
    {"NOTIFY", true, apply_notify},
    {"ORCPT", true, apply_orcpt},
};

// "FROM:" or "TO:" and the spaces that some clients put behind it; false if it is not there.
bool take_word(std::string_view& text, std::string_view word) {
  if (!starts_with_ignoring_case(text, word))
    return false;
  text.remove_prefix(word.size());
  while (!text.empty() && is_space(text.front()))
    text.remove_prefix(1);
  return true;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9')
    return c - '0';
  const char lower = ascii_lower(c);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

}  // namespace

CommandLine split_command(std::string_view line) {
  line = line.substr(0, line.find_last_not_of(" \t") + 1);
  CommandLine command;
  command.verb = line.substr(0, line.find_first_of(" \t"));
  command.arguments = trim(line.substr(command.verb.size()));
  return command;
}

Parsed<MailCommand> parse_mail(std::string_view arguments, const MailRules& rules) {
  if (!take_word(arguments, "FROM:"))
    return Reply(501, kBadArguments, "Expected MAIL FROM:<address>");
  // Whether UTF-8 was allowed is only known behind the path.
  const auto path = parse_path(
      arguments,
      {.smtputf8 = true, .null_allowed = true, .lenient = rules.lenient, .origin = rules.origin});
  if (!path)
    return refused_path(path.error(), kBadSender);
  MailCommand command;
  command.sender = path->mailbox;
  if (auto refused = read_parameters(path->rest, kMailParameters, rules, command);
      refused.code != 0)
    return refused;
  if (!command.smtputf8 && !is_ascii(command.sender))
    return Reply(553, {5, 6, 7}, "Address needs SMTPUTF8");
  // RFC 4865 §4: it could not be delivered in time.
  if (command.by && command.release &&
      *command.release >= rules.now + std::chrono::seconds(command.by->seconds))
    return Reply(501, kBadArguments, "The message would be held until after its BY time");
  return command;
}

Parsed<Recipient> parse_rcpt(std::string_view arguments, const RcptRules& rules) {
  if (!take_word(arguments, "TO:"))
    return Reply(501, kBadArguments, "Expected RCPT TO:<address>");
  const auto path = parse_path(arguments, {.smtputf8 = rules.smtputf8,
                                           .bare_postmaster = true,
                                           .lenient = rules.lenient,
                                           .origin = rules.origin});
  if (!path)
    return refused_path(path.error(), kBadRecipient);
  Recipient recipient;
  recipient.address = path->mailbox;
  if (auto refused = read_parameters(path->rest, kRcptParameters, rules, recipient);
      refused.code != 0)
    return refused;
  return recipient;
}

Parsed<BdatCommand> parse_bdat(std::string_view arguments) {
  arguments = trim(arguments);
  const auto digits = arguments.substr(0, arguments.find_first_of(" \t"));
  const auto rest = trim(arguments.substr(digits.size()));
  const auto size = digits.size() <= kMostDigits ? parse_unsigned(digits) : std::nullopt;
  const bool last = equals_ignoring_case(rest, "LAST");
  if (!size || (!last && !rest.empty()))
    return Reply(501, kBadArguments, "Expected BDAT size [LAST]");
  return BdatCommand{*size, last};
}

Parsed<std::string> parse_helo(std::string_view arguments) {
  arguments = trim(arguments);
  bool good = !arguments.empty() && arguments.size() <= 255;
  std::string_view inside = arguments;
  if (arguments.size() > 2 && arguments.front() == '[' && arguments.back() == ']')
    inside = arguments.substr(1, arguments.size() - 2);
  for (const char c : inside)
    good = good && c > 0x20 && c < 0x7F &&
           std::string_view("()<>[]\"\\,;@").find(c) == std::string_view::npos;
  if (!good)
    return Reply(501, kBadArguments, "Expected a domain or an address literal");
  return std::string(arguments);
}

std::string original_recipient_of(std::string_view value, bool smtputf8) {
  return usable_original(value, smtputf8).value_or("");
}

std::optional<std::string> decode_xtext(std::string_view text) {
  std::string decoded;
  decoded.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned char byte = static_cast<unsigned char>(text[i]);
    if (byte <= 0x20 || byte >= 0x7F || byte == '=')
      return std::nullopt;
    if (byte == '+') {
      const int high = i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
      const int low = high >= 0 ? hex_digit(text[i + 2]) : -1;
      if (low < 0)
        return std::nullopt;
      byte = static_cast<unsigned char>(high * 16 + low);
      if (byte < 0x20 || byte == 0x7F)
        return std::nullopt;
      i += 2;
    }
    decoded.push_back(static_cast<char>(byte));
  }
  return decoded;
}

std::string encode_xtext(std::string_view text) {
  constexpr char kHex[] = "0123456789ABCDEF";
  std::string encoded;
  encoded.reserve(text.size());
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte > 0x20 && byte < 0x7F && c != '+' && c != '=')
      encoded.push_back(c);
    else
      encoded.append(1, '+').append(1, kHex[byte >> 4U]).append(1, kHex[byte & 0x0FU]);
  }
  return encoded;
}

}  // namespace postrider::mail
