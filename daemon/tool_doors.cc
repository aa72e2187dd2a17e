#include "daemon/tool_doors.h"

namespace postrider::daemon {

ToolDoors::ToolDoors(Foundation& foundation, Loop& home, WorkerPools& pools, StatusSource& status)
    : foundation_(foundation), home_(home), pools_(pools), status_(status) {}

void ToolDoors::open(const Config& config, const SubmitSettings& settings,
                     StartProblems& problems) {
  auto& queue = foundation_.queue();
  const auto& clock = foundation_.clock();
  const auto take = [&](auto& member, auto opened) {
    if (opened)
      member = std::move(*opened);
    else
      problems.add(opened.error());
  };
  take(submit_, SubmitServer::open(config.control.submit, home_, pools_.files, queue, clock,
                                   foundation_.told(), settings));
  take(drop_, DropFolder::open(config.spool, home_, pools_.files, queue, clock, foundation_.told(),
                               settings));
  DropPlace drop{config.spool, config.origin, config.accept.message_size, {}};
  if (drop_)
    drop.why = drop_->reasons();
  service_.emplace(queue, clock, &status_, std::move(drop));
  take(control_,
       ControlServer::open(config.control.socket, home_, *service_, foundation_.log(), {}));
  if (control_)
    if (auto set = control_->set_readers(known_readers(config)); !set)
      return problems.add(set.error().during("control.readers"));
  opened_ = places_of(config);
}

// A group that no longer exists gives nobody a right, and the daemon need not be down for it;
// `postrider check` and a reload report it.
std::optional<gid_t> ToolDoors::known_readers(const Config& config) {
  const auto readers = control_readers(config);
  if (readers)
    return *readers;
  foundation_.log().write(LogEvent(Level::warn, "doubtful")
                              .add("key", "control.readers")
                              .add("advice", readers.error().step()));
  return std::nullopt;
}

void ToolDoors::start() {
  control_->start();
  submit_->start();
  drop_->start();
}

void ToolDoors::stop() {
  control_->stop();
  submit_->stop();
  drop_->stop();
}

void ToolDoors::reconfigure(SubmitSettings settings, std::optional<gid_t> readers) {
  home_.post([this, settings = std::move(settings), readers] {
    submit_->reconfigure(settings);
    drop_->reconfigure(settings);
    if (auto set = control_->set_readers(readers); !set)
      foundation_.log().write(
          LogEvent(Level::error, "control_failed").add("error", set.error().describe()));
  });
}

void ToolDoors::publish_places(const Loaded& loaded) {
  auto places = places_of(*loaded.config);
  places.spool = opened_.spool;
  places.control_socket = opened_.control_socket;
  places.submit_socket = opened_.submit_socket;
  places.user = opened_.user;
  if (auto published = effective_.publish(places, loaded.file); !published)
    foundation_.log().write(
        LogEvent(Level::warn, "places_not_published").add("error", published.error().describe()));
}

}  // namespace postrider::daemon
