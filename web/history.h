// What the figures of `status` were, for the plots of the page: one sample each ten seconds for a
// day. Thread-safe.
#pragma once

#include <boost/json/object.hpp>

#include <array>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <vector>

namespace postrider::web {

class History {
 public:
  static constexpr std::int64_t kPace = 10;          // seconds between samples
  static constexpr std::size_t kMost = 24 * 60 * 6;  // samples
  static constexpr std::size_t kMostPoints = 600;    // of an answer
  static constexpr std::size_t kMostClasses = 24;

  // Of a status answer; one that is not younger than the last by its "now" is left out.
  void add(const boost::json::object& status);
  // {"time":[...],"queue":[...],"deferred":[...],"accepted":[...],...}: totals as they are, and
  // what is counted as the number since the sample before; "by_class": {"rate":[...],...} are the
  // deferrals by class, of the classes that had any. Since that time, thinned out to kMostPoints.
  std::string json_since(std::int64_t since) const;

 private:
  struct Sample {
    std::int64_t time = 0;
    double queue = 0, deferred = 0, active = 0;                      // at that time
    double accepted = 0, delivered = 0, bounced = 0, deferrals = 0;  // since the daemon's start
    std::array<double, kMostClasses> by_class{};                     // in the order of classes_
  };
  void add_classes(const boost::json::object& status, Sample& sample);

  mutable std::mutex mutex_;
  std::deque<Sample> samples_;
  std::vector<std::string> classes_;
};

}  // namespace postrider::web
