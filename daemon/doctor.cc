// `postrider doctor`: the checks of this machine, and the report.
#include "daemon/doctor.h"

#include "base/random.h"
#include "base/text.h"
#include "daemon/config_doubts.h"
#include "daemon/daemon.h"
#include "daemon/privsep/privileges.h"
#include "daemon/settings.h"
#include "daemon/signing/signing_keys.h"
#include "dns/stub_resolver.h"
#include "mail/address.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include <algorithm>
#include <filesystem>
#include <linux/magic.h>
#include <sys/statfs.h>
#include <sys/timex.h>
#include <sysexits.h>

namespace postrider::daemon {

namespace {

using Kind = Finding::Kind;

constexpr auto kSoon = std::chrono::hours(24 * 14);
// Of magic.h some are missing.
constexpr std::uint64_t kCifs = 0xff534d42, kSmb2 = 0xfe534d42, kFuse = 0x65735546,
                        kCeph = 0x00c36400, kGfs2 = 0x01161970, kOcfs2 = 0x7461636f,
                        kLustre = 0x0bd00bd0, kRam = 0x858458f6;

class MachineChecks {
 public:
  explicit MachineChecks(const Patient& patient) : patient_(patient), config_(patient.config) {}

  void relay() {
    if (config_.accept.open_relay)
      return add(Kind::problem, "open_relay",
                 "accept.open_relay lets everybody who reaches a listener send to anyone",
                 "take accept.open_relay out, and name the clients in accept.relay_from");
    constexpr unsigned kWideV4 = 16, kWideV6 = 32;
    for (const auto& text : config_.accept.relay_from) {
      const auto slash = text.find('/');
      const auto bits = slash == text.npos ? 128 : parse_unsigned(text.substr(slash + 1));
      const bool is_v6 = text.find(':') != text.npos;
      if (!is_private(text) && bits && *bits < (is_v6 ? kWideV6 : kWideV4))
        add(Kind::advice, "open_relay",
            "accept.relay_from has " + text + ", and who is in there may send to anyone",
            "name smaller networks, or let their users log in");
    }
    if (found.empty())
      add(Kind::ok, "open_relay", "only known clients may send to anyone");
  }

  void certificate() {
    for (const auto& problem : patient_.certificates.problems)
      add(Kind::problem, "certificate", problem.key + ": " + problem.text,
          "put the file right, then systemctl reload postrider");
    for (const auto& warning : patient_.certificates.warnings)
      add(Kind::problem, "certificate", warning.key + ": " + warning.text,
          "renew it; a new file is taken up by itself");
    const auto& all = patient_.certificates.identities;
    if (all.empty()) {
      if (patient_.certificates.problems.empty())
        add(Kind::advice, "certificate", "there is none, so mail comes in without encryption",
            "get one for " + config_.hostname +
                ", name it in tls.certificate and tls.key, and set tls = \"starttls\"");
      return;
    }
    const auto now = SystemClock().now();
    const bool is_named = std::any_of(
        all.begin(), all.end(), [&](const auto& one) { return one->is_for(config_.hostname); });
    if (!is_named)
      add(Kind::problem, "certificate", "none is for the name " + config_.hostname,
          "get one that has this name among its own");
    for (const auto& one : all)
      if (one->not_after() - now < kSoon && one->not_after() > now)
        add(Kind::advice, "certificate",
            "that of " + first_name(*one) + " ends " + format_rfc3339(one->not_after()),
            "renew it; a new file is taken up by itself");
    if (is_named && patient_.certificates.warnings.empty())
      add(Kind::ok, "certificate",
          "for " + config_.hostname + ", until " + format_rfc3339(all.front()->not_after()));
  }

  void clock() {
    timex about{};
    const int state = ::adjtimex(&about);
    if (state < 0)
      return add(Kind::unknown, "clock", "the kernel does not say whether the clock is right",
                 "compare: date -u");
    if (state == TIME_ERROR || (about.status & STA_UNSYNC) != 0)
      return add(Kind::advice, "clock", "no program keeps the clock of this machine right",
                 "timedatectl set-ntp true, or run chrony; signatures and TLS depend on it");
    add(Kind::ok, "clock", "is kept right");
  }

  void spool() {
    const auto folder = existing(config_.spool);
    struct statfs about {};
    if (::statfs(folder.c_str(), &about) != 0)
      return add(Kind::unknown, "spool", config_.spool + " cannot be looked at",
                 "run this as root, or as the daemon's user");
    const auto type = static_cast<std::uint64_t>(about.f_type) & 0xffffffffU;
    constexpr std::uint64_t kNetworks[] = {NFS_SUPER_MAGIC,  SMB_SUPER_MAGIC, kCifs,  kSmb2,
                                           V9FS_MAGIC,       AFS_SUPER_MAGIC, kCeph,  kGfs2,
                                           CODA_SUPER_MAGIC, kOcfs2,          kLustre};
    if (std::find(std::begin(kNetworks), std::end(kNetworks), type) != std::end(kNetworks))
      return add(Kind::problem, "spool", config_.spool + " is on a network file system",
                 "move it to a local disk: locks and syncs over a network lose mail");
    if (type == TMPFS_MAGIC || type == kRam)
      return add(Kind::problem, "spool", config_.spool + " is in memory, and empty after a restart",
                 "move it to a local disk");
    if (type == kFuse)
      return add(Kind::advice, "spool", config_.spool + " is on a file system in user space",
                 "make sure that it is local and that fsync(2) works there");
    add(Kind::ok, "spool", config_.spool + " is on a local disk");
  }

