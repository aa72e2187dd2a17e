#include "delivery/dispatcher.h"

#include "delivery/core.h"

namespace postrider::delivery {

using Core = Dispatcher::Core;

Dispatcher::Dispatcher(std::vector<Loop*> loops, queue::Queue& queue, ResolverOf resolver_of,
                       const Clock& clock, Log& log, const mail::Directory& directory,
                       std::shared_ptr<const DeliverySettings> settings)
    : Dispatcher(std::move(loops), std::make_unique<QueueCustody>(queue), std::move(resolver_of),
                 clock, log, directory, std::move(settings)) {}

Dispatcher::Dispatcher(std::vector<Loop*> loops, std::unique_ptr<QueuePort> custody,
                       ResolverOf resolver_of, const Clock& clock, Log& log,
                       const mail::Directory& directory,
                       std::shared_ptr<const DeliverySettings> settings)
    : core_(Core::create(std::move(loops), std::move(custody), std::move(resolver_of), clock, log,
                         directory, std::move(settings))) {}

Dispatcher::~Dispatcher() = default;

void Dispatcher::use(TlsHooks hooks) {
  core_->use(std::move(hooks));
}

void Dispatcher::restore(std::vector<queue::SiteState> sites) {
  core_->restore(sites);
}

void Dispatcher::set_performer(std::shared_ptr<DeliveryAgent> performer) {
  core_->set_performer(std::move(performer));
}

void Dispatcher::set_double_bounces(std::shared_ptr<DoubleBounces> shared) {
  core_->set_double_bounces(std::move(shared));
}

void Dispatcher::take(std::vector<queue::Lease> leases) {
  auto carried = std::make_shared<std::vector<queue::Lease>>(std::move(leases));
  core_->home().post([core = core_, carried] { core->take(std::move(*carried)); });
}

void Dispatcher::revoke(std::vector<queue::Revocation> wanted, UnderWay answer) {
  core_->home().post([core = core_, wanted = std::move(wanted), answer = std::move(answer)] {
    core->revoke(wanted, answer);
  });
}

void Dispatcher::ask(std::vector<queue::Revocation> wanted, UnderWay answer) {
  core_->home().post([core = core_, wanted = std::move(wanted), answer = std::move(answer)] {
    core->ask(wanted, answer);
  });
}

void Dispatcher::expire(std::vector<queue::Overdue> late) {
  core_->home().post(
      [core = core_, late = std::move(late)]() mutable { core->expire(std::move(late)); });
}

void Dispatcher::configure(std::shared_ptr<const DeliverySettings> settings) {
  core_->home().post([core = core_, settings] { core->configure(settings); });
}

void Dispatcher::drain(std::function<void()> on_done, Duration grace) {
  core_->home().post([core = core_, on_done, grace] { core->drain(on_done, grace); });
}

void Dispatcher::status(std::function<void(Status)> answer) {
  core_->home().post([core = core_, answer] { answer(core->status()); });
}

void Dispatcher::sites(std::function<void(std::vector<SiteStatus>)> answer) {
  core_->home().post([core = core_, answer] { answer(core->sites()); });
}

void Dispatcher::explain(std::string address, std::function<void(Explanation)> answer) {
  core_->home().post([core = core_, address, answer] { core->explain(address, answer); });
}

void Dispatcher::reasons(std::vector<std::string> addresses,
                         std::function<void(std::vector<std::string>)> answer, Duration least) {
  core_->home().post([core = core_, addresses = std::move(addresses), answer = std::move(answer),
                      least] { answer(core->reasons_of(addresses, least)); });
}

void Dispatcher::unblock(std::string domain_or_site) {
  core_->home().post([core = core_, domain_or_site] { core->unblock(domain_or_site); });
}

}  // namespace postrider::delivery
