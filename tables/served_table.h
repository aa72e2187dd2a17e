// Inside of tables/: a table whose settings are a file of its own, and which a client library asks.
#pragma once

#include "tables/table_settings.h"
#include "tables/table_source.h"

#include <memory>
#include <utility>

namespace postrider::tables {

// To the first server that answers; each has its part of the time. Connection is made of the library
// and the settings, and has open(server, until).
template <class Connection, class Library, class Settings>
Result<std::unique_ptr<RemoteConnection>> connect_to_first(
    const Library& library, const std::shared_ptr<const Settings>& settings,
    RemoteClock::time_point until) {
  Error last;
  auto left = static_cast<int>(settings->servers.size());
  for (const auto& server : settings->servers) {
    const auto now = RemoteClock::now();
    auto connection = std::make_unique<Connection>(library, settings);
    auto opened = connection->open(server, now + (until - now) / left--);
    if (opened)
      return connection;
    last = opened.error();
  }
  return last;
}

// The server need not be there yet. load: gives Result<const Library*>.
template <class Connection, class Settings, class Load>
Opened open_served(const Spec& spec, Result<Settings> (*read)(const Source&), Load load) {
  const auto source = read_source(spec.path);
  if (!source)
    return source.error();
  auto given = read(*source);
  if (!given)
    return given.error();
  const auto settings = std::make_shared<const Settings>(*std::move(given));
  const auto loaded = load();
  if (!loaded)
    return loaded.error().during(spec.str());
  if (const auto password = read_password(settings->common.password_file); !password)
    return password.error().during(spec.path + ": password_file");
  auto rules = rules_of(settings->common, spec);
  rules.connect = [settings, library = *loaded](RemoteClock::time_point until) {
    return connect_to_first<Connection>(*library, settings, until);
  };
  return make_remote_table(std::move(rules));
}

}  // namespace postrider::tables
