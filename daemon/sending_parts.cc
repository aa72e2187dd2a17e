#include "daemon/sending_parts.h"

namespace postrider::daemon {

SendingParts::SendingParts(Base base, const std::string& spool)
    : base_(std::move(base)),
      outbound_(Outbound::Parts{base_.loops.first(), base_.loops.resolver_of_first(),
                                base_.foundation.clock(), base_.foundation.told(), base_.parent,
                                spool}) {}

Result<SendingParts::Settings> SendingParts::settings(const Config& config,
                                                      const AddressTables::Opened& tables,
                                                      const std::vector<std::string>& listening) {
  return delivery_settings(config, listening, tables.book, base_.tables.directory(), &outbound_,
                           &base_.limits, base_.signer, tables.receiving.route_map);
}

void SendingParts::make(const Settings& settings, OwnReports& reports) {
  dispatcher_ = std::make_unique<delivery::Dispatcher>(
      base_.loops.loops(), base_.foundation.queue(), base_.loops.resolver_of_each(),
      base_.foundation.clock(), base_.foundation.told(), *base_.tables.directory(), settings);
  dispatcher_->use({reports.tls().sts(), reports.tls().observer()});
  dispatcher_->set_double_bounces(reports.double_bounces());
  dispatcher_->set_performer(base_.parent);
}

void SendingParts::restore() {
  dispatcher_->restore(base_.foundation.queue().sites());
}

}  // namespace postrider::daemon
