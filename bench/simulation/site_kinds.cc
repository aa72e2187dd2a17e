// The kinds of sites there are in a world.
#include "bench/simulation/world.h"

#include <cmath>
#include <iterator>
#include <random>

namespace postrider::simulation {

namespace {

using Generator = std::mt19937_64;

unsigned between(Generator& random, unsigned low, unsigned high) {
  return low + static_cast<unsigned>(random() % (high - low + 1));
}

double real_between(Generator& random, double low, double high) {
  return low + (high - low) * static_cast<double>(random() >> 11) / 9007199254740992.0;
}

// A rate that a few connections reach, else it is none.
void set_rate(Behaviour& site, Generator& random, RateKind kind, double window) {
  site.rate_kind = kind;
  site.rate_window = window;
  const double per_second = real_between(random, 0.4, 3);
  site.rate_count = static_cast<unsigned>(std::max(10.0, per_second * window));
  site.latency = real_between(random, 0.5, 2);
}

struct KindOfSite {
  const char* name;
  void (*make)(Behaviour& site, Generator& random, double horizon);
};

const KindOfSite kKinds[] = {
    {"connection limit",
     [](Behaviour& site, Generator& random, double) { site.limit = between(random, 1, 16); }},
    {"connection limit, closes seen late",
     [](Behaviour& site, Generator& random, double) {
       site.limit = between(random, 2, 12);
       site.close_lag = real_between(random, 0.2, 2);
       site.per_connection = between(random, 20, 100);
     }},
    {"slower by load",
     [](Behaviour& site, Generator& random, double) { site.knee = between(random, 2, 16); }},
    {"slower by load, wild sizes",
     [](Behaviour& site, Generator& random, double) {
       site.knee = between(random, 3, 12);
       site.cv = 2.5;
     }},
    {"no limit, wild sizes",
     [](Behaviour& site, Generator& random, double) {
       site.cv = 2.5;
       site.latency = real_between(random, 3, 8);
     }},
    {"rate, sliding window", [](Behaviour& site, Generator& random,
                                double) { set_rate(site, random, RateKind::sliding, 60); }},
    {"rate, refusals count",
     [](Behaviour& site, Generator& random, double) {
       set_rate(site, random, RateKind::sliding, 60);
       site.refusals_count = true;
     }},
    {"rate, fixed window", [](Behaviour& site, Generator& random,
                              double) { set_rate(site, random, RateKind::fixed, 60); }},
    {"rate, bucket", [](Behaviour& site, Generator& random,
                        double) { set_rate(site, random, RateKind::bucket, 10); }},
    {"rate, true hints",
     [](Behaviour& site, Generator& random, double) {
       set_rate(site, random, RateKind::sliding, 60);
       site.hint = HintKind::right;
     }},
    {"rate, false hints",
     [](Behaviour& site, Generator& random, double) {
       set_rate(site, random, RateKind::sliding, 60);
       site.hint = HintKind::wrong;
     }},
    {"rate of an hour", [](Behaviour& site, Generator& random,
                           double) { set_rate(site, random, RateKind::sliding, 3600); }},
    {"greylisting",
     [](Behaviour& site, Generator& random, double) {
       site.greylisting = real_between(random, 60, 600);
       site.limit = between(random, 4, 12);
       site.latency = real_between(random, 2, 6);
     }},
    {"dies and returns",
     [](Behaviour& site, Generator& random, double horizon) {
       site.down_from = real_between(random, 0.3, 0.4) * horizon;
       site.down_to = site.down_from + real_between(random, 0.1, 0.25) * horizon;
       site.limit = between(random, 4, 12);
     }},
    {"one host of five is dead",
     [](Behaviour& site, Generator& random, double) {
       site.hosts = 5;
       site.first_host_is_dead = true;
       site.limit = between(random, 4, 20);
     }},
    {"limit of each host",
     [](Behaviour& site, Generator& random, double) {
       site.hosts = between(random, 2, 4);
       site.per_host = true;
       site.limit = between(random, 2, 5);
     }},
    {"conversations break",
     [](Behaviour& site, Generator& random, double) {
       site.breaks = 0.01;
       site.limit = between(random, 4, 20);
     }},
    {"several sources",
     [](Behaviour& site, Generator& random, double) {
       site.sources = between(random, 2, 3);
       site.limit = between(random, 2, 6);
     }},
    {"limit falls and rises",
     [](Behaviour& site, Generator& random, double) {
       site.limit = between(random, 10, 20);
       site.later_limit = between(random, 4, 8);
     }},
    {"restarts",
     [](Behaviour& site, Generator& random, double horizon) {
       if (random() % 2)
         site.limit = between(random, 3, 16);
       else
         set_rate(site, random, RateKind::sliding, 60);
       site.restarts = {horizon * 0.5, horizon * 0.75};
     }},
    {"IPv6 is refused",
     [](Behaviour& site, Generator& random, double) {
       site.hosts = 2;
       site.refuses_ipv6 = true;
       site.limit = between(random, 4, 12);
     }},
    {"all at once",
     [](Behaviour& site, Generator& random, double) {
       set_rate(site, random, RateKind::sliding, 60);
       site.limit = between(random, 4, 10);
       site.hosts = 3;
       site.first_host_is_dead = true;
       site.breaks = 0.005;
       site.cv = 1.5;
     }},
};

}  // namespace

double Behaviour::most_rate() const {
  return is_rate_limited() ? rate_count / rate_window : 0;
}

std::vector<std::string> kinds() {
  std::vector<std::string> names;
  for (const KindOfSite& kind : kKinds)
    names.emplace_back(kind.name);
  return names;
}

Behaviour make_site(std::uint64_t seed, unsigned index, double horizon) {
  Generator random(seed * 1'000'003 + index);
  const KindOfSite& kind = kKinds[index % std::size(kKinds)];
  Behaviour site;
  site.kind = kind.name;
  site.seed = random();
  site.latency = real_between(random, 1.5, 5);
  kind.make(site, random, horizon);
  return site;
}

}  // namespace postrider::simulation
