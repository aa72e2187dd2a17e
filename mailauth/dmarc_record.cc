#include "mailauth/dmarc_record.h"

#include "base/text.h"
#include "mail/address.h"

#include <algorithm>
#include <array>

namespace postrider::mailauth {

namespace {

// Nothing that is published needs more; a longer text is looked at up to here.
constexpr std::size_t kMostOfUri = 1024;

enum class Name : std::uint8_t { adkim, aspf, fo, np, p, psd, rua, ruf, sp, t };
constexpr std::array<std::string_view, 10> kNames = {"adkim", "aspf", "fo",  "np", "p",
                                                     "psd",   "rua",  "ruf", "sp", "t"};

// The values of the known tags. A tag that was given twice is `given` and has none.
struct Values {
  struct One {
    bool given = false;
    std::optional<std::string_view> value;
  };
  std::array<One, kNames.size()> all;

  const One& operator[](Name name) const { return all[static_cast<std::size_t>(name)]; }
  bool is(Name name, std::string_view value) const {
    return equals_ignoring_case((*this)[name].value.value_or(""), value);
  }
};

// "name = value"; false if there is no "=".
bool split_tag(std::string_view tag, std::string_view& name, std::string_view& value) {
  const auto equals = tag.find('=');
  if (equals == std::string_view::npos)
    return false;
  name = trim(tag.substr(0, equals));
  value = trim(tag.substr(equals + 1));
  return true;
}

bool is_version(std::string_view tag) {
  std::string_view name, value;
  return split_tag(tag, name, value) && equals_ignoring_case(name, "v") && value == "DMARC1";
}

bool is_value(std::string_view value) {
  return !value.empty() &&
         std::all_of(value.begin(), value.end(), [](char c) { return c >= ' ' && c <= '~'; });
}

Values read_values(std::string_view rest) {
  Values values;
  for (const auto tag : split(rest, ';')) {
    std::string_view name, value;
    if (!split_tag(tag, name, value))
      continue;
    for (std::size_t i = 0; i < kNames.size(); ++i) {
      if (!equals_ignoring_case(name, kNames[i]))
        continue;
      auto& one = values.all[i];
      one.value = !one.given && is_value(value) ? std::optional(value) : std::nullopt;
      one.given = true;
    }
  }
  return values;
}

std::optional<DmarcPolicy> parse_policy(const Values::One& one) {
  for (const auto policy : {DmarcPolicy::none, DmarcPolicy::quarantine, DmarcPolicy::reject})
    if (one.value && equals_ignoring_case(*one.value, to_string(policy)))
      return policy;
  return std::nullopt;
}

std::vector<ReportUri> parse_uris(const Values::One& one) {
  std::vector<ReportUri> uris;
  for (const auto member : split(one.value.value_or(""), ',')) {
    if (uris.size() == kMostReportUris)
      break;
    if (auto uri = parse_report_uri(trim(member)))
      uris.push_back(std::move(*uri));
  }
  return uris;
}

// fo: members 0, 1, d and s, each once, 0 and 1 not together.
std::string parse_failure_options(const Values::One& one) {
  std::string seen;
  for (const auto member : split(one.value.value_or(""), ':')) {
    const auto option = ascii_lower(trim(member));
    if (option.size() != 1 || std::string_view("01ds").find(option) == std::string_view::npos ||
        seen.find(option) != std::string::npos)
      return "0";
    seen += option;
  }
  if (seen.find('0') != std::string::npos && seen.find('1') != std::string::npos)
    return "0";
  std::string joined;
  for (const char option : seen)
    joined.append(joined.empty() ? "" : ":").append(1, option);
  return joined.empty() ? "0" : joined;
}

int value_of_hex(char c) {
  if (c >= '0' && c <= '9')
    return c - '0';
  const char lower = ascii_lower(c);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// RFC 3986 §2.1. Nothing if a "%" begins no escape.
std::optional<std::string> percent_decoded(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (text[at] != '%') {
      out += text[at];
      continue;
    }
    const int high = at + 2 < text.size() ? value_of_hex(text[at + 1]) : -1;
    const int low = at + 2 < text.size() ? value_of_hex(text[at + 2]) : -1;
    if (high < 0 || low < 0)
      return std::nullopt;
    out += static_cast<char>(high * 16 + low);
    at += 2;
  }
  return out;
}

// "10m", in powers of 1024 (RFC 7489 §6.4).
std::optional<std::uint64_t> parse_size_limit(std::string_view text) {
  constexpr std::string_view kUnits = "kmgt";
  unsigned shift = 0;
  if (!text.empty())
    if (const auto unit = kUnits.find(ascii_lower(text.back())); unit != std::string_view::npos) {
      shift = 10 * (static_cast<unsigned>(unit) + 1);
      text.remove_suffix(1);
    }
  const auto number = parse_unsigned(text);
  if (!number || *number > (~std::uint64_t{0} >> shift))
    return std::nullopt;
  return *number << shift;
}

bool is_scheme(std::string_view text) {
  return !text.empty() && ascii_lower(text.front()) >= 'a' && ascii_lower(text.front()) <= 'z' &&
         text.find_first_not_of(
             "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.") ==
             std::string_view::npos;
}

}  // namespace

std::string_view to_string(DmarcPolicy policy) {
  switch (policy) {
    case DmarcPolicy::none:
      return "none";
    case DmarcPolicy::quarantine:
      return "quarantine";
    case DmarcPolicy::reject:
      return "reject";
  }
  return "none";
}

DmarcPolicy one_step_milder(DmarcPolicy policy) {
  return policy == DmarcPolicy::reject ? DmarcPolicy::quarantine : DmarcPolicy::none;
}

std::optional<ReportUri> parse_report_uri(std::string_view text) {
  ReportUri uri;
  const auto mark = text.find('!');
  if (mark != std::string_view::npos)
    uri.most_size = parse_size_limit(text.substr(mark + 1));
  text = text.substr(0, mark);
  const auto colon = text.find(':');
  if (text.size() > kMostOfUri || colon == std::string_view::npos || colon + 1 == text.size() ||
      !is_scheme(text.substr(0, colon)))
    return std::nullopt;
  const auto rest = text.substr(colon + 1);
  if (rest.find_first_of("\"<>\\^`{|} ,") != std::string_view::npos || !is_value(rest))
    return std::nullopt;
  uri.text = text;
  uri.scheme = ascii_lower(text.substr(0, colon));
  const auto decoded = percent_decoded(rest.substr(0, rest.find_first_of("?#")));
  if (!decoded)
    return std::nullopt;
  if (uri.scheme == "mailto") {
    auto mailbox = mail::parse_mailbox(*decoded, true);
    if (!mailbox || mailbox->find('@') == std::string::npos)
      return std::nullopt;
    uri.mailbox = std::move(*mailbox);
  }
  return uri;
}

std::optional<DmarcRecord> DmarcRecord::parse(std::string_view text) {
  const auto end = text.find(';');
  if (!is_version(text.substr(0, end)))
    return std::nullopt;
  const auto values = read_values(end == std::string_view::npos ? "" : text.substr(end + 1));
  DmarcRecord record;
  record.p = parse_policy(values[Name::p]);
  record.sp = parse_policy(values[Name::sp]);
  record.np = parse_policy(values[Name::np]);
  record.has_valid_policy =
      record.p && (record.sp || !values[Name::sp].given) && (record.np || !values[Name::np].given);
  record.strict_dkim = values.is(Name::adkim, "s");
  record.strict_spf = values.is(Name::aspf, "s");
  record.testing = values.is(Name::t, "y");
  if (values.is(Name::psd, "y"))
    record.psd = Psd::yes;
  else if (values.is(Name::psd, "n"))
    record.psd = Psd::no;
  record.rua = parse_uris(values[Name::rua]);
  record.ruf = parse_uris(values[Name::ruf]);
  if (!record.ruf.empty())
    record.fo = parse_failure_options(values[Name::fo]);
  return record;
}

}  // namespace postrider::mailauth
