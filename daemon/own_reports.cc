#include "daemon/own_reports.h"

namespace postrider::daemon {

namespace {

OwnMail own_mail(Foundation& foundation, LoopThreads& loops, WorkerPools& pools,
                 const std::shared_ptr<const mailauth::LiveSigner>& signer) {
  return {&foundation.queue(), &loops.first(), &pools.files, &foundation.log(), signer};
}

}  // namespace

OwnReports::OwnReports(Foundation& foundation, LoopThreads& loops, WorkerPools& pools,
                       std::shared_ptr<const mailauth::LiveSigner> signer, const std::string& spool)
    : tls_(loops.first(), loops.resolver_of_first(), foundation.clock(), foundation.told(),
           pools.files, own_mail(foundation, loops, pools, signer), spool),
      dmarc_(loops.first(), loops.resolver_of_first(), foundation.clock(), foundation.told(),
             pools.files, own_mail(foundation, loops, pools, signer), spool),
      digest_(std::make_shared<NoticeDigest>(foundation.clock(),
                                             own_mail(foundation, loops, pools, signer),
                                             spool + "/double-bounces.json")) {}

Result<void> OwnReports::configure(const Config& config) {
  if (auto configured = tls_.configure(config); !configured)
    return configured.error();
  dmarc_.prepared(config)();
  return {};
}

void OwnReports::set_receiver(const delivery::DeliverySettings& settings) {
  digest_->configure(digest_receiver(settings));
}

void OwnReports::start() {
  tls_.start();
  dmarc_.start();
  digest_->load();
  digest_->start();
}

Result<std::function<void()>> OwnReports::prepared(const Config& config) {
  auto tls = tls_.prepared(config);
  if (!tls)
    return tls.error();
  return std::function<void()>([tls = *std::move(tls), dmarc = dmarc_.prepared(config)] {
    tls();
    dmarc();
  });
}

std::function<void()> OwnReports::receiver_change(const delivery::DeliverySettings& settings) {
  return [this, receiver = digest_receiver(settings)] { digest_->configure(receiver); };
}

void OwnReports::stop() {
  tls_.stop();
  dmarc_.stop();
  digest_->stop();
}

void OwnReports::save() {
  tls_.save();
  dmarc_.save();
  digest_->save_now();
}

}  // namespace postrider::daemon
