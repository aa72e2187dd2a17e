#include "delivery/tls/sts/policy_file.h"

#include "base/text.h"
#include "mail/address.h"

#include <algorithm>
#include <optional>

namespace postrider::delivery {

namespace {

constexpr std::uint64_t kMostAge = 31'557'600;  // seconds; RFC 8461 §3.2
constexpr std::size_t kMostDigits = 10;
constexpr std::size_t kMostHosts = 1000;
constexpr std::size_t kMostLines = 200;  // kept for reports
constexpr std::size_t kMostLine = 512;

struct Draft {
  std::optional<std::string> version;
  std::optional<std::string> mode;
  std::optional<std::string> max_age;
  StsPolicyFile file;
};

bool is_printable(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    const auto octet = static_cast<unsigned char>(c);
    return (octet >= 0x20 && octet != 0x7f) || c == '\t';
  });
}

// RFC 8461 §3.2: ["*."] Domain, and a Domain of RFC 5321 may be a single label.
bool is_host_pattern(std::string_view text) {
  if (text.starts_with("*."))
    text.remove_prefix(2);
  return !text.ends_with('.') && mail::is_host_name(text);
}

// RFC 8461 §3.2: a letter or digit, then up to 31 of those or "_", "-", ".".
bool is_key(std::string_view text) {
  const auto is_letter = [](char c) {
    return (c >= '0' && c <= '9') || (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z');
  };
  return !text.empty() && text.size() <= 32 && is_letter(text.front()) &&
         std::all_of(text.begin(), text.end(),
                     [&](char c) { return is_letter(c) || c == '_' || c == '-' || c == '.'; });
}

Result<void> take_line(std::string_view line, Draft& draft) {
  const auto colon = line.find(':');
  if (colon == line.npos || !is_printable(line))
    return malformed("a line that is no \"key: value\"");
  const auto key = trim(line.substr(0, colon));
  const auto value = trim(line.substr(colon + 1));
  if (!is_key(key))
    return malformed("a line that is no \"key: value\"");
  const auto take_first = [&](std::optional<std::string>& slot) {
    if (!slot)
      slot = std::string(value);
  };
  auto& policy = draft.file.policy;
  if (key == "version")
    take_first(draft.version);
  else if (key == "mode")
    take_first(draft.mode);
  else if (key == "max_age")
    take_first(draft.max_age);
  else if (key == "mx") {
    auto host = ascii_lower(value);
    if (!is_host_pattern(host))
      return malformed("mx is not a host name");
    if (policy.mx.size() >= kMostHosts)
      return Error(Errc::too_long, "more than 1000 hosts");
    policy.mx.push_back(std::move(host));
  }
  if (policy.lines.size() < kMostLines)
    policy.lines.emplace_back(line.substr(0, kMostLine));
  return {};
}

Result<StsPolicyFile> finish(Draft draft) {
  auto& file = draft.file;
  if (draft.version != "STSv1")
    return malformed("version is not STSv1");
  if (draft.mode == "enforce")
    file.policy.mode = StsPolicy::Mode::enforce;
  else if (draft.mode == "testing")
    file.policy.mode = StsPolicy::Mode::testing;
  else if (draft.mode != "none")
    return malformed("mode is none of enforce, testing and none");
  const auto age = draft.max_age && draft.max_age->size() <= kMostDigits
                       ? parse_unsigned(*draft.max_age)
                       : std::nullopt;
  if (!age)
    return malformed("max_age is not a number of at most ten digits");
  file.max_age = std::chrono::seconds(std::min(*age, kMostAge));
  if (file.policy.mode != StsPolicy::Mode::none && file.policy.mx.empty())
    return malformed("there is no mx");
  return std::move(file);
}

}  // namespace

std::optional<TlsTrouble> trouble_of(const HttpResponse& answer) {
  if (answer.status != 200)
    return TlsTrouble{TlsResult::sts_policy_fetch_error,
                      "HTTP status " + std::to_string(answer.status)};
  if (answer.content_type != "text/plain")
    return TlsTrouble{
        TlsResult::sts_policy_invalid,
        "content type " + escaped(answer.content_type, 80) + " instead of text/plain"};
  return std::nullopt;
}

Result<StsPolicyFile> parse_sts_policy(std::string_view text) {
  if (text.size() > kMostStsPolicy)
    return Error(Errc::too_long, "the policy is longer than 64 KiB");
  Draft draft;
  for (auto line : split(text, '\n')) {
    if (line.ends_with('\r'))
      line.remove_suffix(1);
    if (trim(line).empty())
      continue;
    if (auto taken = take_line(line, draft); !taken)
      return taken.error();
  }
  return finish(std::move(draft));
}

}  // namespace postrider::delivery
