#include "daemon/route_changes.h"

#include "daemon/config/config_file.h"
#include "tables/table.h"

#include <utility>

namespace postrider::daemon {

namespace {

std::string routes_of(const Config& config) {
  std::string all;
  const auto add = [&all](const std::string& value) { all.append(value).append("\n"); };
  for (const auto& route : config.routes) {
    add(route.domain);
    for (const auto& sender : route.from)
      add("from " + sender);
    add(route.next_hop);
    for (const auto& source : route.source)
      add("source " + source);
    add(route.helo);
    add(route.credentials);
    add(std::to_string(static_cast<int>(route.tls)));
  }
  for (const auto& table : config.delivery.route_map)
    add("map " + table);
  return all;
}

std::string tables_of(const Config& config) {
  std::string all;
  for (const auto& text : config.delivery.route_map) {
    const auto spec = tables::parse_spec(text);
    if (spec && tables::has_file(spec->kind))
      all.append(stamp_of(spec->path, TimePoint()).text).append("\n");
  }
  return all;
}

}  // namespace

bool RouteChanges::look(const Config& config, SteadyTime now) {
  auto routes = routes_of(config);
  auto tables = tables_of(config);
  const bool is_first = !routes_;
  const bool has_changed = !is_first && *routes_ != routes;
  if (!is_first && tables != tables_)
    settled_ = now + kTableSettles;
  routes_ = std::move(routes);
  tables_ = std::move(tables);
  if (!has_changed && (!settled_ || now < *settled_))
    return false;
  if (settled_ && now >= *settled_)
    settled_.reset();
  return true;
}

}  // namespace postrider::daemon
