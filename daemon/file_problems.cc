#include "daemon/file_problems.h"

#include "base/in_time.h"
#include "base/net/tls/tls_context.h"
#include "base/quoted.h"
#include "base/text.h"
#include "daemon/addresses.h"
#include "daemon/event_sinks.h"
#include "daemon/outbound.h"
#include "daemon/privsep/confinement.h"
#include "daemon/privsep/privileges.h"
#include "daemon/settings.h"
#include "daemon/signing/signing_keys.h"
#include "daemon/signing/srs_keys.h"
#include "queue/spool.h"
#include "smtpd/auth/pam_helper.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <iterator>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

namespace postrider::daemon {

namespace {

constexpr Duration kLeastFileTime{200};  // when the time of all is over

// Where the start opens or reads what is there.
class PlaceProblems {
 public:
  // is_daemon: who asks has the rights that the daemon has.
  PlaceProblems(const Loaded& loaded, bool is_daemon, std::vector<Problem>& found)
      : config_(*loaded.config), origins_(loaded.origins), is_daemon_(is_daemon), found_(found) {}

  void user() {
    const auto& user = config_.user;
    if (user.empty())
      return;
    const auto account = find_account(user);
    if (!account && account.error().code() == make_error_code(Errc::not_found))
      report("user", quoted(user) + " is not a user of this system; expected a login name");
  }

  void spool() {
    if (const auto kept = queue::Spool::check(config_.spool); !kept)
      report("spool", kept.error().step() + "; expected a folder of the daemon's alone");
  }

  void log() {
    const auto& target = config_.log.target;
    struct stat about {};
    if (!target.starts_with('/'))
      return;
    const bool exists = ::stat(target.c_str(), &about) == 0;
    if (exists && S_ISDIR(about.st_mode))
      return report("log.target", quoted(target) + " is a folder; expected a file");
    const auto folder = target.substr(0, std::max<std::size_t>(target.rfind('/'), 1));
    // A folder that is missing is made.
    if (!exists && ::stat(folder.c_str(), &about) != 0)
      return;
    if (!exists && !S_ISDIR(about.st_mode))
      return report("log.target", quoted(folder) + " is not a folder; expected one");
    const int rights = exists ? W_OK : W_OK | X_OK;
    if (is_daemon_ &&
        ::faccessat(AT_FDCWD, exists ? target.c_str() : folder.c_str(), rights, AT_EACCESS) != 0)
      report("log.target", quoted(target) +
                               " cannot be written: " + std::generic_category().message(errno) +
                               "; expected a file that the daemon's user may write");
  }

  void sockets() {
    for (const auto& [key, path] : {std::pair{"control.socket", &config_.control.socket},
                                    std::pair{"control.submit", &config_.control.submit}}) {
      struct stat about {};
      if (::lstat(path->c_str(), &about) == 0 && !S_ISSOCK(about.st_mode))
        report(key, quoted(*path) + " is there and is not a socket; expected one, or nothing");
    }
  }

  void trust() {
    if (config_.delivery.tls_ca.empty())
      return;
    TlsClientSettings settings;
    settings.roots = config_.delivery.tls_ca;
    if (const auto made = TlsContext::client(settings); !made)
      report("delivery.tls_ca", quoted(settings.roots) +
                                    " is of no use: " + made.error().describe() +
                                    "; expected a file with certificates in PEM form");
  }

  void secrets() {
    const auto& option = *find_option("events.secret");
    for (std::size_t index = 0; index < config_.events.size(); ++index) {
      const auto& path = config_.events[index].secret;
      if (path.empty())
        continue;
      if (const auto right = check_webhook_secret(path); !right)
        report(origin_key(option, index), quoted(path) +
                                              " is of no use: " + right.error().describe() +
                                              "; expected a file of keys that begin with whsec_");
    }
  }

  void helper() {
    for (const auto& [key, service] :
         {std::pair{"auth.pam", &config_.auth.pam}, std::pair{"web.pam", &config_.web.pam}})
      if (!service->empty() && smtpd::auth::find_pam_program().empty())
        report(key,
               "needs the program postrider-pam, which is not there; expected it beside "
               "postrider");
  }

