// What the dispatcher knows of a site and of the ways that lead there. Data; SiteBook and
// Destinations own it, Connections moves it.
#pragma once

#include "base/net/deadline.h"
#include "delivery/evidence.h"
#include "delivery/ready_jobs.h"
#include "delivery/routing/hosts.h"
#include "delivery/routing/route.h"
#include "delivery/scheduler/site_pace.h"
#include "delivery/site_health.h"
#include "delivery/site_rules.h"
#include "delivery/smtp/courier.h"

#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace postrider::delivery {

struct Site;

// A courier as the dispatcher sees it.
struct SiteConnection {
  std::shared_ptr<Courier> courier;
  Site* site = nullptr;
  std::size_t loop = 0;
  std::uint32_t in_hand = 0;  // jobs
  std::uint32_t room = 0;     // jobs that it takes at one time; 0: not ready, or no more
  bool was_ready = false;
  bool is_stranger = false;  // of a site that had done nothing yet when it began, and has not since
  bool is_patient = false;   // and that gave way before
  bool gave_way = false;     // to others; before it was ready this says nothing about the site
  bool is_hurried = false;
  bool is_closing = false;
  bool is_of_others = false;   // for mail that another host has refused (other_hosts.h)
  bool is_at_command = false;  // aside, for a silence before the content
  bool is_aside = false;       // its host is silent, and it is not counted
  bool is_being_made = false;  // counted in Site::connecting
  bool has_doubt = false;      // carries a message that was lost behind its content before
  std::uint32_t carried = 0;   // jobs
  SteadyTime since;            // when it began
  SteadyTime busy_since;       // with the job in hand
  Duration may_take{0};        // that job, before it counts as slow
  std::string address;         // once it is ready
  SteadyTime asked;            // to give way, and stayed
  std::optional<std::list<SiteConnection*>::iterator> unproven, idle,
      busy;  // where the dispatcher lists it
  bool is_idle() const { return room > 0 && in_hand == 0; }
};

struct Site {
  enum class Kind : std::uint8_t {
    mx,     // hosts from MX records
    fixed,  // a route's host: address lookups only
    socket,
    dns,  // stands for a domain whose DNS is in trouble
  };
  std::uint64_t handle = 0;
  std::string name;
  Kind kind = Kind::mx;
  Dialect dialect = Dialect::smtp;
  std::uint16_t port = 25;
  std::vector<Host> hosts;                    // or the path of a socket, as the only name
  TlsSources tls;                             // what is demanded of its hosts
  std::shared_ptr<CredentialSource> secrets;  // to log in with; null: no AUTH
  std::string unavailable;         // why nothing can be sent there as things are; empty: it can
  std::vector<IpAddress> sources;  // to connect from; empty: any
  std::string helo;                // said in EHLO; empty: the host name
  bool is_aside = false;  // only some mail of its domains goes here, so the queue does not know
  std::string alarm;      // what an administrator must put right; empty: nothing

  SiteHealth health;
  Evidence refusals, breaks;  // whose mail it refused for what it thinks of us, or broke off
  scheduler::SitePace pace;
  std::unique_ptr<Deadline> wake;                   // when its pace allows more
  std::vector<scheduler::SiteSource> rule_sources;  // of a rule, if its route names none
  std::string rule_helo;
  std::uint64_t source_turn = 0;
  std::set<std::string> domains;     // that it serves, as far as SiteBook keeps them, for the rules
  std::optional<Families> families;  // of a rule
  ReadyJobs ready;
  std::vector<std::unique_ptr<SiteConnection>> links;
  std::vector<SiteConnection*> idle;  // the last one was used last
  std::size_t connecting = 0;
  std::deque<Job> refused;  // by one host for now, for another (other_hosts.h)
  std::vector<std::unique_ptr<SiteConnection>> others;  // over which they go, and not among links
  std::unique_ptr<Deadline> look_at_refused;            // whether they have waited long
  SteadyTime none_of_others_until;                      // no such connection could be made
  bool is_proven = false;                               // it has brought a transaction to some end
  bool is_slow = false;                      // the last one, or its connection, took long
  bool is_patient = false;                   // gave way to others: its next try is given more time
  std::unique_ptr<Deadline> fault;           // while it is set no connection is made: we could not
  unsigned faults = 0;                       // of ours, one behind the other
  std::unique_ptr<Deadline> look_at_silent;  // whether connections are silent behind content
  bool is_crowded = false;  // its addresses have as many connections as they may have
  bool is_starved = false;  // stands in one of the lines for a connection

  std::vector<FoundHost> found;  // address lookups, until found_until
  SteadyTime found_until;
  bool is_looking_up = false;
  BadAddresses bad;
  bool is_one_by_one = false;  // closes after each message
  std::uint64_t progress = 0;  // messages that its hosts have said something about
  SteadyTime used;             // when it last had work, for forgetting it
  Duration unused_for(SteadyTime now) const {
    return used == SteadyTime{} ? Duration{0} : std::chrono::duration_cast<Duration>(now - used);
  }
};

// Where mail for a domain goes: a next hop after routing.
struct Destination {
  std::string key;
  std::string domain;
  std::string site;                     // name; empty: not known
  TlsSources tls;                       // known with the site
  std::string sender;                   // of some mail that goes there
  std::shared_ptr<const Route> mapped;  // see RouteDecision, also below
  std::string label;
  SteadyTime known_until;
  bool is_resolving = false;
  std::deque<Job> waiting;
};

}  // namespace postrider::delivery
