#include "delivery/route_map.h"

#include "base/quoted.h"
#include "base/text.h"
#include "mail/envelope.h"

#include <algorithm>

namespace postrider::delivery {

namespace {

struct Key {
  std::string text;
  bool whole;
};

std::vector<Key> keys_of(std::string_view address, std::string_view separator) {
  const auto domain = mail::domain_of(address);
  const std::string local_part(mail::local_part_of(address));
  std::vector<Key> keys = {{local_part + "@" + domain, true}};
  const auto extension =
      separator.empty() ? std::string::npos : local_part.find_first_of(separator, 1);
  if (extension != std::string::npos)
    keys.push_back({local_part.substr(0, extension) + "@" + domain, false});
  keys.push_back({domain, false});
  for (auto dot = domain.find('.'); dot != domain.npos; dot = domain.find('.', dot + 1))
    keys.push_back({domain.substr(dot), false});
  keys.push_back({"*", false});
  return keys;
}

Route put_off(std::string text) {
  Route route;
  route.next_hop.kind = NextHop::Kind::error;
  route.next_hop.status = "4.3.5";
  route.next_hop.text = std::move(text);
  return route;
}

Route route_to(const tables::Entry& entry, const std::vector<Route>& routes) {
  auto hop = parse_next_hop(trim(entry.value));
  if (!hop)
    return put_off("the route at " + entry.where + " cannot be used");
  const auto name = hop->describe();
  const auto known = std::find_if(routes.begin(), routes.end(), [&](const Route& route) {
    return route.senders.empty() && route.next_hop.describe() == name;
  });
  if (known != routes.end())
    return *known;
  Route route;
  route.next_hop = *std::move(hop);
  return route;
}

}  // namespace

std::shared_ptr<const Route> RouteMap::find(std::string_view address, std::string_view separator,
                                            const std::vector<Route>& routes) const {
  for (const auto& key : keys_of(address, separator))
    for (const auto& table : tables_) {
      if (table->has_patterns() && !key.whole)
        continue;
      const auto found = table->find(key.text);
      if (!found)
        return std::make_shared<const Route>(put_off("a table of routes cannot be read now"));
      if (found->has_value())
        return std::make_shared<const Route>(route_to(**found, routes));
    }
  return nullptr;
}

std::string check_route_value(std::string_view value) {
  if (parse_next_hop(trim(value)))
    return {};
  return quote_value(trim(value), 80) +
         " is not a next hop; expected mx, smtp://host:port, smtps://host:port, "
         "lmtp://host:port, "
         "lmtp:///path, error:text or discard:";
}

}  // namespace postrider::delivery
