// Reports of one kind to other domains, as administration sees them.
#pragma once

#include "delivery/reports/daily_reporter.h"

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace postrider::daemon {

// Any thread; answers run on the loop.
class DailyReports {
 public:
  using Answer = std::function<void(std::vector<std::string>)>;
  // The loop outlives this.
  DailyReports(Loop& home, std::shared_ptr<delivery::DailyReporter> reporter)
      : home_(home), reporter_(std::move(reporter)) {}

  void collected(Answer answer) {
    home_.post(
        [reporter = reporter_, answer = std::move(answer)] { answer(reporter->collected()); });
  }
  void send(bool today_too, Answer answer) {
    home_.post([reporter = reporter_, today_too, answer = std::move(answer)] {
      reporter->send(today_too, answer);
    });
  }

 private:
  Loop& home_;
  std::shared_ptr<delivery::DailyReporter> reporter_;
};

}  // namespace postrider::daemon
