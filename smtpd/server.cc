#include "smtpd/server.h"

#include "smtpd/connection.h"
#include "smtpd/listener.h"
#include "smtpd/maillog.h"

#include <atomic>

namespace postrider::smtpd {

struct Server::Impl {
  struct Face {  // what one loop has of the server
    Loop* loop = nullptr;
    std::shared_ptr<Reception> reception;
    std::vector<std::shared_ptr<Listener>> listeners;
  };

  Impl(Custody& custody_, const Clock& clock_, Log& log_)
      : custody(custody_), clock(clock_), log(log_) {}

  Custody& custody;
  const Clock& clock;
  Log& log;
  std::shared_ptr<Slots> slots = std::make_shared<Slots>();
  std::vector<Face> faces;
  std::vector<std::string> addresses;
};

Server::Server(std::vector<Loop*> loops, Custody& custody, const Clock& clock, Log& log,
               std::shared_ptr<const Settings> settings)
    : impl_(std::make_unique<Impl>(custody, clock, log)) {
  const auto policy = std::make_shared<const Policy>(std::move(settings));
  for (auto* loop : loops) {
    auto reception = std::make_shared<Reception>(*loop, custody, clock, log, impl_->slots, policy);
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

Result<void> Server::listen(const std::vector<ListenerSettings>& listeners) {
  std::vector<Bound> all;
  for (const auto& settings : listeners) {
    auto bound = bind_listener(settings, impl_->faces.size());
    if (!bound)
      return bound.error();
    all.push_back(*std::move(bound));
  }
  for (std::size_t i = 0; i < all.size(); ++i) {
    for (std::size_t loop = 0; loop < impl_->faces.size(); ++loop) {
      auto& face = impl_->faces[loop];
      face.listeners.push_back(std::make_shared<Listener>(
          face.reception, std::move(all[i].sockets[loop]), listeners[i]));
    }
    maillog::listening(impl_->log, all[i].address, listeners[i].role);
    impl_->addresses.push_back(std::move(all[i].address));
  }
  return {};
}

void Server::start() {
  for (auto& face : impl_->faces)
    face.loop->post([loop = face.loop, listeners = face.listeners, log = &impl_->log] {
      for (const auto& listener : listeners)
        loop->spawn(Listener::run(listener), *log, "smtpd listener");
    });
}

std::vector<std::string> Server::addresses() const {
  return impl_->addresses;
}

void Server::configure(std::shared_ptr<const Settings> settings) {
  const auto policy = std::make_shared<const Policy>(std::move(settings));
  for (auto& face : impl_->faces)
    face.loop->post([reception = face.reception, policy] { reception->set_policy(policy); });
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
  sum.open = impl_->slots->open();
  for (const auto& face : impl_->faces) {
    const auto& counters = face.reception->counters();
    sum.connections += counters.connections.load(std::memory_order_relaxed);
    sum.messages += counters.messages.load(std::memory_order_relaxed);
    sum.recipients += counters.recipients.load(std::memory_order_relaxed);
    sum.bytes += counters.bytes.load(std::memory_order_relaxed);
    sum.rejected += counters.rejected.load(std::memory_order_relaxed);
    sum.turned_away += counters.turned_away.load(std::memory_order_relaxed);
  }
  return sum;
}

}  // namespace postrider::smtpd