  // A name that is misspelt lets nobody in, and says nothing.
  void page_users() {
    for (const auto& [key, names] : {std::pair{"web.pam_read", &config_.web.pam_read},
                                     std::pair{"web.pam_change", &config_.web.pam_change}})
      for (const auto& name : *names)
        if (!is_known(name))
          report(key, quoted(name) +
                          " is not of this system; expected a user that `getent passwd` shows, or "
                          "@ and a group that `getent group` shows");
  }

 private:
  static bool is_known(const std::string& name) {
    const auto missing = make_error_code(Errc::not_found);
    if (!name.starts_with('@')) {
      const auto user = find_account(name);
      return user || user.error().code() != missing;
    }
    const auto group = find_group(name.substr(1));
    return group || group.error().code() != missing;
  }
  static std::string quoted(const std::string& text) { return quote_value(text, 200); }
  void report(const std::string& key, std::string text) {
    const auto origin = origins_.find(key);
    found_.push_back({origin == origins_.end() ? 0 : origin->second, key, std::move(text)});
  }

  const Config& config_;
  const Origins& origins_;
  const bool is_daemon_;
  std::vector<Problem>& found_;
};

}  // namespace

std::vector<Problem> silent_files(const Loaded& loaded) {
  std::vector<Problem> silent;
  const auto end = std::chrono::steady_clock::now() + kFileTime;
  for (const auto& [option, index, path] : named_paths(*loaded.config)) {
    const auto left = std::chrono::duration_cast<Duration>(end - std::chrono::steady_clock::now());
    if (answers_in_time(path, std::max(left, kLeastFileTime)))
      continue;
    const auto origin = loaded.origins.find(origin_key(*option, index));
    silent.push_back({origin == loaded.origins.end() ? 0 : origin->second, option->key,
                      quote_value(path) + " could not be read in time: its file system does not "
                                          "answer"});
  }
  // Below its folder others may be mounted.
  const auto& dkim = loaded.config->dkim;
  if (silent.empty() && dkim.is_used() && !signing_stamp_in_time(dkim)) {
    const auto origin = loaded.origins.find("dkim.folder");
    silent.push_back({origin == loaded.origins.end() ? 0 : origin->second, "dkim.folder",
                      quote_value(dkim.folder) +
                          " could not be read in time: a file system below it "
                          "does not answer"});
  }
  return silent;
}

std::vector<Problem> problems_of_files(const Loaded& loaded, const Question& question) {
  const auto& config = *loaded.config;
  auto found = check_tables(config);
  for (auto& problem : check_logins(config))
    found.push_back(std::move(problem));
  if (const auto rules = local_rules(config); !rules)
    found.push_back({"sendmail.unlimited", rules.error().step()});
  std::vector<Problem> problems;
  for (const auto& problem : found) {
    const auto origin = loaded.origins.find(problem.option);
    if (question.keeps_tables && problem.was_read)
      continue;
    if (!problem.is_warning)
      problems.push_back(
          {origin == loaded.origins.end() ? 0 : origin->second, problem.option, problem.text});
    else if (question.warnings != nullptr)
      question.warnings->push_back(problem.option + ": " + problem.text);
  }
  if (question.warnings != nullptr && problems.empty())
    for (const auto& doubt : alias_doubts(config))
      question.warnings->push_back("local.aliases: " + doubt);
  for (auto& problem : check_credentials(config, loaded.origins))
    problems.push_back(std::move(problem));
  for (auto& problem : check_srs_keys(config, loaded.origins))
    problems.push_back(std::move(problem));
  if (const auto readers = control_readers(config); !readers) {
    const auto origin = loaded.origins.find("control.readers");
    problems.push_back({origin == loaded.origins.end() ? 0 : origin->second, "control.readers",
                        readers.error().step()});
  }
  const auto account = config.user.empty() ? Result<Account>(Error(Errc::not_found, "user"))
                                           : find_account(config.user);
  const bool is_daemon = question.keeps_tables || (account && account->uid == ::geteuid());
  PlaceProblems places(loaded, is_daemon, problems);
  if (question.starts_as_root)
    places.user();
  places.spool();
  places.log();
  places.sockets();
  places.trust();
  places.secrets();
  places.helper();
  places.page_users();
  return problems;
}

}  // namespace postrider::daemon
