#include "smtpd/smtp_server.h"

#include "smtpd/connection.h"
#include "smtpd/listener.h"
#include "smtpd/receiving_log.h"

#include <algorithm>
#include <atomic>

namespace postrider::smtpd {

struct Server::Impl {
  struct LoopListeners {  // what one loop has of the server
    Loop* loop = nullptr;
    std::shared_ptr<LoopConnections> reception;
    std::vector<std::shared_ptr<Listener>> listeners;
  };
  struct BoundListener {
    ListenerSettings settings;
    std::string address;  // with the real port
    std::shared_ptr<TlsTicketKeys> tickets;
    bool is(const ListenerSettings& other) const {
      return settings.address == other.address && settings.role == other.role &&
             settings.tls == other.tls && settings.proxy_protocol == other.proxy_protocol &&
             settings.next_hop == other.next_hop;
    }
  };

  Impl(MessageStore& custody_, const Clock& clock_, Log& log_)
      : custody(custody_), clock(clock_), log(log_) {}

  MessageStore& custody;
  const Clock& clock;
  Log& log;
  std::shared_ptr<SessionLimits> slots = std::make_shared<SessionLimits>();
  Lookups lookups;
  BindElsewhere elsewhere;
  std::vector<LoopListeners> faces;
  std::vector<BoundListener> places;  // in the order of each face's listeners
  TlsOffer offer;

