// How many messages a second the queue takes in and gives up again, without any network: accept,
// lease, record "delivered", with a number of messages in flight. Prints rate, CPU and syncs for
// each message, and beside it what one sync costs on that disk.
//
//   queue_bench FOLDER [SECONDS [IN_FLIGHT [SIZE [LOOPS]]]]
#include "base/file.h"
#include "queue/queue.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <sys/resource.h>
#include <thread>
#include <unistd.h>

namespace postrider {
namespace {

// Says "delivered" at once, on the queue's own thread.
class Sink : public queue::Consumer {
 public:
  void take(std::vector<queue::Lease> leases) override {
    std::vector<queue::Record> records;
    records.reserve(leases.size());
    for (const auto& lease : leases) {
      auto& record = records.emplace_back();
      record.id = lease.message->id;
      for (const auto& recipient : lease.recipients) {
        auto& result = record.results.emplace_back();
        result.index = recipient.index;
        result.outcome.verdict = mail::Verdict::delivered;
        result.outcome.status = {2, 0, 0};
      }
    }
    queue->record(std::move(records));
  }
  queue::Queue* queue = nullptr;
};

// Only what goes wrong.
class ErrorLog : public Log {
 public:
  bool enabled(Level level) const override { return level == Level::error; }
  void write(LogEvent event) override {
    if (!enabled(event.level()))
      return;
    std::string line;
    format_text(event, line);
    std::fprintf(stderr, "%s\n", line.c_str());
  }
};

struct Load {
  queue::Queue& queue;
  const Clock& clock;
  std::shared_ptr<const std::string> content;
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> failed{0};
};

std::shared_ptr<const mail::Message> make(Load& load) {
  auto message = std::make_shared<mail::Message>();
  message->id = load.queue.next_id();
  message->received = load.clock.now();
  message->envelope.sender = "sender@example.test";
  mail::Recipient recipient;
  recipient.address = "recipient@example.test";
  message->envelope.recipients.push_back(recipient);
  message->content.bytes = load.content;
  message->content.size = load.content->size();
  message->content.trace = "Received: from client.example.test by mx.example.test\r\n";
  message->origin = {"client.example.test[192.0.2.1]", "ESMTP"};
  return message;
}

Task<void> client(Load& load, Loop& loop) {
  while (!load.stop.load(std::memory_order_relaxed)) {
    queue::Submission submission;
    submission.message = make(load);
    auto stored = co_await load.queue.accept(loop, std::move(submission));
    if (!stored)
      ++load.failed;
  }
}

double seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

double cpu() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

double sync_milliseconds(const std::string& folder) {
  auto file = open_file(folder + "/sync", O_RDWR | O_CREAT);
  if (!file)
    return 0;
  const std::string block(4096, 'x');
  std::vector<double> times;
  for (int i = 0; i < 200; ++i) {
    (void)write_all(*file, block);
    const auto begin = std::chrono::steady_clock::now();
    ::fdatasync(file->get());
    times.push_back(
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin)
            .count());
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

int run(int count, char** arguments) {
  const auto argument = [&](int at, long otherwise) {
    return at < count ? std::atol(arguments[at]) : otherwise;
  };
  if (count < 2)
    return std::fprintf(stderr, "queue_bench FOLDER [SECONDS [IN_FLIGHT [SIZE [LOOPS]]]]\n"), 64;
  const std::string folder = arguments[1];
  const auto length = argument(2, 5);
  const auto in_flight = argument(3, 50);
  const auto size = static_cast<std::size_t>(argument(4, 4096));
  const auto loop_count = static_cast<unsigned>(argument(5, 1));

  queue::QueueSettings settings;
  settings.spool = folder + "/spool";
  SystemClock clock;
  ErrorLog log;
  auto opened = queue::Queue::open(settings, clock, log);
  if (!opened) {
    std::fprintf(stderr, "%s\n", opened.error().describe().c_str());
    return 1;
  }
  auto& queue = **opened;
  Sink sink;
  sink.queue = &queue;
  queue.start(&sink);
  Load load{queue, clock, std::make_shared<const std::string>(size, 'x')};
  std::vector<std::unique_ptr<Loop>> loops;
  for (unsigned i = 0; i < loop_count; ++i)
    loops.push_back(std::make_unique<Loop>(i));
  for (long i = 0; i < in_flight; ++i) {
    auto& loop = *loops[static_cast<std::size_t>(i) % loops.size()];
    loop.spawn(client(load, loop), log, "client");
  }
  std::vector<std::thread> threads;
  const double cpu_before = cpu();
  const auto begin = std::chrono::steady_clock::now();
  for (auto& loop : loops)
    threads.emplace_back([&loop] { loop->run(); });
  std::this_thread::sleep_for(std::chrono::seconds(length));
  const double cpu_used = cpu() - cpu_before;
  const auto counters = queue.counters();
  const double took =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  load.stop = true;
  for (auto& loop : loops)
    loop->finish();
  for (auto& thread : threads)
    thread.join();
  queue.stop();
  const auto messages = static_cast<double>(counters.accepted);
  std::printf(
      "in_flight=%ld size=%zu loops=%u rate=%.0f/s cpu=%.1fus/message commits=%.3f/message"
      " failed=%llu sync=%.3fms\n",
      in_flight, size, loop_count, messages / took, cpu_used / messages * 1e6,
      static_cast<double>(counters.commits) / messages,
      static_cast<unsigned long long>(load.failed.load()), sync_milliseconds(folder));
  return 0;
}

}  // namespace
}  // namespace postrider

int main(int count, char** arguments) {
  return postrider::run(count, arguments);
}
