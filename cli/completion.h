// `postrider completion`: what a shell needs to complete these commands, made from the verbs and
// options as they are.
#pragma once

#include <string>

namespace CLI {
class App;
}

namespace postrider::cli {

// A script to be sourced by bash, or by zsh behind bashcompinit.
std::string completion_script(const CLI::App& app);

}  // namespace postrider::cli
