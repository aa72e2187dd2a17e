// The sites that are known: their health, and what waits for them. Data; Connections moves it.
#pragma once

#include "delivery/dispatch_context.h"
#include "delivery/lease_book.h"
#include "delivery/site.h"
#include "delivery/site_memory.h"

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace postrider::delivery {

class SiteBook {
 public:
  using ByName = std::unordered_map<std::string, std::unique_ptr<Site>>;

  SiteBook(DispatchContext& context, LeaseBook& leases) : context_(context), leases_(leases) {}

  Site& named(const std::string& name);  // made if it is not known
  Site* find(const std::string& name) const;
  Site* of_handle(std::uint64_t handle) const;
  const ByName& all() const { return by_name_; }

  // What was known when we stopped. Before anything else.
  void restore(const std::vector<queue::SiteState>& sites);
  // The file of what was found of sites, if it has changed.
  std::optional<std::string> take_memory();
  // What is allowed there, by the configuration. domain: that it serves.
  void apply_rules(Site& site, const std::string& domain) const;
  // After a reload: addresses are asked for again, and what had an alarm is tried.
  void on_reload();
  // Forgets that a site is blocked, and what is known of its hosts. Empty: all of them.
  void unblock(const std::string& name);
  void forget_unused();

  bool is_blocked(const Site& site) const;
  // Nothing can be sent there for a while: all that waits goes back.
  void block(Site& site, const mail::Outcome& why);
  // It answers, but its refusal says that it wants no mail from us for so long.
  void stop(Site& site, const mail::Outcome& why, Duration wait);
  void open_again(Site& site);
  // The same end for all that waits there.
  void refuse_ready(Site& site, const mail::Outcome& why);
  // why: logged for each recipient, when there is one; the queue keeps it once, with the site.
  void put_back_ready(Site& site, const mail::Outcome& why);
  // A job for a site that is blocked.
  void park(Site& site, const Job& job);

 private:
  Duration wait_for_probe(const Site& site, const mail::Outcome& why);
  void on_blocked(Site& site);
  static void end_fault(Site& site);
  void give_back(Site& site, const Job& job, const mail::Outcome* why, bool tried);
  bool is_to_be_told(const Site& site, const Job& job) const;

  DispatchContext& context_;
  LeaseBook& leases_;
  ByName by_name_;
  std::unordered_map<std::uint64_t, Site*> by_handle_;
  std::uint64_t last_ = 0;
  SiteMemory memory_;
};

}  // namespace postrider::delivery
