// Sites over time as an SVG.
#pragma once

#include "bench/simulation/world.h"

#include <string>
#include <vector>

namespace postrider::simulation {

struct Series {
  Behaviour site;
  std::vector<Sample> samples;
};
std::string chart(const std::vector<Series>& all, double horizon);

}  // namespace postrider::simulation
