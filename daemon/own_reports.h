// Mail that the daemon itself writes: reports on TLS and DMARC to other domains, and the digest of
// notices that could not be delivered. On the first loop, but for what says otherwise.
#pragma once

#include "daemon/dmarc_parts.h"
#include "daemon/foundation.h"
#include "daemon/loop_threads.h"
#include "daemon/notice_digest.h"
#include "daemon/own_mail.h"
#include "daemon/tls_parts.h"
#include "daemon/worker_pools.h"

#include <functional>
#include <memory>
#include <string>

namespace postrider::daemon {

class OwnReports {
 public:
  // All outlive it.
  OwnReports(Foundation& foundation, LoopThreads& loops, WorkerPools& pools,
             std::shared_ptr<const mailauth::LiveSigner> signer, const std::string& spool);

  // Before the loops run: the error is about roots that cannot be read.
  Result<void> configure(const Config& config);
  void set_receiver(const delivery::DeliverySettings& settings);
  void start();
  // A reload: what is to be run on the loop.
  Result<std::function<void()>> prepared(const Config& config);
  std::function<void()> receiver_change(const delivery::DeliverySettings& settings);
  void stop();
  void save();  // when the loops have ended; blocking

  TlsParts& tls() { return tls_; }
  DmarcParts& dmarc() { return dmarc_; }
  const std::shared_ptr<delivery::DoubleBounces>& double_bounces() const {
    return digest_->double_bounces();
  }

 private:
  TlsParts tls_;
  DmarcParts dmarc_;
  const std::shared_ptr<NoticeDigest> digest_;
};

}  // namespace postrider::daemon
