#include "daemon/start_problems.h"

#include <sysexits.h>

namespace postrider::daemon {

// An error that says "refused" is a whole sentence, to which the word adds nothing.
void StartProblems::add(const Error& error) {
  lines.push_back("postrider: " +
                  (error.code() == Errc::refused ? error.step() : error.describe()));
  if (exit_code == 0)
    exit_code = EX_OSERR;
}

void StartProblems::blame(const Loaded& loaded, const char* key, const std::string& text) {
  const auto origin = loaded.origins.find(key);
  blame(loaded, {{origin == loaded.origins.end() ? 0 : origin->second, key, text}});
}

void StartProblems::blame(const Loaded& loaded, std::vector<Problem> problems) {
  Loaded with_problems;
  with_problems.file = loaded.file;
  with_problems.problems = std::move(problems);
  auto text = with_problems.describe();
  text.pop_back();
  lines.push_back(std::move(text));
  exit_code = EX_CONFIG;
}

}  // namespace postrider::daemon
