#include "tables/key_template.h"

#include "base/text.h"

#include <algorithm>

namespace postrider::tables {

namespace {

constexpr std::size_t kMostValues = 10'000;
constexpr std::size_t kMostOctets = 1U << 20U;  // together

}  // namespace

std::string check_key_template(std::string_view text) {
  for (std::size_t at = text.find('%'); at != text.npos; at = text.find('%', at + 2))
    if (at + 1 == text.size() || std::string_view("sud%").find(text[at + 1]) == text.npos)
      return "has \"" + escaped(text.substr(at, 2), 10) + "\" in it; expected %s, %u, %d or %%";
  return {};
}

std::optional<std::string> expand_key(std::string_view text, std::string_view key,
                                      const std::function<std::string(std::string_view)>& escape) {
  const auto sign = key.rfind('@');
  const bool is_address = sign != key.npos;
  const auto user = is_address ? key.substr(0, sign) : key;
  const auto domain = is_address ? key.substr(sign + 1) : std::string_view();
  std::string out;
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (text[at] != '%' || at + 1 == text.size()) {
      out.push_back(text[at]);
      continue;
    }
    const char which = text[++at];
    if (which == '%') {
      out.push_back('%');
      continue;
    }
    const auto part = which == 'u' ? user : which == 'd' ? domain : key;
    if (part.empty())
      return std::nullopt;
    out.append(escape ? escape(part) : std::string(part));
  }
  return out;
}

bool is_key_of(const std::vector<std::string>& domains, std::string_view key) {
  const auto sign = key.rfind('@');
  const auto domain = sign == key.npos ? key : key.substr(sign + 1);
  return domains.empty() || std::any_of(domains.begin(), domains.end(), [&](const auto& one) {
           return equals_ignoring_case(one, domain);
         });
}

bool JoinedValues::add(std::string_view value) {
  const auto formatted = expand_key(format_, value);
  if (!formatted)
    return true;
  if (++count_ > kMostValues || text_.size() + formatted->size() > kMostOctets)
    return false;
  text_.append(text_.empty() ? "" : ", ").append(*formatted);
  return true;
}

}  // namespace postrider::tables
