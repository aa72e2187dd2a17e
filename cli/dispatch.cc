#include "base/standard_streams.h"
#include "cli/output.h"
#include "cli/programs.h"

#include <csignal>

namespace postrider::cli {

namespace {

struct Program {
  std::string_view name;
  int (*run)(int argc, char** argv);
};
constexpr Program kPrograms[] = {
    {"sendmail", sendmail_main}, {"mailq", mailq_main}, {"newaliases", newaliases_main}};

}  // namespace

int dispatch(int argc, char** argv) {
  // A reader that went away, or a file that is to grow beyond `ulimit -f`, is an error of write(), not the end.
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
  guard_standard_streams();
  std::string_view name = argc > 0 ? argv[0] : "";
  name.remove_prefix(name.rfind('/') + 1);  // npos + 1 is 0
  for (const auto& program : kPrograms)
    if (program.name == name)
      return end_output(name, program.run(argc, argv));
  return end_output("postrider", postrider_main(argc, argv));
}

}  // namespace postrider::cli
