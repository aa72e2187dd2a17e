#include "delivery/auth/token_command.h"

#include "base/text.h"
#include "delivery/local/agents/account.h"
#include "delivery/local/agents/command_process.h"

#include <array>
#include <cstring>
#include <poll.h>

namespace postrider::delivery {

namespace {

constexpr std::size_t kMostComplaint = 300;  // octets of standard error

struct Said {
  std::string output, errors;
};

// Until it has ended by itself; an error leaves that to the caller.
Result<void> follow(CommandProcess& process, const TokenCommandLimits& limits, int asker,
                    Said& said) {
  const auto until = std::chrono::steady_clock::now() + limits.time;
  while (!process.has_ended()) {
    const auto left =
        std::chrono::duration_cast<Duration>(until - std::chrono::steady_clock::now()).count();
    if (left <= 0)
      return Error(Errc::refused, "it did not end in " + format_duration(limits.time));
    std::array<pollfd, 4> watched = {{{process.ended(), POLLIN, 0},
                                      {process.output(), POLLIN, 0},
                                      {process.errors(), POLLIN, 0},
                                      {asker, POLLRDHUP, 0}}};
    if (::poll(watched.data(), watched.size(), static_cast<int>(left)) < 0)
      continue;
    if (watched[1].revents != 0)
      process.read_output(said.output, limits.output + 1);
    if (watched[2].revents != 0)
      process.read_errors(said.errors, kMostComplaint);
    if (said.output.size() > limits.output)
      return Error(Errc::too_long, "it prints more than " + format_size(limits.output));
    if (watched[3].revents != 0)
      return Error(Errc::stopped, "nobody waits for it");
    if (watched[0].revents != 0)
      process.reap();
  }
  process.read_output(said.output, limits.output + 1);
  process.read_errors(said.errors, kMostComplaint);
  if (said.output.size() > limits.output)
    return Error(Errc::too_long, "it prints more than " + format_size(limits.output));
  return {};
}

// The home of the daemon's user is the spool, where the daemon writes: a file of settings there
// that an interpreter or a library reads (.local, .netrc, .config) would be a program of the
// daemon's choice.
constexpr const char* kFolder = "/";
constexpr const char* kHome = "/nonexistent";

std::vector<std::string> environment_of(const std::string& user) {
  return {"PATH=/usr/local/bin:/usr/bin:/bin", std::string("HOME=") + kHome, "USER=" + user,
          "LOGNAME=" + user, "SHELL=/bin/sh"};
}

std::string first_line(const std::string& text) {
  return escaped(trim(std::string_view(text).substr(0, text.find_first_of("\r\n"))));
}

}  // namespace

Result<std::string> run_token_command(const std::vector<std::string>& arguments,
                                      const TokenCommandLimits& limits, int asker) {
  auto process = CommandProcess::start(arguments, environment_of(home_of_this_user().user), kFolder,
                                       CommandProcess::Errors::apart);
  if (!process)
    return process.error();
  process->close_input();
  Said said;
  if (auto followed = follow(*process, limits, asker, said); !followed)
    return followed.error();
  const auto end = process->end({});
  if (end.kind == CommandEnd::Kind::exited && end.number == 0)
    return std::move(said.output);
  auto how =
      (end.kind == CommandEnd::Kind::exited ? "it ended with exit code " : "it ended by signal ") +
      std::to_string(end.number);
  if (const auto complaint = first_line(said.errors); !complaint.empty())
    how += ": " + complaint;
  return Error(Errc::refused, std::move(how));
}

}  // namespace postrider::delivery
