// `mailq` and `newaliases`.
#include "base/text.h"
#include "base/version.h"
#include "cli/administration.h"
#include "cli/output.h"
#include "cli/programs.h"

#include <algorithm>
#include <cstdio>
#include <string>
#include <sysexits.h>
#include <vector>

namespace postrider::cli {

int check_aliases(const daemon::Options& options) {
  const auto report = daemon::rebuild_aliases(options);
  if (report.exit_code == EX_OK)
    print(report.text);
  else
    complain("newaliases", report.exit_code,
             report.text.substr(0, report.text.find_last_not_of('\n') + 1));
  return report.exit_code;
}

int mailq_main(int argc, char** argv) {
  Administration how;
  how.program = "mailq";
  const std::vector<std::string> arguments(argv + std::min(argc, 1), argv + argc);
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const auto& argument = arguments[i];
    if (argument == "--json" || argument == "-j") {
      how.json = true;
    } else if ((argument == "-c" || argument == "-C") && i + 1 < arguments.size()) {
      how.options.config_file = arguments[++i];
    } else if (argument == "--version") {
      print("mailq (Postrider " + std::string(version()) + ")\n");
      return EX_OK;
    } else if (argument == "--help") {
      print("usage: mailq [--json] [-c FILE]\nLists the mail queue; see mailq(1).\n");
      return EX_OK;
    } else if (argument != "-v" && !argument.starts_with("-A")) {
      return complain("mailq", EX_USAGE,
                      "unexpected argument \"" + escaped(argument, 40) +
                          "\"; usage: mailq [--json] [-c FILE]; for a part of the queue: postrider "
                          "queue --help");
    }
  }
  return print_mailq(how);
}

int newaliases_main(int argc, char** argv) {
  daemon::Options options;
  const std::vector<std::string> arguments(argv + std::min(argc, 1), argv + argc);
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const auto& argument = arguments[i];
    if (argument == "--version") {
      print("newaliases (Postrider " + std::string(version()) + ")\n");
      return EX_OK;
    }
    if (argument == "--help") {
      print(
          "usage: newaliases [-c FILE]\nChecks the aliases, and compiles cdb tables; see "
          "newaliases(1).\n");
      return EX_OK;
    }
    const bool names_file = (argument == "-c" || argument == "-C") && i + 1 < arguments.size();
    if (!names_file)
      return complain(
          "newaliases", EX_USAGE,
          "unexpected argument \"" + escaped(argument, 40) + "\"; usage: newaliases [-c FILE]");
    options.config_file = arguments[++i];
  }
  return check_aliases(options);
}

}  // namespace postrider::cli
