#include "delivery/tls/sts/tags.h"

#include "base/text.h"

#include <algorithm>

namespace postrider::delivery {

namespace {

constexpr std::size_t kMostRecord = 4096;
constexpr std::size_t kMostTags = 64;
constexpr std::size_t kMostName = 32;
constexpr std::size_t kMostId = 32;

bool is_alphanumeric(char c) {
  const char lower = ascii_lower(c);
  return (c >= '0' && c <= '9') || (lower >= 'a' && lower <= 'z');
}

bool is_name(std::string_view text) {
  const auto is_allowed = [](char c) {
    return is_alphanumeric(c) || c == '_' || c == '-' || c == '.';
  };
  return !text.empty() && text.size() <= kMostName && is_alphanumeric(text.front()) &&
         std::all_of(text.begin(), text.end(), is_allowed);
}

// A value holds no "=" and no controls; white space only inside, where lists of URIs have it.
bool is_value(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(),
                                      [](char c) { return (c >= 0x20 && c < 0x7f) || c == '\t'; });
}

// Both RFCs: the version is the first field, exactly so.
bool has_version(std::string_view record, std::string_view version) {
  if (!record.starts_with("v=") || !record.substr(2).starts_with(version))
    return false;
  const auto rest = trim(record.substr(2 + version.size()));
  return rest.empty() || rest.front() == ';';
}

}  // namespace

std::optional<std::vector<Tag>> parse_tags(std::string_view record, std::string_view version) {
  if (record.size() > kMostRecord || !has_version(record, version))
    return std::nullopt;
  auto parts = split(record, ';');
  parts.erase(parts.begin());
  if (!parts.empty() && trim(parts.back()).empty())
    parts.pop_back();  // a delimiter may end the record
  if (parts.empty() || parts.size() > kMostTags)
    return std::nullopt;
  std::vector<Tag> tags;
  for (const auto part : parts) {
    const auto field = trim(part);
    const auto equals = field.find('=');
    if (equals == field.npos)
      return std::nullopt;
    const Tag tag{field.substr(0, equals), field.substr(equals + 1)};
    if (!is_name(tag.name) || !is_value(tag.value))
      return std::nullopt;
    tags.push_back(tag);
  }
  return tags;
}

std::optional<std::string> only_record(const std::vector<std::string>& records,
                                       std::string_view version) {
  const std::string* found = nullptr;
  for (const auto& record : records) {
    if (!has_version(record, version))
      continue;
    if (found != nullptr)
      return std::nullopt;
    found = &record;
  }
  return found == nullptr ? std::nullopt : std::optional(*found);
}

std::optional<std::string> parse_sts_record(const std::vector<std::string>& records) {
  const auto record = only_record(records, "STSv1");
  if (!record)
    return std::nullopt;
  const auto tags = parse_tags(*record, "STSv1");
  if (!tags)
    return std::nullopt;
  const auto id =
      std::find_if(tags->begin(), tags->end(), [](const Tag& tag) { return tag.name == "id"; });
  if (id == tags->end() || id->value.size() > kMostId ||
      !std::all_of(id->value.begin(), id->value.end(), is_alphanumeric))
    return std::nullopt;
  return std::string(id->value);
}

}  // namespace postrider::delivery
