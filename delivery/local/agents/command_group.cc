#include "delivery/local/agents/command_group.h"

#include "base/text.h"

#include <unistd.h>

namespace postrider::delivery {

namespace {

constexpr std::size_t kMostEvents = 4096;

// "max 3": how often, in a file of one such line for each event.
bool has_event(const std::string& path, std::string_view event) {
  const auto text = read_file(path, kMostEvents);
  if (!text)
    return false;
  for (const auto line : split(*text, '\n'))
    if (line.starts_with(event) && line.size() > event.size() && line[event.size()] == ' ')
      return line.substr(event.size() + 1) != "0";
  return false;
}

}  // namespace

void CommandGroup::end() const {
  if (kill.is_open())
    (void)!::write(kill.get(), "1", 1);
}

std::string CommandGroup::wanted() const {
  if (has_event(folder + "/memory.events", "oom_kill"))
    return " (it wanted more memory than local.command_memory)";
  if (has_event(folder + "/pids.events", "max"))
    return " (it wanted more processes than local.command_processes)";
  return {};
}

}  // namespace postrider::delivery
