#include "smtpd/loop_connections.h"

#include "smtpd/connection.h"

#include <algorithm>
#include <sys/resource.h>
#include <utility>

namespace postrider::smtpd {

namespace {

constexpr Duration kGoodbye(1000);

// A quarter of the descriptors is left to delivery, the queue and the rest.
std::uint32_t sessions_by_file_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
    return 1U << 20U;
  return static_cast<std::uint32_t>(std::min<rlim_t>(limit.rlim_cur / 4 * 3, 1U << 20U));
}

}  // namespace

LoopConnections::LoopConnections(Loop& loop, MessageStore& custody, const Clock& clock, Log& log,
                                 std::shared_ptr<SessionLimits> slots,
                                 std::shared_ptr<const ServerSettings> settings,
                                 std::shared_ptr<const Policy> policy, Lookups& lookups)
    : loop_(loop),
      custody_(custody),
      clock_(clock),
      log_(log),
      limited_log_(log, clock, loop.deadlines()),
      slots_(std::move(slots)),
      settings_(std::move(settings)),
      policy_(std::move(policy)),
      lookups_(lookups),
      grace_(loop.deadlines(), [this] { on_grace_end(); }),
      file_limit_(sessions_by_file_limit()) {}

std::uint32_t LoopConnections::session_limit() const {
  return std::min(policy_->limits().sessions, file_limit_);
}

void LoopConnections::ask_questions_of(dns::Resolver& resolver) {
  questioner_ = std::make_unique<filter::Questioner>(loop_, resolver, log_);
}

void LoopConnections::note(Conditions& conditions) const {
  conditions.stressed = is_stressed();
  conditions.stopping = is_stopping();
  switch (custody_.admission()) {
    case queue::Admission::open:
      conditions.storage = Storage::open;
      break;
    case queue::Admission::disk_low:
      conditions.storage = Storage::no_room;
      break;
    case queue::Admission::failed:
      conditions.storage = Storage::failed;
      break;
    case queue::Admission::stopping:
      conditions.stopping = true;
      break;
  }
}

void LoopConnections::add(Connection& connection) {
  connection.links_.next = first_;
  if (first_ != nullptr)
    first_->links_.previous = &connection;
  first_ = &connection;
}

void LoopConnections::remove(Connection& connection) {
  if (connection.links_.next != nullptr)
    connection.links_.next->links_.previous = connection.links_.previous;
  if (connection.links_.previous != nullptr)
    connection.links_.previous->links_.next = connection.links_.next;
  else
    first_ = connection.links_.next;
  if (first_ == nullptr && empty_)
    loop_.post(std::exchange(empty_, {}));
}

void LoopConnections::notice_stress() {
  const bool stressed = is_stressed();
  if (stressed && !stressed_)
    for (auto* connection = first_; connection != nullptr; connection = connection->links_.next)
      connection->hurry();
  stressed_ = stressed;
}

void LoopConnections::stop(Duration grace, std::function<void()> empty) {
  stopping_ = true;
  if (first_ == nullptr) {
    loop_.post(std::move(empty));
    return;
  }
  empty_ = std::move(empty);
  for (auto* connection = first_; connection != nullptr; connection = connection->links_.next)
    connection->end_if_idle();
  grace_.set(grace);
}

void LoopConnections::on_grace_end() {
  if (std::exchange(gave_up_, true))
    return close_all();
  for (auto* connection = first_; connection != nullptr; connection = connection->links_.next)
    connection->give_up();
  grace_.set(kGoodbye);
}

void LoopConnections::close_all() {
  for (auto* connection = first_; connection != nullptr; connection = connection->links_.next)
    connection->close();
}

}  // namespace postrider::smtpd
