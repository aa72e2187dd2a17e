#include "brokers/amqp10_connection.h"

#include "base/text.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <proton/condition.h>
#include <proton/connection.h>
#include <proton/sasl.h>
#include <proton/session.h>
#include <proton/transport.h>
#include <utility>

namespace postrider::brokers {

namespace {

constexpr pn_millis_t kSilence = 30'000;  // of a broker; it hears of us in half of what it allows
constexpr Duration kTendLimit{1000};
constexpr std::size_t kMostReason = 300;

// What may be otherwise later (AMQP 1.0 part 2, §2.8.15 to 2.8.18).
bool is_passing_condition(std::string_view name) {
  constexpr std::string_view kPassing[] = {"amqp:connection:forced", "amqp:internal-error",
                                           "amqp:resource-limit-exceeded",
                                           "amqp:link:detach-forced", "amqp:resource-deleted"};
  return std::find(std::begin(kPassing), std::end(kPassing), name) != std::end(kPassing);
}

Error error_of(pn_condition_t* condition, const std::string& otherwise) {
  const auto reason = reason_of(condition);
  const auto* const name = pn_condition_get_name(condition);
  if (reason.empty())
    return Error(Errc::truncated, otherwise);
  return Error(is_passing_condition(name == nullptr ? "" : name) ? Errc::truncated : Errc::refused,
               "the broker says " + reason);
}

std::int64_t milliseconds_of(SteadyTime time) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count();
}

}  // namespace

std::string reason_of(pn_condition_t* condition) {
  if (condition == nullptr || !pn_condition_is_set(condition))
    return {};
  const auto* const name = pn_condition_get_name(condition);
  const auto* const description = pn_condition_get_description(condition);
  std::string said = name == nullptr ? "" : name;
  if (description != nullptr && *description != '\0')
    said += (said.empty() ? "" : ": ") + std::string(description);
  return escaped(said, kMostReason);
}

Amqp10Connection::Amqp10Connection(std::unique_ptr<BrokerConnection> connection, const Clock& clock)
    : connection_(std::move(connection)), clock_(clock) {}

Amqp10Connection::~Amqp10Connection() {
  pn_connection_driver_destroy(&driver_);
}

Result<std::unique_ptr<Amqp10Connection>> Amqp10Connection::open(const Settings& settings,
                                                                 const Clock& clock,
                                                                 SteadyTime until) {
  const auto place = settings.url.host + ":" + std::to_string(settings.url.port);
  auto opened = BrokerConnection::open(settings.url, settings.roots, clock, until);
  if (!opened)
    return opened.error().during("connect to " + place);
  std::unique_ptr<Amqp10Connection> made(new Amqp10Connection(*std::move(opened), clock));
  if (pn_connection_driver_init(&made->driver_, nullptr, nullptr) != 0)
    return system_error(ENOMEM, "connect to " + place);
  if (auto known = made->log_in(settings, until); !known)
    return known.error().during("log in to " + place);
  return made;
}

// The password goes in clear only over TLS or to this machine: the configuration sees to that.
Result<void> Amqp10Connection::log_in(const Settings& settings, SteadyTime until) {
  const auto& url = settings.url;
  auto* const connection = driver_.connection;
  pn_connection_set_container(connection, settings.container.c_str());
  // RabbitMQ's way to name one.
  pn_connection_set_hostname(connection,
                             url.path.empty() ? url.host.c_str() : ("vhost:" + url.path).c_str());
  if (!url.user.empty()) {
    pn_connection_set_user(connection, url.user.c_str());
    pn_connection_set_password(connection, settings.password.c_str());
  }
  auto* const sasl = pn_sasl(driver_.transport);
  pn_sasl_set_allow_insecure_mechs(sasl, true);
  pn_sasl_allowed_mechs(sasl, url.user.empty() ? "ANONYMOUS" : "PLAIN");
  pn_transport_set_idle_timeout(driver_.transport, kSilence);
  pn_connection_open(connection);
  session_ = pn_session(connection);
  pn_session_open(session_);
  while ((pn_session_state(session_) & PN_REMOTE_ACTIVE) == 0)
    if (auto turned = turn(until, [](pn_event_t*) {}); !turned)
      return turned;
  return {};
}

