// Kills a queue at random moments and looks at what is left.
//
//   queue_crash FOLDER [KILLS [SEED]]
//
// A child takes mail, delivers, defers and gives back at random, and writes a line to a pipe after
// each accept() that succeeded and before each "delivered" that it records. It is killed with
// SIGKILL; then the queue is opened here, and every message that was acknowledged and never
// reported as delivered must be there, with the content it came with.
#include "base/file.h"
#include "queue/queue.h"

#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <poll.h>
#include <random>
#include <set>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace postrider {
namespace {

using mail::MessageId;

// Both sides can tell from the id alone what the content is.
std::string content_of(MessageId id) {
  std::mt19937_64 random(static_cast<std::uint64_t>(id.value));
  const auto kind = random() % 100;
  const std::size_t size = kind < 3 ? 70'000 + random() % 100'000 : 1 + random() % 6'000;
  std::string content = "Subject: " + to_string(id) + "\r\n\r\n";
  while (content.size() < size)
    content += static_cast<char>('a' + random() % 26);
  return content;
}

bool is_large(const std::string& content) {
  return content.size() > 65'536;
}

void say(int pipe, char what, MessageId id) {
  char line[32];
  const int size =
      std::snprintf(line, sizeof line, "%c %lld\n", what, static_cast<long long>(id.value));
  // One write of less than PIPE_BUF is never torn.
  if (::write(pipe, line, static_cast<std::size_t>(size)) != size)
    std::_Exit(3);
}

class Delivery : public queue::Consumer {
 public:
  Delivery(queue::Queue& queue, int pipe, std::uint64_t seed)
      : queue_(queue), pipe_(pipe), random_(seed) {}

  void take(std::vector<queue::Lease> leases) override {
    std::vector<queue::Record> records;
    for (const auto& lease : leases)
      records.push_back(judge(lease));
    queue_.record(std::move(records));
  }

 private:
  queue::Record judge(const queue::Lease& lease) {
    queue::Record record;
    record.id = lease.message->id;
    const auto dice = random_() % 10;
    if (dice == 0 && lease.reason == queue::Lease::Reason::fresh) {
      for (const auto& recipient : lease.recipients)
        record.untried.push_back(recipient.index);
      return record;
    }
    const bool defers = dice < 4;
    if (!defers)
      say(pipe_, 'D', record.id);
    for (const auto& recipient : lease.recipients) {
      auto& result = record.results.emplace_back();
      result.index = recipient.index;
      result.outcome.verdict = defers ? mail::Verdict::retry : mail::Verdict::delivered;
      result.outcome.status = {static_cast<std::uint8_t>(defers ? 4 : 2), 0, 0};
      result.next_attempt = clock_.now() + Duration(random_() % 200);
    }
    return record;
  }

