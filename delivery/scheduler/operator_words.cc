#include "delivery/scheduler/operator_words.h"

#include "base/text.h"

namespace postrider::scheduler {

namespace {

constexpr std::size_t kMostSteps = 20;
constexpr std::uint64_t kMostRate = 1'000'000;
constexpr Duration kLeastStep = std::chrono::milliseconds(100);
constexpr Duration kMostStep = std::chrono::hours(24 * 7);

std::optional<ReplyClass> class_named(std::string_view text) {
  for (std::size_t i = 0; i < kReplyClasses; ++i)
    if (text == name(static_cast<ReplyClass>(i)))
      return static_cast<ReplyClass>(i);
  return std::nullopt;
}

}  // namespace

std::optional<double> parse_rate(std::string_view text) {
  const auto slash = text.find('/');
  if (slash == text.npos || slash + 2 != text.size())
    return std::nullopt;
  const auto count = parse_unsigned(text.substr(0, slash));
  if (!count || *count == 0 || *count > kMostRate)
    return std::nullopt;
  constexpr std::string_view kUnits = "smhd";
  constexpr double kSeconds[] = {1, 60, 3600, 86400};
  const auto unit = kUnits.find(text.back());
  if (unit == kUnits.npos)
    return std::nullopt;
  return static_cast<double>(*count) / kSeconds[unit];
}

std::optional<RetryRule> parse_retry_rule(std::string_view text) {
  std::optional<RetryRule> rule;
  for (const auto word : split(text, ' ')) {
    if (word.empty())
      continue;
    if (!rule) {
      const auto klass = class_named(word);
      if (!klass)
        return std::nullopt;
      rule = RetryRule{*klass, {}};
      continue;
    }
    const auto step = parse_duration(word);
    if (!step || *step < kLeastStep || *step > kMostStep || rule->steps.size() == kMostSteps)
      return std::nullopt;
    rule->steps.push_back(*step);
  }
  return rule && !rule->steps.empty() ? rule : std::nullopt;
}

}  // namespace postrider::scheduler
