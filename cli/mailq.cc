// `mailq` and `newaliases`.
#include "cli/administration.h"
#include "cli/output.h"
#include "cli/programs.h"

#include <string>
#include <sysexits.h>
#include <vector>

namespace postrider::cli {

int rebuild_aliases() {
  print("Nothing to rebuild: aliases are read from their text file when it changes.\n");
  return EX_OK;
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
      print("mailq (Postrider " POSTRIDER_VERSION ")\n");
      return EX_OK;
    } else if (argument == "--help") {
      print("usage: mailq [--json] [-c FILE]\nLists the mail queue; see mailq(1).\n");
      return EX_OK;
    } else if (argument != "-v" && !argument.starts_with("-A")) {
      return complain("mailq", EX_USAGE, "usage: mailq [--json] [-c FILE]");
    }
  }
  return print_mailq(how);
}

int newaliases_main(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]) == "--version") {
    print("newaliases (Postrider " POSTRIDER_VERSION ")\n");
    return EX_OK;
  }
  return rebuild_aliases();
}

}  // namespace postrider::cli
