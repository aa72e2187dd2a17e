// The configuration of delivery, composed of what each room needs: immutable, replaced as a whole
// by a reload.
#pragma once

#include "base/time.h"
#include "delivery/local/local_settings.h"
#include "delivery/route_map.h"
#include "delivery/routing/own_hosts.h"
#include "delivery/routing/route.h"
#include "delivery/scheduler/retry_schedule.h"
#include "delivery/site_rules.h"
#include "delivery/smtp/smtp_settings.h"
#include "dns/resolver.h"
#include "mailauth/signer.h"
#include "queue/schedule.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace postrider::delivery {

struct DeliverySettings {
  OwnHosts own;
  std::vector<Route> routes;
  std::shared_ptr<const RouteMap> route_map;  // null: none; comes before the routes
  std::string map_separator = "+";            // of an extension, in its keys
  std::optional<Route> mailbox_route;         // where local.mailbox is lmtp:
  std::uint16_t port = 25;                    // of MX hosts
  dns::Families families = dns::Families::both;
  SmtpSettings smtp;
  LocalSettings local;
  queue::RetrySchedule retry{{std::chrono::minutes(1), std::chrono::minutes(5),
                              std::chrono::minutes(15), std::chrono::minutes(30),
                              std::chrono::hours(1), std::chrono::hours(2), std::chrono::hours(4)}};
  // By the reason of the last refusal; null: `retry` whatever it was.
  std::shared_ptr<const scheduler::RetrySchedule> retry_by_reason;
  bool probes_by_outage =
      false;  // dead sites are tried by how long they have been so, not by `retry`
  Duration lifetime = std::chrono::hours(120);  // of mail
  unsigned site_connections = 20;
  std::vector<SiteRule> site_rules;
  std::string site_memory;         // the file of what is found of sites; empty: it is forgotten
  unsigned connections = 500;      // in all
  std::size_t remembered = 10000;  // destinations and sites, before unused ones are forgotten
  std::string double_bounce;       // address; empty: logged and dropped
  std::shared_ptr<const mailauth::LiveSigner> signer;  // of notices; null: not signed
};

}  // namespace postrider::delivery
