#include "daemon/file_problems.h"

#include "base/in_time.h"
#include "base/text.h"
#include "daemon/addresses.h"
#include "daemon/outbound.h"
#include "daemon/privsep/confinement.h"
#include "daemon/settings.h"
#include "daemon/signing/signing_keys.h"
#include "daemon/signing/srs_keys.h"

#include <algorithm>
#include <iterator>

namespace postrider::daemon {

namespace {

constexpr Duration kLeastFileTime{200};  // when the time of all is over

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
                      "\"" + escaped(path) +
                          "\" could not be read in time: its file system does not "
                          "answer"});
  }
  // Below its folder others may be mounted.
  const auto& dkim = loaded.config->dkim;
  if (silent.empty() && dkim.is_used() && !signing_stamp_in_time(dkim)) {
    const auto origin = loaded.origins.find("dkim.folder");
    silent.push_back({origin == loaded.origins.end() ? 0 : origin->second, "dkim.folder",
                      "\"" + escaped(dkim.folder) +
                          "\" could not be read in time: a file system below it "
                          "does not answer"});
  }
  return silent;
}

std::vector<Problem> problems_of_files(const Loaded& loaded, std::vector<std::string>* warnings,
                                       bool keeps_tables) {
  const auto& config = *loaded.config;
  auto found = check_tables(config);
  for (auto& problem : check_logins(config))
    found.push_back(std::move(problem));
  if (const auto rules = local_rules(config); !rules)
    found.push_back({"sendmail.unlimited", rules.error().step()});
  std::vector<Problem> problems;
  for (const auto& problem : found) {
    const auto origin = loaded.origins.find(problem.option);
    if (keeps_tables && problem.was_read)
      continue;
    if (!problem.is_warning)
      problems.push_back(
          {origin == loaded.origins.end() ? 0 : origin->second, problem.option, problem.text});
    else if (warnings != nullptr)
      warnings->push_back(problem.option + ": " + problem.text);
  }
  for (auto& problem : check_credentials(config, loaded.origins))
    problems.push_back(std::move(problem));
  for (auto& problem : check_srs_keys(config, loaded.origins))
    problems.push_back(std::move(problem));
  if (const auto readers = control_readers(config); !readers) {
    const auto origin = loaded.origins.find("control.readers");
    problems.push_back({origin == loaded.origins.end() ? 0 : origin->second, "control.readers",
                        readers.error().step()});
  }
  return problems;
}

}  // namespace postrider::daemon
