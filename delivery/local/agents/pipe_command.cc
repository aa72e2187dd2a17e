#include "delivery/local/agents/pipe_command.h"

#include "base/text.h"
#include "delivery/local/agents/account.h"
#include "delivery/local/agents/command_exit.h"
#include "delivery/local/agents/command_process.h"
#include "delivery/local/agents/local_content.h"
#include "delivery/local/agents/local_file.h"
#include "delivery/local/agents/process_tree.h"

#include <array>
#include <cerrno>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

namespace postrider::delivery {

namespace {

constexpr std::string_view kHarmless = "!@%-_=+:,./";

bool is_harmless(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         kHarmless.find(c) != kHarmless.npos;
}

// What goes to standard input, piece by piece; empty at the end.
class Input {
 public:
  Input(const LocalJob& job, const LocalBody& body)
      : content_(job, body), left_(from_line(job.envelope.sender, job.envelope.now)) {}

  Result<std::string_view> rest() {
    while (at_ == left_.size() && !ended_) {
      if (auto next = content_.next(left_); !next)
        return next.error();
      at_ = 0;
      ended_ = left_.empty();
    }
    return std::string_view(left_).substr(at_);
  }
  void taken(std::size_t octets) { at_ += octets; }

 private:
  LocalContent content_;
  std::string left_;
  std::size_t at_ = 0;
  bool ended_ = false;
};

// A command that ends without reading everything has decided: that is no failure of ours.
Result<void> feed(CommandProcess& process, Input& input) {
  const auto rest = input.rest();
  if (!rest)
    return rest.error();
  if (rest->empty()) {
    process.close_input();
    return {};
  }
  const auto written = ::write(process.input(), rest->data(), rest->size());
  if (written > 0)
    input.taken(static_cast<std::size_t>(written));
  else if (written < 0 && errno == EPIPE)
    process.close_input();
  else if (written < 0 && errno != EAGAIN && errno != EINTR)
    return system_error("write to the command");
  return {};
}

Result<CommandEnd> converse(CommandProcess& process, Input& input, const TargetLimits& limits,
                            int stop) {
  const auto end = std::chrono::steady_clock::now() + limits.time;
  std::string output;
  while (!process.has_ended()) {
    const auto left =
        std::chrono::duration_cast<Duration>(end - std::chrono::steady_clock::now()).count();
    if (left <= 0)
      return CommandEnd{CommandEnd::Kind::too_slow, 0, std::move(output)};
    std::array<pollfd, 4> waiting = {{{process.ended(), POLLIN, 0},
                                      {process.output(), POLLIN, 0},
                                      {process.input(), POLLOUT, 0},
                                      {stop, POLLIN, 0}}};
    if (::poll(waiting.data(), waiting.size(),
               static_cast<int>(std::min<Duration::rep>(left, 60000))) < 0)
      continue;
    if (waiting[1].revents != 0)
      process.read_output(output, limits.output);
    if (waiting[2].revents != 0)
      if (auto fed = feed(process, input); !fed)
        return fed.error();
    if (waiting[0].revents != 0)
      process.reap();
    else if (waiting[3].revents != 0)
      return CommandEnd{CommandEnd::Kind::stopped, 0, std::move(output)};
  }
  process.read_output(output, limits.output);
  return process.end(std::move(output));
}

}  // namespace

std::string harmless(std::string_view outside) {
  std::string out(outside);
  for (char& c : out)
    if (!is_harmless(c))
      c = '_';
  return out;
}

namespace {

// A program may hand it on as an argument of another.
std::string variable(const char* name, std::string_view outside) {
  auto value = harmless(outside);
  if (value.starts_with('-'))
    value.front() = '_';
  return std::string(name) + "=" + value;
}

}  // namespace

std::vector<std::string> command_environment(const LocalEnvelope& envelope, std::string_view user,
                                             std::string_view home) {
  return {"HOME=" + std::string(home),
          "USER=" + std::string(user),
          "LOGNAME=" + std::string(user),
          "SHELL=/bin/sh",
          "PATH=/usr/local/bin:/usr/bin:/bin",
          variable("SENDER", envelope.sender),
          variable("RECIPIENT", envelope.delivered_to),
          variable("ORIGINAL_RECIPIENT", envelope.original_recipient),
          variable("LOCAL", envelope.local_part),
          variable("EXTENSION", envelope.extension),
          variable("DOMAIN", envelope.domain)};
}

namespace {

// A filter's last child may still write a copy.
constexpr Duration kPatience = std::chrono::seconds(2);

CommandBounds bounds_of(const TargetLimits& limits, const CommandGroup* group) {
  CommandBounds bounds;
  const bool is_held = group != nullptr && group->holds_tasks;
  bounds.more_tasks = is_held ? 0 : limits.processes;
  bounds.data = limits.memory;
  bounds.group = group != nullptr ? group->processes.get() : -1;
  bounds.is_nice = true;
  return bounds;
}

// What the command left behind. patience: for what ends by itself.
void end_rest(const CommandSetting& setting, Duration patience) {
  if (!setting.is_alone)
    return;
  std::function<void()> end;
  if (setting.group != nullptr && setting.group->kill.is_open())
    end = [&] { setting.group->end(); };
  if (!end_children(patience, end) && end)
    end_children({});
}

}  // namespace

mail::Outcome deliver_to_command(const LocalJob& job, const LocalBody& body,
                                 const CommandSetting& setting) {
  const auto& arguments = job.target.arguments;
  if (arguments.empty() || !arguments.front().starts_with('/'))
    return local_end(mail::Verdict::retry, {4, 3, 5}, "the command has no absolute path");
  const auto home = home_of_this_user();
  auto end = [&]() -> Result<CommandEnd> {
    auto process = CommandProcess::start(
        arguments, command_environment(job.envelope, home.user, home.folder), home.folder,
        CommandProcess::Errors::with_output, bounds_of(job.target.limits, setting.group));
    if (!process)
      return CommandEnd{CommandEnd::Kind::not_started, process.error().code().value(), {}};
    Input input(job, body);
    return converse(*process, input, job.target.limits, setting.stop);
  }();
  const bool ended_itself =
      end && (end->kind == CommandEnd::Kind::exited || end->kind == CommandEnd::Kind::killed);
  end_rest(setting, ended_itself ? kPatience : Duration{});
  if (!end)
    return local_failure(end.error());
  auto outcome = judge_command(*end, arguments.front());
  if (setting.group != nullptr && outcome.verdict != mail::Verdict::delivered)
    outcome.text += setting.group->wanted();
  return outcome;
}

}  // namespace postrider::delivery
