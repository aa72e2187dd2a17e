#include "daemon/outbound.h"

#include "base/net/tls/tls_context.h"
#include "dns/fetch.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <sys/eventfd.h>
#include <thread>
#include <unistd.h>

namespace postrider::daemon {

namespace {

constexpr unsigned kFolderMode = 0700, kFileMode = 0600;

Error first_problem(const std::string& path, const delivery::LoadedCredentials& loaded) {
  return malformed(loaded.problems.front().describe(path)).during("route.credentials");
}

Task<Result<HttpResponse>> ask(Loop* home, dns::Resolver* resolver, dns::Families families,
                               std::shared_ptr<const TlsContext> tls, HttpRequest request,
                               std::shared_ptr<HttpCall> call) {
  auto answer = co_await dns::http_request(*home, *resolver, families, std::move(tls),
                                           std::move(request), HttpLimits(), std::move(call));
  co_return answer;
}

}  // namespace

std::vector<Problem> check_credentials(const Config& config, const Origins& origins) {
  std::vector<Problem> problems;
  std::set<std::string> seen;
  const auto& option = *find_option("route.credentials");
  for (std::size_t index = 0; index < config.routes.size(); ++index) {
    const auto& path = config.routes[index].credentials;
    if (path.empty() || !seen.insert(path).second)
      continue;
    const auto key = origin_key(option, index);
    const auto origin = origins.find(key);
    for (auto& problem : delivery::load_credentials(path).problems) {
      if (problem.line > 0 || !problem.key.empty())
        problems.push_back({static_cast<unsigned>(problem.line), std::move(problem.key),
                            std::move(problem.text), path});
      else
        problems.push_back({origin == origins.end() ? 0 : origin->second, key,
                            "\"" + path + "\" " + problem.text, ""});
    }
  }
  return problems;
}

Result<void> keep_refresh_token(const std::string& folder, const std::string& name,
                                const std::string& refresh) {
  if (auto made = make_folder(folder, kFolderMode); !made)
    return made;
  return replace_file(folder + "/" + name, refresh, kFileMode);
}

Outbound::Outbound(Parts parts)
    : parts_(std::move(parts)),
      folder_(parts_.spool + "/tokens"),
      stop_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      handshakes_(std::max(1U, std::thread::hardware_concurrency())) {}

Result<void> Outbound::equip(const Config& config, delivery::DeliverySettings& settings) {
  TlsClientSettings tls;
  tls.roots = config.delivery.tls_ca;
  // A chain to verify takes about a millisecond, in which a loop would serve nobody.
  tls.workers = &handshakes_;
  auto strict = TlsContext::client(tls);
  if (!strict)
    return strict.error().during("delivery.tls_ca");
  tls.lenient = true;
  tls.lowest = TlsVersion::tls1_0;
  auto lenient = TlsContext::client(tls);
  if (!lenient)
    return lenient.error().during("delivery.tls_ca");
  settings.smtp.tls_strict = *std::move(strict);
  settings.smtp.tls_lenient = *std::move(lenient);
  parts_.home.post([web = web_, tls = settings.smtp.tls_strict, families = settings.families] {
    web->tls = tls;
    web->families = families;
  });
  for (auto& route : settings.routes) {
    if (route.credentials.empty())
      continue;
    auto loaded = delivery::load_credentials(route.credentials);
    if (!loaded.problems.empty())
      return first_problem(route.credentials, loaded);
    route.secrets = keeper_for(route.credentials, std::move(loaded.file));
  }
  if (!std::exchange(has_begun_, true))
    forget_unused();
  return {};
}

// One for each file, and the same one while the file stays as it is.
std::shared_ptr<delivery::CredentialSource> Outbound::keeper_for(const std::string& path,
                                                                 delivery::CredentialsFile file) {
  std::erase_if(keepers_, [](const auto& one) { return one.expired(); });
  for (const auto& one : keepers_) {
    auto known = one.lock();
    if (!known || known->path() != path || known->file() != file)
      continue;
    known->forgive();
    return known;
  }
  auto made = std::make_shared<delivery::CredentialSource>(
      std::move(file), path, parts_.home, parts_.clock, parts_.log, pool_, means());
  keepers_.push_back(made);
  return made;
}

delivery::TokenMeans Outbound::means() const {
  delivery::TokenMeans means;
  means.ask = [web = web_, parts = &parts_](HttpRequest request, std::shared_ptr<HttpCall> call) {
    return postrider::daemon::ask(&parts->home, &parts->resolver(), web->families, web->tls,
                                  std::move(request), std::move(call));
  };
  means.run = [parent = parts_.parent, stop = stop_.get()](const std::string& path) {
    return parent->run_token_command(path, stop);
  };
  means.load = [folder = folder_](const std::string& name) {
    auto kept = read_file(folder + "/" + name, delivery::kMostToken);
    return kept ? *std::move(kept) : std::string();
  };
  means.save = [folder = folder_, &log = parts_.log](const std::string& name,
                                                     const std::string& refresh) {
    if (auto saved = keep_refresh_token(folder, name, refresh); !saved)
      log.write(LogEvent(Level::error, "token_not_kept").add("reason", saved.error().describe()));
  };
  return means;
}

// At the start: what was kept for credentials that are no more.
void Outbound::forget_unused() const {
  std::set<std::string> names;
  for (const auto& one : keepers_)
    if (const auto keeper = one.lock())
      names.insert(keeper->kept_name());
  std::error_code failed;
  std::filesystem::directory_iterator entries(folder_, failed);
  for (const auto end = std::filesystem::directory_iterator(); !failed && entries != end;
       entries.increment(failed))
    if (!names.contains(entries->path().filename().string()))
      ::unlink(entries->path().c_str());
}

void Outbound::stop() {
  const std::uint64_t one = 1;
  (void)!::write(stop_.get(), &one, sizeof one);
  for (const auto& each : keepers_)
    if (const auto keeper = each.lock())
      keeper->stop();
}

}  // namespace postrider::daemon
