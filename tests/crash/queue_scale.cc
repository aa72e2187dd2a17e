// A queue with very many messages: how long it takes to fill, to start, to hand out the first one,
// to list, and what memory it needs.
//
//   queue_scale fill FOLDER MESSAGES DOMAINS [SIZE]
//   queue_scale measure FOLDER
#include "queue/queue.h"

#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <future>
#include <mutex>
#include <thread>
#include <unistd.h>

namespace postrider {
namespace {

using Watch = std::chrono::steady_clock;

double seconds_since(Watch::time_point begin) {
  return std::chrono::duration<double>(Watch::now() - begin).count();
}

long resident_mib() {
  std::ifstream file("/proc/self/statm");
  long all = 0;
  long resident = 0;
  file >> all >> resident;
  return resident * ::sysconf(_SC_PAGESIZE) / (1L << 20);
}

struct Filling {
  queue::Queue& queue;
  SystemClock clock;
  std::shared_ptr<const std::string> content;
  long messages = 0;
  long domains = 1;
  long next = 0;
  long stored = 0;
  long running = 0;
  std::promise<void> done{};
};

Task<void> fill_some(Filling& filling, Loop& loop) {
  while (filling.next < filling.messages) {
    const long number = filling.next++;
    auto message = std::make_shared<mail::Message>();
    message->id = filling.queue.next_id();
    message->received = filling.clock.now();
    message->envelope.sender = "sender@example.test";
    mail::Recipient recipient;
    recipient.address = "recipient@d" + std::to_string(number % filling.domains) + ".example.test";
    message->envelope.recipients.push_back(recipient);
    message->content.bytes = filling.content;
    message->content.size = filling.content->size();
    message->content.trace = "Received: from client.example.test by mx.example.test\r\n";
    message->origin = {"client.example.test[192.0.2.1]", "ESMTP"};
    queue::Submission submission;
    submission.message = std::move(message);
    auto stored = co_await filling.queue.accept(loop, std::move(submission));
    if (!stored) {
      std::fprintf(stderr, "%s\n", stored.error().describe().c_str());
      break;
    }
    ++filling.stored;
  }
  if (--filling.running == 0)
    filling.done.set_value();
}

int fill(queue::Queue& queue, long messages, long domains, std::size_t size) {
  NullLog log;
  Loop loop(0);
  Filling filling{queue, {}, std::make_shared<const std::string>(size, 'x'), messages, domains};
  queue.start(nullptr);
  const auto begin = Watch::now();
  constexpr long kInFlight = 1000;
  filling.running = kInFlight;
  for (long i = 0; i < kInFlight; ++i)
    loop.spawn(fill_some(filling, loop), log, "fill");
  std::thread thread([&] { loop.run(); });
  filling.done.get_future().wait();
  loop.finish();
  thread.join();
  const double took = seconds_since(begin);
  queue.stop();
  std::printf("filled %ld messages in %ld domains in %.1f s (%.0f/s), %ld MiB resident\n",
              filling.stored, domains, took, static_cast<double>(filling.stored) / took,
              resident_mib());
  return filling.stored == messages ? 0 : 1;
}

class FirstLease : public queue::Consumer {
 public:
  void take(std::vector<queue::Lease> leases) override {
    const std::lock_guard lock(mutex_);
    count_ += leases.size();
    arrived_.notify_all();
  }
  std::size_t wait() {
    std::unique_lock lock(mutex_);
    arrived_.wait_for(lock, std::chrono::seconds(60), [this] { return count_ > 0; });
    return count_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::size_t count_ = 0;
};

int measure(queue::Queue& queue, Watch::time_point begin) {
  const double opened = seconds_since(begin);
  FirstLease first;
  queue.start(&first);
  const auto leased = first.wait();
  std::printf("opened in %.3f s, first %zu leases after %.3f s, %ld MiB resident\n", opened, leased,
              seconds_since(begin), resident_mib());
  const auto timed = [](const char* what, auto work) {
    const auto since = Watch::now();
    const auto result = work();
    std::printf("%s: %.4f s (%llu)\n", what, seconds_since(since),
                static_cast<unsigned long long>(result));
  };
  timed("first page of 50", [&] { return queue.list({}, {}, 50)->size(); });
  timed("totals", [&] { return queue.totals()->messages; });
  queue::Filter filter;
  filter.domain = "d17.example.test";
  timed("first 50 of one domain", [&] { return queue.list(filter, {}, 50)->size(); });
  timed("count of one domain", [&] { return queue.count(filter)->messages; });
  timed("hold one domain", [&] {
    std::promise<std::uint64_t> told;
    queue.change(queue::Verb::hold, filter, false, [&](const Result<queue::Changed>& changed) {
      told.set_value(changed ? changed->messages : 0);
    });
    return told.get_future().get();
  });
  timed("release it", [&] {
    std::promise<std::uint64_t> told;
    queue.change(queue::Verb::release, filter, false, [&](const Result<queue::Changed>& changed) {
      told.set_value(changed ? changed->messages : 0);
    });
    return told.get_future().get();
  });
  std::printf("%ld MiB resident at the end\n", resident_mib());
  return 0;
}

int run(int count, char** arguments) {
  const auto number = [&](int at, long otherwise) {
    return at < count ? std::atol(arguments[at]) : otherwise;
  };
  if (count < 3)
    return std::fprintf(stderr, "queue_scale fill|measure FOLDER ...\n"), 64;
  const auto begin = Watch::now();
  queue::QueueSettings settings;
  settings.spool = std::string(arguments[2]) + "/spool";
  settings.room_needed = 0;
  SystemClock clock;
  NullLog log;
  auto opened = queue::Queue::open(settings, clock, log);
  if (!opened)
    return std::fprintf(stderr, "%s\n", opened.error().describe().c_str()), 1;
  if (std::strcmp(arguments[1], "measure") == 0)
    return measure(**opened, begin);
  return fill(**opened, number(3, 1'000'000), number(4, 1000),
              static_cast<std::size_t>(number(5, 4096)));
}

}  // namespace
}  // namespace postrider

int main(int count, char** arguments) {
  return postrider::run(count, arguments);
}
