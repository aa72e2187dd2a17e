#include "daemon/file_problems.h"

#include "daemon/addresses.h"
#include "daemon/outbound.h"
#include "daemon/settings.h"
#include "daemon/signing/srs_keys.h"

#include <iterator>

namespace postrider::daemon {

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
  return problems;
}

}  // namespace postrider::daemon
