// MTA-STS (RFC 8461) as delivery uses it: looks for the announcement, fetches policies over HTTPS,
// keeps them in the cache and on disk. Everything runs on the first loop; files are written on the
// pool. Only the domain whose policy is being fetched for the first time waits for it.
//
// On disk there is one file a domain in <spool>/mta-sts, replaced as a whole; a lost or damaged one
// is only a policy that must be fetched again.
#pragma once

#include "base/log.h"
#include "base/net/blocking_pool.h"
#include "base/net/signal.h"
#include "delivery/tls/sts/policy_cache.h"
#include "delivery/tls/sts_source.h"
#include "dns/fetch.h"

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace postrider::delivery {

struct MtaStsSettings {
  bool enabled = true;
  std::uint16_t port = 443;
  Duration timeout = std::chrono::seconds(20);
  dns::Families families = dns::Families::both;
  std::shared_ptr<const TlsContext> tls;  // its roots vouch for policy hosts; null: not enabled
};

class MtaSts : public std::enable_shared_from_this<MtaSts> {
 public:
  // All references outlive this. folder: of the files; made when it is missing.
  MtaSts(Loop& home, std::function<dns::Resolver&()> resolver, const Clock& clock, Log& log,
         BlockingPool& pool, std::string folder);

  void load();                              // what the disk has; blocking, before the loop runs
  void stop();                              // on the loop: fetches under way end, and none is begun
  void configure(MtaStsSettings settings);  // on the loop, or before it runs

  // domain: lower case, A-labels.
  Task<StsFinding> find(std::string domain);
  StsSource source();

 private:
  Task<StsFinding> find_for(std::shared_ptr<MtaSts> self, std::string domain);
  Task<StsAnnouncement> announcement(const std::string& domain);
  void refresh(const std::string& domain, const std::string& id);
  Task<void> fetch(std::shared_ptr<MtaSts> self, std::string domain, std::string id);
  Task<void> fetch_or_wait(const std::string& domain, const std::string& id);
  Task<Result<HttpResponse>> get(const std::string& domain);
  void judge(const std::string& domain, const std::string& id, Result<HttpResponse> answer);
  void take(const std::string& domain, const std::string& id, std::string text);
  void fail(const std::string& domain, const std::string& id, TlsResult result, std::string detail);
  StsFinding finding(const std::string& domain, const StsAnnouncement& announced) const;
  void save(const std::string& domain, const StsEntry& entry);
  void remove_dropped();
  std::string path_of(const std::string& domain) const { return folder_ + "/" + domain; }

  Loop& home_;
  std::function<dns::Resolver&()> resolver_;
  const Clock& clock_;
  Log& log_;
  BlockingPool& pool_;
  std::string folder_;
  MtaStsSettings settings_;
  StsCache cache_;
  // Fetches under way, and who waits for them.
  struct Fetch {
    std::vector<std::shared_ptr<Signal>> waiting;
    std::shared_ptr<HttpCall> call = std::make_shared<HttpCall>();
  };
  std::unordered_map<std::string, Fetch> running_;
  bool is_stopped_ = false;
};

}  // namespace postrider::delivery
