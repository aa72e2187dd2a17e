#include "daemon/receiving_parts.h"

#include "base/file_at_rest.h"

#include <chrono>
#include <thread>

namespace postrider::daemon {

ReceivingParts::ReceivingParts(Base base, const std::string& spool,
                               std::vector<InheritedSocket> sockets)
    : base_(std::move(base)),
      sockets_(std::move(sockets)),
      logins_(std::make_shared<smtpd::auth::AuthService>(base_.foundation.clock(),
                                                         base_.foundation.log(), spool + "/auth")),
      store_(base_.foundation.queue()),
      certificates_(base_.foundation.clock(), base_.foundation.log(), base_.pools.handshakes) {}

void ReceivingParts::open(const Loaded& loaded, StartProblems& problems) {
  const auto& config = *loaded.config;
  certificates_.read(loaded, problems);
  auto listeners = listener_settings(config, sockets_);
  if (!listeners)
    problems.add(listeners.error());
  if (!problems.none())
    return;
  // The parent starts the helper, and starts it again.
  logins_->set_pam_helper(std::make_shared<smtpd::auth::PamHelper>(base_.parent.take_pam_socket()));
  logins_->set_resolvers(base_.loops.resolver_of_each());
  auto receiving = settings(config, base_.tables.in_use().receiving);
  if (!receiving)
    return problems.add(receiving.error());
  server_ = std::make_unique<smtpd::Server>(base_.loops.loops(), store_, base_.foundation.clock(),
                                            base_.foundation.told(), *receiving);
  server_->ask_questions_of(base_.loops.resolvers());
  server_->limit_users(
      [&limits = base_.limits](std::uint32_t uid) { return limits.limited_party(uid); });
  if (auto offered = server_->offer_tls(certificates_.offer()); !offered)
    return problems.add(offered.error());
  if (auto listening = server_->listen(*listeners); !listening)
    problems.add(listening.error());
}

void ReceivingParts::open_logins(const Config& config, StartProblems& problems) {
  const auto wanted = auth_settings(config);
  if (!wanted)
    return problems.add(wanted.error());
  const auto& clock = base_.foundation.clock();
  auto tables = logins_->prepare(*wanted);
  // Nothing runs yet that the wait could hold up; a reload goes on with what it had.
  const auto end = clock.steady() + kUnfinishedRest + std::chrono::seconds(1);
  while (!tables && is_perhaps_unfinished(tables.error()) && clock.steady() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    tables = logins_->prepare(*wanted);
  }
  if (!tables)
    return problems.add(tables.error());
  logins_->adopt(std::move(*tables));
}

Result<std::shared_ptr<const smtpd::ServerSettings>> ReceivingParts::settings(
    const Config& config, const ReceivingTables& tables) {
  auto first = base_.filters.of_clients(config, tables);
  if (!first)
    return first.error();
  CheckParts checks;
  checks.counters = &base_.filters.authentication();
  checks.reports = base_.note_for_report;
  return smtpd_settings(config, base_.tables.directory(), logins_, tables, &base_.limits,
                        base_.filters.for_network(config, tables), checks, *std::move(first),
                        base_.filters.failure_counter(config));
}

Result<ReceivingParts::Fresh> ReceivingParts::prepare(const Config& config,
                                                      const ReceivingTables& tables) {
  const auto wanted = auth_settings(config);
  if (!wanted)
    return wanted.error();
  auto logins = logins_->prepare(*wanted);
  if (!logins)
    return logins.error();
  auto receiving = settings(config, tables);
  if (!receiving)
    return receiving.error();
  auto listeners = listener_settings(config, sockets_);
  if (!listeners)
    return listeners.error();
  return Fresh{*std::move(logins), *std::move(receiving), *std::move(listeners)};
}

void ReceivingParts::adopt(Fresh fresh) {
  logins_->adopt(std::move(fresh.logins));
  server_->configure(std::move(fresh.settings));
}

std::string ReceivingParts::listeners() const {
  std::string out;
  for (const auto& address : server_->addresses())
    out.append(out.empty() ? "" : ", ").append(address);
  return out.empty() ? "none" : out;
}

}  // namespace postrider::daemon
