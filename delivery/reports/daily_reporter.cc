#include "delivery/reports/daily_reporter.h"

#include <exception>

namespace postrider::delivery {

namespace {

constexpr Duration kTick = std::chrono::seconds(60);
constexpr Duration kTryAgain = std::chrono::hours(1);
constexpr std::chrono::days kKept{2};  // RFC 8460 §5.5: try for a day

}  // namespace

void DailyReporter::start() {
  tick_ = std::make_unique<Deadline>(home_.deadlines(), [this] { tick(); });
  tick_->set(kTick);
}

void DailyReporter::stop() {
  is_stopped_ = true;
  tick_.reset();
}

void DailyReporter::schedule(bool enabled, Duration delay) {
  enabled_ = enabled;
  jitter_ = Duration(
      static_cast<Duration::rep>(random_.below(static_cast<std::uint64_t>(delay.count()) + 1)));
}

void DailyReporter::tick() {
  tick_->set(kTick);
  if (has_nothing())
    return;
  end_days();
  save();
  if (!enabled_ || clock_.now() < today() + jitter_)
    return;
  if (is_sending_)
    return;
  if (auto work = work_before(today(), false); !work.empty())
    begin(std::move(work), nullptr);
}

void DailyReporter::end_days() {
  drop_before(today() - kKept);
  while (!put_off_.empty() && put_off_.begin()->first.first < today() - kKept)
    put_off_.erase(put_off_.begin());
}

void DailyReporter::send(bool today_too, std::function<void(std::vector<std::string>)> done) {
  if (!is_collecting() || is_sending_) {
    done({is_sending_ ? "reports are being sent already"
                      : std::string(names_.missing) + " is not set"});
    return;
  }
  begin(work_before(today() + std::chrono::days(today_too ? 1 : 0), true), std::move(done));
}

std::vector<DailyReporter::Work> DailyReporter::work_before(Day end, bool impatient) const {
  std::vector<Work> work;
  for (auto& one : reports_before(end)) {
    const auto later = put_off_.find({one.day, one.key});
    if (impatient || later == put_off_.end() || later->second <= clock_.now())
      work.push_back(std::move(one));
  }
  return work;
}

void DailyReporter::begin(std::vector<Work> work,
                          std::function<void(std::vector<std::string>)> done) {
  is_sending_ = true;
  auto round = std::make_shared<Round>();
  round->lines.resize(work.size());
  round->work = std::move(work);
  round->done = std::move(done);
  round->helpers = names_.helpers;
  for (unsigned i = 0; i < names_.helpers; ++i)
    home_.spawn(help(shared_from_this(), round), log_, names_.task);
}

Task<void> DailyReporter::help(std::shared_ptr<DailyReporter> self, std::shared_ptr<Round> round) {
  while (round->next < round->work.size() && !is_stopped_) {
    const auto place = round->next++;
    const auto& one = round->work[place];
    std::string line;
    try {
      line = co_await send_one(one);
    } catch (const std::exception& failed) {  // no memory for this one: the others may do with less
      line = std::string("later: ") + failed.what();
      put_off(one);
    }
    round->lines[place] = one.domain + ": " + line;
  }
  if (--round->helpers > 0)
    co_return;
  is_sending_ = false;
  save();
  std::erase_if(round->lines, [](const std::string& line) { return line.empty(); });
  if (round->done)
    round->done(std::move(round->lines));
}

void DailyReporter::put_off(const Work& work) {
  put_off_[{work.day, work.key}] = clock_.now() + kTryAgain;
}

}  // namespace postrider::delivery
