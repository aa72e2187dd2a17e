// Fills a trace with so many messages and prints what that and look-ups take: the first page of an
// answer, 25 messages with all their steps, from a connection that is opened for it, as
// `postrider trace` gets it. The slowest of ten.
#include "events/trace_reader.h"
#include "events/trace_store.h"

#include "base/log.h"
#include "mail/message_id.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <functional>
#include <set>
#include <string>

using namespace postrider;
using namespace postrider::events;

namespace {

using Steady = std::chrono::steady_clock;
constexpr TimePoint kBegin{std::chrono::seconds(1'796'040'000)};
constexpr std::int64_t kSenders = 10'000;

double milliseconds_since(Steady::time_point begin) {
  return std::chrono::duration<double, std::milli>(Steady::now() - begin).count();
}

// Of this thread on a processor: what a machine that is shared with others does not change.
double processor_milliseconds() {
  timespec spent{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent);
  return static_cast<double>(spent.tv_sec) * 1000 + static_cast<double>(spent.tv_nsec) / 1e6;
}

std::string id_of(std::int64_t number) {
  return to_string(mail::MessageId{1'796'040'000'000'000 + number * 600'000});
}

std::string sender_of(std::int64_t number) {
  return "sender" + std::to_string(number * 7919 % kSenders) + "@host" +
         std::to_string(number % 100) + ".example";
}

std::string recipient_of(std::int64_t number) {
  return "recipient" + std::to_string(number) + "@domain" + std::to_string(number % 5000) +
         ".example";
}

std::string bytes_of(LogEvent line, std::int64_t number) {
  line.when = kBegin + Duration(number * 600);
  return encode_trace(line);
}

// As the daemon's own lines: accepted, deferred now and then, delivered; every tenth is refused.
void add_message(std::int64_t number, std::vector<std::string>& lines) {
  const auto id = id_of(number);
  lines.push_back(bytes_of(LogEvent(Level::info, "accepted", id)
                               .add("session", "1K1BX3F7Q2AB")
                               .add("client", "192.0.2.1")
                               .add("client_name", "mail.host.example")
                               .add("helo", "mail.host.example")
                               .add("protocol", "ESMTPS")
                               .add("tls", "TLSv1.3:TLS_AES_256_GCM_SHA384")
                               .add("from", sender_of(number))
                               .add("nrcpt", std::uint64_t{1})
                               .add("to", recipient_of(number))
                               .add("size", std::uint64_t{4321})
                               .add("message_id", "<" + id + "@host.example>"),
                           number));
  const auto attempt = [&](const char* verdict) {
    lines.push_back(bytes_of(LogEvent(Level::info, "attempted", id)
                                 .add("verdict", verdict)
                                 .add("from", sender_of(number))
                                 .add("to", recipient_of(number))
                                 .add("relay", "mx1.domain.example[198.51.100.7]:25")
                                 .add("delay", "0.53")
                                 .add("delays", "0.01/0/0.21/0.31")
                                 .add("dsn", "2.0.0")
                                 .add("tls", "TLSv1.3:TLS_AES_256_GCM_SHA384 verified")
                                 .add("reused", "no")
                                 .add("reason", "250 2.0.0 Ok: queued as 4bXyZ12345"),
                             number));
  };
  if (number % 10 == 3)
    attempt("deferred");
  attempt("sent");
  if (number % 10 == 5)
    lines.push_back(bytes_of(LogEvent(Level::info, "rejected")
                                 .add("session", "1K1BX3F7Q2AB")
                                 .add("stage", "RCPT")
                                 .add("reply", "550 5.1.1 no such user here")
                                 .add("client", "203.0.113.9")
                                 .add("from", sender_of(number))
                                 .add("to", recipient_of(number)),
                             number));
}

void complain(const Error& error) {
  std::fprintf(stderr, "bench-trace: %s\n", error.describe().c_str());
  std::exit(1);
}

void fill(const std::string& path, std::int64_t messages) {
  TraceLimits limits;
  limits.size = std::uint64_t{16} << 30U;
  limits.keep = std::chrono::hours(24 * 365);
  auto store = TraceStore::open(path, limits, nullptr, KeptDatabase::Check::some);
  if (!store)
    complain(store.error());
  const auto begin = Steady::now();
  const auto spent = processor_milliseconds();
  std::uint64_t steps = 0;
  double slowest = 0;
  for (std::int64_t number = 0; number < messages;) {
    std::vector<std::string> lines;
    for (int i = 0; i < 2000 && number < messages; ++i)
      add_message(number++, lines);
    steps += lines.size();
    const auto written = Steady::now();
    if (auto done = store->append(lines); !done)
      complain(done.error());
    if (auto done = store->checkpoint(); !done)
      complain(done.error());
    slowest = std::max(slowest, milliseconds_since(written));
  }
  const auto took = milliseconds_since(begin);
  const auto size = std::filesystem::file_size(path);
  std::printf(
      "filled       %10.0f ms  %lld messages, %llu steps, %.1f us of a processor a step, "
      "%.0f octets a message, slowest batch %.0f ms\n",
      took, static_cast<long long>(messages), static_cast<unsigned long long>(steps),
      (processor_milliseconds() - spent) * 1000 / static_cast<double>(steps),
      static_cast<double>(size) / static_cast<double>(messages), slowest);
}

// The first page: how many steps it has.
std::size_t first_page(const std::string& path, const TraceQuery& query) {
  constexpr std::size_t kPage = 25;
  auto reader = TraceReader::open(path);
  if (!reader)
    complain(reader.error());
  auto segments = reader->segments(TraceLane::mail);
  if (!segments)
    complain(segments.error());
  std::set<std::string> ids;
  std::size_t shown = 0;
  if (!query.id.empty())
    ids.insert(query.id);
  TraceSearch search(*reader, query);
  for (bool more = query.id.empty(); more && ids.size() < kPage && shown < kPage;) {
    std::vector<queue::FactLine> found;
    const auto next = search.next(kPage, Duration(20), found);
    if (!next)
      complain(next.error());
    more = *next;
    for (const auto& step : found)
      query.rejected ? static_cast<void>(++shown) : static_cast<void>(ids.insert(step.id));
  }
  for (const auto& id : ids) {
    TraceStory story(*reader, id, *segments);
    std::vector<queue::FactLine> steps;
    while (*story.next(500, steps)) {
    }
    for (const auto& step : steps)
      shown += trace_json(step).empty() ? 0 : 1;
  }
  return shown;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Times look-ups in a trace", "bench-trace");
  std::string path = "trace.db";
  std::int64_t messages = 1'000'000;
  bool is_kept = false;
  app.add_option("FILE", path, "The trace; made if it is not there");
  app.add_option("--messages", messages, "So many");
  app.add_flag("--keep", is_kept, "Leave the file");
  CLI11_PARSE(app, argc, argv);
  if (!std::filesystem::exists(path))
    fill(path, messages);
  const auto ask = [&](const char* name, const std::function<TraceWords(std::int64_t)>& words) {
    double slowest = 0, most = 0;
    std::size_t shown = 0;
    for (std::int64_t i = 0; i < 10; ++i) {
      const auto query = parse_trace_query(words(messages * i / 10 + 1), kBegin);
      if (!query)
        complain(query.error());
      const auto begin = Steady::now();
      const auto spent = processor_milliseconds();
      shown = std::max(shown, first_page(path, *query));
      slowest = std::max(slowest, milliseconds_since(begin));
      most = std::max(most, processor_milliseconds() - spent);
    }
    std::printf("%-12s %10.2f ms  %6.2f ms of a processor, %zu steps\n", name, slowest, most,
                shown);
  };
  using Words = TraceWords;
  ask("id", [](auto n) { return Words{id_of(n), {}, {}, {}, false}; });
  ask("message-id", [](auto n) {
    return Words{"<" + id_of(n) + "@host.example>", {}, {}, {}, false};
  });
  ask("recipient", [](auto n) { return Words{recipient_of(n), {}, {}, {}, false}; });
  ask("sender", [](auto n) { return Words{sender_of(n), {}, {}, {}, false}; });
  ask("@domain", [](auto n) {
    return Words{"@domain" + std::to_string(n % 5000) + ".example", {}, {}, {}, false};
  });
  ask("from, to", [](auto n) {
    return Words{"", "@host" + std::to_string(n % 100) + ".example", recipient_of(n), {}, false};
  });
  ask("nobody", [](auto n) { return Words{"x" + recipient_of(n), {}, {}, {}, false}; });
  ask("since", [](auto) { return Words{"", {}, {}, "1h", false}; });
  ask("rejected", [](auto) { return Words{"", {}, {}, {}, true}; });
  ask("rejected to", [](auto n) { return Words{"", {}, recipient_of(n / 10 * 10 + 5), {}, true}; });
  if (!is_kept)
    for (const char* end : {"", "-wal", "-shm"})
      std::filesystem::remove(path + end);
  return 0;
}
