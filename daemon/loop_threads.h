// The network loops, a thread each, with what belongs to that thread alone.
#pragma once

#include "base/net/loop.h"
#include "base/random.h"
#include "daemon/log/background_log.h"
#include "dns/stub_resolver.h"

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace postrider::daemon {

class LoopThreads {
 public:
  // log outlives this.
  void make(unsigned count, const dns::ResolverSettings& settings, Log& log);
  // on_end: is called on a thread whose loop has ended.
  void start(BackgroundLog& log, std::function<void()> on_end);

  std::size_t count() const { return all_.size(); }
  std::vector<Loop*> loops() const;
  std::vector<dns::Resolver*> resolvers() const;
  std::vector<const dns::StubResolver*> stub_resolvers() const;
  // Requires: make().
  Loop& first() const { return all_.front()->loop; }
  std::function<dns::Resolver&(Loop&)> resolver_of_each() const;
  std::function<dns::Resolver&()> resolver_of_first() const;

  void reconfigure(const dns::ResolverSettings& settings);
  // Whether all have answered since the last time, when they were asked again.
  bool are_alive();
  // For a thread of a sink, which waits for the first loop until `is_over`, but not for ever.
  Result<std::vector<asio::ip::address>> resolve(const std::string& host,
                                                 const std::atomic<bool>& is_over, Log& log) const;
  // Each loop ends once it has no more work, and says so by on_end; then join() does not block.
  void finish();
  void join();

 private:
  struct LoopThread {
    explicit LoopThread(unsigned number) : loop(number) {}
    Loop loop;
    SystemRandom random;
    std::unique_ptr<dns::StubResolver> resolver;
    std::atomic<bool> answered{true};  // the last question whether it is alive
    std::thread thread;
  };
  static void run(LoopThread& one, BackgroundLog& log, const std::function<void()>& on_end);

  std::vector<std::unique_ptr<LoopThread>> all_;
};

}  // namespace postrider::daemon
