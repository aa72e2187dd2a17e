#include "daemon/loop_threads.h"

#include "dns/fetch.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <future>
#include <pthread.h>

namespace postrider::daemon {

namespace {

using Addresses = Result<std::vector<asio::ip::address>>;

Task<void> look_up(dns::Resolver* resolver, std::string host, dns::Families families,
                   std::shared_ptr<std::promise<Addresses>> answer) {
  auto found = co_await dns::addresses_of(*resolver, std::move(host), families);
  answer->set_value(std::move(found));
}

}  // namespace

void LoopThreads::make(unsigned count, const dns::ResolverSettings& settings, Log& log) {
  for (unsigned number = 0; number < count; ++number) {
    all_.push_back(std::make_unique<LoopThread>(number));
    auto& one = *all_.back();
    one.resolver = std::make_unique<dns::StubResolver>(one.loop, settings, log, one.random);
  }
}

void LoopThreads::start(BackgroundLog& log, std::function<void()> on_end) {
  for (auto& one : all_) {
    one->thread = std::thread([&one = *one, &log, on_end] { run(one, log, on_end); });
  }
}

// An exception from a handler is a fault of ours. Going on could break promises; a restart keeps
// them.
void LoopThreads::run(LoopThread& one, BackgroundLog& log, const std::function<void()>& on_end) {
  // By itself: of another thread it is a file below /proc, which is closed to us.
  pthread_setname_np(::pthread_self(), ("loop " + std::to_string(one.loop.number())).c_str());
  try {
    one.loop.run();
  } catch (const std::exception& error) {
    log.write(LogEvent(Level::error, "bug").add("where", "loop").add("what", error.what()));
    log.flush();
    std::abort();
  }
  on_end();
}

std::vector<Loop*> LoopThreads::loops() const {
  std::vector<Loop*> loops;
  for (const auto& one : all_)
    loops.push_back(&one->loop);
  return loops;
}

std::vector<dns::Resolver*> LoopThreads::resolvers() const {
  std::vector<dns::Resolver*> resolvers;
  for (const auto& one : all_)
    resolvers.push_back(one->resolver.get());
  return resolvers;
}

std::vector<const dns::StubResolver*> LoopThreads::stub_resolvers() const {
  std::vector<const dns::StubResolver*> resolvers;
  for (const auto& one : all_)
    resolvers.push_back(one->resolver.get());
  return resolvers;
}

std::function<dns::Resolver&(Loop&)> LoopThreads::resolver_of_each() const {
  return [this](Loop& loop) -> dns::Resolver& { return *all_[loop.number()]->resolver; };
}

std::function<dns::Resolver&()> LoopThreads::resolver_of_first() const {
  return [this]() -> dns::Resolver& { return *all_.front()->resolver; };
}

void LoopThreads::reconfigure(const dns::ResolverSettings& settings) {
  for (auto& one : all_)
    one->loop.post([&one = *one, settings] { one.resolver->reconfigure(settings); });
}

bool LoopThreads::are_alive() {
  const bool all =
      std::all_of(all_.begin(), all_.end(), [](const auto& one) { return one->answered.load(); });
  if (all)
    for (auto& one : all_) {
      one->answered = false;
      one->loop.post([&one = *one] { one.answered = true; });
    }
  return all;
}

Addresses LoopThreads::resolve(const std::string& host, const std::atomic<bool>& is_over,
                               Log& log) const {
  constexpr auto kLookUp = std::chrono::seconds(30);
  constexpr auto kPiece = std::chrono::milliseconds(100);
  auto answer = std::make_shared<std::promise<Addresses>>();
  auto found = answer->get_future();
  auto& one = *all_.front();
  one.loop.post([&one, &log, host, answer] {
    one.loop.spawn(look_up(one.resolver.get(), host, dns::Families::both, answer), log,
                   "event sink");
  });
  for (auto waited = kPiece; waited < kLookUp && !is_over; waited += kPiece)
    if (found.wait_for(kPiece) == std::future_status::ready)
      return found.get();
  return Error(Errc::stopped, "resolve " + host);
}

void LoopThreads::finish() {
  for (auto& one : all_) {
    one->loop.post([&one = *one] { one.resolver->stop(); });
    one->loop.finish();
  }
}

void LoopThreads::join() {
  for (auto& one : all_)
    one->thread.join();
}

}  // namespace postrider::daemon
