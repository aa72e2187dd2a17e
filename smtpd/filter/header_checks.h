// Patterns on header fields, of messages and of the parts inside, and what follows from a match:
// Postfix's header_checks and mime_header_checks.
//
// Each field is looked at unfolded, "Subject: some words", without white space before its colon, by
// the rules in their order; the first that matches decides about it. Matching is bounded in steps
// for each field and in time for each message, and runs on a pool: a message that would need more is
// put off (451), never let through unseen. One with a longer field, or with parts that are nested
// deeper than can be looked at, is refused (550).
#pragma once

#include "base/net/blocking_pool.h"
#include "smtpd/filter/mail_filter.h"
#include "tables/pattern.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::smtpd::filter {

struct HeaderRule {
  static constexpr std::uint8_t kMx = 1, kSubmission = 2, kSendmail = 4;
  enum class Action : std::uint8_t { reject, hold, discard, warn, strip, prepend };
  tables::Pattern pattern;
  // Of the parts inside, and those of the message's own that describe its content (Content-*); else
  // of the message.
  bool of_parts = false;
  std::uint8_t mail = kMx | kSubmission;  // which it is asked about
  Action action = Action::warn;
  std::string text;  // the reply's, the reason's or the field's
};
// pattern: "/.../flags" as in a table pcre:; action: "reject TEXT", "hold TEXT", "discard", "warn
// TEXT", "strip" or "prepend NAME: VALUE", these two not of parts. The error's step says what is
// wrong.
Result<HeaderRule> parse_header_rule(std::string_view pattern, std::string_view action,
                                     bool of_parts);

struct HeaderCheckSettings {
  static constexpr std::size_t kMostOfField = 102'400;
  std::vector<HeaderRule> rules;
  Duration time_limit{std::chrono::seconds(1)};  // of a message, of matching alone
  tables::PatternLimits limits{200'000, 500, 512};
};

// Since start, of all loops.
struct HeaderCheckCounters {
  std::atomic<std::uint64_t> matched{0}, refused{0}, put_off{0};
};

class HeaderChecks final : public Source {
 public:
  // pool and counters outlive the sessions.
  HeaderChecks(HeaderCheckSettings settings, BlockingPool& pool, HeaderCheckCounters& counters)
      : settings_(std::make_shared<const HeaderCheckSettings>(std::move(settings))),
        pool_(pool),
        counters_(counters) {}
  bool is_for_sendmail() const;
  std::unique_ptr<Filter> make(const Facts& facts, const Surroundings& around) const override;

 private:
  const std::shared_ptr<const HeaderCheckSettings> settings_;
  BlockingPool& pool_;
  HeaderCheckCounters& counters_;
};

}  // namespace postrider::smtpd::filter
