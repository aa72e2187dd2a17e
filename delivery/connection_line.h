// All connections of the dispatcher together: who may have one more, who waits for one, and who
// gives way when there are not enough (connection_shares.h).
//
// A host that has answered is slow, not dead: in the middle of a message its connection is not ended
// for others. RFC 5321 §4.5.3.2 gives it minutes for a reply, and behind the content it may have the
// message already. It is put aside: no longer counted, up to twice as many as are counted. Where
// even those are taken, the one that has been silent longest ends after two minutes.
//
// So it is within a site: of its connections that are silent behind a command or the content up to
// ten are not counted, so that its other mail goes on; and no more than ten carry what is known to
// meet that silence (kMostHanging). Of those to whose beginning its host says nothing, two are not
// (kMostUnanswered). But for silence behind the content none of this goes beyond what the
// administrator allows, or what the site has refused (SitePace::hard_limit).
#pragma once

#include "base/net/deadline.h"
#include "delivery/address_places.h"
#include "delivery/connection_shares.h"
#include "delivery/connection_tally.h"
#include "delivery/dispatch_context.h"
#include "delivery/site_book.h"
#include "delivery/waiting_sites.h"

#include <functional>
#include <list>
#include <memory>
#include <vector>

namespace postrider::delivery {

class ConnectionLine {
 public:
  // on_turn: a site that waited may try again.
  ConnectionLine(DispatchContext& context, SiteBook& sites, std::function<void(Site&)> on_turn)
      : context_(context), sites_(sites), on_turn_(std::move(on_turn)) {}

  bool may_add(const Site& site) const;
  // Takes a place at the first candidate that has one, which goes to the front; false: there is
  // none anywhere.
  bool reserve_address(const Site& site, CourierOrder& order);
  // The site waits for a connection.
  void wait(Site& site);
  void feed();  // there may be room for those that wait

  // The life of a connection.
  void on_begun(SiteConnection& link);
  void on_ready(SiteConnection& link);
  void on_idle(SiteConnection& link);
  void on_job(SiteConnection& link, const Job& job);
  void on_job_ended(SiteConnection& link);
  void on_stays(SiteConnection& link);
  void on_waits_aside(SiteConnection& link);
  void on_gone(SiteConnection& link);
  void close(SiteConnection& link);
  // It carried a message to its end: no stranger any more. True: it was one.
  bool prove(SiteConnection& link);

  // How many more of them may be put aside for other mail of the site.
  std::size_t room_aside(const Site& site) const;
  // And how many of those whose host has not greeted yet.
  std::size_t room_unanswered(const Site& site) const;
  // A message that was lost behind its content before may have a connection of the site: there, and
  // in all, not too many wait for a reply behind such a message.
  bool may_take_doubt(const Site& site) const;

  std::size_t size() const { return tally_.links; }

 private:
  ConnectionShares shares() const { return ConnectionShares(context_.settings->connections); }
  ConnectionShares::Usage usage() const {
    return {tally_.links - tally_.aside, tally_.strangers, tally_.patient};
  }
  std::size_t most_aside() const { return std::size_t{2} * context_.settings->connections; }
  void forget_unproven(SiteConnection& link);
  void forget_busy(SiteConnection& link);
  void forget_idle(SiteConnection& link);
  void look_again();
  void relieve();
  void ask_the_silent();
  bool evict_idle();
  void close_idle_at(const std::vector<HostAddress>& candidates);
  bool may_keep(const SiteConnection& link) const;
  bool must_share(const SiteConnection& link) const;

  DispatchContext& context_;
  SiteBook& sites_;
  std::function<void(Site&)> on_turn_;
  WaitingSites waiting_;
  ConnectionTally tally_;
  SteadyTime newcomer_turn_, prompt_turn_;  // when one that had none last began a connection
  using Links = std::list<SiteConnection*>;
  Links unproven_;  // that have not finished a job, in the order of their beginning
  Links idle_;      // in the order in which they became so
  Links busy_;      // with a job, in the order of its handing over
  AddressPlaces addresses_;
  std::unique_ptr<Deadline> look_;
};

}  // namespace postrider::delivery