Result<void> Amqp10Connection::turn(SteadyTime until, const Handler& handler) {
  if (auto handled = handle_events(handler); !handled)
    return handled;
  const auto next = tick();
  if (auto flushed = flush(until); !flushed)
    return flushed;
  const auto limit = next ? std::min(*next, until) : until;
  const auto received = connection_->receive(limit);
  const bool is_late = !received && received.error().code() == boost::system::errc::timed_out;
  if (is_late && clock_.steady() < until)
    return {};
  if (!received)
    return received.error();
  if (auto fed = feed(*received, handler); !fed)
    return fed;
  return flush(until);
}

Result<void> Amqp10Connection::turn_now(const Handler& handler) {
  const auto received = connection_->receive_now();
  if (!received)
    return received.error();
  if (auto fed = feed(*received, handler); !fed)
    return fed;
  (void)tick();
  if (auto handled = handle_events(handler); !handled)
    return handled;
  return flush(clock_.steady() + kTendLimit);
}

Result<void> Amqp10Connection::feed(std::string_view bytes, const Handler& handler) {
  while (!bytes.empty()) {
    const auto room = pn_connection_driver_read_buffer(&driver_);
    const auto size = std::min(room.size, bytes.size());
    if (size == 0)
      return Error(Errc::truncated, "the conversation is over");
    std::memcpy(room.start, bytes.data(), size);
    pn_connection_driver_read_done(&driver_, size);
    bytes.remove_prefix(size);
    if (auto handled = handle_events(handler); !handled)
      return handled;
  }
  return {};
}

Result<void> Amqp10Connection::handle_events(const Handler& handler) {
  for (auto* event = pn_connection_driver_next_event(&driver_); event != nullptr;
       event = pn_connection_driver_next_event(&driver_)) {
    take_note(event);
    handler(event);
  }
  if (trouble_)
    return *trouble_;
  return {};
}

// The first trouble is the reason of the others.
void Amqp10Connection::take_note(pn_event_t* event) {
  if (trouble_)
    return;
  switch (pn_event_type(event)) {
    case PN_TRANSPORT_ERROR:
      trouble_ = error_of(pn_transport_condition(driver_.transport), "the conversation is broken");
      break;
    case PN_CONNECTION_REMOTE_CLOSE:
      trouble_ = error_of(pn_connection_remote_condition(driver_.connection),
                          "the broker ends the connection");
      break;
    case PN_SESSION_REMOTE_CLOSE:
      trouble_ = error_of(pn_session_remote_condition(pn_event_session(event)),
                          "the broker ends the session");
      break;
    case PN_LINK_REMOTE_CLOSE:
    case PN_LINK_REMOTE_DETACH:
      trouble_ =
          error_of(pn_link_remote_condition(pn_event_link(event)), "the broker closes the link");
      break;
    default:
      break;
  }
}

Result<void> Amqp10Connection::flush(SteadyTime until) {
  for (;;) {
    const auto waiting = pn_connection_driver_write_buffer(&driver_);
    if (waiting.size == 0)
      return {};
    if (auto sent = connection_->send({waiting.start, waiting.size}, until); !sent)
      return sent;
    pn_connection_driver_write_done(&driver_, waiting.size);
  }
}

// Signs of life, ours and the broker's. When it is to be asked again.
std::optional<SteadyTime> Amqp10Connection::tick() {
  const auto now = clock_.steady();
  const auto next = pn_transport_tick(driver_.transport, milliseconds_of(now));
  if (next == 0)
    return std::nullopt;
  return now + Duration(std::max<std::int64_t>(next - milliseconds_of(now), 1));
}

}  // namespace postrider::brokers