  void doubts() {
    for (const auto& doubt : doubts_about_machine(config_, patient_.certificates))
      if (doubt.key != "tls.certificate")
        add(Kind::advice, "configuration", doubt.key + " " + doubt.text, "see postrider check");
  }

  std::vector<Finding> found;

 private:
  void add(Kind kind, const char* check, std::string text, std::string remedy = {}) {
    found.push_back({kind, check, std::move(text), std::move(remedy)});
  }

  static std::string first_name(const TlsIdentity& identity) {
    return identity.names().empty() ? "no name" : identity.names().front();
  }

  static bool is_private(std::string_view network) {
    for (const char* own : {"10.", "127.", "192.168.", "172.16.", "fc", "fd", "::1", "fe80"})
      if (network.starts_with(own))
        return true;
    return false;
  }

  static std::string existing(std::filesystem::path path) {
    std::error_code ignored;
    while (path.has_relative_path() && !std::filesystem::exists(path, ignored))
      path = path.parent_path();
    return path.string();
  }

  const Patient& patient_;
  const Config& config_;
};

const char* word(Kind kind) {
  constexpr const char* kWords[] = {"ok", "advice", "problem", "unknown"};
  return kWords[static_cast<std::size_t>(kind)];
}

std::string as_text(const std::vector<Finding>& findings) {
  std::string text;
  for (const auto& one : findings) {
    text.append(word(one.kind))
        .append(std::string(9 - std::string_view(word(one.kind)).size(), ' '));
    text.append(one.check).append(": ").append(escaped(one.text)).append("\n");
    if (!one.remedy.empty())
      text.append("         -> ").append(escaped(one.remedy)).append("\n");
  }
  return text;
}

std::string as_json(const std::string& domain, const std::vector<Finding>& findings) {
  boost::json::array list;
  for (const auto& one : findings)
    list.push_back({{"check", one.check},
                    {"result", word(one.kind)},
                    {"text", escaped(one.text)},
                    {"remedy", escaped(one.remedy)}});
  return boost::json::serialize(
             boost::json::object{{"domain", domain}, {"findings", std::move(list)}}) +
         "\n";
}

// What is known to be wrong counts more than what could not be found out.
int code_of(const std::vector<Finding>& findings) {
  const auto has = [&](Kind kind) {
    return std::any_of(findings.begin(), findings.end(),
                       [&](const auto& one) { return one.kind == kind; });
  };
  return has(Kind::problem) ? EX_DATAERR : has(Kind::unknown) ? EX_TEMPFAIL : EX_OK;
}

Task<void> examine(Loop* loop, dns::Resolver* resolver, Patient patient,
                   std::vector<Finding>* findings) {
  auto found = co_await examine_network(*loop, *resolver, std::move(patient));
  findings->insert(findings->begin(), found.begin(), found.end());
  loop->stop();
}

}  // namespace

std::vector<Finding> examine_machine(const Patient& patient) {
  MachineChecks checks(patient);
  checks.relay();
  checks.certificate();
  checks.clock();
  checks.spool();
  checks.doubts();
  return std::move(checks.found);
}

Report examine(const Options& options, const std::string& domain, bool json) {
  auto loaded = load_config(config_path(options));
  if (!loaded.config)
    return {loaded.exit_code(), loaded.describe()};
  const auto& config = *loaded.config;
  const auto wanted = mail::to_ascii_domain(domain.empty() ? config.origin : domain);
  if (!wanted)
    return {EX_USAGE, "postrider doctor: \"" + escaped(domain) + "\" is not a domain\n"};
  const auto certificates = load_certificates(config, loaded.origins, SystemClock().now());
  auto keys = load_signing_keys(config, loaded.origins);
  const Patient patient{config, certificates, keys.signer.get(), *wanted};
  auto findings = examine_machine(patient);
  for (const auto& problem : keys.problems)
    findings.push_back({Kind::problem, "dkim", problem.key + ": " + problem.text,
                        "put the key right, then systemctl reload postrider"});
  if (const auto given_up = give_up_root(config.user); !given_up)
    return {EX_NOUSER, "user: " + given_up.error().describe() + "\n"};
  NullLog log;
  SystemRandom random;
  Loop loop(0);
  dns::StubResolver resolver(loop, resolver_settings(config.dns), log, random);
  loop.spawn(examine(&loop, &resolver, patient, &findings), log, "doctor");
  loop.run();
  return {code_of(findings), json ? as_json(*wanted, findings) : as_text(findings)};
}

}  // namespace postrider::daemon
