#include "smtpd/lookups.h"

#include "base/net/deadline.h"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <list>
#include <mutex>
#include <thread>
#include <unordered_set>
#include <utility>

namespace postrider::smtpd {

namespace {

struct Asked {
  Lookups::Job job;
  std::function<void()> tell;  // the asker's loop, that it has ended
  bool is_in_line = false;
  std::list<std::shared_ptr<Asked>>::iterator place;
};
using Line = std::list<std::shared_ptr<Asked>>;

}  // namespace

// Shared with the threads, which may outlive the rest.
struct Lookups::State : std::enable_shared_from_this<Lookups::State> {
  explicit State(const Limits& limits_) : limits(limits_) {}

  bool put(const std::shared_ptr<Asked>& asked);
  void take_back(Asked& asked);
  bool has_thread();
  std::shared_ptr<Asked> next();
  void work();
  void end();

  const Limits limits;
  mutable std::mutex mutex;  // of all below
  std::condition_variable wake, gone;
  Line own, strangers;
  std::unordered_set<std::string> keys;  // of what runs
  unsigned threads = 0;
  unsigned running = 0;        // of the threads
  unsigned for_strangers = 0;  // of those that run
  bool is_over = false;
};

// False: too many wait.
bool Lookups::State::put(const std::shared_ptr<Asked>& asked) {
  const std::lock_guard lock(mutex);
  auto& line = asked->job.is_own ? own : strangers;
  if (line.size() >= (asked->job.is_own ? limits.waiting_own : limits.waiting) || !has_thread())
    return false;
  asked->place = line.insert(line.end(), asked);
  asked->is_in_line = true;
  wake.notify_one();
  return true;
}

// Nobody waits for it any more. What runs goes on.
void Lookups::State::take_back(Asked& asked) {
  const std::lock_guard lock(mutex);
  if (std::exchange(asked.is_in_line, false) && !is_over)
    (asked.job.is_own ? own : strangers).erase(asked.place);
}

// One that sleeps, or a new one; or one that will have time.
bool Lookups::State::has_thread() {
  if (threads - running > own.size() + strangers.size() || threads >= limits.threads)
    return true;
  try {
    std::thread([self = shared_from_this()] { self->work(); }).detach();
    ++threads;
  } catch (const std::exception&) {
    return threads > 0;
  }
  return true;
}

std::shared_ptr<Asked> Lookups::State::next() {
  for (auto* line : {&own, &strangers}) {
    if (line == &strangers && for_strangers >= limits.for_strangers)
      break;
    const auto found = std::find_if(line->begin(), line->end(), [this](const auto& each) {
      return !keys.contains(each->job.key);
    });
    if (found == line->end())
      continue;
    auto asked = std::move(*found);
    line->erase(found);
    asked->is_in_line = false;
    return asked;
  }
  return nullptr;
}

void Lookups::State::work() {
  std::unique_lock lock(mutex);
  for (;;) {
    std::shared_ptr<Asked> asked;
    wake.wait(lock, [&] { return is_over || (asked = next()) != nullptr; });
    if (is_over)
      break;
    ++running;
    keys.insert(asked->job.key);
    for_strangers += asked->job.is_own ? 0 : 1;
    lock.unlock();
    try {
      std::exchange(asked->job.ask, nullptr)();
    } catch (const std::exception&) {  // no memory: this one has no answer
    }
    lock.lock();
    --running;
    keys.erase(asked->job.key);
    for_strangers -= asked->job.is_own ? 0 : 1;
    if (is_over)
      break;
    wake.notify_one();  // another may have waited for this to end
    try {
      asked->tell();                   // under the mutex: so long the loop is there
    } catch (const std::exception&) {  // the asker's time will run out
    }
  }
  --threads;
  gone.notify_all();
}

void Lookups::State::end() {
  std::unique_lock lock(mutex);
  is_over = true;
  own.clear();
  strangers.clear();
  wake.notify_all();
  gone.wait(lock, [this] { return threads == running; });
}

Lookups::Lookups(const Limits& limits) : state_(std::make_shared<State>(limits)) {}

Lookups::~Lookups() {
  state_->end();
}

void Lookups::Wait::end(bool is_answered) {
  is_answered_ = is_answered_ || is_answered;
  ended_.set();
}

void Lookups::Wait::give_up() {
  if (loop_ != nullptr)
    loop_->post([self = shared_from_this()] { self->end(false); });
}

Task<bool> Lookups::run(Loop& loop, std::shared_ptr<Wait> wait, Duration limit, Job job) {
  const auto state = state_;
  const auto asked = std::make_shared<Asked>();
  asked->job = std::move(job);
  asked->tell = [&loop, wait] { loop.post([wait] { wait->end(true); }); };
  if (!state->put(asked))
    co_return false;
  {
    Deadline deadline(loop.deadlines(), [wait] { wait->give_up(); });
    deadline.set(limit);
    wait->loop_ = &loop;
    co_await wait->ended_.wait();
    wait->loop_ = nullptr;
  }
  state->take_back(*asked);
  co_return wait->is_answered_;
}

Lookups::Counts Lookups::counts() const {
  const std::lock_guard lock(state_->mutex);
  return {state_->running, state_->own.size() + state_->strangers.size()};
}

}  // namespace postrider::smtpd
