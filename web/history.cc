#include "web/history.h"

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>

#include <algorithm>
#include <string_view>
#include <vector>

namespace postrider::web {

namespace json = boost::json;

namespace {

double figure(const json::object& status, std::string_view inner, std::string_view key) {
  const auto* object = status.if_contains(inner);
  const auto* found =
      object != nullptr && object->is_object() ? object->get_object().if_contains(key) : nullptr;
  return found != nullptr && found->is_number() ? found->to_number<double>() : 0;
}

// A daemon that was started again counts from nothing.
double gained(double before, double now) {
  return now >= before ? now - before : now;
}

}  // namespace

// Under the lock. What is more than kMostClasses is left out.
void History::add_classes(const json::object& status, Sample& sample) {
  const auto* classes = status.if_contains("deferred_by_class");
  if (classes == nullptr || !classes->is_object())
    return;
  for (const auto& [name, count] : classes->get_object()) {
    if (!count.is_number() || name.size() > 64)
      continue;
    auto place = std::find(classes_.begin(), classes_.end(), std::string_view(name));
    if (place == classes_.end()) {
      if (classes_.size() >= kMostClasses)
        continue;
      place = classes_.insert(classes_.end(), std::string(name));
    }
    sample.by_class[static_cast<std::size_t>(place - classes_.begin())] = count.to_number<double>();
  }
}

void History::add(const json::object& status) {
  const auto* now = status.if_contains("now");
  if (now == nullptr || !now->is_number())
    return;
  Sample sample;
  sample.time = now->to_number<std::int64_t>();
  sample.queue = figure(status, "queue", "messages");
  sample.deferred = figure(status, "queue", "deferred");
  sample.active = figure(status, "queue", "active");
  sample.accepted = figure(status, "since_start", "accepted");
  sample.delivered = figure(status, "since_start", "delivered");
  sample.bounced = figure(status, "since_start", "bounced");
  sample.deferrals = figure(status, "since_start", "deferrals");
  const std::lock_guard lock(mutex_);
  if (!samples_.empty() && sample.time <= samples_.back().time)
    return;
  add_classes(status, sample);
  samples_.push_back(sample);
  if (samples_.size() > kMost)
    samples_.pop_front();
}

std::string History::json_since(std::int64_t since) const {
  std::vector<Sample> taken;
  std::vector<std::string> classes;
  {
    const std::lock_guard lock(mutex_);
    classes = classes_;
    const auto first = std::lower_bound(
        samples_.begin(), samples_.end(), since,
        [](const Sample& sample, std::int64_t time) { return sample.time < time; });
    const auto count = static_cast<std::size_t>(samples_.end() - first);
    const auto stride = std::max<std::size_t>(1, (count + kMostPoints - 1) / kMostPoints);
    // Counted from the end, so that the latest is always there.
    for (std::size_t i = (count + stride - 1) % stride; i < count; i += stride)
      taken.push_back(*(first + static_cast<std::ptrdiff_t>(i)));
  }
  json::object out;
  const auto column = [&](const char* name, auto value) {
    json::array values;
    for (std::size_t i = 0; i < taken.size(); ++i)
      values.emplace_back(value(i));
    out[name] = std::move(values);
  };
  const auto level = [&](double Sample::*member) {
    return [&taken, member](std::size_t i) { return taken[i].*member; };
  };
  const auto gain = [&](double Sample::*member) {
    return [&taken, member](std::size_t i) {
      return i == 0 ? 0.0 : gained(taken[i - 1].*member, taken[i].*member);
    };
  };
  column("time", [&](std::size_t i) { return taken[i].time; });
  column("queue", level(&Sample::queue));
  column("deferred", level(&Sample::deferred));
  column("active", level(&Sample::active));
  column("accepted", gain(&Sample::accepted));
  column("delivered", gain(&Sample::delivered));
  column("bounced", gain(&Sample::bounced));
  column("deferrals", gain(&Sample::deferrals));
  json::object by_class;
  for (std::size_t place = 0; place < classes.size(); ++place) {
    json::array values;
    double sum = 0;
    for (std::size_t i = 0; i < taken.size(); ++i) {
      const auto more =
          i == 0 ? 0.0 : gained(taken[i - 1].by_class[place], taken[i].by_class[place]);
      sum += more;
      values.emplace_back(more);
    }
    if (sum > 0)
      by_class[classes[place]] = std::move(values);
  }
  out["by_class"] = std::move(by_class);
  return json::serialize(out);
}

}  // namespace postrider::web
