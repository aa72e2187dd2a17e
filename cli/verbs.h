// The verbs of `postrider`: the one table from which its help, its manual's synopsis (a test
// compares them), its completion and its "did you mean" come.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace CLI {
class App;
}

namespace postrider::cli {

struct VerbText {
  const char* path;      // "queue hold"
  const char* group;     // the heading in the help
  const char* summary;   // a sentence without a full stop
  const char* examples;  // lines, each a command with perhaps a comment
  const char* others;    // names by which other mail systems know it, with spaces between
};

std::span<const VerbText> verb_texts();

// The verb of that path, which stands in the table, below its parent, which has been added before.
CLI::App& add_verb(CLI::App& app, std::string_view path);

}  // namespace postrider::cli
