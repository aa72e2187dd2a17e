#include "base/net/loop.h"

#include "base/log.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>

#include <exception>
#include <new>

namespace postrider {

namespace {

constexpr Duration kAgainAfter = std::chrono::seconds(1);

// Memory may be short, so what cannot be written is left out.
void log_bug(Log& log, const char* name, const std::exception_ptr& thrown) noexcept {
  try {
    std::rethrow_exception(thrown);
  } catch (const std::exception& error) {
    try {
      log.write(LogEvent(Level::error, "bug").add("where", name).add("what", error.what()));
    } catch (const std::bad_alloc&) {
    }
  }
}

}  // namespace

struct Loop::Kept {
  Kept(Loop& loop, std::function<Task<void>()> work, Log& to, const char* called)
      : make(std::move(work)),
        log(to),
        name(called),
        again(loop.deadlines(), [&loop, this] { loop.begin(*this); }) {}

  std::function<Task<void>()> make;
  Log& log;
  const char* name;
  Deadline again;
  std::list<Kept>::iterator place;
};

Loop::Loop(unsigned number)
    : number_(number), context_(1), keep_running_(context_.get_executor()), deadlines_(context_) {}

Loop::~Loop() = default;

// Where memory is short, the piece of work that asked for it is lost, not the loop. Coroutines have
// caught that already.
void Loop::run() {
  for (;;) {
    try {
      context_.run();
      return;
    } catch (const std::bad_alloc&) {
    }
  }
}

void Loop::stop() {
  context_.stop();
}

void Loop::finish() {
  post([this] {
    deadlines_.stop();
    keep_running_.reset();
  });
}

void Loop::post(std::function<void()> work) {
  asio::post(context_, std::move(work));
}

void Loop::spawn(Task<void> task, Log& log, const char* name) {
  spawn(std::move(task), log, name, nullptr);
}

void Loop::spawn(Task<void> task, Log& log, const char* name, End then) {
  const auto ended = [this, &log, name, then = std::move(then)](const std::exception_ptr& thrown) {
    --children_;
    if (thrown)
      log_bug(log, name, thrown);
    if (then)
      then(thrown != nullptr);
  };
  ++children_;
  try {
    asio::co_spawn(context_, std::move(task), ended);
  } catch (...) {
    --children_;
    throw;
  }
}

void Loop::keep(std::function<Task<void>()> make, Log& log, const char* name) {
  auto& kept = kept_.emplace_back(*this, std::move(make), log, name);
  kept.place = std::prev(kept_.end());
  begin(kept);
}

void Loop::begin(Kept& kept) {
  try {
    spawn(kept.make(), kept.log, kept.name, [this, &kept](bool has_thrown) {
      if (has_thrown)
        kept.again.set(kAgainAfter);
      else
        kept_.erase(kept.place);
    });
  } catch (...) {
    kept.again.set(kAgainAfter);
    throw;
  }
}

}  // namespace postrider
