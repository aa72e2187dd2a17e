// What is said to a command line that `postrider` does not understand: what is wrong with it, the
// word that was probably meant, and an example.
#pragma once

#include <string>
#include <vector>

namespace CLI {
class App;
class ParseError;
}  // namespace CLI

namespace postrider::cli {

// Prints it on standard error and gives EX_USAGE. `app` is the one that has just parsed; `words`
// are those behind a verb, among which a misspelt verb may be.
int complain_of_usage(const CLI::App& app, const CLI::ParseError& error,
                      const std::vector<std::string>& words);
// The same for words that were parsed, and then found to be wrong.
int complain_of_usage(const CLI::App& app, const std::string& sentence);

// The verbs of a command line that has been parsed: "postrider queue hold".
std::string typed_verbs(const CLI::App& app);

// "unknown verb "holt", did you mean hold?", where the word is near a verb that could stand behind
// those that were typed; else empty.
std::string misspelt_verb(const CLI::App& app, const std::string& word);

}  // namespace postrider::cli