  Result<std::shared_ptr<const TlsContext>> context(const BoundListener& place,
                                                    const TlsOffer& to_show);
  Result<void> add(const ListenerSettings& settings, Bound bound);
  void run(LoopListeners& face, std::size_t place);
  void remove(std::size_t place);
  // Whether a listener that does not stay has the port of the new one: each has it until the other is gone.
  bool shares_port(const ListenerSettings& fresh, const std::vector<bool>& stays);
};

namespace {

std::string_view port_text(std::string_view address) {
  return address.substr(address.rfind(':') + 1);
}

}  // namespace

// Null for a listener without TLS.
Result<std::shared_ptr<const TlsContext>> Server::Impl::context(const BoundListener& place,
                                                                const TlsOffer& to_show) {
  if (place.settings.tls == TlsStart::never)
    return std::shared_ptr<const TlsContext>();
  TlsServerSettings tls;
  tls.name = place.address;
  tls.identities = to_show.identities;
  tls.tickets = place.tickets;
  tls.asks_for_certificate = to_show.asks_for_certificate;
  tls.workers = to_show.workers;
  tls.lowest = to_show.lowest;
  if (place.settings.role == Role::submission)
    tls.lowest = std::max(tls.lowest, TlsVersion::tls1_2);
  auto made = TlsContext::server(tls);
  if (!made)
    return made.error().during("offer TLS on " + place.address);
  return made;
}

Result<void> Server::Impl::add(const ListenerSettings& settings, Bound bound) {
  BoundListener place{settings, std::move(bound.address), nullptr};
  if (settings.tls != TlsStart::never)
    place.tickets = std::make_shared<TlsTicketKeys>(clock);
  auto tls = context(place, offer);
  if (!tls)
    return tls.error();
  for (std::size_t loop = 0; loop < faces.size(); ++loop) {
    auto& face = faces[loop];
    face.listeners.push_back(
        std::make_shared<Listener>(face.reception, std::move(bound.sockets[loop]), settings, *tls));
  }
  maillog::listening(log, place.address, settings);
  places.push_back(std::move(place));
  return {};
}

void Server::Impl::run(LoopListeners& face, std::size_t place) {
  face.loop->post([loop = face.loop, listener = face.listeners[place], to = &log] {
    loop->keep([listener] { return Listener::run(listener); }, *to, "smtpd listener");
  });
}

void Server::Impl::remove(std::size_t place) {
  const auto at = static_cast<std::ptrdiff_t>(place);
  for (auto& face : faces) {
    face.loop->post([listener = std::move(face.listeners[place])] { listener->close(); });
    face.listeners.erase(face.listeners.begin() + at);
  }
  places.erase(places.begin() + at);
}

bool Server::Impl::shares_port(const ListenerSettings& fresh, const std::vector<bool>& stays) {
  bool shares = false;
  for (std::size_t i = 0; i < stays.size(); ++i) {
    if (stays[i] || port_text(places[i].settings.address) != port_text(fresh.address))
      continue;
    shares = true;
    for (auto& face : faces)
      face.listeners[i]->share_port();
  }
  return shares;
}

Server::Server(std::vector<Loop*> loops, MessageStore& custody, const Clock& clock, Log& log,
               std::shared_ptr<const ServerSettings> settings)
    : impl_(std::make_unique<Impl>(custody, clock, log)) {
  const auto policy = std::make_shared<const Policy>(settings);
  for (auto* loop : loops) {
    auto reception = std::make_shared<LoopConnections>(*loop, custody, clock, log, impl_->slots,
                                                       settings, policy, impl_->lookups);
    impl_->faces.push_back({loop, std::move(reception), {}});
  }
}

// Whatever is left ends here, on this thread: the loops have stopped.
Server::~Server() {
  for (auto& face : impl_->faces) {
    for (auto& listener : face.listeners)
      listener->close();
    face.reception->close_all();
    face.loop->context().restart();
    face.loop->context().poll();
  }
}

void Server::ask_questions_of(const std::vector<dns::Resolver*>& resolvers) {
  for (std::size_t i = 0; i < impl_->faces.size(); ++i)
    impl_->faces[i].reception->ask_questions_of(*resolvers[i]);
}

void Server::limit_users(std::function<std::optional<std::uint64_t>(std::uint32_t)> party_of) {
  impl_->slots->limit_users(std::move(party_of));
}

void Server::bind_elsewhere(BindElsewhere elsewhere) {
  impl_->elsewhere = std::move(elsewhere);
}

Result<void> Server::offer_tls(TlsOffer offer) {
  std::vector<std::shared_ptr<const TlsContext>> contexts;
  // Without certificates the listeners that need some are about to go.
  for (const auto& place : impl_->places) {
    if (offer.identities.empty())
      break;
    auto made = impl_->context(place, offer);
    if (!made)
      return made.error();
    contexts.push_back(*std::move(made));
  }
  impl_->offer = std::move(offer);
  for (auto& face : impl_->faces)
    for (std::size_t i = 0; i < contexts.size(); ++i)
      face.loop->post(
          [listener = face.listeners[i], tls = contexts[i]] { listener->set_tls(tls); });
  return {};
}

Result<void> Server::listen(const std::vector<ListenerSettings>& listeners) {
  std::vector<const ListenerSettings*> here;
  std::vector<Bound> all;
  for (const auto& settings : listeners) {
    auto bound = bind_listener(settings, impl_->faces.size(), impl_->elsewhere);
    if (!bound && settings.if_here && is_not_here(bound.error()))
      continue;
    if (!bound)
      return bound.error();
    here.push_back(&settings);
    all.push_back(*std::move(bound));
  }
  for (std::size_t i = 0; i < all.size(); ++i)
    if (auto added = impl_->add(*here[i], std::move(all[i])); !added)
      return added;
  return {};
}

void Server::start() {
  for (auto& face : impl_->faces)
    for (std::size_t place = 0; place < impl_->places.size(); ++place)
      impl_->run(face, place);
}

Result<void> Server::relisten(const std::vector<ListenerSettings>& listeners) {
  const auto& before = impl_->places;
  std::vector<const ListenerSettings*> wanted;
  std::vector<const ListenerSettings*> fresh;
  std::vector<Bound> bound;
  std::vector<bool> stays(before.size());
  for (const auto& settings : listeners) {
    const auto known = std::find_if(before.begin(), before.end(),
                                    [&](const auto& place) { return place.is(settings); });
    if (known != before.end())
      stays[static_cast<std::size_t>(known - before.begin())] = true;
    else
      wanted.push_back(&settings);
  }
  for (const auto* settings : wanted) {
    const bool beside_own = impl_->shares_port(*settings, stays);
    auto made = bind_listener(*settings, impl_->faces.size(), impl_->elsewhere, beside_own);
    if (!made && settings->if_here && is_not_here(made.error()))
      continue;
    if (!made)
      return made.error();
    fresh.push_back(settings);
    bound.push_back(*std::move(made));
  }
  for (std::size_t i = stays.size(); i-- > 0;)
    if (!stays[i])
      impl_->remove(i);
  for (std::size_t i = 0; i < bound.size(); ++i) {
    if (auto added = impl_->add(*fresh[i], std::move(bound[i])); !added)
      return added;
    for (auto& face : impl_->faces)
      impl_->run(face, impl_->places.size() - 1);
  }
  return {};
}

std::vector<std::string> Server::addresses() const {
  std::vector<std::string> all;
  for (const auto& place : impl_->places)
    all.push_back(place.address);
  return all;
}

void Server::configure(std::shared_ptr<const ServerSettings> settings) {
  const auto policy = std::make_shared<const Policy>(settings);
  for (auto& face : impl_->faces)
    face.loop->post(
        [reception = face.reception, settings, policy] { reception->configure(settings, policy); });
}

void Server::drain(Duration grace, std::function<void()> done) {
  // Shared, since the loops finish independently; the last one reports.
  auto left = std::make_shared<std::atomic<std::size_t>>(impl_->faces.size());
  auto all_done = std::make_shared<std::function<void()>>(std::move(done));
  for (auto& face : impl_->faces)
    face.loop->post(
        [reception = face.reception, listeners = face.listeners, grace, left, all_done] {
          for (const auto& listener : listeners)
            listener->close();
          reception->stop(grace, [left, all_done] {
            if (left->fetch_sub(1) == 1)
              (*all_done)();
          });
        });
}

Server::Counters Server::counters() const {
  Counters sum;
  const auto lookups = impl_->lookups.counts();
  sum.looking_up = lookups.running;
  sum.waiting_to_look_up = lookups.waiting;
  sum.open = impl_->slots->open();
  sum.held = impl_->slots->held();
  sum.unfinished_tls = impl_->slots->unfinished_tls().held();
  for (const auto& face : impl_->faces) {
    const auto& counters = face.reception->counters();
    if (const auto* questioner = face.reception->questioner()) {
      const auto asked = questioner->counts();
      sum.asking += asked.open;
      sum.waiting_to_ask += asked.waiting;
      sum.asked += asked.asked;
    }
    sum.connections += counters.connections.load(std::memory_order_relaxed);
    sum.messages += counters.messages.load(std::memory_order_relaxed);
    sum.recipients += counters.recipients.load(std::memory_order_relaxed);
    sum.bytes += counters.bytes.load(std::memory_order_relaxed);
    sum.rejected += counters.rejected.load(std::memory_order_relaxed);
    for (std::size_t i = 0; i < counters.rejected_about.size(); ++i)
      sum.rejected_about[i] += counters.rejected_about[i].load(std::memory_order_relaxed);
    for (std::size_t i = 0; i < counters.rejected_with.size(); ++i)
      if (const auto count = counters.rejected_with[i].load(std::memory_order_relaxed); count > 0)
        sum.rejected_with[LoopCounters::kFirstCode + static_cast<int>(i)] += count;
    sum.tls_1_3 += counters.tls_1_3.load(std::memory_order_relaxed);
    sum.tls_1_2 += counters.tls_1_2.load(std::memory_order_relaxed);
    sum.tls_older += counters.tls_older.load(std::memory_order_relaxed);
    sum.tls_failed += counters.tls_failed.load(std::memory_order_relaxed);
    sum.turned_away += counters.turned_away.load(std::memory_order_relaxed);
  }
  return sum;
}

}  // namespace postrider::smtpd
