#include "daemon/reloader.h"

#include "base/in_time.h"
#include "base/text.h"
#include "base/version.h"
#include "daemon/config/secret_values.h"
#include "daemon/file_problems.h"
#include "daemon/settings.h"

#include <algorithm>

namespace postrider::daemon {

namespace {

constexpr const char* kReaches = "the daemon reaches ";
constexpr const char* kAfterRestart = " after a restart: systemctl restart postrider";

}  // namespace

Reloader::Reloader(Loaded loaded, Parts& parts, Notifier& notifier)
    : loaded_(std::move(loaded)),
      started_(loaded_.config),
      parts_(parts),
      notifier_(notifier),
      clock_(parts.foundation.clock()) {}

void Reloader::ask() {
  const auto now = clock_.steady();
  notifier_.reloading(now);
  auto& log = parts_.foundation.log();
  try {
    log.reopen();
  } catch (const std::exception& error) {  // the old file is still written
    log.write(LogEvent(Level::error, "log_not_reopened").add("error", error.what()));
  }
  if (!wanted_) {
    auto stamp = answers_in_time(loaded_.file) ? stamp_of(loaded_.file, clock_.now()) : FileStamp();
    wanted_ = Wanted{now, now, {std::move(stamp), now}};
  }
  wanted_->number = parts_.reloads->asked_for();
}

std::optional<SteadyTime> Reloader::next_look() const {
  return wanted_ ? std::optional(wanted_->look) : std::nullopt;
}

// A file that is being written is not what anybody wants: it may be empty, or end before its
// routes.
void Reloader::run_if_settled() {
  const auto now = clock_.steady();
  if (!wanted_ || now < wanted_->look)
    return;
  if (!answers_in_time(loaded_.file)) {
    Loaded silent;
    silent.file = loaded_.file;
    silent.problems.push_back(
        {0, "", "could not be read in time: its file system does not answer"});
    const auto number = wanted_->number;
    wanted_.reset();
    return report(number, refuse(silent));
  }
  const auto again = [&](Duration wait) { wanted_->look = now + wait; };
  const auto still = wanted_->file.look(stamp_of(loaded_.file, clock_.now()), now);
  const bool is_late = now - wanted_->asked >= kLongestConfigWait;
  if (still < kConfigSettled && !is_late)
    return again(kConfigSettled - still);
  auto fresh = load_config(loaded_.file);
  if (still < kConfigSettledIfCut && looks_cut(fresh, loaded_) && !is_late)
    return again(std::min(kConfigSettled, kConfigSettledIfCut - still));
  if (stamp_of(loaded_.file, clock_.now()).text != wanted_->file.seen().text && !is_late)
    return again(kConfigSettled);
  const auto number = wanted_->number;
  wanted_.reset();
  if (is_late && still < kConfigSettled) {
    fresh.config.reset();
    fresh.problems.push_back({0, "", "is being written all the time"});
  } else if (fresh.config && fresh.origins.empty() && !loaded_.origins.empty()) {
    fresh.config.reset();
    fresh.problems.push_back({0, "", "has no key at all, and the one in use has some"});
  }
  report(number, reload(std::move(fresh)));
}

// The old configuration stays in every part, or the new one goes to every part.
ReloadVerdict Reloader::reload(Loaded fresh) {
  // What the file names may be there for others and not for us: the daemon finds out.
  if (fresh.config)
    fresh.problems = silent_files(fresh);
  if (fresh.config && fresh.problems.empty()) {
    fresh.problems = problems_of_files(fresh, {nullptr, true, parts_.rights.has_other_user()});
    // Which may be all that is wrong with a file.
    if (!fresh.problems.empty())
      for (const auto& path : parts_.rights.beyond_reach(fresh))
        fresh.problems.push_back({0, "", kReaches + path + kAfterRestart});
  }
  return fresh.problems.empty() ? adopt(std::move(fresh)) : refuse(fresh);
}

ReloadVerdict Reloader::refuse(const Loaded& fresh) {
  for (const auto& problem : fresh.problems)
    parts_.foundation.log().write(
        LogEvent(Level::error, "config_refused")
            .add("file", problem.file.empty() ? fresh.file : problem.file)
            .add("line", problem.line)
            .add("key", problem.key)
            .add("problem",
                 fresh.config ? without_secret_values(problem.text, *fresh.config) : problem.text));
  ReloadVerdict verdict;
  const auto lines = fresh.describe();
  for (const auto line : split(lines, '\n'))
    if (!line.empty())
      verdict.problems.emplace_back(line);
  return verdict;
}

// In `postrider status` and for the service manager until the configuration is mended.
void Reloader::report(std::uint64_t number, ReloadVerdict verdict) {
  notifier_.ready(verdict.problems.empty() ? "listening on " + parts_.receiving->listeners()
                                           : "configuration refused: " + verdict.problems.front());
  parts_.reloads->set_verdict(number, std::move(verdict));
}

ReloadVerdict Reloader::adopt(Loaded fresh) {
  const auto& config = *fresh.config;
  auto& log = parts_.foundation.log();
  // The parent reads the file itself, and then knows the addresses that change_parts() binds.
  Error error;
  if (auto read = parts_.parent->reload(); !read) {
    error = read.error().during("the parent's reload");
    log.write(LogEvent(Level::error, "parent_not_reloaded").add("error", error.describe()));
  } else {
    error = change_parts(config, fresh.origins);
  }
  const auto beyond_reach = parts_.rights.beyond_reach(fresh);
  if (error.code()) {
    (void)parts_.parent->stay();
    log.write(LogEvent(Level::error, "config_refused").add("problem", error.describe()));
    ReloadVerdict refused{{fresh.file + ": " + error.describe()}, {}};
    for (const auto& path : beyond_reach)
      refused.problems.push_back(fresh.file + ": " + kReaches + path + kAfterRestart);
    return refused;
  }
  ReloadVerdict verdict;
  for (const auto& key : need_restart(*started_, config)) {
    log.write(LogEvent(Level::warn, "needs_restart").add("key", key));
    verdict.notes.push_back(key + " counts after a restart: systemctl restart postrider");
  }
  for (const auto& path : beyond_reach) {
    log.write(LogEvent(Level::warn, "needs_restart").add("key", "sandbox").add("path", path));
    verdict.notes.push_back(kReaches + path + kAfterRestart);
  }
  log.reconfigure(log_format(config), config.log.level);
  loaded_ = std::move(fresh);
  look_at_routes();
  parts_.doors->publish_places(loaded_);
  log.write(
      LogEvent(Level::info, "reloaded").add("version", version()).add("config", loaded_.file));
  return verdict;
}

// Mail that was put off and whose route has changed is due at once on the new route, at the pace of
// the sites there; the dispatcher knows the new routes before it is given any of it.
void Reloader::look_at_routes() {
  if (!route_changes_.look(config(), clock_.steady()))
    return;
  parts_.foundation.log().write(LogEvent(Level::info, "routes_changed"));
  parts_.foundation.queue().change(queue::Verb::retry, {}, false,
                                   [](const Result<queue::Changed>&) {});
}

// Everything that can fail comes before the first part is changed.
Error Reloader::change_parts(const Config& config, const Origins& origins) {
  auto tables = parts_.tables.prepare(config, clock_);
  if (!tables)
    return tables.error();
  auto receiving = parts_.receiving->prepare(config, tables->receiving);
  if (!receiving)
    return receiving.error();
  auto limits = local_rules(config);
  if (!limits)
    return limits.error().during("sendmail.unlimited");
  const auto readers = control_readers(config);
  if (!readers)
    return readers.error().during("control.readers");
  if (auto sending = parts_.sending->settings(config, *tables, {}); !sending)
    return sending.error();
  auto keys = parts_.keys.prepare(config, origins);
  if (!keys)
    return keys.error();
  auto reports = parts_.reports->prepared(config);
  if (!reports)
    return reports.error();
  auto sinks = parts_.sinks->prepare(config);
  if (!sinks)
    return sinks.error();
  if (auto error = parts_.receiving->certificates().change(config, origins); error.code())
    return error;
  if (auto listening = parts_.receiving->relisten(*receiving); !listening)
    return listening.error();
  if (auto adopted = parts_.parent->adopt(); !adopted)
    return adopted.error().during("the parent's reload");

  const auto listening = parts_.receiving->server().addresses();
  const auto sending = parts_.sending->settings(config, *tables, listening);
  parts_.status->set_listeners(listening);
  parts_.tables.adopt(config, *std::move(tables));
  parts_.status->set_tables(parts_.tables.in_use().receiving);
  parts_.limits->set_rules(*std::move(limits));
  parts_.keys.adopt(*std::move(keys));
  parts_.receiving->adopt(*std::move(receiving));
  parts_.sending->adopt(*sending);
  parts_.sinks->adopt(*std::move(sinks));
  parts_.foundation.trace().adopt(config);
  auto keeping = queue_settings(config);
  keeping.spool = started_->spool;
  parts_.foundation.queue().reconfigure(std::move(keeping));
  parts_.loops.reconfigure(resolver_settings(config.dns));
  parts_.loops.first().post(*std::move(reports));
  parts_.loops.first().post(parts_.reports->receiver_change(**sending));
  parts_.doors->reconfigure(local_settings(parts_, config), *readers);
  return {};
}

}  // namespace postrider::daemon
