// Reload and stop.
#include "base/file.h"
#include "base/in_time.h"
#include "base/text.h"
#include "base/version.h"
#include "daemon/config/config_file.h"
#include "daemon/file_problems.h"
#include "daemon/pickup/drop_file.h"
#include "daemon/running.h"
#include "daemon/settings.h"
#include "daemon/signing/signing_keys.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fcntl.h>
#include <mutex>
#include <sysexits.h>
#include <system_error>
#include <thread>

namespace postrider::daemon {

namespace {

// A stop in all; TimeoutStopSec= of the unit is above it.
constexpr Duration kWholeStop{10'000};
// What is kept of it for the queue and the threads to end.
constexpr Duration kReserve{2'000};
constexpr Duration kReceivingGrace{4'000};
constexpr Duration kHurriedGrace{500};
constexpr Duration kBeyondGrace{500};  // for the parts to notice that their grace has ended
constexpr Duration kThreadsEnd{1'000};

constexpr const char* kReaches = "the daemon reaches ";
constexpr const char* kAfterRestart = " after a restart: systemctl restart postrider";

}  // namespace

void Running::ask_for_reload() {
  const auto now = clock_.steady();
  notifier_.reloading(now);
  try {
    log_->reopen();
  } catch (const std::exception& error) {  // the old file is still written
    log_->write(LogEvent(Level::error, "log_not_reopened").add("error", error.what()));
  }
  if (!reload_) {
    auto stamp = answers_in_time(loaded_.file) ? stamp_of(loaded_.file, clock_.now()) : FileStamp();
    reload_ = Reload{now, now, {std::move(stamp), now}};
  }
  reload_->number = insight_->reloads_asked_for();
}

// A file that is being written is not what anybody wants: it may be empty, or end before its
// routes.
void Running::reload_if_settled() {
  const auto now = clock_.steady();
  if (!answers_in_time(loaded_.file)) {
    Loaded silent;
    silent.file = loaded_.file;
    silent.problems.push_back(
        {0, "", "could not be read in time: its file system does not answer"});
    const auto number = reload_->number;
    reload_.reset();
    return tell_reload(number, refuse(silent));
  }
  const auto again = [&](Duration wait) { reload_->look = now + wait; };
  const auto still = reload_->file.look(stamp_of(loaded_.file, clock_.now()), now);
  const bool is_late = now - reload_->asked >= kLongestConfigWait;
  if (still < kConfigSettled && !is_late)
    return again(kConfigSettled - still);
  auto fresh = load_config(loaded_.file);
  if (still < kConfigSettledIfCut && looks_cut(fresh, loaded_) && !is_late)
    return again(std::min(kConfigSettled, kConfigSettledIfCut - still));
  if (stamp_of(loaded_.file, clock_.now()).text != reload_->file.seen().text && !is_late)
    return again(kConfigSettled);
  const auto number = reload_->number;
  reload_.reset();
  if (is_late && still < kConfigSettled) {
    fresh.config.reset();
    fresh.problems.push_back({0, "", "is being written all the time"});
  } else if (fresh.config && fresh.origins.empty() && !loaded_.origins.empty()) {
    fresh.config.reset();
    fresh.problems.push_back({0, "", "has no key at all, and the one in use has some"});
  }
  tell_reload(number, reload(std::move(fresh)));
}

// The old configuration stays in every part, or the new one goes to every part.
ReloadVerdict Running::reload(Loaded fresh) {
  // What the file names may be there for others and not for us: the daemon finds out.
  if (fresh.config)
    fresh.problems = silent_files(fresh);
  if (fresh.config && fresh.problems.empty()) {
    fresh.problems = problems_of_files(fresh, {nullptr, true, account_.has_value()});
    // Which may be all that is wrong with a file.
    if (!fresh.problems.empty())
      for (const auto& path : out_of_reach(reach_, sandbox_paths(*fresh.config, fresh.file)))
        fresh.problems.push_back({0, "", kReaches + path + kAfterRestart});
  }
  return fresh.problems.empty() ? adopt(std::move(fresh)) : refuse(fresh);
}

ReloadVerdict Running::refuse(const Loaded& fresh) {
  for (const auto& problem : fresh.problems)
    log_->write(LogEvent(Level::error, "config_refused")
                    .add("file", problem.file.empty() ? fresh.file : problem.file)
                    .add("line", problem.line)
                    .add("key", problem.key)
                    .add("problem", problem.text));
  ReloadVerdict verdict;
  const auto lines = fresh.describe();
  for (const auto line : split(lines, '\n'))
    if (!line.empty())
      verdict.problems.emplace_back(line);
  return verdict;
}

// Until it is mended: in `postrider status`, and to the service manager.
void Running::tell_reload(std::uint64_t number, ReloadVerdict verdict) {
  notifier_.ready(verdict.problems.empty() ? "listening on " + summary()
                                           : "configuration refused: " + verdict.problems.front());
  insight_->set_verdict(number, std::move(verdict));
}

ReloadVerdict Running::adopt(Loaded fresh) {
  const auto& config = *fresh.config;
  // The parent reads the file itself, and then knows the addresses that configure_parts binds.
  Error error;
  if (auto read = parent_->reload(); !read) {
    error = read.error().during("the parent's reload");
    log_->write(LogEvent(Level::error, "parent_not_reloaded").add("error", error.describe()));
  } else {
    error = configure_parts(config, fresh.origins);
  }
  if (error.code()) {
    (void)parent_->stay();
    log_->write(LogEvent(Level::error, "config_refused").add("problem", error.describe()));
    ReloadVerdict refused{{fresh.file + ": " + error.describe()}, {}};
    for (const auto& path : out_of_reach(reach_, sandbox_paths(config, fresh.file)))
      refused.problems.push_back(fresh.file + ": " + kReaches + path + kAfterRestart);
    return refused;
  }
  ReloadVerdict verdict;
  for (const auto& key : need_restart(*started_, config)) {
    log_->write(LogEvent(Level::warn, "needs_restart").add("key", key));
    verdict.notes.push_back(key + " counts after a restart: systemctl restart postrider");
  }
  for (const auto& path : out_of_reach(reach_, sandbox_paths(config, fresh.file))) {
    log_->write(LogEvent(Level::warn, "needs_restart").add("key", "sandbox").add("path", path));
    verdict.notes.push_back(kReaches + path + kAfterRestart);
  }
  log_->reconfigure(log_format(config), config.log.level);
  loaded_ = std::move(fresh);
  look_at_routes();
  publish_places();
  log_->write(
      LogEvent(Level::info, "reloaded").add("version", version()).add("config", loaded_.file));
  return verdict;
}

// What was put off on a way that is no longer its own is due at once on the new one, at the pace of
// the sites there; the dispatcher knows the new routes before it is given any of it.
void Running::look_at_routes() {
  if (!route_changes_.look(*loaded_.config, clock_.steady()))
    return;
  log_->write(LogEvent(Level::info, "routes_changed"));
  queue_->change(queue::Verb::retry, {}, false, [](const Result<queue::Changed>&) {});
}

// Everything that can fail comes before the first part is changed.
Error Running::configure_parts(const Config& config, const Origins& origins) {
  auto book = open_address_book(config, *tables_, clock_);
  if (!book)
    return book.error();
  auto tables = open_receiving_tables(config, *tables_, *book);
  if (!tables)
    return tables.error();
  const auto login = auth_settings(config);
  if (!login)
    return login.error();
  auto logins = auth_->prepare(*login);
  if (!logins)
    return logins.error();
  auto limits = local_rules(config);
  if (!limits)
    return limits.error().during("sendmail.unlimited");
  const auto readers = control_readers(config);
  if (!readers)
    return readers.error().during("control.readers");
  auto of_clients = client_checks(config, *tables, client_checks_);
  if (!of_clients)
    return of_clients.error();
  auto receiving =
      smtpd_settings(config, directory_, auth_, *tables, &*local_limits_, filters(config),
                     check_parts(), *std::move(of_clients), failure_counter(config));
  if (!receiving)
    return receiving.error();
  auto listeners = listener_settings(config, sockets_);
  if (!listeners)
    return listeners.error();
  if (auto sending = delivery_settings(config, {}, *book, directory_, &*outbound_, &*local_limits_,
                                       signer_, tables->route_map);
      !sending)
    return sending.error();
  auto keys_stamp = signing_stamp(config.dkim);
  auto keys = changed_signing_keys(config, origins);
  if (!keys)
    return keys.error();
  auto tls = tls_parts_->prepared(config);
  if (!tls)
    return tls.error();
  auto sinks = sinks_->prepare(config);
  if (!sinks)
    return sinks.error();
  if (auto error = change_certificates(config, origins); error.code())
    return error;
  if (auto listening = server_->relisten(*listeners); !listening)
    return listening.error();
  if (auto adopted = parent_->adopt(); !adopted)
    return adopted.error().during("the parent's reload");
  const auto sending = delivery_settings(config, server_->addresses(), *book, directory_,
                                         &*outbound_, &*local_limits_, signer_, tables->route_map);
  insight_->set_listeners(server_->addresses());
  book_ = std::move(*book);
  receiving_tables_ = std::move(*tables);
  insight_->set_tables(receiving_tables_);
  directory_->reconfigure(book_, config.local.mailbox);
  auth_->adopt(std::move(*logins));
  local_limits_->set_rules(*std::move(limits));
  adopt_signing_keys(*std::move(keys), std::move(keys_stamp));
  server_->configure(*receiving);
  dispatcher_->configure(*sending);
  sinks_->adopt(*std::move(sinks));
  trace_->adopt(config);
  auto keeping = queue_settings(config);
  keeping.spool = started_->spool;
  queue_->reconfigure(std::move(keeping));
  for (auto& lane : lanes_)
    lane->loop.post([&lane = *lane, settings = resolver_settings(config.dns)] {
      lane.resolver->reconfigure(settings);
    });
  lanes_.front()->loop.post(*std::move(tls));
  lanes_.front()->loop.post(dmarc_parts_->prepared(config));
  lanes_.front()->loop.post(
      [this, receiver = digest_receiver(**sending)] { digest_->configure(receiver); });
  lanes_.front()->loop.post([this, settings = local_settings(config)] {
    submit_->reconfigure(settings);
    drop_->reconfigure(settings);
  });
  lanes_.front()->loop.post([this, group = *readers] {
    if (auto set = control_->set_readers(group); !set)
      log_->write(LogEvent(Level::error, "control_failed").add("error", set.error().describe()));
  });
  return {};
}

// Waits for the word of the part that drains. False: a second SIGTERM, or the part is too late.
bool Running::wait_for_stage(Duration limit) {
  const auto end = clock_.steady() + limit;
  while (clock_.steady() < end) {
    Event event{};
    if (!events_.wait(Duration(500), event)) {
      if (notifier_.watchdog())
        keep_alive();
      continue;
    }
    if (event == Event::stage_done)
      return true;
    if (event == Event::stop)
      return false;
  }
  return false;
}

// Whatever hangs, in a part or in a thread that waits for the world: all that counts is in the
// queue, which any end leaves whole. Lives until the process ends.
void Running::limit_stop() {
  try {
    std::thread([this, clock = stop_clock_] {
      std::this_thread::sleep_for(kWholeStop);
      const std::lock_guard lock(clock->mutex);
      if (clock->unmaking)
        std::_Exit(EX_OK);
      tell_stopped(false, 0, {});
      leave_at_once();
    }).detach();
  } catch (const std::system_error& error) {  // no threads left: then the parts' own limits must do
    log_->write(LogEvent(Level::warn, "stop_unlimited").add("error", error.what()));
  }
}

// Gives the clock of the stop notice that there is nothing left to ask.
Running::~Running() {
  const std::lock_guard lock(stop_clock_->mutex);
  stop_clock_->unmaking = true;
}

int Running::stop() {
  const auto end = clock_.steady() + kWholeStop - kReserve;
  notifier_.stopping("finishing open transactions");
  log_->write(LogEvent(Level::info, "stopping").add("sessions", server_->counters().open));
  limit_stop();
  insight_->stop();
  lanes_.front()->loop.post([this] {
    control_->stop();
    submit_->stop();
    drop_->stop();
    tls_parts_->stop();
    dmarc_parts_->stop();
    digest_->stop();
  });
  const auto stage_done = [this] { events_.post(Event::stage_done); };
  server_->drain(kReceivingGrace, stage_done);
  const bool received = wait_for_stage(kReceivingGrace + kBeyondGrace);
  if (received)
    stop_clock_->stage = "delivery";
  outbound_->stop();
  const auto left = std::chrono::duration_cast<Duration>(end - clock_.steady());
  const auto grace = received ? std::max(kHurriedGrace, left - kBeyondGrace) : kHurriedGrace;
  dispatcher_->drain(stage_done, grace);
  const bool sent = wait_for_stage(grace + kBeyondGrace);
  if (received && sent)
    stop_clock_->stage = "queue";
  auth_->save();
  local_limits_->save();
  next_greylist_ = {};
  keep_greylist();
  queue_->stop();
  if (received && sent)
    stop_clock_->stage = "event sinks";
  sinks_->stop();
  trace_->stop();
  if (received && sent)
    stop_clock_->stage = "threads";
  const bool ended = received && sent && end_lanes();
  if (ended)
    tell_stopped(true, queue_->unrecorded(), what_remains());
  else
    tell_stopped(false, 0, {});
  // A lookup that hangs would find what it uses gone, if it ever ended.
  if (!ended || server_->counters().looking_up > 0)
    leave_at_once();
  return EX_OK;
}

// In the queue, still in delivery's hands, and left by sendmail; what cannot be read is left out.
Running::Remains Running::what_remains() const {
  Remains remains;
  if (const auto totals = queue_->totals()) {
    remains.queued = totals->messages;
    remains.under_way = totals->active;
  }
  const auto folder = open_file(started_->spool + "/drop", O_RDONLY | O_DIRECTORY);
  if (!folder)
    return remains;
  constexpr std::size_t kMostCounted = 100'000;
  if (const auto scan = scan_drop_folder(*folder, 0, kMostCounted, {}, {}, false))
    remains.dropped = scan->entries.size() + scan->taken.size();
  return remains;
}

// One line, by whoever comes first.
void Running::tell_stopped(bool complete, std::size_t unrecorded, const Remains& remains) {
  if (stop_clock_->told.exchange(true))
    return;
  LogEvent event(Level::info, "stopped");
  event.add("complete", complete && unrecorded == 0 ? "yes" : "no");
  if (remains.queued)
    event.add("queued", std::to_string(*remains.queued))
        .add("under_way", std::to_string(remains.under_way));
  if (remains.dropped)
    event.add("drop_folder", std::to_string(*remains.dropped));
  if (unrecorded > 0)  // ends that could not be stored: these may be delivered a second time
    event.add("records", std::to_string(unrecorded));
  if (!complete)
    event.add("cut_off", stop_clock_->stage.load())
        .add("sessions", std::to_string(server_->counters().open));
  log_->write(std::move(event));
}

// False if a loop still has work, which is a bug of the part that owns it.
bool Running::end_lanes() {
  for (auto& lane : lanes_) {
    lane->loop.post([&lane = *lane] { lane.resolver->stop(); });
    lane->loop.finish();
  }
  for (std::size_t ended = 0; ended < lanes_.size(); ++ended)
    if (!wait_for_stage(kThreadsEnd)) {
      log_->write(LogEvent(Level::warn, "bug").add("where", "stop").add("what", "a loop goes on"));
      return false;
    }
  for (auto& lane : lanes_)
    lane->thread.join();
  tls_parts_->save();
  dmarc_parts_->save();
  digest_->save_now();
  return true;
}

// Without unmaking parts that connections on the loops still use. The queue is stopped, so
// nothing is lost.
void Running::leave_at_once() {
  log_->flush();
  std::_Exit(EX_OK);
}

}  // namespace postrider::daemon
