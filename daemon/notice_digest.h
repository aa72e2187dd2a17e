// Sends the digest of notices that could not be delivered (delivery/double_bounces.h), and keeps
// what was counted over a restart: a file, written within seconds of a change and at the stop. A
// crash loses the count of those seconds; the log has a line for each.
//
// What cannot be stored is tried again soon, and counted on meanwhile. After a crash between
// custody and file the digest comes a second time.
#pragma once

#include "base/net/deadline.h"
#include "base/time.h"
#include "daemon/own_mail.h"
#include "delivery/delivery_settings.h"
#include "delivery/double_bounces.h"

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

namespace postrider::daemon {

struct DigestReceiver {
  std::string address;  // empty: nobody wants one
  std::string hostname;
};
DigestReceiver digest_receiver(const delivery::DeliverySettings& settings);

// Lives on the first loop.
class NoticeDigest : public std::enable_shared_from_this<NoticeDigest> {
 public:
  NoticeDigest(const Clock& clock, OwnMail own_mail, std::string file);

  void load();                              // before the loop runs; blocking
  void configure(DigestReceiver receiver);  // on the loop, or before it runs
  void start();                             // before the loop runs
  void stop();                              // on the loop
  void save_now();                          // when the loop has ended; blocking
  const std::shared_ptr<delivery::DoubleBounces>& double_bounces() const { return bounces_; }

 private:
  struct File {
    void write(const std::string& path, const std::string& text, std::uint64_t version, Log& log);
    std::mutex mutex;
    std::uint64_t last = 0;
  };
  void tick();
  void save();
  Task<void> send(std::shared_ptr<NoticeDigest> self);

  const Clock& clock_;
  const OwnMail own_mail_;
  const std::string path_;
  DigestReceiver receiver_;
  const std::shared_ptr<delivery::DoubleBounces> bounces_ =
      std::make_shared<delivery::DoubleBounces>();
  const std::shared_ptr<File> file_ = std::make_shared<File>();
  std::uint64_t saved_ = 0;   // the version that was handed to the pool
  std::uint64_t loaded_ = 0;  // the one that the file had
  SteadyTime next_try_;
  bool is_sending_ = false;
  std::unique_ptr<Deadline> tick_;
};

}  // namespace postrider::daemon
