// What was found of the busiest next hops, for the plots of the page: how many connections each may
// have, and how many messages a second. Of a day; bounded in sites and in points. Thread-safe.
#pragma once

#include <boost/json/object.hpp>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <vector>

namespace postrider::web {

class SiteHistory {
 public:
  static constexpr std::size_t kMostSites = 24;  // those that were busy last stay
  static constexpr std::int64_t kPace = 60;      // seconds between points where nothing changes
  static constexpr std::size_t kMostPoints = 24 * 60;
  static constexpr std::size_t kMostGiven = 300;  // points of a site in an answer

  // Of the "busiest_sites" of a status answer. A clock that was set back adds nothing for a while.
  void add(const boost::json::object& status);
  // {"sites":[{"site":"...","time":[...],"limit":[...],"rate":[...]},...]}, the latest busy first.
  // A rate of 0: none is known. The first point may be older: it held when that time began.
  std::string json_since(std::int64_t since) const;

 private:
  struct Point {
    std::int64_t time = 0;
    float limit = 0, rate = 0;
  };
  struct Series {
    std::string site;
    std::deque<Point> points;  // never empty
    std::int64_t seen = 0;     // when it was busy last
    std::size_t rank = 0;      // among those that were busy then
  };
  Series* series_of(const std::string& site, std::int64_t now);

  mutable std::mutex mutex_;
  std::vector<Series> series_;
};

}  // namespace postrider::web
