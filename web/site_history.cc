#include "web/site_history.h"

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>

#include <algorithm>

namespace postrider::web {

namespace json = boost::json;

namespace {

constexpr std::size_t kMostBusy = 10;  // of one answer
constexpr std::size_t kMostOfName = 255;

double figure_in(const json::object& object, std::string_view key) {
  const auto* value = object.if_contains(key);
  return value != nullptr && value->is_number() ? value->to_number<double>() : 0;
}

}  // namespace

// The site that has not been busy for longest gives way; null: all are as busy.
SiteHistory::Series* SiteHistory::series_of(const std::string& site, std::int64_t now) {
  const auto known = std::find_if(series_.begin(), series_.end(),
                                  [&](const Series& one) { return one.site == site; });
  if (known != series_.end())
    return &*known;
  if (series_.size() >= kMostSites) {
    const auto oldest =
        std::min_element(series_.begin(), series_.end(),
                         [](const Series& a, const Series& b) { return a.seen < b.seen; });
    if (oldest->seen >= now)
      return nullptr;
    series_.erase(oldest);
  }
  series_.push_back({site, {}, now, 0});
  return &series_.back();
}

void SiteHistory::add(const json::object& status) {
  const auto* when = status.if_contains("now");
  const auto* listed = status.if_contains("busiest_sites");
  if (when == nullptr || !when->is_int64() || listed == nullptr || !listed->is_array())
    return;
  const auto now = when->get_int64();
  const std::lock_guard lock(mutex_);
  std::size_t taken = 0;
  for (const auto& one : listed->get_array()) {
    const auto* site = one.if_object();
    const auto* name = site == nullptr ? nullptr : site->if_contains("site");
    if (name == nullptr || !name->is_string() || name->get_string().size() > kMostOfName)
      continue;
    if (++taken > kMostBusy)
      return;
    auto* series = series_of(std::string(name->get_string()), now);
    if (series == nullptr)
      continue;
    if (now >= series->seen) {
      series->seen = now;
      series->rank = taken;
    }
    const Point point{now, static_cast<float>(figure_in(*site, "limit")),
                      static_cast<float>(figure_in(*site, "rate"))};
    auto& points = series->points;
    if (!points.empty()) {
      const auto& last = points.back();
      if (now <= last.time ||
          (now - last.time < kPace && point.limit == last.limit && point.rate == last.rate))
        continue;
    }
    points.push_back(point);
    if (points.size() > kMostPoints)
      points.pop_front();
  }
}

std::string SiteHistory::json_since(std::int64_t since) const {
  std::vector<Series> taken;
  {
    const std::lock_guard lock(mutex_);
    taken = series_;
  }
  std::sort(taken.begin(), taken.end(), [](const Series& a, const Series& b) {
    return a.seen != b.seen ? a.seen > b.seen : a.rank < b.rank;
  });
  json::array sites;
  for (const auto& series : taken) {
    if (series.seen < since)
      continue;
    const auto& points = series.points;
    auto first = std::partition_point(points.begin(), points.end(),
                                      [&](const Point& one) { return one.time <= since; });
    if (first != points.begin())
      --first;
    const auto count = static_cast<std::size_t>(points.end() - first);
    const auto stride = std::max<std::size_t>(1, (count + kMostGiven - 1) / kMostGiven);
    json::array time, limit, rate;
    for (std::size_t i = (count + stride - 1) % stride; i < count; i += stride) {
      const auto& point = *(first + static_cast<std::ptrdiff_t>(i));
      time.emplace_back(point.time);
      limit.emplace_back(point.limit);
      rate.emplace_back(point.rate);
    }
    json::object one;
    one["site"] = series.site;
    one["time"] = std::move(time);
    one["limit"] = std::move(limit);
    one["rate"] = std::move(rate);
    sites.push_back(std::move(one));
  }
  json::object out;
  out["sites"] = std::move(sites);
  return json::serialize(out);
}

}  // namespace postrider::web
