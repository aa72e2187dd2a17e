#include "delivery/local/agents/command_exit.h"

#include "base/text.h"
#include "delivery/local/agents/local_file.h"
#include "mail/reply.h"

#include <algorithm>
#include <csignal>
#include <sysexits.h>
#include <system_error>

namespace postrider::delivery {

namespace {

using mail::EnhancedCode;
using mail::Outcome;
using mail::Verdict;

struct Meaning {
  int code;
  EnhancedCode status;
  const char* text;
};

// The codes and texts of Postfix's sys_exits table.
constexpr Meaning kMeanings[] = {
    {EX_USAGE, {5, 3, 0}, "command line usage error"},
    {EX_DATAERR, {5, 6, 0}, "data format error"},
    {EX_NOINPUT, {5, 3, 0}, "cannot open input"},
    {EX_NOUSER, {5, 1, 1}, "user unknown"},
    {EX_NOHOST, {5, 1, 2}, "host name unknown"},
    {EX_UNAVAILABLE, {5, 3, 0}, "service unavailable"},
    {EX_SOFTWARE, {5, 3, 0}, "internal software error"},
    {EX_OSERR, {4, 3, 0}, "system resource problem"},
    {EX_OSFILE, {5, 3, 0}, "critical OS file missing"},
    {EX_CANTCREAT, {5, 2, 0}, "can't create user output file"},
    {EX_IOERR, {5, 3, 0}, "input/output error"},
    {EX_TEMPFAIL, {4, 3, 0}, "temporary failure"},
    {EX_PROTOCOL, {5, 5, 0}, "remote error in protocol"},
    {EX_NOPERM, {5, 7, 0}, "permission denied"},
    {EX_CONFIG, {5, 3, 5}, "local configuration error"},
};
constexpr std::size_t kMostShown = 256;
constexpr EnhancedCode kOurs{4, 3, 0};

// sh(1): the program was there but could not be run, was not there, or died by a signal.
constexpr int kNotRun = 126, kNotFound = 127, kSignals = 128, kLastSignal = 64;

// What perror(3) says where the machine is in trouble, or forbids what its user may do: whatever
// code a script makes of it, the message is not at fault.
constexpr std::string_view kTroubles[] = {"Read-only file system",
                                          "No space left on device",
                                          "Disk quota exceeded",
                                          "Cannot allocate memory",
                                          "Too many open files",
                                          "Resource temporarily unavailable",
                                          "Cannot fork",
                                          "Input/output error",
                                          "Stale file handle",
                                          "Text file busy",
                                          "Transport endpoint is not connected",
                                          "Exec format error",
                                          "bad interpreter",
                                          "error while loading shared",
                                          "Bad system call",
                                          "memory page as executable"};

// What a unit of systemd forbids its commands, which comes to light only when one of them runs.
// node and java make their code as they run.
struct Remedy {
  std::string_view said;
  int signal;
  const char* setting;
};
constexpr Remedy kRemedies[] = {
    {"Read-only file system", 0, "ReadWritePaths="},
    {"memory page as executable", SIGTRAP, "MemoryDenyWriteExecute=no"},
};

// Behind what became of the command.
std::string remedy(std::string_view said, int signal) {
  for (const auto& each : kRemedies)
    if (said.find(each.said) != said.npos || (signal != 0 && signal == each.signal))
      return std::string(" (the unit of systemd may forbid it; ") + each.setting +
             " in a drop-in allows it: see aliases(5))";
  return {};
}

bool is_trouble(std::string_view said) {
  return std::any_of(std::begin(kTroubles), std::end(kTroubles),
                     [&](std::string_view trouble) { return said.find(trouble) != said.npos; });
}

std::string_view first_line(std::string_view output) {
  while (!output.empty() && (output.front() == '\n' || output.front() == ' '))
    output.remove_prefix(1);
  auto line = output.substr(0, output.find('\n'));
  while (!line.empty() && (line.back() == '\r' || line.back() == ' '))
    line.remove_suffix(1);
  return line;
}

Outcome refused(EnhancedCode status, std::string text, std::string_view said) {
  if (const auto own = mail::parse_enhanced_code(said); own && (own->klass == 4 || own->klass == 5))
    status = *own;
  if (!said.empty())
    text.append(kCommandOutput).append(escaped(said, kMostShown));
  return local_end(status.klass == 4 ? Verdict::retry : Verdict::bounce, status, std::move(text));
}

Outcome judge_exit(const CommandEnd& end, std::string_view said) {
  if (end.number == EX_OK)
    return local_end(Verdict::delivered, {2, 0, 0}, "delivered to command");
  const bool is_ours = is_trouble(end.output);
  const auto advice = remedy(end.output, end.number - kSignals);
  for (const auto& meaning : kMeanings)
    if (meaning.code == end.number)
      return refused(is_ours ? kOurs : meaning.status, meaning.text + advice, said);
  if (end.number == kNotRun || end.number == kNotFound)
    return refused({4, 3, 5}, "the command, or one that it runs, could not be started", said);
  if (end.number > kSignals && end.number <= kSignals + kLastSignal)
    return refused(kOurs,
                   "a program of the command died with signal " +
                       std::to_string(end.number - kSignals) + advice,
                   said);
  return refused(is_ours ? kOurs : EnhancedCode{5, 3, 0},
                 "command exited with status " + std::to_string(end.number) + advice, said);
}

}  // namespace

Outcome judge_command(const CommandEnd& end, std::string_view command) {
  const auto said = first_line(end.output);
  const auto name = ": " + escaped(command);
  switch (end.kind) {
    case CommandEnd::Kind::exited: {
      auto outcome = judge_exit(end, said);
      if (outcome.verdict == Verdict::delivered)
        outcome.text += name;
      return outcome;
    }
    case CommandEnd::Kind::killed:
      return local_end(Verdict::retry, {4, 3, 0},
                       "command died with signal " + std::to_string(end.number) +
                           remedy(end.output, end.number) + name);
    case CommandEnd::Kind::too_slow:
      return local_end(Verdict::retry, {4, 3, 0}, "command took too long and was ended" + name);
    case CommandEnd::Kind::stopped:
      return local_end(Verdict::retry, {4, 3, 2}, "command was ended, for we stop" + name);
    case CommandEnd::Kind::not_started:
      break;
  }
  return local_end(
      Verdict::retry, {4, 3, 5},
      "command could not be started" + name + ": " + std::generic_category().message(end.number));
}

}  // namespace postrider::delivery
