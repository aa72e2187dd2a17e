// bench/simulate: the scheduler that tunes itself against the best fixed setting of each site, in a
// scripted world over a hand clock.
#include "bench/simulation/chart.h"
#include "bench/simulation/world.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <map>
#include <string>
#include <vector>

namespace postrider::simulation {
namespace {

struct Options {
  unsigned sites = 500;
  std::uint64_t seed = 1;
  double hours = 3;
  bool has_search = true;
  bool is_checked = false;
  int only = -1;
  std::string svg;
};

struct Row {
  unsigned sites = 0;
  std::uint64_t taken = 0;
  double least_share = 1e9, sum_share = 0;
  std::uint64_t tries = 0, rate_refused = 0, refused = 0;
  double worst_rate_refused = 0, worst_refused = 0, oscillation = 1, worst_turn = 0;
};

// Sites with a window of an hour say no for the first time at its end.
Plan plan_of(const Behaviour& site, const Options& options) {
  Plan plan;
  plan.horizon = options.hours * 3600;
  plan.settle = site.rate_window > 600 ? 3600 : 600;
  return plan;
}

bool is_steady(const Behaviour& site) {
  return site.is_steady() && (site.limit == 0 || site.limit >= 2);
}

void add(Row& row, const Behaviour& site, const Result& ours, double share) {
  ++row.sites;
  row.taken += ours.taken;
  row.least_share = std::min(row.least_share, share);
  row.sum_share += share;
  row.tries += ours.tries_late;
  row.rate_refused += ours.rate_refused_late;
  row.refused += ours.refused_late;
  const auto tries = static_cast<double>(std::max<std::uint64_t>(1, ours.tries_late));
  row.worst_rate_refused =
      std::max(row.worst_rate_refused, 100 * static_cast<double>(ours.rate_refused_late) / tries);
  row.worst_refused =
      std::max(row.worst_refused, 100 * static_cast<double>(ours.refused_late) / tries);
  if (is_steady(site))
    row.oscillation = std::max(row.oscillation, ours.oscillation);
  row.worst_turn = std::max(row.worst_turn, ours.worst_turn);
}

void print(const char* name, const Row& row) {
  std::printf("%-36s %5u %9llu %7.1f %7.1f %9.2f %9.2f %6.2f %6.0f\n", name, row.sites,
              static_cast<unsigned long long>(row.taken), row.least_share,
              row.sum_share / row.sites, row.worst_rate_refused, row.worst_refused, row.oscillation,
              row.worst_turn);
}

void merge(Row& all, const Row& row) {
  all.sites += row.sites;
  all.taken += row.taken;
  all.least_share = std::min(all.least_share, row.least_share);
  all.sum_share += row.sum_share;
  all.tries += row.tries;
  all.rate_refused += row.rate_refused;
  all.refused += row.refused;
  all.worst_rate_refused = std::max(all.worst_rate_refused, row.worst_rate_refused);
  all.worst_refused = std::max(all.worst_refused, row.worst_refused);
  all.oscillation = std::max(all.oscillation, row.oscillation);
  all.worst_turn = std::max(all.worst_turn, row.worst_turn);
}

double seconds_since(std::chrono::steady_clock::time_point begun) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
}

void draw(const Options& options) {
  std::vector<Series> all;
  for (const unsigned index : {0U, 2U, 5U}) {
    const auto site = make_site(options.seed, index, options.hours * 3600);
    auto plan = plan_of(site, options);
    plan.has_samples = true;
    all.push_back({site, run_scheduler(site, plan).samples});
  }
  std::ofstream(options.svg) << chart(all, options.hours * 3600);
}

int run(const Options& options) {
  std::map<std::string, Row> rows;
  double ours_took = 0;
  for (unsigned i = 0; i < options.sites; ++i) {
    if (options.only >= 0 && i % kinds().size() != static_cast<unsigned>(options.only))
      continue;
    const auto site = make_site(options.seed, i, options.hours * 3600);
    const auto plan = plan_of(site, options);
    const auto begun = std::chrono::steady_clock::now();
    const auto ours = run_scheduler(site, plan);
    ours_took += seconds_since(begun);
    double share = 100;
    if (options.has_search) {
      const auto [fixed, best] = best_fixed(site, plan);
      share = 100 * static_cast<double>(ours.taken_late) /
              static_cast<double>(std::max<std::uint64_t>(1, best.taken_late));
      if (options.only >= 0)
        std::printf(
            "  site %u limit=%u knee=%.0f rate=%.2f/s latency=%.1f lag=%.1f: best c=%u r=%.2f "
            "%llu, ours %llu (%.1f %%), refused %llu of %llu, oscillation %.2f\n",
            i, site.limit, site.knee, site.most_rate(), site.latency, site.close_lag,
            fixed.connections, fixed.rate, static_cast<unsigned long long>(best.taken_late),
            static_cast<unsigned long long>(ours.taken_late), share,
            static_cast<unsigned long long>(ours.refused_late),
            static_cast<unsigned long long>(ours.tries_late), ours.oscillation);
    }
    add(rows[site.kind], site, ours, share);
  }
  std::printf("seed %llu, %u sites, %.1f hours\n", static_cast<unsigned long long>(options.seed),
              options.sites, options.hours);
  std::printf("%-36s %5s %9s %7s %7s %9s %9s %6s %6s\n", "kind", "sites", "messages", "least %",
              "mean %", "rate no %", "any no %", "swing", "turn");
  Row all;
  for (const auto& kind : kinds())
    if (const auto found = rows.find(kind); found != rows.end()) {
      print(kind.c_str(), found->second);
      merge(all, found->second);
    }
  print("all", all);
  std::printf("the scheduler's runs took %.1f s\n", ours_took);
  if (!options.svg.empty())
    draw(options);
  const double mean = all.sum_share / all.sites;
  const bool is_good = mean >= 93 && all.rate_refused * 100 < all.tries &&
                       all.oscillation <= 1.51 && all.worst_turn < 300;
  return options.is_checked && !is_good ? 1 : 0;
}

}  // namespace
}  // namespace postrider::simulation

int main(int argc, char** argv) {
  postrider::simulation::Options options;
  CLI::App app("Simulates the self-tuning scheduler over a world of sites");
  app.add_option("--sites", options.sites)->check(CLI::Range(1, 100000));
  app.add_option("--seed", options.seed);
  app.add_option("--hours", options.hours)->check(CLI::Range(1.1, 1000.0));
  app.add_option("--only", options.only, "kind of sites, by number; prints each of them");
  app.add_option("--svg", options.svg, "draws three sites over time");
  app.add_flag("!--no-search", options.has_search, "does not look for the best fixed settings");
  app.add_flag("--check", options.is_checked, "exit code 1 where a threshold is missed");
  CLI11_PARSE(app, argc, argv);
  return postrider::simulation::run(options);
}
