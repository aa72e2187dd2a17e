#include "daemon/event_sinks.h"

#include "events/event_fields.h"
#include "events/file_sink.h"
#include "events/socket_sink.h"

#include "base/net/tls/tls_context.h"
#include "base/secret_file.h"
#include "base/text.h"
#include "base/url.h"

#include <algorithm>
#include <sys/stat.h>
#include <tuple>

namespace postrider::daemon {

namespace {

constexpr mode_t kEventsFolderMode = 0700;
constexpr std::size_t kMostHookSecrets = 4U << 10U;
constexpr std::size_t kMostHookKeys = 8;

auto values_of(const EventsConfig& one) {
  return std::tie(one.name, one.file, one.socket, one.webhook, one.broker, one.secret, one.types,
                  one.domains, one.senders, one.tags, one.fields, one.privacy, one.batch,
                  one.timeout);
}

// Path and query are often all that a receiver asks for as a proof, so they are a secret.
std::string webhook_place(const std::string& webhook) {
  const auto url = parse_http_url(webhook);
  if (!url)
    return "webhook";
  const bool is_v6 = url->host.find(':') != std::string::npos;
  auto place = std::string("webhook ") + (url->is_https ? "https://" : "http://") +
               (is_v6 ? "[" + url->host + "]" : url->host);
  if (url->port != (url->is_https ? 443 : 80))
    place += ":" + std::to_string(url->port);
  return place;
}

std::string place_of(const EventsConfig& config) {
  if (!config.file.empty())
    return "file " + config.file;
  if (!config.broker.empty())
    return "broker " + config.broker;
  return config.socket.empty() ? webhook_place(config.webhook) : "socket " + config.socket;
}

// One key a line; empty lines and those that begin with # are passed over.
Result<std::vector<std::string>> read_keys(const std::string& path) {
  const auto text = read_secret_file(path, kMostHookSecrets);
  if (!text)
    return text.error();
  std::vector<std::string> keys;
  for (const auto row : split(*text, '\n')) {
    const auto line = trim(row);
    if (line.empty() || line.starts_with('#'))
      continue;
    auto key = events::parse_webhook_secret(line);
    if (!key)
      return key.error().during("read " + path);
    keys.push_back(*std::move(key));
  }
  if (keys.empty() || keys.size() > kMostHookKeys)
    return malformed(path + ": holds " + std::to_string(keys.size()) +
                     " keys; expected from 1 to " + std::to_string(kMostHookKeys));
  return keys;
}

events::Filter filter_of(const EventsConfig& config) {
  events::Filter filter;
  for (const auto& type : config.types)
    if (const auto kind = events::parse_kind(type))
      filter.events.push_back(*kind);
  for (const auto& domain : config.domains)
    filter.domains.push_back(domain.starts_with('.') ? domain : mail::domain_of("x@" + domain));
  filter.senders = config.senders;
  filter.tags = config.tags;
  return filter;
}

// Mail is refused below one and a half of the largest message: events give way at twice of that.
events::OutboxLimits limits_of(const Config& config) {
  events::OutboxLimits limits;
  limits.bytes = config.outbox.size;
  limits.age = config.outbox.age;
  limits.keep = config.outbox.keep;
  limits.room = 3 * config.accept.message_size;
  return limits;
}

}  // namespace

Result<void> check_webhook_secret(const std::string& path) {
  const auto keys = read_keys(path);
  return keys ? Result<void>() : keys.error();
}

EventSinks::EventSinks(Parts parts) : parts_(std::move(parts)), folder_(parts_.spool + "/events") {}

EventSinks::~EventSinks() {
  stop();
}

Result<std::unique_ptr<events::Sink>> EventSinks::make_sink(const EventsConfig& config,
                                                            const Config& all) const {
  if (!config.file.empty())
    return std::make_unique<events::FileSink>(config.file);
  if (const auto door = config.door(); !door.empty())
    return std::make_unique<events::SocketSink>(door, config.timeout, parts_.clock);
  events::WebhookSettings settings;
  const auto url = parse_http_url(config.webhook);
  if (!url)
    return malformed("events.webhook");
  settings.url = *url;
  settings.limits.whole = config.timeout;
  settings.limits.connect = std::min(settings.limits.connect, config.timeout);
  if (!config.secret.empty()) {
    auto keys = read_keys(config.secret);
    if (!keys)
      return keys.error().during("events.secret");
    settings.keys = *std::move(keys);
  }
  if (url->is_https) {
    TlsClientSettings tls;
    tls.roots = all.delivery.tls_ca;
    auto context = TlsContext::client(tls);
    if (!context)
      return context.error().during("delivery.tls_ca");
    settings.tls = *std::move(context);
  }
  return std::make_unique<events::WebhookSink>(std::move(settings), parts_.resolve, parts_.clock,
                                               parts_.told);
}

// One whose file of keys may have changed is made again.
Result<EventSinks::Made> EventSinks::prepare(const Config& config) const {
  Made made;
  made.limits = limits_of(config);
  const std::lock_guard lock(mutex_);
  for (const auto& one : config.events) {
    auto sink = make_sink(one, config);
    if (!sink)
      return sink.error().during("the events sink " + one.name);
    const auto known = running_.find(one.name);
    const bool is_same = known != running_.end() && one.webhook.empty() &&
                         values_of(known->second.config) == values_of(one);
    made.sinks.push_back({one, is_same ? nullptr : *std::move(sink)});
  }
  return made;
}

// All at once: each may take its moment to end.
void EventSinks::begin_stop(std::map<std::string, Running>& sinks,
                            const std::function<bool(const std::string& name)>& is_wanted) {
  for (auto& [name, one] : sinks)
    if (is_wanted(name))
      one.runner->begin_stop();
}

void EventSinks::adopt(Made made) {
  std::map<std::string, Running> before;
  {
    const std::lock_guard lock(mutex_);
    before.swap(running_);
  }
  std::vector<std::string> readers;
  for (const auto& one : made.sinks)
    readers.push_back(position_path(one.config.name));
  begin_stop(before, [&](const std::string& name) {
    return std::none_of(made.sinks.begin(), made.sinks.end(), [&](const auto& one) {
      return one.config.name == name && one.sink == nullptr;
    });
  });
  if (!made.sinks.empty())
    begin_outbox(made.limits, readers);
  for (auto& one : made.sinks) {
    const auto known = before.find(one.config.name);
    if (one.sink == nullptr && known != before.end()) {
      const std::lock_guard lock(mutex_);
      known->second.runner->retry();
      running_.emplace(one.config.name, std::move(known->second));
      before.erase(known);
      continue;
    }
    before.erase(one.config.name);  // ends: two would share a position
    start(std::move(one.config), std::move(one.sink));
  }
  before.clear();
  parts_.told.use(made.sinks.empty() ? nullptr : open_.load());
}

void EventSinks::start(EventsConfig config, std::unique_ptr<events::Sink> sink) {
  events::PumpSettings settings;
  settings.name = config.name;
  settings.outbox = outbox_path();
  settings.position = position_path(config.name);
  settings.filter = filter_of(config);
  settings.view = {config.fields, config.privacy == EventPrivacy::domains ? events::Privacy::domains
                                                                          : events::Privacy::none};
  settings.most = config.batch;
  settings.on_damage = [outbox = outbox_.get()] { outbox->suspect_damage(); };
  auto runner =
      std::make_unique<SinkRunner>(std::move(settings), std::move(sink), parts_.clock, parts_.told);
  const std::lock_guard lock(mutex_);
  auto name = config.name;
  running_.emplace(std::move(name), Running{std::move(config), std::move(runner)});
}

// Once there is one it stays, for what comes from the queue while sinks are changed.
void EventSinks::begin_outbox(events::OutboxLimits limits, std::vector<std::string> readers) {
  if (outbox_)
    return outbox_->reconfigure(limits, std::move(readers));
  if (auto made = make_folder(folder_, kEventsFolderMode); !made)
    parts_.log.write(
        LogEvent(Level::error, "events_not_written").add("reason", made.error().describe()));
  events::OutboxThreadSettings settings;
  settings.path = outbox_path();
  settings.source = "//" + parts_.host + "/postrider";
  settings.limits = limits;
  settings.readers = std::move(readers);
  settings.on_settled = [this](std::int64_t fact) {
    if (queue_ != nullptr)
      queue_->settle_facts(fact);
  };
  settings.on_written = [this] {
    const std::lock_guard lock(mutex_);
    for (auto& [name, one] : running_)
      one.runner->wake();
  };
  outbox_ = std::make_unique<events::OutboxThread>(std::move(settings), parts_.clock, parts_.log);
  open_ = outbox_.get();
}

// Nobody wants them: they need not come again.
void EventSinks::witness(std::vector<queue::Fact> facts) {
  if (auto* const outbox = open_.load())
    outbox->post(std::move(facts));
  else if (queue_ != nullptr && !facts.empty())
    queue_->settle_facts(facts.back().number);
}

void EventSinks::stop() {
  parts_.told.use(nullptr);
  std::map<std::string, Running> all;
  {
    const std::lock_guard lock(mutex_);
    all.swap(running_);
  }
  begin_stop(all, [](const std::string&) { return true; });
  all.clear();
  if (outbox_)
    outbox_->stop();
}

EventsStatus EventSinks::status() const {
  EventsStatus status;
  auto* const outbox = open_.load();
  const std::lock_guard lock(mutex_);
  status.is_on = outbox != nullptr && !running_.empty();
  if (!status.is_on)
    return status;
  status.outbox = outbox->counters();
  if (queue_ != nullptr)
    status.facts = queue_->waiting_facts();
  for (const auto& [name, one] : running_) {
    auto& sink = status.sinks.emplace_back(SinkStatus{name, place_of(one.config), 0, {}});
    sink.state = one.runner->state();
    const auto& position = sink.state.position;
    const bool counts = position && position->outbox == status.outbox.outbox;
    const auto done = counts ? position->sequence : 0;
    sink.waiting = status.outbox.last - std::min(status.outbox.last, done);
  }
  return status;
}

Result<void> EventSinks::replay(const std::string& sink, const std::string& id) {
  events::Position position;
  if (!id.empty()) {
    auto reader = events::OutboxReader::open(outbox_path());
    if (!reader)
      return reader.error();
    auto found = reader->find(id);
    if (!found)
      return found.error();
    if (!*found)
      return Error(Errc::not_found, "find the event " + escaped(id, 64) + " among those kept");
    auto page = reader->after({}, 1, SIZE_MAX);
    if (!page)
      return page.error();
    position = {page->outbox, **found - 1};
  }
  const std::lock_guard lock(mutex_);
  const auto known = running_.find(sink);
  if (known == running_.end())
    return Error(Errc::not_found,
                 "look for \"" + escaped(sink, 64) + "\" among the names in [[events]]");
  known->second.runner->replay(position);
  return {};
}

Result<EventSinks::Kept> EventSinks::kept(const std::string& after, std::size_t most) const {
  constexpr std::size_t kMostBytes = 1U << 20U;
  auto reader = events::OutboxReader::open(outbox_path());
  if (!reader)
    return reader.error();
  events::Position position;
  if (auto given = events::parse_position(after + "\n")) {
    position = *given;
  } else if (!after.empty()) {
    auto found = reader->find(after);
    if (!found)
      return found.error();
    if (!*found)
      return Error(Errc::not_found, "find the event " + escaped(after, 64) + " among those kept");
    auto page = reader->after({}, 1, SIZE_MAX);
    if (!page)
      return page.error();
    position = {page->outbox, **found};
  }
  auto page = reader->after(position, most, kMostBytes);
  if (!page)
    return page.error();
  Kept kept;
  kept.lost = page->lost;
  const auto last = page->events.empty() ? position.sequence : page->events.back().sequence;
  kept.position = page->outbox + " " + std::to_string(last);
  for (auto& one : page->events)
    kept.events.push_back(std::move(one.text));
  return kept;
}

Result<std::string> EventSinks::position_before_last(std::uint64_t count) const {
  auto reader = events::OutboxReader::open(outbox_path());
  if (!reader)
    return reader.error();
  auto last = reader->last();
  if (!last)
    return last.error();
  auto page = reader->after({}, 1, SIZE_MAX);
  if (!page)
    return page.error();
  return page->outbox + " " + std::to_string(*last - std::min(*last, count));
}

}  // namespace postrider::daemon
