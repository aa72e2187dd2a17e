// `postrider sites`: what delivery knows of each site, and what waits for those in trouble.
#include "daemon/control/control_jobs.h"
#include "daemon/control/control_json.h"

#include <boost/json/object.hpp>

#include <algorithm>
#include <sysexits.h>
#include <unordered_map>

namespace postrider::daemon {

namespace {

class SitesJob : public ControlJob {
 public:
  SitesJob(const JobContext& context, bool all) : context_(context), all_(all) {}

  bool step(std::string& out) override {
    for (auto& site : context_.queue.sites())
      if (site.failures > 0)
        troubled_.emplace(site.site, site);
    if (context_.insight != nullptr)
      for (auto& site : context_.insight->sites())
        add(std::move(site), out);
    // Those that delivery has not met since the start.
    for (const auto& [name, state] : troubled_) {
      auto object = to_json(state);
      object["state"] = "blocked";
      object["recipients"] = state.recipients;
      add_line("site", std::move(object), out);
    }
    // The queue knows those in trouble alone.
    return context_.insight == nullptr ? fail(EX_UNAVAILABLE, kIsDown, out) : finish(out);
  }

 private:
  void add(boost::json::object site, std::string& out) {
    const auto* name = site.if_contains("site");
    const auto known = name == nullptr || !name->is_string()
                           ? troubled_.end()
                           : troubled_.find(std::string(name->get_string()));
    if (known != troubled_.end()) {
      site["recipients"] = known->second.recipients;
      troubled_.erase(known);
    }
    const auto* state = site.if_contains("state");
    const bool is_well = state != nullptr && *state == "open" && !site.contains("alarm") &&
                         !site.contains("only_deferred");
    if (all_ || !is_well)
      add_line("site", std::move(site), out);
  }

  JobContext context_;
  bool all_;
  std::unordered_map<std::string, queue::SiteState> troubled_;
};

}  // namespace

std::unique_ptr<ControlJob> sites_job(const JobContext& context, const ControlRequest& request) {
  return std::make_unique<SitesJob>(context, request.all);
}

}  // namespace postrider::daemon
