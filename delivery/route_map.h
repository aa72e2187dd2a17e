// Routes that stand in tables: an address or a domain, and its next hop.
#pragma once

#include "base/result.h"
#include "delivery/routing/route.h"
#include "tables/table.h"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::delivery {

// Immutable; thread-safe.
class RouteMap {
 public:
  explicit RouteMap(std::vector<std::shared_ptr<const tables::Table>> tables)
      : tables_(std::move(tables)) {}

  // The way of an address, by the first key that is found: the address, the same without what
  // begins with separator, its domain, ".example.org", ".org", "*". Null: the tables do not know
  // one. A next hop that one of the routes for all senders has, too, is that route, with its
  // demands and credentials. A table that cannot be read, or says nonsense, is a route that puts
  // the mail off. Databases take their time: see tables/table.h.
  std::shared_ptr<const Route> find(std::string_view address, std::string_view separator,
                                    const std::vector<Route>& routes) const;

 private:
  std::vector<std::shared_ptr<const tables::Table>> tables_;
};

// What is wrong with the value of an entry: empty if it may stand.
std::string check_route_value(std::string_view value);

}  // namespace postrider::delivery
