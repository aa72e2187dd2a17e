// A milter as one of the filters of a session: tells it of each step, carries out what it wants
// done to the message, and does what was configured where it cannot be asked.
//
// A milter that fails costs the message at hand, and what it wanted done by then is not done. The
// next message tries again; a milter that cannot be reached is spared by its Gate meanwhile.
#pragma once

#include "base/histogram.h"
#include "base/network.h"
#include "smtpd/filter/mail_filter.h"
#include "smtpd/filter/milter_client.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace postrider::smtpd::filter::milter {

struct MilterSettings {
  std::string name;  // for the log and for administrators
  Address address;
  bool on_mx = true, on_submission = true, on_sendmail = false;
  std::vector<std::string> listeners;   // addresses as configured; empty: all
  std::vector<Network> except_clients;  // whose mail it is not asked about
  DefaultAction default_action = DefaultAction::tempfail;
  Timeouts timeouts;
  std::size_t connections = 200;
  // Beside those that are known here, and instead of them: "{daemon_name}", "ORIGINATING".
  Macros macros;
  std::size_t most_recipients = 1000;
  std::uint64_t message_size = 50U << 20U;
  std::string origin;  // completes addresses without a domain
};

// Kinds of answers, for metrics.
inline constexpr std::array<const char*, 5> kAnswerNames = {"continue", "accept", "discard",
                                                            "reject", "tempfail"};
inline constexpr std::size_t kAnswers = kAnswerNames.size();

// What all sessions share about one milter; survives a reload.
struct MilterPeer {
  MilterPeer(const Gate::Limits& limits, std::shared_ptr<Total> sum)
      : total(std::move(sum)), gate(limits, total.get()) {}
  const std::shared_ptr<Total> total;
  Gate gate;
  // Messages whose end it was told of, that it changed, refused (commands, too), threw away and
  // wanted held; and how often it could not be asked.
  std::atomic<std::uint64_t> asked{0}, edited{0}, refused{0}, discarded{0}, held{0}, failed{0};
  // Connections that were made, and agreed on.
  std::atomic<std::uint64_t> conversations{0};
  // What it answered where it was waited for, and the time of each such answer.
  std::array<std::atomic<std::uint64_t>, kAnswers> answers{};
  Histogram answer_time{kShortTimes};
};

// Of all milters since start. Thread-safe.
class MilterPeers {
 public:
  explicit MilterPeers(const Total::Limits& limits = {})
      : total_(std::make_shared<Total>(limits)) {}
  // The same for the same milter and limit.
  std::shared_ptr<MilterPeer> peer(const MilterSettings& settings);
  // Those that are in use, by name.
  std::map<std::string, std::shared_ptr<const MilterPeer>> in_use() const;

 private:
  struct Known {
    std::string name;
    std::size_t connections = 0;
    std::weak_ptr<MilterPeer> peer;
  };
  const std::shared_ptr<Total> total_;
  mutable std::mutex mutex_;
  std::map<std::string, Known> known_;  // by address and limit
};

class Milter final : public Source {
 public:
  Milter(MilterSettings settings, std::shared_ptr<MilterPeer> peer);
  std::unique_ptr<Filter> make(const Facts& facts, const Surroundings& around) const override;
  bool is_for_sendmail() const { return settings_->on_sendmail; }

 private:
  bool concerns(const Facts& facts) const;
  const std::shared_ptr<const MilterSettings> settings_;
  const std::shared_ptr<MilterPeer> peer_;
};

// What a milter may be told of a session and its message, by name without braces where others write
// none: "i", "{auth_authen}".
Macros known_macros(const Facts& facts, const MilterSettings& settings);

}  // namespace postrider::smtpd::filter::milter
