// Notices that cannot be delivered, and have no sender to go back to. The administrator gets the
// first ten of an hour as they are; of those behind them one digest when the hour is over. A
// thousand messages with a sender that does not exist are one fault, not a thousand letters.
//
//   may_tell() --yes--> a notice, stored with the record that it belongs to
//              `--no--> counted, and an hour later due() --> digest, in custody --> told()
//
// What tells of double bounces bears a mark, by which every host that is one of these knows it
// again: when such a message fails there is no further one, whichever way it went.
#pragma once

#include "base/result.h"
#include "base/time.h"
#include "mail/message_id.h"
#include "mail/outcome.h"

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace postrider::delivery {

// What was counted, by the domains of the recipients.
struct UndeliveredNotices {
  struct Domain {
    std::uint64_t count = 0;
    std::string recipient, reason;  // of the last
  };
  static constexpr std::size_t kMostDomains = 1000;

  std::uint64_t count = 0;
  TimePoint since, until;  // the first and the last
  std::map<std::string, Domain> domains;
  std::uint64_t elsewhere = 0;  // in domains beyond kMostDomains
};

// Used on the dispatcher's first loop, or before it runs.
class DoubleBounces {
 public:
  static constexpr std::size_t kMostAnHour = 10;
  static constexpr Duration kHour = std::chrono::hours(1);

  // Whether the administrator gets this one as it is; then it counts as sent. Once something was
  // counted for a digest everything is, until that has gone.
  bool may_tell(TimePoint now);
  void count(std::string_view recipient, const mail::Outcome& failure, TimePoint now);

  // What a digest has to say, when its time has come.
  const UndeliveredNotices* due(TimePoint now) const;
  // That digest is in custody; what was counted since stays for the next.
  void told(UndeliveredNotices digest, TimePoint now);
  void forget();  // no digests are wanted

  const UndeliveredNotices& counted() const { return counted_; }
  std::uint64_t version() const { return version_; }  // another one after each change
  std::string encode() const;
  static Result<DoubleBounces> decode(std::string_view text);

 private:
  void forget_old(TimePoint now);

  std::deque<TimePoint> sent_;  // within the last hour, notices and digests
  UndeliveredNotices counted_;
  std::uint64_t version_ = 0;
};

// An ordinary message in ASCII, CRLF line ends, with the mark.
std::string compose_digest(const UndeliveredNotices& counted, const std::string& hostname,
                           const std::string& to, mail::MessageId id, TimePoint now);

}  // namespace postrider::delivery
