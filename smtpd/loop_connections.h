// What the connections of one loop share. Lives on its loop, but for the counters and what other
// threads post to it; kept alive by its connections.
#pragma once

#include "base/log.h"
#include "base/net/loop.h"
#include "smtpd/buffer_pool.h"
#include "smtpd/filter/client_names.h"
#include "smtpd/filter/questioner.h"
#include "smtpd/limited_log.h"
#include "smtpd/lookups.h"
#include "smtpd/message_store.h"
#include "smtpd/server_settings.h"
#include "smtpd/session/policy.h"
#include "smtpd/session/session_step.h"
#include "smtpd/session_limits.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>

namespace postrider::smtpd {

class Connection;

// Written on one loop, read anywhere.
struct LoopCounters {
  std::atomic<std::uint64_t> connections{0}, messages{0}, recipients{0}, bytes{0}, rejected{0},
      turned_away{0};
  static constexpr int kFirstCode = 400;
  static constexpr std::size_t kCodes = 200;
  std::array<std::atomic<std::uint64_t>, kCodes> rejected_with{};
  // By what the enhanced code says it was about (RFC 3463 section 3); 0: nothing, or no code.
  static constexpr std::size_t kSubjects = 8;
  std::array<std::atomic<std::uint64_t>, kSubjects> rejected_about{};
  std::atomic<std::uint64_t> tls_1_3{0}, tls_1_2{0}, tls_older{0}, tls_failed{0};
};
inline void count(std::atomic<std::uint64_t>& counter, std::uint64_t more = 1) {
  counter.store(counter.load(std::memory_order_relaxed) + more, std::memory_order_relaxed);
}

// code, subject: of a reply and its enhanced code.
inline void count_rejection(LoopCounters& counters, int code, std::size_t subject) {
  count(counters.rejected);
  count(counters.rejected_about[subject < LoopCounters::kSubjects ? subject : 0]);
  const auto place = static_cast<std::size_t>(code - LoopCounters::kFirstCode);
  if (place < LoopCounters::kCodes)
    count(counters.rejected_with[place]);
}

class LoopConnections {
 public:
  LoopConnections(Loop& loop, MessageStore& custody, const Clock& clock, Log& log,
                  std::shared_ptr<SessionLimits> slots,
                  std::shared_ptr<const ServerSettings> settings,
                  std::shared_ptr<const Policy> policy, Lookups& lookups);

  Loop& loop() { return loop_; }
  MessageStore& custody() { return custody_; }
  const Clock& clock() const { return clock_; }
  Log& log() { return log_; }
  // For connections and refusals of strangers.
  Log& limited_log() { return limited_log_; }
  // is_ours: about a client that may relay.
  Log& log_about(bool is_ours) { return is_ours ? log_ : static_cast<Log&>(limited_log_); }
  SessionLimits& slots() { return *slots_; }
  Lookups& lookups() { return lookups_; }
  BufferPool& buffers() { return buffers_; }
  // Null: there is no resolver.
  filter::Questioner* questioner() { return questioner_.get(); }
  void ask_questions_of(dns::Resolver& resolver);
  filter::ClientNames& client_names() { return client_names_; }
  LoopCounters& counters() { return counters_; }
  const LoopCounters& counters() const { return counters_; }

  const std::shared_ptr<const ServerSettings>& settings() const { return settings_; }
  const std::shared_ptr<const Policy>& policy() const { return policy_; }
  // policy: made of these settings.
  void configure(std::shared_ptr<const ServerSettings> settings,
                 std::shared_ptr<const Policy> policy) {
    settings_ = std::move(settings);
    policy_ = std::move(policy);
  }
  // The limit of sessions in all: as configured, or what the file limit leaves room for.
  std::uint32_t session_limit() const;
  // More than three quarters of the slots are taken (attacks.md X09).
  // Content that is held counts too: memory for it is one budget for all sessions.
  bool is_stressed() const {
    return slots_->open() > session_limit() / 4 * 3 ||
           slots_->held() > policy_->limits().content_memory ||
           slots_->tls() > policy_->limits().content_memory / 4 * 3;
  }
  // Content goes to its file early.
  bool is_tight() const { return slots_->held() > policy_->limits().content_memory / 2; }

  // Sets what is the same for every session: storage, stopping, stressed.
  void note(Conditions& conditions) const;

  void add(Connection& connection);
  void remove(Connection& connection);
  // Strangers that are idle get the short deadlines, once per onset of stress.
  void notice_stress();

  bool is_stopping() const { return stopping_; }
  // No new sessions; the idle ones end now, the others when their transaction ends or, with a 421,
  // after `grace`, and a second later whatever they do. `empty` runs once when none is left.
  void stop(Duration grace, std::function<void()> empty);
  void close_all();

 private:
  void on_grace_end();

  Loop& loop_;
  MessageStore& custody_;
  const Clock& clock_;
  Log& log_;
  LimitedLog limited_log_;
  std::shared_ptr<SessionLimits> slots_;
  std::shared_ptr<const ServerSettings> settings_;
  std::shared_ptr<const Policy> policy_;
  Lookups& lookups_;
  BufferPool buffers_;
  std::unique_ptr<filter::Questioner> questioner_;
  filter::ClientNames client_names_;
  LoopCounters counters_;
  Connection* first_ = nullptr;  // linked through the connections
  bool stopping_ = false;
  bool stressed_ = false;
  bool gave_up_ = false;
  std::function<void()> empty_;
  Deadline grace_;
  std::uint32_t file_limit_;
};

}  // namespace postrider::smtpd
