// For smtpd/auth/service*.cc.
#pragma once

#include "base/log.h"
#include "base/net/blocking_pool.h"
#include "smtpd/auth/challenges.h"
#include "smtpd/auth/pam_helper.h"
#include "smtpd/auth/tables.h"

#include <atomic>
#include <functional>
#include <mutex>
#include <optional>
#include <unordered_map>

namespace postrider::smtpd::auth {

struct AuthService::Impl {
  Impl(const Clock& clock_, Log& log_, std::string folder_)
      : clock(clock_), log(log_), folder(std::move(folder_)) {}

  std::shared_ptr<const Tables> current() const {
    const std::lock_guard lock(mutex);
    return tables;
  }
  // A job for one of the pools, if not too many wait.
  template <class T>
  static Task<std::optional<T>> run_bounded(BlockingPool& pool, std::atomic<unsigned>& waiting,
                                            Loop& loop, std::function<T()> job) {
    constexpr unsigned kMostWaiting = 64;
    if (waiting.fetch_add(1) >= kMostWaiting) {
      --waiting;
      co_return std::nullopt;
    }
    auto result = co_await pool.run<T>(loop, std::move(job));
    --waiting;
    co_return std::optional<T>(std::move(result));
  }

  // What one client may have under way at one time: whoever tries passwords against a slow module
  // leaves places to others. An IPv6 client by its /64.
  class Place {
   public:
    Place(Impl& impl, const IpAddress& client)
        : impl_(impl), client_((client.is_v6() ? client.masked(64) : client).str()) {
      const std::lock_guard lock(impl_.mutex);
      is_free_ = ++impl_.asking_of[client_] <= kMostOfClient;
    }
    ~Place() {
      const std::lock_guard lock(impl_.mutex);
      if (--impl_.asking_of[client_] == 0)
        impl_.asking_of.erase(client_);
    }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;
    bool is_free() const { return is_free_; }

   private:
    static constexpr unsigned kMostOfClient = 8;
    Impl& impl_;
    const std::string client_;
    bool is_free_;
  };

  void trouble(std::string_view what, const Error& error);
  void alarm(std::string_view user, const SendingQuota::Verdict& verdict);
  std::string judged(std::string_view user, const SendingQuota::Verdict& verdict);
  void save_sometimes();
  void save_now();

  const Clock& clock;
  Log& log;
  const std::string folder;
  std::function<dns::Resolver&(Loop&)> resolver_of;
  std::shared_ptr<const PamHelper> pam;  // null: auth.pam was not set at the start
  mutable std::mutex mutex;              // of all below but the pools
  std::shared_ptr<const Tables> tables;
  LoginLimiter guard{LoginLimiter::Rules()};
  SendingQuota quota{SendingQuota::Rules()};
  Challenges challenges;  // of Dovecot
  unsigned learning = 0;  // questions under way about how it writes names
  SteadyTime learn_again{};
  std::string secret;
  std::unordered_map<std::string, unsigned> asking_of;  // PAM, by client
  bool is_dirty = false;
  bool is_restored = false;
  SteadyTime saved{};
  std::atomic<unsigned> hashing{0};
  std::atomic<unsigned> asking{0};
  std::atomic<unsigned> introspecting{0};
  std::optional<BlockingPool> hashes;   // busy with a processor
  std::optional<BlockingPool> waiters;  // waiting for PAM or a disk
};

}  // namespace postrider::smtpd::auth
