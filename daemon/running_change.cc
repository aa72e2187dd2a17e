// Reload and stop.
#include "daemon/running.h"
#include "daemon/settings.h"

#include <algorithm>
#include <cstdlib>
#include <sysexits.h>

namespace postrider::daemon {

namespace {

// TimeoutStopSec= of the unit is above the sum.
constexpr Duration kReceivingGrace{30000};
constexpr Duration kSendingGrace{30000};
constexpr Duration kHurriedGrace{1000};
constexpr Duration kBeyondGrace{5000};  // for the parts to notice that their grace has ended
constexpr Duration kThreadsEnd{5000};

}  // namespace

// The old configuration stays in every part, or the new one goes to every part.
void Running::reload() {
  notifier_.reloading(clock_.steady());
  auto fresh = load_config(loaded_.file);
  if (fresh.config)
    adopt(std::move(fresh));
  else
    for (const auto& problem : fresh.problems)
      log_->write(LogEvent(Level::error, "config_refused")
                      .add("file", fresh.file)
                      .add("line", problem.line)
                      .add("key", problem.key)
                      .add("problem", problem.text));
  try {
    log_->reopen();
  } catch (const std::exception& error) {  // the old file is still written
    log_->write(LogEvent(Level::error, "log_not_reopened").add("error", error.what()));
  }
  notifier_.ready("listening on " + summary());
}

void Running::adopt(Loaded fresh) {
  const auto& config = *fresh.config;
  // The parent reads the file itself, and then knows the addresses that configure_parts binds.
  if (auto read = parent_->reload(); !read)
    log_->write(
        LogEvent(Level::error, "parent_not_reloaded").add("error", read.error().describe()));
  if (const auto error = configure_parts(config, fresh.origins); error.code()) {
    log_->write(LogEvent(Level::error, "config_refused").add("problem", error.describe()));
    return;
  }
  for (const auto& key : need_restart(*loaded_.config, config))
    log_->write(LogEvent(Level::warn, "needs_restart").add("key", key));
  for (const auto& path : out_of_reach(reach_, sandbox_paths(config, fresh.file)))
    log_->write(LogEvent(Level::warn, "needs_restart").add("key", "sandbox").add("path", path));
  log_->reconfigure(log_format(config), config.log.level);
  loaded_ = std::move(fresh);
  publish_places();
  log_->write(LogEvent(Level::info, "reloaded")
                  .add("version", POSTRIDER_VERSION)
                  .add("config", loaded_.file));
}

// Everything that can fail comes before the first part is told.
Error Running::configure_parts(const Config& config, const Origins& origins) {
  auto book = open_address_book(config, *tables_);
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
  auto limits = local_rules(config.sendmail);
  if (!limits)
    return limits.error().during("sendmail.unlimited");
  auto receiving = smtpd_settings(config, directory_, auth_, *tables);
  if (!receiving)
    return receiving.error();
  auto listeners = listener_settings(config, sockets_);
  if (!listeners)
    return listeners.error();
  if (auto sending = delivery_settings(config, {}, *book, directory_, &*outbound_); !sending)
    return sending.error();
  auto tls = tls_parts_->prepared(config);
  if (!tls)
    return tls.error();
  if (auto error = change_certificates(config, origins); error.code())
    return error;
  if (auto listening = server_->relisten(*listeners); !listening)
    return listening.error();
  const auto sending =
      delivery_settings(config, server_->addresses(), *book, directory_, &*outbound_);
  insight_->set_listeners(server_->addresses());
  book_ = std::move(*book);
  receiving_tables_ = std::move(*tables);
  insight_->set_tables(receiving_tables_);
  directory_->reconfigure(book_, config.local.mailbox);
  auth_->adopt(std::move(*logins));
  local_limits_->set_rules(*std::move(limits));
  server_->configure(*receiving);
  dispatcher_->configure(*sending);
  auto keeping = queue_settings(config);
  keeping.spool = loaded_.config->spool;
  queue_->reconfigure(std::move(keeping));
  for (auto& lane : lanes_)
    lane->loop.post([&lane = *lane, settings = resolver_settings(config.dns)] {
      lane.resolver->reconfigure(settings);
    });
  lanes_.front()->loop.post(*std::move(tls));
  lanes_.front()->loop.post(
      [this, settings = submit_settings(config, receiving_tables_.rewriter, &*local_limits_)] {
        submit_->reconfigure(settings);
        drop_->reconfigure(settings);
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

int Running::stop() {
  notifier_.stopping("finishing open transactions");
  log_->write(LogEvent(Level::info, "stopping"));
  insight_->stop();
  lanes_.front()->loop.post([this] {
    control_->stop();
    submit_->stop();
    drop_->stop();
    tls_parts_->stop();
  });
  const auto stage_done = [this] { events_.post(Event::stage_done); };
  server_->drain(kReceivingGrace, stage_done);
  const bool received = wait_for_stage(kReceivingGrace + kBeyondGrace);
  outbound_->stop();
  const auto grace = received ? kSendingGrace : kHurriedGrace;
  dispatcher_->drain(stage_done, grace);
  const bool sent = wait_for_stage(grace + kBeyondGrace);
  auth_->save();
  local_limits_->save();
  queue_->stop();
  log_->write(LogEvent(Level::info, "stopped").add("complete", received && sent ? "yes" : "no"));
  if (!received || !sent || !end_lanes())
    leave_at_once();
  return EX_OK;
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
  return true;
}

// Without unmaking parts that connections on the loops still use. The queue is stopped, so
// nothing is lost.
void Running::leave_at_once() {
  log_->flush();
  std::_Exit(EX_OK);
}

}  // namespace postrider::daemon
