// Sends what was collected in a day (UTC) to other domains when the day is over. What is collected,
// and how one report is sent, is the derived class's.
//
//   midnight UTC and a random while --> for each report of the days before, a few at a time:
//     send_one(); what it puts off is tried again in an hour, until the day has gone for two
//
// Lives on the first loop.
#pragma once

#include "base/log.h"
#include "base/net/deadline.h"
#include "base/net/loop.h"
#include "base/net/task.h"
#include "base/random.h"
#include "delivery/reports/report_mail.h"

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace postrider::delivery {

class DailyReporter : public std::enable_shared_from_this<DailyReporter> {
 public:
  virtual ~DailyReporter() = default;
  DailyReporter(const DailyReporter&) = delete;
  DailyReporter& operator=(const DailyReporter&) = delete;

  void start();         // before the loop runs
  virtual void stop();  // on the loop: nothing is sent any more

  // On the loop: one line for each report to come.
  virtual std::vector<std::string> collected() const = 0;
  // Sends what there is, today's results too if so asked, without waiting for midnight. done gets
  // one line for each report.
  void send(bool today_too, std::function<void(std::vector<std::string>)> done);

 protected:
  struct Work {
    Day day;
    std::string key;     // what it is known by
    std::string domain;  // for people
  };
  struct Names {
    const char* task;     // for the log
    const char* missing;  // what must be set for any to be sent
    unsigned helpers;     // reports that are sent at one time
  };

  // clock and log outlive this.
  DailyReporter(Loop& home, const Clock& clock, Log& log, Names names)
      : home_(home), clock_(clock), log_(log), names_(names) {}

  void schedule(bool enabled, Duration delay);  // delay: at most, behind midnight
  bool is_collecting() const { return enabled_ && !is_stopped_; }
  void put_off(const Work& work);
  void end_days();  // what is too old, or of a day that the clock does not know any more
  void settled(const Work& work) { put_off_.erase({work.day, work.key}); }
  Day today() const { return std::chrono::floor<std::chrono::days>(clock_.now()); }

  virtual bool has_nothing() const = 0;  // neither to send nor to save
  virtual void save() = 0;               // what changed; does not block
  virtual std::vector<Work> reports_before(Day end) const = 0;
  virtual void drop_before(Day day) = 0;                     // nobody wants those any more
  virtual Task<std::string> send_one(const Work& work) = 0;  // what became of it, for people

  Loop& home_;
  const Clock& clock_;
  Log& log_;

 private:
  void tick();
  std::vector<Work> work_before(Day end, bool impatient) const;
  // What is sent in one go.
  struct Round {
    std::vector<Work> work;
    std::vector<std::string> lines;  // of each
    std::function<void(std::vector<std::string>)> done;
    std::size_t next = 0;
    unsigned helpers = 0;  // at work
  };
  void begin(std::vector<Work> work, std::function<void(std::vector<std::string>)> done);
  Task<void> help(std::shared_ptr<DailyReporter> self, std::shared_ptr<Round> round);

  const Names names_;
  SystemRandom random_;
  std::map<std::pair<Day, std::string>, TimePoint> put_off_;  // not to be tried before
  Duration jitter_{0};
  std::unique_ptr<Deadline> tick_;
  bool enabled_ = false;
  bool is_sending_ = false;
  bool is_stopped_ = false;
};

}  // namespace postrider::delivery