  queue::Queue& queue_;
  int pipe_;
  std::mt19937_64 random_;
  SystemClock clock_;
};

Result<queue::Submission> make(queue::Queue& queue, const Clock& clock) {
  auto message = std::make_shared<mail::Message>();
  message->id = queue.next_id();
  message->received = clock.now();
  message->envelope.sender = "a@b.test";
  mail::Recipient recipient;
  recipient.address = "c@d" + std::to_string(message->id.value % 7) + ".test";
  message->envelope.recipients.push_back(recipient);
  const std::string content = content_of(message->id);
  message->content.size = content.size();
  queue::Submission submission;
  if (is_large(content)) {
    auto body = queue.create_body(message->id);
    if (!body)
      return body.error();
    if (auto written = body->append(content); !written)
      return written.error();
    message->content.file = body->name();
    submission.body = *std::move(body);
  } else {
    message->content.bytes = std::make_shared<const std::string>(content);
  }
  submission.message = std::move(message);
  return submission;
}

Task<void> client(queue::Queue& queue, Loop& loop, const Clock& clock, int pipe) {
  for (;;) {
    auto submission = make(queue, clock);
    if (!submission)
      std::_Exit(4);
    const auto id = submission->message->id;
    auto stored = co_await queue.accept(loop, *std::move(submission));
    if (stored)
      say(pipe, 'A', id);
  }
}

queue::QueueSettings settings_for(const std::string& folder) {
  queue::QueueSettings settings;
  settings.spool = folder + "/spool";
  settings.fresh_messages = 20;  // beyond that it waits, so both ways are used
  return settings;
}

[[noreturn]] void child(const std::string& folder, int pipe, std::uint64_t seed) {
  SystemClock clock;
  NullLog log;
  auto opened = queue::Queue::open(settings_for(folder), clock, log);
  if (!opened) {
    std::fprintf(stderr, "child: %s\n", opened.error().describe().c_str());
    std::_Exit(5);
  }
  auto& queue = **opened;
  Delivery delivery(queue, pipe, seed);
  queue.start(&delivery);
  Loop loop(0);
  say(pipe, 'S', {1});
  for (int i = 0; i < 40; ++i)
    loop.spawn(client(queue, loop, clock, pipe), log, "client");
  loop.run();
  std::_Exit(0);
}

struct Promises {
  std::set<MessageId> kept;       // acknowledged, not reported as delivered
  std::set<MessageId> uncertain;  // reported as delivered: recorded or not
  std::uint64_t acknowledged = 0, delivered = 0, again = 0;
};

bool read_pipe(int pipe, Promises& promises, const std::function<bool()>& on_start) {
  std::FILE* const stream = ::fdopen(pipe, "r");
  char line[64];
  bool started = false;
  while (std::fgets(line, sizeof line, stream) != nullptr) {
    const MessageId id{std::atoll(line + 2)};
    if (line[0] == 'S') {
      started = true;
      on_start();
    } else if (line[0] == 'A') {
      ++promises.acknowledged;
      // Its delivery may have been told first: that is another thread's line.
      if (!promises.uncertain.contains(id))
        promises.kept.insert(id);
    } else if (line[0] == 'D') {
      ++promises.delivered;
      promises.again += promises.uncertain.contains(id) ? 1 : 0;
      promises.kept.erase(id);
      promises.uncertain.insert(id);
    }
  }
  std::fclose(stream);
  return started;
}

std::string bytes_of(queue::Queue& queue, const mail::Message& message) {
  if (message.content.bytes)
    return *message.content.bytes;
  auto file = queue.open_body(message);
  auto bytes = file ? read_file(queue.body_path(message.content.file)) : Result<std::string>("");
  return bytes ? *bytes : "";
}

int check(const std::string& folder, Promises& promises) {
  SystemClock clock;
  NullLog log;
  auto opened = queue::Queue::open(settings_for(folder), clock, log);
  if (!opened) {
    std::fprintf(stderr, "cannot open: %s\n", opened.error().describe().c_str());
    return 1;
  }
  auto& queue = **opened;
  std::set<MessageId> there;
  int bad = 0;
  for (MessageId after;;) {
    auto page = queue.list({}, after, 1000);
    if (!page) {
      std::fprintf(stderr, "cannot list: %s\n", page.error().describe().c_str());
      return 1;
    }
    for (const auto& message : *page) {
      if (!there.insert(message.id).second)
        ++bad;
      auto loaded = queue.load(message.id);
      if (!loaded || bytes_of(queue, **loaded) != content_of(message.id)) {
        std::fprintf(stderr, "%s: content differs\n", to_string(message.id).c_str());
        ++bad;
      }
    }
    if (page->size() < 1000)
      break;
    after = page->back().id;
  }
  for (const auto id : promises.kept)
    if (!there.contains(id)) {
      std::fprintf(stderr, "%s: acknowledged and lost\n", to_string(id).c_str());
      ++bad;
    }
  // What was stored but never acknowledged is the client's to send again, and ours to deliver.
  promises.kept.insert(there.begin(), there.end());
  for (const auto id : promises.uncertain)
    if (!there.contains(id))
      promises.kept.erase(id);
  std::erase_if(promises.uncertain, [&](MessageId id) { return !there.contains(id); });
  for (const auto id : promises.uncertain)
    promises.kept.erase(id);
  return bad;
}

int run(int count, char** arguments) {
  if (count < 2)
    return std::fprintf(stderr, "queue_crash FOLDER [KILLS [SEED]]\n"), 64;
  const std::string folder = arguments[1];
  const long kills = count > 2 ? std::atol(arguments[2]) : 10;
  const std::uint64_t seed =
      count > 3 ? std::strtoull(arguments[3], nullptr, 10) : std::random_device()();
  std::mt19937_64 random(seed);
  Promises promises;
  for (long round = 0; round < kills; ++round) {
    int ends[2] = {};
    if (::pipe(ends) != 0)
      return 2;
    const pid_t pid = ::fork();
    if (pid == 0) {
      ::close(ends[0]);
      child(folder, ends[1], random());
    }
    ::close(ends[1]);
    const auto wait = std::chrono::milliseconds(1 + random() % 150);
    std::thread killer;
    read_pipe(ends[0], promises, [&] {
      killer = std::thread([pid, wait] {
        std::this_thread::sleep_for(wait);
        ::kill(pid, SIGKILL);
      });
      return true;
    });
    if (killer.joinable())
      killer.join();
    int status = 0;
    ::waitpid(pid, &status, 0);
    if (!WIFSIGNALED(status)) {
      std::fprintf(stderr, "round %ld: the child ended with %d\n", round, status);
      return 1;
    }
    if (const int bad = check(folder, promises); bad != 0) {
      std::fprintf(stderr, "round %ld, seed %llu: %d faults\n", round,
                   static_cast<unsigned long long>(seed), bad);
      return 1;
    }
  }
  std::printf(
      "%ld kills, seed %llu: %llu acknowledged, %llu delivered (%llu of them again),"
      " %zu waiting, 0 lost\n",
      kills, static_cast<unsigned long long>(seed),
      static_cast<unsigned long long>(promises.acknowledged),
      static_cast<unsigned long long>(promises.delivered),
      static_cast<unsigned long long>(promises.again),
      promises.kept.size() + promises.uncertain.size());
  return 0;
}

}  // namespace
}  // namespace postrider

int main(int count, char** arguments) {
  return postrider::run(count, arguments);
}
