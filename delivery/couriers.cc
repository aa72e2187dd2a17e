#include "delivery/couriers.h"

#include "mail/address.h"

namespace postrider::delivery {

// The recipient domain of the work that is next: a site may serve many.
std::string domain_of_front(const Site& site) {
  if (site.ready.empty())
    return {};
  const auto& job = site.ready.next();
  return mail::domain_of(job.message->envelope.recipients[job.recipients.front()].address);
}

void Couriers::open_channels(std::function<void(CourierEvent)> on_event) {
  const auto owner = context_.owner;
  for (auto* loop : loops_) {
    sessions_.push_back(std::make_shared<TlsSessions>());
    to_loops_.push_back(std::make_shared<BatchChannel<Handover>>(
        context_.home, *loop, [](std::vector<Handover> jobs) {
          for (auto& one : jobs)
            one.courier->take(std::move(one.job));
        }));
    from_loops_.push_back(std::make_shared<BatchChannel<CourierEvent>>(
        *loop, context_.home, [on_event, owner](std::vector<CourierEvent> events) {
          if (const auto alive = owner.lock())
            for (auto& event : events)
              on_event(std::move(event));
        }));
  }
}

Couriers::Order Couriers::order_for(Site& site) {
  const auto loop = next_loop_++ % loops_.size();
  CourierOrder order;
  order.site = site.handle;
  order.dialect = site.dialect;
  order.hostname = !site.helo.empty()        ? site.helo
                   : !site.rule_helo.empty() ? site.rule_helo
                                             : context_.settings->own.hostname;
  order.sources =
      site.sources.empty() ? choose_sources(site.rule_sources, site.source_turn++) : site.sources;
  order.settings = std::shared_ptr<const SmtpSettings>(context_.settings, &context_.settings->smtp);
  order.log = &context_.log;
  order.open_body = context_.open_body();
  order.secrets = site.secrets;
  order.sessions = sessions_[loop];
  order.observer = tls_.observer();
  order.domain = domain_of_front(site);
  order.sts = site.tls.sts;
  order.pool = &pool_;
  order.conversions = conversions_;
  order.clock = &context_.clock;
  order.tell = [bag = from_loops_[loop]](CourierEvent event) { bag->put(std::move(event)); };
  return {std::move(order), loop};
}

std::unique_ptr<SiteConnection> Couriers::prepare(Site& site, Order order) {
  auto link = std::make_unique<SiteConnection>();
  link->courier = std::make_shared<Courier>(*loops_[order.loop], std::move(order.order));
  link->site = &site;
  link->loop = order.loop;
  return link;
}

void Couriers::start(SiteConnection& link) {
  loops_[link.loop]->post([courier = link.courier] { courier->start(); });
}

void Couriers::give(const SiteConnection& link, Job job) {
  to_loops_[link.loop]->put({link.courier, std::move(job)});
}

void Couriers::abort(const SiteConnection& link) {
  link.courier->loop().post([courier = link.courier] { courier->abort(); });
}

}  // namespace postrider::delivery
